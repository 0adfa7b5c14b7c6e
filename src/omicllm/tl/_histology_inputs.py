"""What the verbs that compare predicted and measured expression share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from omicllm._core import checks, inputs
from omicllm._core.log import logger
from omicllm.stats.histology import (
    Fold,
    leave_block_out,
    leave_group_out,
    neighbor_distance,
)
from omicllm.stats.splits import spatial_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from scipy import sparse

#: Counts that a profile is scaled to before the logarithm.
TARGET_SUM = 1e4
#: Blocks of one section that are held out in turn, when there is nothing else to hold out.
_N_REGIONS = 5
#: Nearest training spot of a typical test spot, in spacings of the array: below, spots are mixed.
_MIXED = 1.5


def image_features(adata: AnnData, use_rep: str) -> np.ndarray:
    """Features (n_obs, d) out of obsm, checked.

    Raises
    ------
    KeyError, ValueError
        None there; not finite.
    """
    if use_rep not in adata.obsm:
        raise checks.missing(
            use_rep, "adata.obsm", adata.obsm,
            hint="Make features with ol.pp.image_features(adata), or name others with use_rep=.",
        )  # fmt: skip
    where = f"adata.obsm[{use_rep!r}]"
    return checks.finite_features(adata.obsm[use_rep], adata.obs_names, where=where).astype(
        np.float64
    )


def rgb_columns(adata: AnnData, use_rep: str) -> list[int] | None:
    """Columns of the mean red, green and blue of the patch, where the features have them."""
    entry = adata.uns.get(use_rep.removeprefix("X_"), {})
    if not hasattr(entry, "get") or entry.get("feature_names") is None:
        return None
    names = [str(n) for n in np.asarray(entry["feature_names"]).ravel()]
    wanted = [f"patch_{c}_mean" for c in ("red", "green", "blue")]
    return [names.index(w) for w in wanted] if set(wanted) <= set(names) else None


def expression(
    adata: AnnData, layer: str | None, how: str, *, has_input: bool = True
) -> sparse.csr_matrix:
    """Expression (n_obs, n_vars) on the scale log(1 + 10,000 x share of the profile).

    Parameters
    ----------
    layer
        Layer instead of X.
    how
        ``"counts"``; or ``"values"``, which are taken as they are.
    has_input
        The caller has ``input="values"`` to offer.
    """
    X = inputs.by_gene(adata, layer)
    names = np.asarray(adata.var_names).astype(str)
    if how == "values":
        if not np.isfinite(X.data).all():
            msg = "Expression holds NaN or infinite values."
            raise ValueError(msg)
        return X.tocsr()
    inputs.check_expression(X, names, counts=True, layer=layer, source=adata, has_input=has_input)
    X = X.tocsr().astype(np.float64)
    total = np.asarray(X.sum(axis=1)).ravel()
    X.data *= np.repeat(TARGET_SUM / np.maximum(total, 1.0), np.diff(X.indptr))
    X.data = np.log1p(X.data)
    return X


def labels(adata: AnnData, key: str | None, usual: Sequence[str], argument: str) -> np.ndarray:
    """Column of obs as text: the one named, else the first usual one, else one label for all."""
    if key is None:
        key = next((k for k in usual if k in adata.obs), None)
        if key is None:
            return np.zeros(adata.n_obs, dtype=np.int64).astype(str)
        logger.info("%s=%r is taken from adata.obs", argument, key)
    codes, names = inputs.sections(adata, key)
    return np.array(names, dtype=object)[codes].astype(str)


def coordinates(adata: AnnData, spatial_key: str, sections: np.ndarray) -> np.ndarray | None:
    """Coordinates (n_obs, 2), or None without any under the usual name."""
    from omicllm.spatial import positions

    if spatial_key == "spatial" and not positions.has_coordinates(adata, spatial_key):
        return None
    found = positions.coordinates(adata, spatial_key)
    if len(np.unique(sections)) < 2:
        positions.warn_of_overlaid(adata, found, argument="section_key")
    return found


def blocks_of(coords: np.ndarray | None, sections: np.ndarray, n: int) -> np.ndarray:
    """Blocks of neighbouring rows; each row its own without coordinates."""
    if coords is None:
        return np.arange(len(sections))
    codes = np.unique(sections, return_inverse=True)[1].ravel()
    return spatial_blocks(coords, codes, n)


def divisions(
    adata: AnnData,
    sections: np.ndarray,
    patients: np.ndarray,
    coords: np.ndarray | None,
    *,
    split_key: str | None,
    allow_spot_split: bool,
) -> tuple[list[Fold], str]:
    """Divisions into training and test rows, and what keeps them apart.

    Raises
    ------
    ValueError
        Spots of one section on both sides; nothing to hold out.
    """
    if split_key is not None:
        fold = given_division(adata, split_key)
        return [fold], how_apart(
            fold, sections, patients, coords, allow_spot_split=allow_spot_split
        )
    if len(np.unique(patients)) > 1:
        return leave_group_out(patients), "patient"
    if len(np.unique(sections)) > 1:
        return leave_group_out(sections), "section"
    if coords is None:
        msg = (
            "There is one section and no coordinates, so nothing can be held out: name sections "
            "with section_key=, or rows with split_key=."
        )
        raise ValueError(msg)
    blocks = spatial_blocks(coords, np.zeros(len(coords), dtype=np.int64), _N_REGIONS)
    buffer = 2.01 * neighbor_distance(coords, sections)
    logger.warning(
        "One section only: %d of its regions are held out in turn, with a margin of two spots. "
        "Scores say how well the rest of a measured section is filled in.",
        len(np.unique(blocks)),
    )
    folds = [f for f in leave_block_out(coords, sections, blocks, buffer=buffer) if len(f.train)]
    if not folds:
        msg = (
            f"One section of {len(coords)} observations is too small to hold out a region of it "
            "with a margin of two spots: give more sections, or split_key=."
        )
        raise ValueError(msg)
    return folds, "region"


def given_division(adata: AnnData, split_key: str) -> Fold:
    """The division that a column of obs holds: rows of ``"test"`` against the others.

    Raises
    ------
    ValueError
        No test rows, or no others.
    """
    column = inputs.obs_column(adata, split_key, argument="split_key").astype(str)
    test = np.flatnonzero(column == "test")
    train = np.flatnonzero((column == "train") | (column == "val"))
    if not len(test) or not len(train):
        there = checks.listed(np.unique(column))
        msg = (
            f"adata.obs[{split_key!r}] needs rows of 'train' and of 'test' (there: {there}). "
            "Make it with ol.pp.split(adata)."
        )
        raise ValueError(msg)
    return Fold("test", train, test)


def how_apart(
    fold: Fold,
    sections: np.ndarray,
    patients: np.ndarray,
    coords: np.ndarray | None,
    *,
    allow_spot_split: bool,
) -> str:
    """What keeps the rows of a division apart: patient, section, region or nothing (spot).

    Raises
    ------
    ValueError
        Test spots lie among training spots of their section, unless that is allowed.
    """
    shared = np.intersect1d(sections[fold.train], sections[fold.test])
    if not len(shared):
        mixed = np.intersect1d(patients[fold.train], patients[fold.test])
        return "section" if len(mixed) else "patient"
    if coords is not None and not _mixed(fold, sections, shared, coords):
        return "region"
    if allow_spot_split:
        logger.warning(
            "Spots of %s are in training and test: the scores are of imputation within a section.",
            checks.listed(shared),
        )
        return "spot"
    msg = (
        f"Spots of section {checks.listed(shared, most=3)} are mixed into training and test rows. "
        "Neighbouring patches overlap, so such scores say little about a new section: split by "
        "section or patient (ol.pp.split(adata, groupby=...)), or pass allow_spot_split=True."
    )
    raise ValueError(msg)


def _mixed(fold: Fold, sections: np.ndarray, shared: np.ndarray, coords: np.ndarray) -> bool:
    """Whether a typical test spot of a shared section has a training spot for a neighbour."""
    from scipy.spatial import cKDTree

    for s in shared:
        train = fold.train[sections[fold.train] == s]
        test = fold.test[sections[fold.test] == s]
        spacing = neighbor_distance(coords[sections == s], sections[sections == s])
        distance, _ = cKDTree(coords[train]).query(coords[test])
        if np.median(distance) < _MIXED * spacing:
            return True
    return False


def inner_groups(
    rows: np.ndarray, sections: np.ndarray, patients: np.ndarray, coords: np.ndarray | None
) -> np.ndarray:
    """What is held out in turn to choose a penalty: patients, else sections, else regions."""
    for groups in (patients[rows], sections[rows]):
        if len(np.unique(groups)) > 1:
            return groups
    if coords is None:
        return sections[rows]
    return spatial_blocks(coords[rows], np.zeros(len(rows), dtype=np.int64), _N_REGIONS).astype(str)
