"""Where observations are: the one reader of coordinates and of array positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, inputs
from omicllm._core.log import warn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

#: Columns of obs that usually tell sections apart, in the order tried.
SECTION_COLUMNS = (
    "library_id", "section", "sample", "sample_id", "slide", "section_id", "sample_name",
    "slide_id", "slide_name", "slice", "slice_id", "region", "region_id", "batch", "library",
    "image_id", "imageid", "fov", "puck", "orig.ident", "donor", "patient",
)  # fmt: skip
ARRAY = ("array_row", "array_col")
CENTROIDS = ("x_centroid", "y_centroid")
#: Share of a section that lies inside another one from which on they lie over each other.
_OVERLAID = 0.3
#: Most observations of a section that are looked at for it, most sections, and fewest observations.
_LOOKED_AT, _MOST_SECTIONS, _FEWEST = 300, 500, 5


def too_large(n_pixels: int, n_spots: int) -> bool:
    """Whether an image is out of all proportion to the spots on it.

    The largest arrays of spots have under 20,000 pixels; smaller images do no harm.
    """
    return n_pixels > max(100 * n_spots, 20_000)


def _numbers(values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Values of any type as float64, NaN where they are no numbers; and the values as given."""
    if hasattr(values, "toarray"):
        values = values.toarray()
    given = values.to_numpy() if hasattr(values, "to_numpy") else np.asarray(values)
    if given.dtype.kind in "iufb":
        return given.astype(np.float64), given
    if given.dtype.kind == "c":
        return np.where(given.imag == 0, given.real, np.nan).astype(np.float64), given
    read = np.array([_number(v) for v in given.ravel().tolist()], dtype=np.float64)
    return read.reshape(given.shape), given


