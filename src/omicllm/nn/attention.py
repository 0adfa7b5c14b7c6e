"""Exact softmax attention for very narrow heads, laid out for cache on a CPU.

A gene image has a few hundred tokens and heads four numbers wide, so a general kernel spends its
time around the arithmetic rather than in it. Keeping features first, (width, tokens), turns every
product with the (tokens, tokens) score matrix into a wide one, which is about five times faster
than the usual layout. Elsewhere (accelerators, wide heads, half precision) PyTorch's own fused
kernel is used; both give the same numbers to rounding.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["attention"]

_LOG2_E = 1.0 / math.log(2.0)
# Scores of one chunk (4 MB in float32): large enough to hide call overhead, small enough for cache.
_CHUNK_ELEMENTS = 2**20
# Numbers per vector register: products with other lengths are some 15 % slower.
_VECTOR = 16
# Above this width the general fused kernel catches up.
_MAX_WIDTH = 16
# The shift below is an upper bound of a row's largest score, at most twice its size too high. With
# the bound under 50 the largest term stays above 2**-100, far from the end of float32.
_MAX_BOUND = 50.0


class _NarrowAttention(torch.autograd.Function):
    """Softmax attention in base 2 over inputs (heads, width, tokens), scores recomputed backward.

    Softmax does not change when a row is shifted, so the shift (a Cauchy-Schwarz bound in the
    forward pass, the log normaliser in the backward pass) is carried as one more feature of the
    query against a constant feature of the key. The normaliser is one more feature of the value.
    """

    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bound: torch.Tensor
    ) -> torch.Tensor:
        n_rows, width, n_query = q.shape
        ones = k.new_ones(n_rows, 1, k.shape[2])
        queries, keys, values = _stack(q, -bound), _stack(k, ones), _stack(v, ones)
        out = torch.empty_like(queries)
        for part, scores in _chunks(queries, keys, 1):
            torch.bmm(keys[part].transpose(1, 2), queries[part], out=scores[0])
            torch.bmm(values[part], scores[0].exp2_(), out=out[part])
        total = out[:, width:, :n_query]
        result = out[:, :width, :n_query] / total
        ctx.save_for_backward(q, keys, values, result, bound + total.log2())
        ctx.n_key = k.shape[2]
        return result

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        q, keys, values, result, log_total = ctx.saved_tensors
        width, n_query = q.shape[1:]
        # Backward of a softmax row: P * (dP - sum(P * dP)); the sum equals sum(dO * O).
        queries = _stack(q, -log_total)
        grads = _stack(grad, -(grad * result).sum(1, keepdim=True))
        q, k, grad = (x[:, :width].contiguous() for x in (queries, keys, grads))
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(k)
        for part, (prob, dscore) in _chunks(queries, keys, 2):
            torch.bmm(keys[part].transpose(1, 2), queries[part], out=prob)
            prob.exp2_()
            torch.bmm(grad[part], prob.transpose(1, 2), out=dv[part])
            torch.bmm(values[part].transpose(1, 2), grads[part], out=dscore)
            dscore.mul_(prob)
            torch.bmm(k[part], dscore, out=dq[part])
            torch.bmm(q[part], dscore.transpose(1, 2), out=dk[part])
        dq, dk, dv = dq[..., :n_query], dk[..., : ctx.n_key], dv[..., : ctx.n_key]
        # exp2 instead of exp: the derivative carries log(2).
        return dq * math.log(2.0), dk * math.log(2.0), dv, None


def _stack(x: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """Add one feature and pad the tokens with zeros to a multiple of the vector length.

    A padded key has value zero and normaliser zero, so it takes no part; what comes out for a
    padded query is cut off.
    """
    n_rows, width, n_tokens = x.shape
    out = x.new_zeros(n_rows, width + 1, -(-n_tokens // _VECTOR) * _VECTOR)
    out[:, :width, :n_tokens] = x
    out[:, width:, :n_tokens] = last
    return out


def _chunks(
    queries: torch.Tensor, keys: torch.Tensor, n_buffers: int
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Slices of rows whose score matrices fit in cache, with scratch space for them."""
    n_rows, n_scores = len(queries), queries.shape[2] * keys.shape[2]
    step = min(n_rows, max(1, _CHUNK_ELEMENTS // (n_buffers * n_scores)))
    scratch = queries.new_empty(n_buffers, step, keys.shape[2], queries.shape[2])
    for start in range(0, n_rows, step):
        yield slice(start, start + step), scratch[:, : n_rows - start]


def _fits(q: torch.Tensor) -> bool:
    return (
        q.device.type == "cpu"
        and q.dtype in {torch.float32, torch.float64}
        and q.shape[2] <= _MAX_WIDTH
    )


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Scaled dot-product attention with features before tokens.

    Computes ``softmax(q' k / sqrt(width)) v'`` for every batch entry and head (Vaswani et al.,
    2017, equation 1), exactly, without ever holding the scores of the whole batch.

    Parameters
    ----------
    q
        Queries, shape (batch, heads, width, n_query).
    k, v
        Keys and values, shape (batch, heads, width, n_key).

    Returns
    -------
    Tensor of shape (batch, heads, width, n_query).

    Notes
    -----
    On a CPU with heads up to 16 wide the narrow kernel of this module runs, on condition that no
    score can leave the safe range of the exponential; otherwise
    :func:`torch.nn.functional.scaled_dot_product_attention`. The narrow kernel can be
    differentiated once.
    """
    batch, heads, width, n_query = q.shape
    if _fits(q):
        rows = batch * heads
        scaled = (q * (_LOG2_E / math.sqrt(width))).reshape(rows, width, n_query)
        keys = k.reshape(rows, width, -1)
        with torch.no_grad():
            longest = keys.square().sum(1, keepdim=True).amax(2, keepdim=True)
            bound = (scaled.square().sum(1, keepdim=True) * longest).sqrt()
            safe = bool(bound.numel() > 0 and bound.max() < _MAX_BOUND)
        if safe:
            out = _NarrowAttention.apply(scaled, keys, v.reshape(rows, width, -1), bound)
            return out.view(batch, heads, width, n_query)
    # The fused kernel is twice as slow on strided inputs as on copies of these small tensors.
    q, k, v = (x.transpose(2, 3).contiguous() for x in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, scale=1.0 / math.sqrt(width))
    return out.transpose(2, 3)
