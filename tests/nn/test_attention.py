"""The narrow attention kernel against plain softmax attention."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from omicllm.nn import attention as module
from omicllm.nn.attention import attention


def _plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    scores = q.transpose(2, 3) @ k / q.shape[2] ** 0.5
    return (scores.softmax(3) @ v.transpose(2, 3)).transpose(2, 3)


def _inputs(width: int, n_query: int, n_key: int, scale: float = 1.0) -> list[torch.Tensor]:
    source = torch.Generator().manual_seed(0)
    sizes = (n_query, n_key, n_key)
    return [
        (scale * torch.randn(3, 2, width, n, generator=source, dtype=torch.float64))
        .clone()
        .requires_grad_()
        for n in sizes
    ]


@pytest.mark.parametrize("width", [1, 4, 16, 24])
@pytest.mark.parametrize(("n_query", "n_key"), [(1, 1), (17, 32), (40, 5)])
def test_values_and_gradients(width: int, n_query: int, n_key: int) -> None:
    inputs = _inputs(width, n_query, n_key)
    weight = torch.randn(3, 2, width, n_query, dtype=torch.float64)
    out, expected = attention(*inputs), _plain(*inputs)
    torch.testing.assert_close(out, expected)
    for got, want in zip(
        torch.autograd.grad((out * weight).sum(), inputs),
        torch.autograd.grad((expected * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(got, want)


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = _inputs(4, 20, 20)
    whole = attention(*inputs)
    monkeypatch.setattr(module, "_CHUNK_ELEMENTS", 1)
    torch.testing.assert_close(attention(*inputs), whole)
    assert torch.autograd.gradcheck(attention, _inputs(2, 3, 4))


@pytest.mark.parametrize("scale", [3.0, 30.0, 1000.0])
def test_large_scores_stay_exact(scale: float) -> None:
    inputs = [x.detach().to(torch.float32) for x in _inputs(4, 30, 30, scale)]
    expected = _plain(*(x.double() for x in inputs))
    assert torch.isfinite(attention(*inputs)).all()
    torch.testing.assert_close(attention(*inputs).double(), expected, rtol=1e-3, atol=1e-3 * scale)


def test_same_as_the_fused_kernel_in_float32() -> None:
    q, k, v = (x.detach().to(torch.float32) for x in _inputs(4, 50, 50))
    fused = F.scaled_dot_product_attention(*(x.transpose(2, 3) for x in (q, k, v)))
    torch.testing.assert_close(attention(q, k, v), fused.transpose(2, 3), rtol=1e-4, atol=1e-5)
