"""The two encoders of SIGEL behind one interface: projection (default) and masked transformer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from omicllm._core.settings import settings
from omicllm.nn.masked_autoencoder import MaskedAutoencoder
from omicllm.nn.projection import ImageProjection
from omicllm.stats.residuals import pearson_residuals
from omicllm.stats.spectrum import Spectrum, cross_validated_axes
from omicllm.train._genes import GeneData, in_blocks
from omicllm.train._sigel import DistillationPlan, MaskedPlan, distillation_loss, masked_loss

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from omicllm.spatial.image_set import ImageSet

    Halves = tuple[np.ndarray, np.ndarray]


def section_residuals(
    images: ImageSet, counts: np.ndarray, depth_share: np.ndarray, clip: float | None = None
) -> np.ndarray:
    """Pearson residuals within each section, float32 (n_genes, n_pixels)."""
    parts = [
        pearson_residuals(counts[:, s.start : s.stop], depth_share[s.start : s.stop], clip=clip)
        for s in images.sections
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def depth_shares(images: ImageSet) -> np.ndarray:
    """Share of its section's counts in each pixel, float64 (n_pixels,)."""
    depth = images.depth
    total = np.array([depth[s.start : s.stop].sum() for s in images.sections])
    return depth / np.maximum(total[images.section_of], 1e-12)


def spectrum_of(
    images: ImageSet, genes: np.ndarray, n_axes: int, clip: float | None = None
) -> Spectrum:
    """Axes of the residual images of some genes. They depend on the data alone, not on a seed."""
    share = depth_shares(images)

    def residual(chosen: np.ndarray) -> np.ndarray:
        return section_residuals(images, images.dense(genes[chosen]), share, clip)

    return cross_validated_axes(residual, len(genes), images.n_pixels, n_axes)