def _number(value: Any) -> float:
    """The number that a value is or spells (to the last digit, as pandas does not), or NaN."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def has_coordinates(adata: AnnData, spatial_key: str) -> bool:
    """Whether there are coordinates of that name (or centroids, under the usual name)."""
    return spatial_key in adata.obsm or (
        spatial_key == "spatial" and set(CENTROIDS) <= set(adata.obs.columns)
    )


def coordinates(
    adata: AnnData, spatial_key: str = "spatial", *, plane: bool = True, hint: str = ""
) -> np.ndarray:
    """Coordinates float64 (n_obs, 2) of obsm, or of obs["x_centroid"] and obs["y_centroid"].

    Parameters
    ----------
    adata
        The object; its arrays stay as they are.
    spatial_key
        Entry of `obsm`: numbers in an array or a DataFrame, or text of numbers. Centroids in `obs`
        (Xenium) stand in for the usual one.
    plane
        Two columns are needed; otherwise any number of them.
    hint
        What the caller needs them for, in the error.

    Raises
    ------
    KeyError
        When there are none.
    ValueError
        When they are not two-dimensional, not numbers, or not finite.
    """
    if spatial_key in adata.obsm:
        where = f"adata.obsm[{spatial_key!r}]"
        read, given = _numbers(adata.obsm[spatial_key])
    elif has_coordinates(adata, spatial_key):
        where = "adata.obs[['x_centroid', 'y_centroid']]"
        columns = [_numbers(adata.obs[c]) for c in CENTROIDS]
        read, given = (np.stack(c, axis=1) for c in zip(*columns, strict=True))
    else:
        hint = hint or (
            "Spot coordinates are needed: name their entry with spatial_key=, or give "
            "obs['x_centroid'] and obs['y_centroid']."
        )
        raise checks.missing(spatial_key, "adata.obsm", adata.obsm, hint=hint)
    if given.dtype.kind not in "iufb":
        # An empty cell is a missing value, which is reported below; anything else is text.
        text = np.isnan(read) & np.array([isinstance(v, str) for v in given.ravel()], dtype=bool
                                         ).reshape(given.shape)  # fmt: skip
        text &= ~np.isin(given.astype(str), ["", "nan", "NaN", "NA", "None"])
        if text.any():
            row = int(np.flatnonzero(text.reshape(len(text), -1).any(axis=1))[0])
            msg = (
                f"{where} holds text that is no number ({str(given[text][0])!r}, row {row}). "
                "Coordinates must be numbers."
            )
            raise ValueError(msg)
    inputs.refuse_large(read, where)
    if plane or read.ndim != 2:
        return checks.finite_coordinates(read, where=where)
    if not np.isfinite(read).all():
        bad = np.flatnonzero(~np.isfinite(read).all(axis=1))
        msg = (
            f"{where} holds NaN or infinite coordinates in {len(bad)} of {len(read)} rows "
            f"(first: row {int(bad[0])}). Drop those observations first."
        )
        raise ValueError(msg)
    return read


def section_coordinates(
    adata: AnnData,
    spatial_key: str = "spatial",
    batch_key: str | None = None,
    *,
    argument: str = "batch_key",
    plane: bool = True,
    hint: str = "",
) -> np.ndarray:
    """Coordinates as of :func:`coordinates`; a warning where sections lie over each other."""
    read = coordinates(adata, spatial_key, plane=plane, hint=hint)
    if batch_key is None:
        warn_of_overlaid(adata, read, argument=argument)
    return read


def array_values(adata: AnnData) -> np.ndarray | None:
    """Array row and column float64 (n_obs, 2), NaN where they are no numbers; None without."""
    if not set(ARRAY) <= set(adata.obs.columns):
        return None
    return np.stack([_numbers(adata.obs[c])[0] for c in ARRAY], axis=1)


def array_positions(
    adata: AnnData, codes: np.ndarray, names: Sequence[str], *, spatial_key: str = "spatial"
) -> tuple[np.ndarray, np.ndarray] | None:
    """Array positions, and which sections can use them; a warning for those that cannot.

    Parameters
    ----------
    adata
        The object.
    codes, names
        Section of each observation, and names of the sections.
    spatial_key
        Coordinates that would be used instead.

    Returns
    -------
    Row and column float64 (n_obs, 2), and bool (n_sections,); None without such columns.
    """
    values = array_values(adata)
    if values is None:
        return None
    usable = np.ones(len(names), dtype=bool)
    for section, name in enumerate(names):
        rows = np.flatnonzero(codes == section)
        why = _why_not(adata, values[rows], rows, spatial_key)
        if why:
            usable[section] = False
            of = f" of section {name!r}" if len(names) > 1 else ""
            warn(
                f"Array positions{of} in obs['array_row'] and obs['array_col'] are not used, but "
                f"the coordinates: {why}."
            )
    return values, usable


def _why_not(adata: AnnData, values: np.ndarray, rows: np.ndarray, spatial_key: str) -> str:
    """Why array positions cannot be used, or nothing."""
    whole = np.isfinite(values) & (values == np.rint(values))
    if not whole.all():
        row, column = np.argwhere(~whole)[0]
        name, at = ARRAY[column], rows[row]
        bad = int((~whole.all(axis=1)).sum())
        found = np.asarray(adata.obs[name]).tolist()[at]
        return (
            f"{bad} of {len(rows)} are not whole numbers (first: {name} of "
            f"{str(adata.obs_names[at])!r} is {found!r})"
        )
    span = np.ptp(values, axis=0) + 1
    if (values.sum(axis=1) % 2 == 0).all():
        span[1] = np.ceil(span[1] / 2)
    if too_large(int(span[0] * span[1]), len(rows)) and has_coordinates(adata, spatial_key):
        return (
            f"an array of {span[0]:.0f} x {span[1]:.0f} for {len(rows)} spots looks like pixels "
            "of an image"
        )
    return ""


def section_columns(adata: AnnData) -> list[str]:
    """Columns of obs that look as if they told sections apart, the likeliest first.

    The region key of a SpatialData table comes first, then the usual names.
    """
    region = adata.uns.get("spatialdata_attrs", {})
    region = region.get("region_key") if hasattr(region, "get") else None
    there = {str(c).lower(): c for c in reversed(list(adata.obs.columns))}
    found = [there[name] for name in SECTION_COLUMNS if name in there]
    first = [str(region)] if region is not None and str(region) in adata.obs.columns else []
    return first + [c for c in found if c not in first]


def warn_of_overlaid(
    adata: AnnData, where: np.ndarray, *, argument: str = "batch_key", what: str = "coordinates"
) -> None:
    """Say so when a column that looks like sections has groups which lie over each other.

    Parameters
    ----------
    adata
        The object.
    where
        Positions (n_obs, d) that are about to be taken for those of one section.
    argument
        Parameter that tells sections apart.
    what
        Name of the positions in the message.
    """
    import pandas as pd

    for column in section_columns(adata):
        codes, names = pd.factorize(pd.Series(np.asarray(adata.obs[column]).astype(object)))
        if not 1 < len(names) <= _MOST_SECTIONS:
            continue
        found = overlaid(where, codes)
        if found is not None:
            a, b, share = found
            warn(
                f"The {what} are taken as those of one section, but in adata.obs[{column!r}] there "
                f"are {len(names)} groups that lie over each other (of {str(names[a])!r}, "
                f"{share:.0%} is inside {str(names[b])!r}). If these are sections, tell them apart "
                f"with {argument}={column!r}."
            )
            return


def overlaid(where: np.ndarray, codes: np.ndarray) -> tuple[int, int, float] | None:
    """Two groups of which one lies inside the other, and how much of it; None without.

    An observation is inside a group when its nearest members of the group are about as near as
    they are to each other, and lie on all sides. So groups that lie side by side are not meant.

    Parameters
    ----------
    where
        Positions (n, d).
    codes
        Group of each; below 0 for none.
    """
    from scipy.spatial import KDTree

    groups = [np.flatnonzero(codes == g) for g in range(int(codes.max(initial=-1)) + 1)]
    none = [np.inf] * where.shape[1]
    low = np.array([where[g].min(axis=0) if len(g) else none for g in groups])
    high = np.array([where[g].max(axis=0) if len(g) else np.negative(none) for g in groups])
    trees: dict[int, tuple[Any, float, int]] = {}

    def territory(g: int) -> tuple[Any, float, int]:
        if g not in trees:
            members = where[groups[g]]
            k = min(8, len(members) - 1)
            tree = KDTree(members)
            near = tree.query(_some(members), k=k + 1)[0][:, 1:]
            trees[g] = tree, float(np.median(near.mean(axis=1))), k
        return trees[g]

    for a in range(len(groups)):
        meet = ((low[a] <= high) & (low <= high[a])).all(axis=1)
        for b in np.flatnonzero(meet):
            # The smaller one inside the larger one; the other way round says less.
            if a == b or (len(groups[b]), b) < (len(groups[a]), a) or len(groups[a]) < _FEWEST:
                continue
            tree, usual, k = territory(int(b))
            part = _some(where[groups[a]])
            distance, near = tree.query(part, k=k)
            mean = np.maximum(distance.mean(axis=1), 1e-300)
            offset = where[groups[b]][near].mean(axis=1) - part
            one_sided = np.linalg.norm(offset, axis=1) / mean
            inside = (distance.mean(axis=1) <= 1.5 * usual) & (one_sided < 0.5)
            if inside.mean() >= _OVERLAID:
                return a, int(b), float(inside.mean())
    return None


def _some(values: np.ndarray) -> np.ndarray:
    """At most so many rows, evenly taken."""
    if len(values) <= _LOOKED_AT:
        return values
    return values[np.linspace(0, len(values) - 1, _LOOKED_AT).astype(np.int64)]
