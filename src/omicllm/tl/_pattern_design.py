"""What pattern is meant: regions, masks and images turned into a rate per observation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, inputs

if TYPE_CHECKING:
    from anndata import AnnData

    from omicllm.spatial.sections import SectionGrid


def regions(
    source: AnnData, groupby: str | None, region: Any, levels: Any
) -> dict[str, np.ndarray]:
    """Observations of each region asked for."""
    if region is None and levels is None:
        return {}
    if groupby is None:
        msg = (
            f"{'region' if levels is None else 'levels'}= needs groupby=: the column of adata.obs "
            f"with the regions (there: {checks.listed(source.obs)})."
        )
        raise ValueError(msg)
    column = inputs.obs_column(source, groupby, argument="groupby")
    text = np.array([str(v) for v in column], dtype=object)
    wanted = [str(region)] if levels is None else [str(n) for n in levels]
    there = sorted(set(text) - {"nan"})
    for name in wanted:
        if name not in there:
            raise checks.missing(name, f"adata.obs[{groupby!r}]", there)
    if levels is not None:
        if len(levels) < 2:
            msg = "levels= needs at least two regions; for one, use region=."
            raise ValueError(msg)
        for name, level in levels.items():
            checks.share(f"levels[{name!r}]", level, high=100.0)
    return {name: np.flatnonzero(text == name) for name in wanted}


def template(
    source: AnnData, grids: list[SectionGrid], position: np.ndarray,
    members: dict[str, np.ndarray], asked: dict[str, Any],
) -> np.ndarray:  # fmt: skip
    """Relative rate of the pattern at each observation; NaN where nothing is said."""
    n = source.n_obs
    if asked["levels"] is not None:
        return np.full(n, np.nan)
    if asked["region"] is not None:
        out = np.zeros(n)
        out[next(iter(members.values()))] = 1.0
        what = f"region={asked['region']!r}"
    elif asked["mask"] is not None:
        out, what = _mask(source, asked["mask"]), "mask="
    else:
        out, what = _image(asked["image"], grids, position, n), "image="
    if np.ptp(out) == 0:
        msg = f"{what} is the same at every observation, which is no pattern."
        raise ValueError(msg)
    return out


def _mask(source: AnnData, mask: Any) -> np.ndarray:
    if isinstance(mask, str):
        mask = inputs.obs_column(source, mask, argument="mask")
    mask = np.asarray(mask)
    if mask.shape != (source.n_obs,):
        msg = f"mask= needs one value per observation ({source.n_obs},), not {mask.shape}."
        raise ValueError(msg)
    if mask.dtype != bool and not np.isin(mask.astype(str), ["True", "False", "0", "1"]).all():
        msg = "mask= must hold True and False only. For other values use image= or levels=."
        raise ValueError(msg)
    return np.isin(mask.astype(str), ["True", "1"]).astype(np.float64)


def _image(image: Any, grids: list[SectionGrid], position: np.ndarray, n: int) -> np.ndarray:
    names = [g.name for g in grids]
    if not hasattr(image, "items"):
        if len(grids) > 1:
            msg = f"image= needs a dict of section -> array: there are {checks.listed(names)}."
            raise ValueError(msg)
        image = {names[0]: image}
    out = np.full(n, np.nan)
    for name, values in image.items():
        if name not in names:
            raise checks.missing(str(name), "the sections", names)
        grid = grids[names.index(name)]
        values = np.asarray(values, dtype=np.float64)
        if values.shape != tuple(grid.shape):
            msg = f"image= has the shape {values.shape}, the grid {tuple(grid.shape)}."
            raise ValueError(msg)
        out[grid.rows] = values[position[grid.rows, 0], position[grid.rows, 1]]
    told = np.concatenate([grids[names.index(name)].rows for name in image])
    if not np.isfinite(out[told]).all():
        msg = "image= holds NaN or infinite values on tissue."
        raise ValueError(msg)
    out[told] -= min(0.0, out[told].min())
    out[~np.isfinite(out)] = out[told].mean()
    return out