class ProjectionEncoder:
    """Linear encoder on trusted axes of Pearson residuals; training it is optional.

    Parameters
    ----------
    network
        The module.
    params
        Architecture and objective, see :class:`omicllm.model.SIGEL`.
    """

    def __init__(self, network: ImageProjection, params: Mapping[str, Any]) -> None:
        self.network, self.params = network, params

    @classmethod
    def untrained(cls, images: ImageSet, genes: np.ndarray, params: Mapping[str, Any]) -> Any:
        """Encoder at its start, which is determined by the data."""
        spectrum = spectrum_of(images, genes, params["n_axes"], params["clip"])
        gain = (spectrum.signal_to_noise + params["gain_floor"]) ** params["gain_power"]
        network = cls._network(images, len(gain), min(params["n_latent"], len(gain)), params)
        network.set_axes(spectrum.axes, gain, depth_shares(images))
        return cls(network, params)

    @classmethod
    def blank(cls, images: ImageSet, shapes: Mapping[str, Any], params: Mapping[str, Any]) -> Any:
        """Encoder of given sizes, for weights that are loaded."""
        return cls(cls._network(images, shapes["n_axes"], shapes["n_latent"], params), params)

    @staticmethod
    def _network(
        images: ImageSet, n_axes: int, n_latent: int, params: Mapping[str, Any]
    ) -> ImageProjection:
        bounds = [s.start for s in images.sections] + [images.n_pixels]
        return ImageProjection(
            images.n_pixels, n_axes, n_latent, bounds=bounds, clip=params["clip"]
        )

    @property
    def shapes(self) -> dict[str, int]:
        """Sizes that :meth:`blank` needs."""
        return {"n_axes": self.network.axes.shape[1], "n_latent": self.network.n_latent}

    def _blocks(self, images: ImageSet, apply: Callable[[Any], Any]) -> torch.Tensor:
        device = self.network.map.weight.device
        return in_blocks(images, apply, device, n_bytes=settings.block_bytes // 4)

    def project(self, images: ImageSet) -> torch.Tensor:
        """Coordinates along the axes (n_genes, n_axes)."""
        return self._blocks(images, self.network.project)

    def two_views(
        self, images: ImageSet, rng: np.random.Generator, *, drop_sections: bool
    ) -> list[torch.Tensor]:
        """Project two halves of the data; each gene may be shown in random sections only.

        Counts are split by coins; other values cannot be, so that half of the pixels is shown.
        """
        if self.params["input"] == "counts":
            shown = [(half, None) for half in images.halves(rng)]
        else:
            half = torch.from_numpy(rng.random(images.n_pixels) < 0.5)
            half = half.to(self.network.axes.device)
            shown = [(images, half), (images, ~half)]
        if len(images.sections) == 1 or not drop_sections:
            return [self._blocks(x, partial(self.network.project, shown=m)) for x, m in shown]
        views = []
        for x, m in shown:
            parts = self._blocks(x, partial(self.network.project_sections, shown=m))
            keep = rng.random((len(parts), images.n_genes)) < 0.5
            keep[rng.integers(len(parts), size=images.n_genes), np.arange(images.n_genes)] = True
            views.append((parts * torch.from_numpy(keep[:, :, None])).sum(0))
        return views

    def _head(self, projected: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.network.head(projected.to(self.network.map.weight.device)).cpu()

    def embed(self, images: ImageSet) -> torch.Tensor:
        """Embedding of every gene (n_genes, n_latent); zero rows for empty genes."""
        return self._head(self.project(images))

    def embed_sections(self, images: ImageSet) -> torch.Tensor:
        """Embedding of every gene in every section (n_sections, n_genes, n_latent)."""
        return torch.stack(
            [self._head(p) for p in self._blocks(images, self.network.project_sections)]
        )

    def halves(self, images: ImageSet, rng: np.random.Generator) -> tuple[Halves, Halves]:
        """Embeddings of two halves of the data, and PCA scores of them at the same width."""
        views = self.two_views(images, rng, drop_sections=False)
        gain, d = self.network.gain.cpu(), self.network.n_latent
        ours = [self._head(v).numpy() for v in views]
        return (ours[0], ours[1]), tuple((v / gain)[:, :d].numpy() for v in views)  # type: ignore

    def pretraining(
        self, images: ImageSet, genes: np.ndarray, *, batch_size: int, seed: int, lr: float,
        epochs: int,
    ) -> tuple[GeneData, DistillationPlan]:  # fmt: skip
        """Data and plan of distillation: a head shown half the counts learns what all tell."""
        full = self.project(images)

        def epoch(rng: np.random.Generator) -> Callable[[np.ndarray], tuple[torch.Tensor, ...]]:
            first, second = self.two_views(images, rng, drop_sections=True)
            return lambda batch: (full[batch], first[batch], second[batch])

        data = GeneData(genes, batch_size, seed, epoch)
        plan = DistillationPlan(
            self.network,
            lr=lr,
            n_steps=epochs * data.batches.n_batches,
            sharpness=self.params["sharpness"],
            contrast_weight=self.params["contrast_weight"],
            temperature=self.params["temperature"],
        )
        return data, plan

    def of_batch(self, rest: list[torch.Tensor]) -> torch.Tensor:
        """Embedding of a training batch from all its counts, with gradient."""
        return self.network.head(rest[0])

    def other_loss(self, rest: list[torch.Tensor], _: torch.Tensor) -> torch.Tensor:
        """Loss of pretraining of a batch."""
        names = ("sharpness", "contrast_weight", "temperature")
        return distillation_loss(self.network.head, rest, **{n: self.params[n] for n in names})[0]

    def reconstruct(self, images: ImageSet, genes: np.ndarray, section: int) -> np.ndarray:
        """Denoised counts (n, height, width): residuals along the axes, shrunk by their trust."""
        part = images.sections[section]
        counts = torch.from_numpy(images.dense(genes))
        network = self.network
        with torch.no_grad():
            gain = network.gain.cpu()
            trust = gain ** (1.0 / max(self.params["gain_power"], 1e-6)) - self.params["gain_floor"]
            trust = trust.clamp_min(0) / (1 + trust.clamp_min(0))
            axes, share = network.axes.cpu(), network.depth_share.cpu()
            x = counts[:, part.start : part.stop]
            mean = x.sum(1, keepdim=True) * share[part.start : part.stop]
            device = network.map.weight.device
            r = network.residuals(counts.to(device)).cpu()
            smooth = (r @ axes * trust) @ axes[part.start : part.stop].T
            value = mean + smooth * (mean * (1 + mean / network.theta)).sqrt()
        out = np.zeros((len(genes), part.shape[0] * part.shape[1]), dtype=np.float32)
        out[:, part.pixel] = value.clamp_min(0).numpy()
        return out.reshape(-1, *part.shape)

    def trained_network(self) -> torch.nn.Module:
        """The module that holds all weights."""
        return self.network


class TransformerEncoder:
    """Masked autoencoder of log-normalised gene images (the paper's module I).

    Parameters
    ----------
    networks
        One per section; weights are shared, positions belong to each section's patch grid.
    params
        Architecture, see :class:`omicllm.model.SIGEL`.
    """

    def __init__(self, networks: torch.nn.ModuleList, params: Mapping[str, Any]) -> None:
        self.networks, self.params = networks, params

    @classmethod
    def untrained(cls, images: ImageSet, genes: np.ndarray, params: Mapping[str, Any]) -> Any:
        """Encoder with random weights from ``params["seed"]``."""
        names = (
            "patch_size", "dim", "depth", "n_heads", "mlp_ratio", "n_latent", "mask_ratio",
            "decoder", "standardize",
        )  # fmt: skip
        first, *others = images.sections
        network = MaskedAutoencoder(
            first.shape, first.occupancy, rng=params["seed"], **{k: params[k] for k in names}
        )
        networks = [network]
        networks += [network.for_grid(s.shape, s.occupancy, share=True) for s in others]
        return cls.on_tissue(networks, images, params)

    @classmethod
    def on_tissue(
        cls, networks: list[MaskedAutoencoder], images: ImageSet, params: Mapping[str, Any]
    ) -> Any:
        """Encoder whose pixels are scaled by the depth of `images`, kept with the weights.

        Other genes over the same spots are then read on the scale of training.
        """
        for network, s in zip(networks, images.sections, strict=True):
            depth = torch.from_numpy(images.depth[s.start : s.stop].astype(np.float32))
            network.register_buffer("depth_of_pixels", depth)
        return cls(torch.nn.ModuleList(networks), params)

    @classmethod
    def blank(cls, images: ImageSet, shapes: Mapping[str, Any], params: Mapping[str, Any]) -> Any:
        """Same as :meth:`untrained`: the sizes follow from the images and the parameters."""
        return cls.untrained(images, np.arange(images.n_genes), params)

    @property
    def shapes(self) -> dict[str, int]:
        """Nothing beyond the parameters."""
        return {}

    def _normalized(self, images: ImageSet) -> ImageSet:
        """Each pixel scaled to the median total of its section, then log(1 + x)."""
        depth = np.concatenate([n.depth_of_pixels.cpu().numpy() for n in self.networks])
        target = np.ones(images.n_pixels)
        for s in images.sections:
            inside = depth[s.start : s.stop]
            target[s.start : s.stop] = np.median(inside[inside > 0]) if inside.any() else 1.0
        factor = (target / np.maximum(depth, 1e-12)).astype(np.float32)
        return images.with_counts(np.log1p(images.counts.data * factor[images.counts.indices]))

    def _images_of(self, normalized: ImageSet, genes: np.ndarray) -> tuple[torch.Tensor, ...]:
        return tuple(
            torch.from_numpy(normalized.images(genes, i)) for i in range(len(self.networks))
        )

    def embed_sections(self, images: ImageSet) -> torch.Tensor:
        """Embedding of every gene in every section (n_sections, n_genes, n_latent)."""
        normalized = self._normalized(images)
        device = self.networks[0].embed.weight.device
        pixels = max(s.shape[0] * s.shape[1] for s in images.sections)
        step = max(1, min(512, settings.block_bytes // (64 * pixels)))
        parts = []
        with torch.no_grad():
            for start in range(0, images.n_genes, step):
                genes = np.arange(start, min(start + step, images.n_genes))
                shown = self._images_of(normalized, genes)
                pairs = zip(self.networks, shown, strict=True)
                z = torch.stack([n.encode(x.to(device)).cpu() for n, x in pairs])
                empty = torch.stack([x.flatten(1).abs().sum(1) == 0 for x in shown])
                parts.append(z.masked_fill(empty[:, :, None], 0.0))
        return torch.cat(parts, dim=1)

    def embed(self, images: ImageSet) -> torch.Tensor:
        """Mean over the sections a gene is seen in (n_genes, n_latent)."""
        z = self.embed_sections(images)
        seen = (z.abs().sum(2) > 0).sum(0).clamp_min(1)
        return z.sum(0) / seen[:, None]

    def halves(self, images: ImageSet, rng: np.random.Generator) -> tuple[Halves, Halves]:
        """Embeddings of two halves of the data, and PCA scores of them at the same width."""
        if self.params["input"] == "counts":
            # Doubled: pixels are scaled by the depth of all counts.
            halves = tuple(x.with_counts(2 * x.counts.data) for x in images.halves(rng))
        else:
            half = rng.random(images.n_pixels) < 0.5
            data, rows = images.counts.data, images.counts.indices
            halves = images.with_counts(data * half[rows]), images.with_counts(data * ~half[rows])
        ours = [self.embed(x).numpy() for x in halves]
        genes, share = np.flatnonzero(images.gene_total > 0), depth_shares(images)
        axes = spectrum_of(images, genes, self.params["n_latent"]).axes
        scores = []
        for part in halves:
            blocks = np.array_split(np.arange(images.n_genes), -(-images.n_genes // 2048))
            parts = [section_residuals(part, part.dense(b), share) @ axes for b in blocks]
            scores.append(np.concatenate(parts))
        return (ours[0], ours[1]), (scores[0], scores[1])

    def pretraining(
        self, images: ImageSet, genes: np.ndarray, *, batch_size: int, seed: int, lr: float,
        epochs: int,
    ) -> tuple[GeneData, MaskedPlan]:  # fmt: skip
        """Data and plan of masked autoencoding."""
        normalized = self._normalized(images)
        data = GeneData(genes, batch_size, seed, lambda _: lambda b: self._images_of(normalized, b))
        self._generator = torch.Generator().manual_seed(seed)
        return data, MaskedPlan(self.networks, lr=lr, seed=seed)

    def of_batch(self, rest: list[torch.Tensor]) -> torch.Tensor:
        """Embedding of a training batch, with gradient."""
        return torch.stack([n.encode(x) for n, x in zip(self.networks, rest, strict=True)]).mean(0)

    def other_loss(self, rest: list[torch.Tensor], _: torch.Tensor) -> torch.Tensor:
        """Loss of pretraining of a batch."""
        return masked_loss(list(self.networks), rest, self._generator)

    def reconstruct(self, images: ImageSet, genes: np.ndarray, section: int) -> np.ndarray:
        """Decoded images on the log-normalised scale (n, height, width)."""
        shown = self._images_of(self._normalized(images), genes)[section]
        network = self.networks[section]
        with torch.no_grad():
            return network.reconstruct(shown.to(network.embed.weight.device)).cpu().numpy()

    def trained_network(self) -> torch.nn.Module:
        """The module that holds all weights."""
        return self.networks


ENCODERS: dict[str, Any] = {"projection": ProjectionEncoder, "transformer": TransformerEncoder}
