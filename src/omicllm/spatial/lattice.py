"""Find the lattice that spots lie on from their coordinates alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Fewest places that a lattice is looked for in.
_FEWEST = 16
#: Root mean square distance from the sites, in units of the pitch. Places strewn at random have
#: about 0.37.
_NEAR = 0.2
#: Distance between rows over the step along a row: 0.87 is hexagonal, 1 square, 0.5 a square
#: array that stands on its corner (2k spatial transcriptomics).
_ASPECTS = (0.4, 2.5)
#: Share of neighbouring sites that hold a place. Whole pixel coordinates of cells lie on a lattice
#: too, but have hardly any neighbours there.
_FILLED = 0.25
#: An image this many times fuller is taken although its rows lie farther from the axes.
_FULLER = 1.25


@dataclass(frozen=True)
class Lattice:
    """Where each spot lies on a lattice.

    Attributes
    ----------
    row, col
        int64 (n,). Columns are counted in half steps where rows are staggered, as array
        positions of Visium are: row + column is then even.
    staggered
        Every other row lies half a step on (hexagonal, or a square array on its corner).
    transform
        float64 (2, 3): maps (x, y, 1) to row and column.
    step
        Length of a step along a row, in coordinate units.
    """

    row: np.ndarray
    col: np.ndarray
    staggered: bool
    transform: np.ndarray
    step: float


def find_lattice(coords: np.ndarray) -> Lattice | None:
    """Lattice of coordinates float64 (n, 2), turned and scaled as it may be; None without one.

    At most two percent of the places may lie off it or share a site with another.
    """
    places = np.unique(coords, axis=0)
    if len(places) < _FEWEST:
        return None
    basis = _basis(places)
    fitted = None if basis is None else _fitted(places, basis)
    if fitted is None:
        return None
    origin, basis = fitted
    offset = (places - origin) @ np.linalg.inv(basis)
    site = np.rint(offset)
    far = np.linalg.norm((offset - site) @ basis, axis=1) > 0.4 * np.sqrt(_area(basis))
    shared = len(places) - len(np.unique(site, axis=0))
    if max(int(far.sum()), shared) * 50 > len(places) or _neighbors_there(site) < _FILLED:
        return None
    return _written(coords, places, origin, basis)


def _neighbors_there(site: np.ndarray) -> float:
    """Share of the four neighbours of sites that are sites as well."""
    site = (site - site.min(axis=0) + 1).astype(np.int64)
    width = int(site[:, 1].max()) + 2
    code = site[:, 0] * width + site[:, 1]
    return float(np.mean([np.isin(code + step, code).mean() for step in (1, -1, width, -width)]))


def _area(basis: np.ndarray) -> float:
    return float(abs(np.linalg.det(basis)))


def _basis(places: np.ndarray) -> np.ndarray | None:
    """Two short steps between neighbours that come back everywhere (rows), or None."""
    from scipy.spatial import KDTree

    # A few hundred spots say it: the steps of all of them are the same.
    some = np.unique(np.linspace(0, len(places) - 1, 500).astype(np.int64))
    distance, near = KDTree(places).query(places[some], k=9)
    pitch = float(np.quantile(distance[:, 1], 0.3))
    steps = (places[near[:, 1:]] - places[some][:, None]).reshape(-1, 2)
    steps = steps[np.linalg.norm(steps, axis=1) < 2.3 * pitch]
    steps = np.concatenate([steps, -steps])
    length = np.linalg.norm(steps, axis=1)
    crowd = KDTree(steps).query_ball_point(steps, 0.15 * pitch, return_length=True)
    common = crowd * 2 >= crowd.max()
    first = _middle(steps, steps[common][np.argmin(length[common])], pitch)
    across = np.abs(first[0] * steps[:, 1] - first[1] * steps[:, 0])
    other = (across > 0.35 * np.linalg.norm(first) * length) & (crowd * 3 >= crowd.max())
    if not other.any():
        return None
    second = _middle(steps, steps[other][np.argmin(length[other])], pitch)
    basis = np.stack([first, second])
    return _reduced(basis) if _area(basis) > 0.2 * pitch**2 else None


def _middle(steps: np.ndarray, around: np.ndarray, pitch: float) -> np.ndarray:
    """Mean of the steps that are nearly alike."""
    for _ in range(3):
        alike = np.linalg.norm(steps - around, axis=1) < 0.25 * pitch
        around = steps[alike].mean(axis=0) if alike.any() else around
    return around


def _reduced(basis: np.ndarray) -> np.ndarray:
    """The shortest two steps that make the same lattice (Lagrange and Gauss)."""
    u, v = basis
    for _ in range(20):
        if u @ u > v @ v:
            u, v = v, u
        times = np.rint((u @ v) / (u @ u))
        if times == 0:
            break
        v = v - times * u
    return np.stack([u, v])


def _fitted(places: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Origin and basis by least squares, from the middle outwards; None when sites are missed."""
    centre = places[np.argmin(np.abs(places - np.median(places, axis=0)).sum(axis=1))]
    distance = np.linalg.norm(places - centre, axis=1)
    ordered = places[np.argsort(distance, kind="stable")]
    # A stray spot far off would turn the lattice.
    ordered = ordered[: int((distance <= 5 * np.quantile(distance, 0.9)).sum())]
    origin, n = centre, 25
    sizes = [n]
    while n < len(ordered):
        n = min(2 * n, len(ordered))
        sizes.append(n)
    for size in [*sizes, len(ordered), len(ordered)]:
        part = ordered[:size]
        site = np.rint((part - origin) @ np.linalg.inv(basis))
        design = np.column_stack([site, np.ones(len(part))])
        found, _, rank, _ = np.linalg.lstsq(design, part, rcond=None)
        if rank == 3 and _area(found[:2]) > 0.5 * _area(basis):
            basis, origin = found[:2], found[2]
        off = part - origin - site @ basis
        if np.sqrt((off**2).sum(axis=1).mean()) > _NEAR * np.sqrt(_area(basis)):
            return None
    return origin, basis


