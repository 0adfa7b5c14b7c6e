"""Network of SPAM: image, neighbouring tissue and genes fused by cross-attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from omicllm.nn.blocks import init_linear
from omicllm.nn.count_likelihoods import gaussian, negative_binomial, poisson, zinb

__all__ = ["BiasedCrossAttention", "GeneEncoder", "SpatialEncoder", "TissueFusion"]


class SpatialEncoder(nn.Module):
    """Graph convolution over the neighbours of each observation.

    Layer 1 makes a state of every neighbour from what lies around it, layer 2 averages the states
    of the neighbours. Since the adapter before it is linear, the averages of layer 1 are those of
    the features, which are made once: a batch needs its own neighbours and no more.

    Parameters
    ----------
    width
        Of states.
    dropout
        Between the layers.

    Notes
    -----
    Kipf and Welling 2017, with a row-normalised adjacency.
    """

    def __init__(self, width: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.apply(init_linear)

    def states(self, around: torch.Tensor, adapter: nn.Linear) -> torch.Tensor:
        """States (..., width) from averaged features (..., d) and the adapter to `width`."""
        # Two linear maps in a row are one: it is made once, not applied twice to every neighbour.
        weight = self.first.weight @ adapter.weight
        bias = self.first.weight @ adapter.bias + self.first.bias
        return self.dropout(F.relu(F.linear(around, weight, bias)))

    def forward(self, states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Average states (b, K, width) of neighbours with weights (b, K): (b, width)."""
        share = weight / weight.sum(1, keepdim=True).clamp_min(1e-6)
        return self.second((share[..., None] * states).sum(1))


class GeneEncoder(nn.Module):
    """Standardised expression to tokens of gene programs.

    Parameters
    ----------
    n_genes, width
        Input and width of a token.
    n_tokens
        Program tokens.
    hidden
        Width of the two hidden layers.
    dropout
        After each.
    """

    def __init__(
        self, n_genes: int, width: int, n_tokens: int, hidden: int = 256, dropout: float = 0.25
    ) -> None:
        super().__init__()
        self.n_tokens = n_tokens
        self.body = nn.Sequential(
            nn.Linear(n_genes, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, n_tokens * width),
        )
        for layer in self.body:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (b, n_tokens, width) of expression (b, n_genes)."""
        return self.body(x).view(len(x), self.n_tokens, -1)


class BiasedCrossAttention(nn.Module):
    """One query reads tokens, whose scores are shifted by given biases; then a small network.

    Parameters
    ----------
    width, n_heads
        Token width, and heads that divide it.
    dropout
        Of attention and network.
    """

    def __init__(self, width: int, n_heads: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.n_heads, self.rate = n_heads, dropout
        self.norm, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.norm_tokens = nn.LayerNorm(width)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )
        self.apply(init_linear)

    def forward(
        self, x: torch.Tensor, tokens: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Map queries (b, width), given tokens (b, K, width) and biases (b, K), to (b, width)."""
        b, _, width = tokens.shape
        context = self.norm_tokens(tokens)
        q = self.query(self.norm(x)).view(b, self.n_heads, 1, -1)
        k, v = (
            layer(context).view(b, -1, self.n_heads, width // self.n_heads).transpose(1, 2)
            for layer in (self.key, self.value)
        )
        mask = None if bias is None else bias[:, None, None, :]
        rate = self.rate if self.training else 0.0
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate)
        x = x + self.out(read.reshape(b, width))
        return x + self.mlp(self.norm_mlp(x))


