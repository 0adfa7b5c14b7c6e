"""Losses that shape an embedding: contrast between views, and self-paced clustering."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

__all__ = [
    "AutoWeighted",
    "info_nce",
    "neighbor_distillation",
    "neighbor_logits",
    "pseudo_contrastive",
    "self_paced_target",
    "size_entropy",
]


def info_nce(a: torch.Tensor, b: torch.Tensor, temperature: float = 0.2) -> torch.Tensor:
    """Symmetric InfoNCE between two views of the same rows.

    Row i of `a` and row i of `b` are a positive pair, all other rows of the other view negatives;
    similarity is the cosine divided by `temperature`. The loss is the mean of both directions.

    Parameters
    ----------
    a, b
        Embeddings of shape (n, d), n >= 2. Rows of zeros are allowed (cosine 0).
    temperature
        Positive scale of the cosine.

    Returns
    -------
    Scalar tensor, in nats.

    Raises
    ------
    ValueError
        If the shapes differ, are not (n >= 2, d), or the temperature is not positive.

    Notes
    -----
    van den Oord et al. (2018), equation 4; symmetric form of Radford et al. (2021), figure 3.
    """
    if a.ndim != 2 or a.shape != b.shape:
        msg = f"Both views must have the same shape (n, d); got {tuple(a.shape)}, {tuple(b.shape)}."
        raise ValueError(msg)
    if len(a) < 2:
        msg = "InfoNCE needs at least two rows, or there is nothing to contrast with."
        raise ValueError(msg)
    if not temperature > 0:
        msg = f"temperature must be positive; got {temperature}."
        raise ValueError(msg)
    scores = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T / temperature
    pairs = torch.arange(len(a), device=a.device)
    return 0.5 * (F.cross_entropy(scores, pairs) + F.cross_entropy(scores.T, pairs))


def self_paced_target(q: torch.Tensor) -> torch.Tensor:
    """Sharpened assignments: squared, and divided by the size of each component.

    Computed anew from the current assignments every epoch, so genes that are already confident
    lead; dividing by component size keeps large components from swallowing small ones.

    Parameters
    ----------
    q
        Assignment probabilities over all genes, shape (n, k); rows sum to 1.

    Returns
    -------
    Tensor of shape (n, k) without gradient, rows summing to 1; empty components stay empty.

    Notes
    -----
    ``p_ik = (q_ik^2 / f_k) / sum_j (q_ij^2 / f_j)`` with ``f_k = sum_i q_ik``: Xie et al. (2016),
    equation 3, as used by SIGEL (Genome Biology 26:287, 2025).
    """
    q = q.detach()
    weight = q.square() / q.sum(0).clamp_min(torch.finfo(q.dtype).tiny)
    return weight / weight.sum(1, keepdim=True).clamp_min(torch.finfo(q.dtype).tiny)


def pseudo_contrastive(log_q: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Divergence KL(p || q) summed over components and averaged over the genes of the batch.

    Its gradient draws a gene to the components the target trusts and pushes it from the others.

    Parameters
    ----------
    log_q
        Log assignment probabilities, shape (batch, k); gradient flows here.
    p
        Target probabilities, shape (batch, k), held fixed.

    Returns
    -------
    Scalar tensor, in nats. Entries with ``p = 0`` contribute nothing, whatever ``log_q`` is.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if log_q.shape != p.shape:
        msg = f"log_q and p must have one shape; got {tuple(log_q.shape)} and {tuple(p.shape)}."
        raise ValueError(msg)
    p = p.detach()
    used = p > 0
    # Both branches of a `where` are differentiated: mask before the product, not after it.
    cross = p * log_q.masked_fill(~used, 0.0)
    return (torch.xlogy(p, p) - cross).sum() / max(len(p), 1)


def size_entropy(q: torch.Tensor) -> torch.Tensor:
    """Negative entropy of the component shares; minimising it spreads genes over components.

    Parameters
    ----------
    q
        Assignment probabilities, shape (n, k); gradient flows here.

    Returns
    -------
    Scalar tensor between -log(k) (equal shares) and 0 (a single component), in nats.
    """
    shares = q.mean(0)
    return torch.xlogy(shares, shares).sum()


class AutoWeighted(nn.Module):
    """Sum of losses with learned weights ``L / (2 s^2) + log(1 + s^2)``, one scale s per loss.

    The scale is kept as its logarithm, so it can neither change sign nor reach zero.

    Parameters
    ----------
    n_losses
        Number of losses combined.

    Notes
    -----
    Kendall et al. (2018), equation 7, with the non-negative regulariser of Liebel and Koerner
    (2018), equation 3.
    """

    def __init__(self, n_losses: int) -> None:
        super().__init__()
        if n_losses < 1:
            msg = f"n_losses must be at least 1; got {n_losses}."
            raise ValueError(msg)
        self.log_scale = nn.Parameter(torch.zeros(n_losses))

    def forward(self, *losses: torch.Tensor) -> torch.Tensor:
        """Weighted sum of as many scalar losses as the module was made for."""
        if len(losses) != len(self.log_scale):
            msg = f"Expected {len(self.log_scale)} losses; got {len(losses)}."
            raise ValueError(msg)
        square = (2.0 * self.log_scale).exp()
        return (torch.stack(losses) / (2.0 * square) + torch.log1p(square)).sum()


def neighbor_logits(similarity: torch.Tensor, sharpness: float) -> torch.Tensor:
    """Similarities of each row to the others, standardised per row; the row itself is left out.

    Only the order and the spread of a row's similarities count, so that rows whose cosines are
    all small (few counts, much noise) weigh as much as the others.

    Parameters
    ----------
    similarity
        Shape (n, n).
    sharpness
        Factor on the standard scores.
    """
    n = len(similarity)
    itself = torch.eye(n, dtype=torch.bool, device=similarity.device)
    s = similarity.masked_fill(itself, 0.0)
    mean = s.sum(1, keepdim=True) / (n - 1)
    variance = s.square().sum(1, keepdim=True) / (n - 1) - mean.square()
    scores = (s - mean) / variance.clamp_min(1e-8).sqrt()
    return (scores * sharpness).masked_fill(itself, -1e4)


def neighbor_distillation(z: torch.Tensor, teacher: torch.Tensor, sharpness: float) -> torch.Tensor:
    """Cross-entropy between the neighbourhoods of rows in `teacher` and in `z`.

    Parameters
    ----------
    z, teacher
        Unit rows (n, d) and (n, D) of the same n genes; the gradient reaches `z` only.
    sharpness
        See :func:`neighbor_logits`.

    Returns
    -------
    Scalar tensor, in nats.

    Notes
    -----
    Neighbour-embedding objective of Hinton and Roweis (2002) on standardised cosines, with the
    target taken from a teacher that sees more (Tejankar et al. 2021, similarity distillation).
    """
    with torch.no_grad():
        target = neighbor_logits(teacher @ teacher.T, sharpness).softmax(1)
    return -(target * neighbor_logits(z @ z.T, sharpness).log_softmax(1)).sum(1).mean()