def _written(
    coords: np.ndarray, places: np.ndarray, origin: np.ndarray, basis: np.ndarray
) -> Lattice | None:
    """The lattice as rows and columns, along the direction that suits an image best."""
    found = []
    # Steps along a row and to the next row, in terms of the basis.
    for along, onward in (((1, 0), (0, 1)), ((0, 1), (1, 0)), ((1, 1), (1, 0)), ((1, -1), (1, 0))):
        r, s = np.array(along) @ basis, np.array(onward) @ basis
        halves = 2.0 * (r @ s) / (r @ r)
        shift = int(np.rint(halves))
        aspect = _area(basis) / float(r @ r)
        if abs(halves - shift) > 0.25 or not _ASPECTS[0] <= aspect <= _ASPECTS[1]:
            continue
        upright = abs(r[1]) > abs(r[0])
        turned = float(np.degrees(np.arctan2(min(np.abs(r)), max(np.abs(r)))))
        # Rows run with the longer part of r, and follow each other down (or to the right).
        forward = 1.0 if r[int(upright)] > 0 else -1.0
        line = s - (r @ s) / (r @ r) * r
        downward = 1.0 if line[int(not upright)] > 0 else -1.0
        inverse = np.linalg.inv(np.stack([r, s]))  # (x, y) -> along, onward
        staggered = shift % 2 == 1
        row = downward * inverse[:, 1]
        col = forward * (2 * inverse[:, 0] + shift * inverse[:, 1]) / (1 if staggered else 2)
        linear = np.stack([row, col])
        transform = np.column_stack([linear, -linear @ origin])
        # A stray spot does not say which way the tissue lies.
        sites = _sites(places, transform, staggered=staggered)
        span = np.quantile(sites, 0.99, axis=0) - np.quantile(sites, 0.01, axis=0) + 1.0
        fill = len(places) / np.prod(span)
        found.append((turned + 1.0 * upright, fill * (2 if staggered else 1), transform,
                      staggered, float(np.linalg.norm(r))))  # fmt: skip
    if not found:
        return None
    straight = min(found, key=lambda f: f[0])
    fullest = max(found, key=lambda f: f[1])
    _, _, transform, staggered, step = fullest if fullest[1] > _FULLER * straight[1] else straight
    site = _sites(coords, transform, staggered=staggered)
    return Lattice(site[:, 0], site[:, 1], staggered, transform, step)


def _sites(coords: np.ndarray, transform: np.ndarray, *, staggered: bool) -> np.ndarray:
    """Nearest row and column, int64 (n, 2); in staggered rows, the nearest of the row's."""
    exact = coords @ transform[:, :2].T + transform[:, 2]
    row = np.rint(exact[:, 0])
    col = 2 * np.rint((exact[:, 1] - row) / 2) + row if staggered else np.rint(exact[:, 1])
    return np.stack([row, col], axis=1).astype(np.int64)