class TissueFusion(nn.Module):
    """Predict programs of an observation from its image, its neighbours and, if known, genes.

    Parameters
    ----------
    n_features, n_genes, n_programs
        Image features, genes, and programs that the head predicts.
    axes
        (n_genes, n_programs) programs, held fixed.
    width, n_heads, n_tokens
        Width of tokens, attention heads, program tokens of the gene branch.
    tokens
        ``"multi"``: the query attends to the states of all neighbours and to program tokens;
        ``"single"``: to one token each, as published, where attention has no choice.
    likelihood
        ``"zinb"``, ``"nb"``, ``"poisson"`` or ``"gaussian"``.
    """

    def __init__(
        self,
        n_features: int,
        n_genes: int,
        axes: torch.Tensor,
        *,
        width: int = 64,
        n_heads: int = 4,
        n_tokens: int = 16,
        tokens: str = "multi",
        likelihood: str = "zinb",
    ) -> None:
        super().__init__()
        self.tokens, self.likelihood = tokens, likelihood
        self.adapter = nn.Linear(n_features, width)
        init_linear(self.adapter)
        self.spatial = SpatialEncoder(width)
        self.genes = GeneEncoder(n_genes, width, n_tokens)
        self.absent = nn.Parameter(0.02 * torch.randn(n_tokens, width))
        self.read_space = BiasedCrossAttention(width, n_heads)
        self.read_genes = BiasedCrossAttention(width, n_heads)
        self.gate = nn.Linear(2 * width, width)
        self.final = nn.LayerNorm(width)
        self.head = nn.Linear(width, axes.shape[1])
        init_linear(self.gate)
        # Nothing is added to the closed-form prediction before there is evidence for it.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("axes", axes.clone())
        self.log_theta = nn.Parameter(torch.ones(n_genes))
        self.zi_logits = nn.Parameter(torch.full((n_genes,), -4.0))
        self.log_sd = nn.Parameter(torch.zeros(n_genes))

    # -- encoders ---------------------------------------------------------------------------

    def image(self, features: torch.Tensor) -> torch.Tensor:
        """Image token (b, width) of features (b, d)."""
        return self.adapter(features)

    def space(self, around: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """States (b, K, width) of neighbours and their graph convolution (b, width)."""
        states = self.spatial.states(around, self.adapter)
        return states, self.spatial(states, weight)

    def gene_tokens(self, genes: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Program tokens (b, M, width); the learned absent ones where `known` (b,) is False."""
        out = self.absent.expand(len(genes), -1, -1).clone()
        if known.any():
            out[known] = self.genes(genes[known]).to(out.dtype)
        return out

    def fuse(
        self,
        features: torch.Tensor,
        around: torch.Tensor,
        weight: torch.Tensor,
        genes: torch.Tensor,
        known: torch.Tensor,
    ) -> torch.Tensor:
        """Fused state (b, width)."""
        x = self.image(features)
        states, pooled = self.space(around, weight)
        tokens = self.gene_tokens(genes, known)
        if self.tokens == "single":
            by_space = self.read_space(x, pooled[:, None])
            by_genes = self.read_genes(x, tokens.mean(1, keepdim=True))
        else:
            by_space = self.read_space(x, states, torch.log(weight.clamp_min(1e-6)))
            by_genes = self.read_genes(x, tokens)
        gate = torch.sigmoid(self.gate(torch.cat([by_space, by_genes], 1)))
        return self.final(gate * by_space + (1 - gate) * by_genes)

    # -- predictions ------------------------------------------------------------------------

    def deviation(self, fused: torch.Tensor) -> torch.Tensor:
        """What the network adds to log-normalised values (b, n_genes)."""
        return self.head(fused) @ self.axes.T

    def rates(
        self, start: torch.Tensor, added: torch.Tensor, log_share: torch.Tensor, slope: torch.Tensor
    ) -> torch.Tensor:
        """Share of each gene in the profile (b, n_genes), by a softmax over genes and the rest.

        Parameters
        ----------
        start, added
            (b, n_genes) deviations of log-normalised values, in closed form and by the network.
        log_share
            (n_genes + 1,) mean log share; the last is all genes that are not modelled.
        slope
            (n_genes,) change of log-normalised values with the log share.
        """
        logits = ((start + added) / slope).clamp(-6, 6)
        logits = torch.cat([logits, logits.new_zeros(len(logits), 1)], 1) + log_share
        return logits.softmax(1)[:, :-1]

    def log_likelihood(
        self,
        counts: torch.Tensor,
        total: torch.Tensor,
        rates: torch.Tensor,
        values: torch.Tensor,
        mean: torch.Tensor,
    ) -> torch.Tensor:
        """Log-likelihood (b, n_genes) of raw counts, or of log-normalised `values` (gaussian).

        Parameters
        ----------
        counts, total
            (b, n_genes) raw counts and (b,) library sizes.
        rates
            (b, n_genes) shares of the profile.
        values, mean
            (b, n_genes) log-normalised values and their predictions.
        """
        if self.likelihood == "gaussian":
            return gaussian(values, mean, self.log_sd)
        mu = total[:, None] * rates + 1e-8
        if self.likelihood == "poisson":
            return poisson(counts, mu)
        theta = self.log_theta.exp().clamp(1e-3, 1e5)
        if self.likelihood == "nb":
            return negative_binomial(counts, mu, theta)
        return zinb(counts, mu, theta, self.zi_logits)
