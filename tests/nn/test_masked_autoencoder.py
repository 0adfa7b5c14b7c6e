"""Masked autoencoder: geometry, tissue, masks, positions, training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from omicllm.nn.grids import PatchGrid
from omicllm.nn.masked_autoencoder import MaskedAutoencoder

DECODERS = ["image", "token", "embedding"]


def _images(n: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, height, width, generator=torch.Generator().manual_seed(seed))


def _disc(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return (rows - height / 2) ** 2 / height**2 + (columns - width / 2) ** 2 / width**2 < 0.15


def _source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(8, 12), (9, 14), (5, 4), (11, 3)])
def test_patches_of_any_shape_come_back(shape: tuple[int, int]) -> None:
    images = _images(3, *shape)
    model = MaskedAutoencoder(shape, None, depth=1)
    patches = model.patchify(images)
    rows, columns = -(-shape[0] // 4), -(-shape[1] // 4)
    assert patches.shape == (3, rows * columns, 16)
    padded = torch.zeros(3, rows * 4, columns * 4)
    padded[:, : shape[0], : shape[1]] = images
    for token in range(rows * columns):
        row, column = divmod(token, columns)
        block = padded[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        torch.testing.assert_close(patches[:, token], block.reshape(3, 16))
    torch.testing.assert_close(model.grid.join(patches), images)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("batch", [1, 3])
def test_shapes_and_gradients(decoder: str, batch: int) -> None:
    model = MaskedAutoencoder((18, 13), _disc(18, 13), depth=2, n_latent=7, decoder=decoder)
    images = _images(batch, 18, 13)
    assert model.encode(images).shape == (batch, 7)
    assert model(images.numpy()).shape == (batch, 7)
    assert model.reconstruct(images).shape == (batch, 18, 13)
    loss = model.masked_loss(images, _source())
    assert loss.shape == ()
    loss.backward()
    reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert {"embed.weight", "positions"} <= reached
    assert any(n.startswith("head") for n in reached) == (decoder == "embedding")


@pytest.mark.parametrize("decoder", DECODERS)
def test_what_lies_outside_tissue_has_no_influence(decoder: str) -> None:
    occupancy = _disc(22, 19)
    model = MaskedAutoencoder((22, 19), occupancy, depth=2, decoder=decoder)
    assert model.n_tokens < 30
    images = _images(2, 22, 19)
    other = images.clone()
    other[:, ~torch.as_tensor(occupancy)] = torch.nan
    torch.testing.assert_close(model.encode(other), model.encode(images), rtol=0, atol=0)
    a, b = (model.masked_loss(x, _source()) for x in (images, other))
    torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert (model.reconstruct(images)[:, ~torch.as_tensor(occupancy)] == 0).all()


@pytest.mark.parametrize("decoder", DECODERS)
def test_loss_counts_hidden_tissue_pixels_only(decoder: str) -> None:
    occupancy = _disc(16, 20)
    model = MaskedAutoencoder((16, 20), occupancy, depth=1, decoder=decoder, standardize=False)
    images = _images(3, 16, 20)
    kept, hidden = model.draw_masks(3, _source())
    weight = model.grid.pixel_weight
    total = count = 0.0
    patches = model.patchify(images)
    for i in range(3):
        alone = model._latents(patches[i : i + 1], kept[i : i + 1])
        guess = model._decode(alone, kept[i : i + 1])[0]
        for token in hidden[i]:
            error = (guess[token] - patches[i, token]).square() * weight[token]
            total += error.sum().item()
            count += float(weight[token].sum())
    loss = model.masked_loss(images, _source())
    assert loss.item() == pytest.approx(total / count, rel=1e-4)


def test_hidden_patches_never_reach_the_encoder() -> None:
    model = MaskedAutoencoder((16, 16), None, depth=2)
    kept, hidden = model.draw_masks(1, _source())
    patches = model.patchify(_images(1, 16, 16))
    changed = patches.clone()
    changed[0, hidden[0]] = 5.0
    torch.testing.assert_close(model._latents(patches, kept), model._latents(changed, kept))


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.75, 0.99])
def test_masks(ratio: float) -> None:
    model = MaskedAutoencoder((72, 60), None, depth=1, mask_ratio=ratio)
    kept, hidden = model.draw_masks(50, _source())
    assert hidden.shape[1] / 270 == pytest.approx(ratio, abs=1 / 270)
    assert torch.equal(torch.cat([kept, hidden], 1).sort(1).values, torch.arange(270).repeat(50, 1))
    assert not torch.equal(hidden[0].sort().values, hidden[1].sort().values)
    again, _ = model.draw_masks(50, _source())
    assert torch.equal(kept, again)


def test_paper_mask_keeps_189_of_270() -> None:
    assert MaskedAutoencoder((72, 60), None, depth=1).n_kept == 189


@pytest.mark.parametrize("n_pools", [1, 4])
def test_untrained_encoder_sees_where_patches_are(n_pools: int) -> None:
    model = MaskedAutoencoder((24, 20), None, n_pools=n_pools)
    images = _images(40, 24, 20)
    patches = model.patchify(images)
    order = torch.randperm(model.n_tokens, generator=_source())
    with torch.no_grad():
        z = model.encode(images)
        shuffled = model.encode(model.grid.join(patches[:, order]))
    between = torch.pdist(z).mean()
    assert (z - shuffled).norm(dim=1).mean() > 0.05 * between


@pytest.mark.parametrize("decoder", DECODERS)
def test_empty_and_constant_images(decoder: str) -> None:
    model = MaskedAutoencoder((13, 10), None, depth=2, decoder=decoder)
    images = torch.stack([torch.zeros(13, 10), torch.full((13, 10), 7.3), _images(1, 13, 10)[0]])
    images.requires_grad_()
    z = model.encode(images)
    torch.testing.assert_close(z[0], z[1])
    (z.sum() + model.masked_loss(images, _source())).backward()
    assert torch.isfinite(z).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_standardised_images_do_not_carry_the_level() -> None:
    model = MaskedAutoencoder((12, 12), None)
    images = _images(5, 12, 12)
    torch.testing.assert_close(
        model.encode(images), model.encode(40 * images + 3), atol=1e-4, rtol=1e-3
    )
    plain = MaskedAutoencoder((12, 12), None, standardize=False)
    assert not torch.allclose(plain.encode(images), plain.encode(40 * images + 3), atol=1e-2)


@pytest.mark.parametrize("decoder", DECODERS)
def test_training_lowers_the_loss(decoder: str) -> None:
    rows, columns = np.mgrid[:16, :16]
    waves = [np.sin(rows / 4 + a) + np.cos(columns / 5 + b) for a in range(4) for b in range(4)]
    images = torch.tensor(np.stack(waves), dtype=torch.float32)
    model = MaskedAutoencoder((16, 16), None, depth=2, decoder=decoder)
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    source = _source()
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = model.masked_loss(images, source)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.7 * losses[0]


def test_seeds_and_global_state() -> None:
    before = torch.get_rng_state()
    a, b, c = (MaskedAutoencoder((8, 8), None, rng=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(a.embed.weight, b.embed.weight)
    assert not torch.equal(a.embed.weight, c.embed.weight)
    generator = np.random.default_rng(0)
    assert not torch.equal(
        MaskedAutoencoder((8, 8), None, rng=generator).embed.weight,
        MaskedAutoencoder((8, 8), None, rng=generator).embed.weight,
    )


def test_weights_round_trip() -> None:
    model = MaskedAutoencoder((14, 9), _disc(14, 9), depth=1, rng=3)
    other = MaskedAutoencoder((14, 9), _disc(14, 9), **model.config, rng=4)
    other.load_state_dict(model.state_dict())
    images = _images(2, 14, 9)
    assert torch.equal(model.encode(images), other.encode(images))


@pytest.mark.parametrize("share", [False, True])
def test_another_grid(share: bool) -> None:
    model = MaskedAutoencoder((16, 16), None, depth=1, decoder="token", n_pools=2)
    other = model.for_grid((24, 10), _disc(24, 10), share=share)
    assert other.encode(_images(2, 24, 10)).shape == (2, 32)
    assert torch.isfinite(other.masked_loss(_images(2, 24, 10), _source()))
    assert torch.equal(other.embed.weight, model.embed.weight)
    assert (other.embed is model.embed) == share
    same = model.for_grid((16, 16))
    images = _images(2, 16, 16)
    torch.testing.assert_close(same.encode(images), model.encode(images))


def test_fixed_positions_and_separate_norms() -> None:
    model = MaskedAutoencoder((8, 8), None, positions="fixed", shared_norm=False)
    model.masked_loss(_images(2, 8, 8), _source()).backward()
    assert model.positions.grad is None
    assert model.blocks[0].norm_mlp.weight.grad is not None


def test_regions_cover_the_tissue() -> None:
    grid = PatchGrid((32, 40), _disc(32, 40), 4)
    maps = grid.regions(5)[:, grid.tissue].softmax(1)
    assert maps.shape == (5, grid.n_tokens)
    assert len(maps.argmax(1).unique()) == 5


@pytest.mark.parametrize(
    ("shape", "occupancy", "options", "message"),
    [
        ((8, 8), np.ones((7, 8), bool), {}, "occupancy has shape"),
        ((8, 8), np.zeros((8, 8), bool), {}, "at least 2"),
        ((4, 4), None, {}, "at least 2"),
        ((0, 4), None, {}, "positive"),
        ((8, 8), None, {"dim": 18}, "multiple of n_heads"),
        ((8, 8), None, {"mask_ratio": 1.0}, "mask_ratio"),
        ((8, 8), None, {"decoder": "conv"}, "decoder must be one of"),
        ((8, 8), None, {"positions": "none"}, "positions must be one of"),
        ((8, 8), None, {"depth": 0}, "depth must be at least 1"),
        ((8, 8), None, {"mlp_ratio": 0}, "mlp_ratio"),
    ],
)
def test_bad_parameters(
    shape: tuple[int, int], occupancy: np.ndarray | None, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        MaskedAutoencoder(shape, occupancy, **options)


def test_images_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"Expected images of shape \(batch, 8, 8\)"):
        MaskedAutoencoder((8, 8), None).encode(torch.zeros(2, 8, 9))
