"""All genes as images over the tissue of one or several sections, kept sparse."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from omicllm.spatial.images import tissue_pixels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omicllm.spatial.sections import SectionGrid


@dataclass(frozen=True)
class Section:
    """Where one section lies in an :class:`ImageSet`.

    Attributes
    ----------
    name
        Section name.
    start, stop
        Its rows in ``ImageSet.counts``.
    pixel
        Flat pixel index of each row, ascending.
    shape
        Height and width of its images.
    """

    name: str
    start: int
    stop: int
    pixel: np.ndarray
    shape: tuple[int, int]

    @property
    def occupancy(self) -> np.ndarray:
        """Bool (height, width): tissue."""
        mask = np.zeros(self.shape[0] * self.shape[1], dtype=bool)
        mask[self.pixel] = True
        return mask.reshape(self.shape)


@dataclass(frozen=True)
class ImageSet:
    """Genes over the occupied pixels of all sections.

    Attributes
    ----------
    counts
        csc float32 (n_pixels, n_genes), sections stacked.
    sections
        One entry per section.
    patch
        Side, in pixels of the grid, of the square that one row sums over (1 unless pooled).
    """

    counts: sparse.csc_matrix
    sections: tuple[Section, ...]
    patch: int = 1

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return self.counts.shape[1]

    @property
    def n_pixels(self) -> int:
        """Number of occupied pixels in all sections."""
        return self.counts.shape[0]

    @property
    def depth(self) -> np.ndarray:
        """Total of each pixel over genes, float64 (n_pixels,)."""
        return np.asarray(self.counts.sum(axis=1), dtype=np.float64).ravel()

    @property
    def gene_total(self) -> np.ndarray:
        """Total of each gene over pixels, float64 (n_genes,)."""
        return np.asarray(self.counts.sum(axis=0), dtype=np.float64).ravel()

    @property
    def section_of(self) -> np.ndarray:
        """Section number of each pixel, int64 (n_pixels,)."""
        return np.repeat(np.arange(len(self.sections)), [s.stop - s.start for s in self.sections])

    def dense(self, genes: np.ndarray | slice) -> np.ndarray:
        """Return some genes as float32 (n, n_pixels)."""
        return self.counts[:, genes].toarray().T

    def images(self, genes: np.ndarray | slice, section: int = 0) -> np.ndarray:
        """Return some genes as images of one section, float32 (n, height, width)."""
        part = self.sections[section]
        n_pixels = part.shape[0] * part.shape[1]
        if n_pixels > 1_000_000 and n_pixels > 100 * len(part.pixel):
            msg = (
                f"The images of section {part.name!r} have {part.shape[0]} x {part.shape[1]} "
                f"pixels, of which {len(part.pixel)} are tissue: too large to draw. Look for spots "
                "far from all others, and make another grid with ol.pp.spatial_grid(adata)."
            )
            raise ValueError(msg)
        rows = self.counts[:, genes][part.start : part.stop].toarray().T
        out = np.zeros((rows.shape[0], part.shape[0] * part.shape[1]), dtype=np.float32)
        out[:, part.pixel] = rows
        return out.reshape(-1, *part.shape)

    def take(self, genes: np.ndarray) -> ImageSet:
        """Return the set of some genes."""
        return replace(self, counts=sparse.csc_matrix(self.counts[:, genes]))

    def with_counts(self, data: np.ndarray) -> ImageSet:
        """Return the same set with other values at the stored entries."""
        X = self.counts
        changed = sparse.csc_matrix((data, X.indices, X.indptr), shape=X.shape)
        return replace(self, counts=changed)

    def halves(self, rng: np.random.Generator) -> tuple[ImageSet, ImageSet]:
        """Split every count between two sets by fair coins (binomial count splitting).

        Given a gene's rate the two halves of a Poisson count are independent, so what they share
        is signal (Neufeld et al. 2024, Biostatistics 25:270).
        """
        total = np.rint(self.counts.data).astype(np.int64)
        first = rng.binomial(total, 0.5).astype(np.float32)
        return self.with_counts(first), self.with_counts(self.counts.data - first)


def image_set(
    X: sparse.csc_matrix,
    grids: Sequence[SectionGrid],
    *,
    max_pixels: int | None = None,
) -> ImageSet:
    """Put the genes of an expression matrix on the pixels of their sections.

    Parameters
    ----------
    X
        csc (n_obs, n_genes).
    grids
        One per section; those without observations are left out.
    max_pixels
        When all sections together have more occupied pixels, neighbouring ones are pooled into
        square patches, as small as will do.
    """
    grids = [g for g in grids if len(g.rows)]
    patch = 1
    if max_pixels is not None:
        while _occupied(grids, patch) > max_pixels:
            patch += 1
    whole = len(grids) == 1 and len(grids[0].rows) == X.shape[0]
    by_row = None if whole else sparse.csr_matrix(X)
    parts, sections, start = [], [], 0
    for grid in grids:
        pooled, shape = _pooled(grid.pixel, grid.shape, patch)
        block = X if by_row is None else sparse.csc_matrix(by_row[grid.rows])
        counts, occupied = tissue_pixels(block, pooled, agg=grid.agg)
        parts.append(counts)
        stop = start + counts.shape[0]
        sections.append(Section(grid.name, start, stop, occupied, shape))
        start = stop
    stacked = parts[0] if len(parts) == 1 else sparse.vstack(parts, format="csc")
    return ImageSet(sparse.csc_matrix(stacked), tuple(sections), patch)


def rows_of(images: ImageSet, grids: Sequence[SectionGrid], n_obs: int) -> np.ndarray:
    """Row of ``images.counts`` that each observation went into, int64 (n_obs,)."""
    out = np.full(n_obs, -1, dtype=np.int64)
    for grid, section in zip((g for g in grids if len(g.rows)), images.sections, strict=True):
        pooled = _pooled(grid.pixel, grid.shape, images.patch)[0]
        out[grid.rows] = section.start + np.searchsorted(section.pixel, pooled)
    if (out < 0).any():
        msg = (
            f"{int((out < 0).sum())} of {n_obs} observations are in no section of the grid. Make "
            "it again with ol.pp.spatial_grid(adata)."
        )
        raise ValueError(msg)
    return out


def _pooled(
    pixel: np.ndarray, shape: tuple[int, int], patch: int
) -> tuple[np.ndarray, tuple[int, int]]:
    row, col = np.divmod(pixel, shape[1])
    small = (-(-shape[0] // patch), -(-shape[1] // patch))
    return row // patch * small[1] + col // patch, small


def _occupied(grids: Sequence[SectionGrid], patch: int) -> int:
    return sum(len(np.unique(_pooled(g.pixel, g.shape, patch)[0])) for g in grids)
