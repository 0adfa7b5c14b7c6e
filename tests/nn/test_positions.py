"""Sine-cosine positions over rectangular grids."""

from __future__ import annotations

import math

import pytest
import torch

from omicllm.nn.positions import sincos_positions


@pytest.mark.parametrize(("height", "width", "dim"), [(18, 15, 16), (3, 7, 6), (1, 5, 4)])
def test_codes_against_a_plain_loop(height: int, width: int, dim: int) -> None:
    period = 50.0
    codes = sincos_positions(height, width, dim, max_period=period)
    assert codes.shape == (height * width, dim)
    assert codes.dtype == torch.float32
    n_row, n_col = math.ceil(dim / 4), dim // 2 - math.ceil(dim / 4)
    for row in range(height):
        for column in range(width):
            expected = []
            for place, n in ((row, n_row), (column, n_col)):
                angles = [place * period ** (-j / n) for j in range(n)]
                expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            torch.testing.assert_close(
                codes[row * width + column], torch.tensor(expected), atol=1e-6, rtol=0
            )


def test_every_place_has_its_own_code() -> None:
    codes = sincos_positions(20, 31, 16)
    distance = torch.cdist(codes, codes) + 10 * torch.eye(len(codes))
    assert distance.min() > 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 3, 16), "at least one patch"), ((3, 3, 7), "even width"), ((3, 3, 2), "at least 4")],
)
def test_bad_sizes(arguments: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sincos_positions(*arguments)


def test_bad_period() -> None:
    with pytest.raises(ValueError, match="max_period"):
        sincos_positions(3, 3, 16, max_period=1.0)
