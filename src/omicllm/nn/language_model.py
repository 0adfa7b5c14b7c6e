"""A small Llama-type causal language model that reads one character per gene."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

#: Tokens after the characters of the table: padding, end of text, start of the label.
PAD, EOS, LABEL, N_SPECIAL = 0, 1, 2, 3


class ProfileLM(nn.Module):
    """Causal language model over ``<modality> characters ... <LABEL> class <EOS>``.

    The network is :class:`transformers.LlamaForCausalLM`, made from a configuration. A position of
    the text is always the same gene, so what the network reads at position i is the embedding of
    the character times the vector of gene i. Tokens are numbered: the characters of the table in
    rank order, ``<PAD>``, ``<EOS>``, ``<LABEL>``, markers of modalities, classes.

    Parameters
    ----------
    values
        (K,) value that each character stands for, in standard deviations.
    n_positions
        Length of a text before ``<LABEL>``: one per gene, and one per marker.
    n_classes
        Classes.
    n_markers
        Markers of modalities in the vocabulary.
    d_model, n_layers, n_heads
        Width, layers and attention heads.

    Attributes
    ----------
    lm
        The Llama network.
    gene
        (n_positions, d_model): vectors of positions.

    Notes
    -----
    Characters start ordered: the first half of an embedding is proportional to the value, the
    second half is constant (it keeps the size of the value through the root-mean-square norm). Of
    the vectors of genes the first half starts near zero; `start` sets it.
    """

    def __init__(
        self,
        values: Any,
        n_positions: int,
        n_classes: int,
        *,
        n_markers: int = 0,
        d_model: int = 32,
        n_layers: int = 1,
        n_heads: int = 4,
    ) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM

        super().__init__()
        values = torch.as_tensor(values, dtype=torch.float32)
        self.n_characters, self.n_classes = len(values), n_classes
        self.n_positions, self.n_markers = n_positions, n_markers
        self.first_marker = self.n_characters + N_SPECIAL
        self.first_class = self.first_marker + n_markers
        self.lm = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=self.first_class + n_classes,
                hidden_size=d_model,
                intermediate_size=2 * d_model,
                num_hidden_layers=n_layers,
                num_attention_heads=n_heads,
                num_key_value_heads=n_heads,
                max_position_embeddings=n_positions + 3,
                tie_word_embeddings=False,
                attn_implementation="sdpa",
                use_cache=False,
                pad_token_id=self.n_characters + PAD,
                eos_token_id=self.n_characters + EOS,
                bos_token_id=None,
            )
        )
        self.half = d_model // 2
        self.gene = nn.Parameter(torch.ones(n_positions, d_model))
        self._initialise(values)

    @torch.no_grad()
    def _initialise(self, values: torch.Tensor) -> None:
        """Ordered characters, attention that starts as a plain mean over the genes."""
        h = self.half
        self.gene[:, :h] = 0.02 * torch.randn(self.n_positions, h)
        embedding = self.lm.model.embed_tokens.weight
        embedding.zero_()
        embedding[: self.n_characters, :h] = 0.5 * values[:, None]
        embedding[:, h:] = 0.5
        embedding[self.n_characters :, h:] += 0.02 * torch.randn_like(
            embedding[self.n_characters :, h:]
        )
        for layer in self.lm.model.layers:
            attention = layer.self_attn
            nn.init.orthogonal_(attention.v_proj.weight)
            attention.o_proj.weight.copy_(attention.v_proj.weight.T)
            attention.q_proj.weight.mul_(0.1)
            layer.mlp.down_proj.weight.mul_(0.1)
        head = self.lm.lm_head.weight[self.first_class :]
        head.zero_()
        head[:, :h] = nn.init.orthogonal_(torch.empty(max(h, self.n_classes), h))[: self.n_classes]

    @torch.no_grad()
    def start(self, contrasts: Any, ids: torch.Tensor, keep: torch.Tensor | None = None) -> None:
        """Start the vectors of genes from class contrasts, so that genes vote before training.

        A gene's vector is set to its contrasts, in the directions of the class tokens, and these
        are scaled so that the logits of the training texts have a standard deviation of one.

        Parameters
        ----------
        contrasts
            (n_positions, n_classes) weight of each gene for each class; 0 for markers.
        ids, keep
            Training texts, as for `forward`.
        """
        weight = torch.as_tensor(contrasts, dtype=self.gene.dtype, device=self.gene.device)
        head = self.lm.lm_head.weight
        rows = head[self.first_class :, : self.half]
        self.gene[:, : self.half] += (weight / weight.std().clamp_min(1e-8)) @ rows
        spread = (logits := self(ids, keep)).sub(logits.mean(dim=0)).std().clamp_min(1e-8)
        head[self.first_class :] /= spread

    def embed(self, ids: torch.Tensor, at: torch.Tensor | None = None) -> torch.Tensor:
        """Inputs of the network for texts and ``<LABEL>`` after them, (n, length + 1, d_model)."""
        gene = self.gene if at is None else self.gene[at]
        table = self.lm.model.embed_tokens
        label = table.weight[self.n_characters + LABEL].expand(len(ids), 1, -1)
        return torch.cat([table(ids) * gene, label], dim=1)

    def latent(
        self,
        ids: torch.Tensor,
        keep: torch.Tensor | None = None,
        at: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """State at ``<LABEL>``, (n, d_model).

        Only the last position is asked of the last layer: the others do not change its result.

        Parameters
        ----------
        ids
            (n, length) tokens of texts.
        keep
            (n, length) bool, False where a modality is missing.
        at
            (length,) positions of the tokens, when not all are shown.
        """
        from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

        model = self.lm.model
        x = self.embed(ids, at)
        n, length, width = x.shape
        position = torch.arange(self.n_positions + 1, device=x.device)[None]
        if at is not None:
            position = torch.cat([at, at.new_tensor([self.n_positions])])[None]
        cos, sin = model.rotary_emb(x, position)
        visible = None
        if keep is not None:
            visible = torch.cat([keep, torch.ones_like(keep[:, :1])], dim=1)[:, None, None]
        *first, last = model.layers
        for layer in first:
            mask = None
            if visible is not None:
                causal = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
                # A hidden gene still sees itself: a row without any key would give NaN.
                mask = (causal & visible) | torch.eye(length, dtype=torch.bool, device=x.device)
            x = layer(x, attention_mask=mask, position_ids=position, position_embeddings=(cos, sin))
        attention = last.self_attn
        normed = last.input_layernorm(x)
        heads = (n, -1, self.lm.config.num_attention_heads, attention.head_dim)
        query = attention.q_proj(normed[:, -1:]).view(heads).transpose(1, 2)
        key = attention.k_proj(normed).view(heads).transpose(1, 2)
        value = attention.v_proj(normed).view(heads).transpose(1, 2)
        _, key = apply_rotary_pos_emb(key, key, cos, sin)
        query, _ = apply_rotary_pos_emb(query, query, cos[:, -1:], sin[:, -1:])
        read = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        y = x[:, -1:] + attention.o_proj(read.transpose(1, 2).reshape(n, 1, width))
        y = y + last.mlp(last.post_attention_layernorm(y))
        return model.norm(y)[:, 0]

    def forward(
        self,
        ids: torch.Tensor,
        keep: torch.Tensor | None = None,
        at: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits of the class tokens after ``<LABEL>``, (n, n_classes); see `latent`."""
        return self.latent(ids, keep, at) @ self.lm.lm_head.weight[self.first_class :].T

    def text_loss(
        self,
        ids: torch.Tensor,
        keep: torch.Tensor | None = None,
        at: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Mean cross-entropy of each character given those before it (next-token loss)."""
        mask = None if keep is None else keep.long()
        output = self.lm(
            inputs_embeds=self.embed(ids, at)[:, :-1],
            attention_mask=mask,
            position_ids=None if at is None else at[None],
        )
        logits = output.logits[:, :-1]
        wanted = ids[:, 1:]
        if keep is not None:
            wanted = wanted.masked_fill(~keep[:, 1:], -100)
        return F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=-100)
