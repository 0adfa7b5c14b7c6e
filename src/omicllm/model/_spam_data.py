"""What a SPAM model reads from an object: features, places, sections and counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, inputs
from omicllm._core.log import logger
from omicllm._core.names import positions
from omicllm.spatial.positions import coordinates, has_coordinates, warn_of_overlaid
from omicllm.spatial.surroundings import N_POSITION, neighbors, position_features, spacing
from omicllm.stats.depth import log_normalised
from omicllm.stats.program_regression import BLOCKS
from omicllm.stats.splits import spatial_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anndata import AnnData

#: Columns of obs that are looked for when no key is given.
USUAL = {"section_key": ("section", "library_id", "sample"), "patient_key": ("patient", "donor")}
#: Parts a single section is cut into, which are held out in turn.
_N_BLOCKS = 9
#: Standard deviations of training beyond which features of a section are drawn in.
_FAR = 50


@dataclass
class Tissue:
    """Sections as arrays; nothing of it comes from expression.

    Attributes
    ----------
    features
        (n, d) image features.
    coords
        (n, 2) in spacings of the array of the section, or None.
    sections, section_names, patients, patient_names
        (n,) numbers from 0, their names, and the same of the patient of each row; without
        patients all numbers are 0 and there are no names.
    """

    features: np.ndarray
    coords: np.ndarray | None
    sections: np.ndarray
    section_names: list[str]
    patients: np.ndarray
    patient_names: list[str]
    obs_names: np.ndarray

    def rows(self) -> list[np.ndarray]:
        """Rows of each section."""
        return [np.flatnonzero(self.sections == s) for s in range(len(self.section_names))]

    def graph(self, k: int) -> Any:
        """Nearest neighbours within sections; none without coordinates."""
        coords = np.zeros((len(self.features), 2)) if self.coords is None else self.coords
        if self.coords is None:  # every row a section of its own
            return neighbors(coords, np.arange(len(coords)), k)
        return neighbors(coords, self.sections, k)

    def blocks(self, k: int) -> dict[str, np.ndarray]:
        """Features of the observation, of its place, and averaged around it."""
        position = np.zeros((len(self.features), N_POSITION))
        if self.coords is not None:
            for mine in self.rows():
                position[mine] = position_features(self.coords[mine])
        around = self.graph(k).average(self.features)
        return dict(zip(BLOCKS, (self.features.astype(np.float64), position, around), strict=True))

    def groups(self) -> tuple[np.ndarray, bool]:
        """What is held out in turn (patients, else sections, else blocks), and if patients are."""
        if len(np.unique(self.patients)) > 1:
            return np.unique(self.patients, return_inverse=True)[1].ravel(), False
        if len(self.section_names) > 1:
            return self.sections, True
        if self.coords is None:
            return np.arange(len(self.features)) % _N_BLOCKS, True
        n_blocks = max(2, min(_N_BLOCKS, len(self.features) // 8))
        return spatial_blocks(self.coords, self.sections, n_blocks), True


def read_patches(adata: AnnData, key: str) -> np.ndarray | None:
    """Patches uint8 (n, p, p, 3) of an entry of obsm, or None where it holds features.

    Raises
    ------
    ValueError
        Patches of another shape or type.
    """
    found = adata.obsm.get(key)
    if getattr(found, "ndim", 2) != 4:
        return None
    if found.shape[3] != 3 or found.shape[1] != found.shape[2] or found.dtype != np.uint8:
        msg = (
            f"adata.obsm[{key!r}] must hold square colour patches (n_obs, p, p, 3) of uint8, not "
            f"{found.shape} of {found.dtype}."
        )
        raise ValueError(msg)
    return np.asarray(found)


def read_tissue(
    adata: AnnData, setup: Mapping[str, Any], n_features: int | None = None,
    encode: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Tissue:  # fmt: skip
    """Read everything but expression.

    Parameters
    ----------
    setup
        Arguments of :meth:`SPAM.setup_anndata`.
    n_features
        Number of features a trained model expects.
    encode
        Function from patches to features, where the entry of obsm holds patches.

    Raises
    ------
    KeyError, ValueError
        Features that are not there, not finite, or not as many as the model was trained on.
    """
    key = setup["use_rep"]
    if key not in adata.obsm:
        raise checks.missing(
            key, "adata.obsm", adata.obsm,
            hint="Make features with ol.pp.image_features(adata), or name others with use_rep=.",
        )  # fmt: skip
    found, patches = adata.obsm[key], read_patches(adata, key)
    if patches is not None:
        if encode is None:
            msg = (
                f"adata.obsm[{key!r}] holds patches: pass encoder= (a torch module) to SPAM or "
                "SPAM.load, or make features with ol.pp.image_features(adata)."
            )
            raise ValueError(msg)
        found = encode(patches)
    elif encode is not None:
        msg = (
            f"This model runs an encoder on patches, and adata.obsm[{key!r}] holds none: name an "
            "entry (n_obs, p, p, 3) of uint8 with use_rep=."
        )
        raise ValueError(msg)
    features = checks.finite_features(found, adata.obs_names, where=f"adata.obsm[{key!r}]")
    if n_features is not None and features.shape[1] != n_features:
        msg = (
            f"adata.obsm[{key!r}] has {features.shape[1]} features, but the model was trained on "
            f"{n_features}: make them with the same encoder and settings."
        )
        raise ValueError(msg)
    codes, names = inputs.sections(adata, usual_key(adata, setup, "section_key"))
    patient = usual_key(adata, setup, "patient_key")
    patients: np.ndarray = np.zeros(adata.n_obs, dtype=int)
    patient_names: list[str] = []
    if patient is not None:
        patients, patient_names = inputs.sections(adata, patient)
    coords = _coordinates(adata, setup["spatial_key"], several=len(names) > 1)
    if coords is not None:
        for s in range(len(names)):
            coords[codes == s] /= spacing(coords[codes == s])
    obs_names = np.asarray(adata.obs_names, dtype=object)
    return Tissue(
        features.astype(np.float32), coords, codes, names, patients, patient_names, obs_names
    )


def held_in(
    features: np.ndarray, sections: list[np.ndarray], scale: np.ndarray, names: np.ndarray
) -> np.ndarray:
    """Features no further from the median of their section than anything that was learned from.

    One spoiled observation would otherwise shift the mean of its section, and so all of its
    predictions.

    Parameters
    ----------
    features
        (n, d), left as they are.
    sections
        Rows of each section.
    scale
        (d,) standard deviations within sections of training.
    names
        (n,) for the warning.
    """
    out, beyond = features, np.zeros(len(features), dtype=bool)
    for rows in sections:
        middle = np.median(features[rows], axis=0)
        far = np.abs(features[rows] - middle) > _FAR * scale
        if far.any():
            out = features.copy() if out is features else out
            low, high = middle - _FAR * scale, middle + _FAR * scale
            out[rows] = np.where(far, np.clip(features[rows], low, high), features[rows])
            beyond[rows] = far.any(axis=1)
    if beyond.any():
        logger.warning(
            "Image features of %d of %d observations (%s) are more than %d standard deviations of "
            "training off their section: they are taken as that far, and what is predicted there "
            "says nothing.", int(beyond.sum()), len(beyond), checks.listed(names[beyond], most=3),
            _FAR,
        )  # fmt: skip
    return out


def usual_key(adata: AnnData, setup: Mapping[str, Any], argument: str) -> str | None:
    """The column that was named, where the object has it, else a usual one."""
    named = setup.get(argument)
    if named is not None and named in adata.obs:
        return str(named)
    for key in USUAL[argument]:
        if key in adata.obs:
            if named is None:
                logger.info("%s=%r is taken from adata.obs", argument, key)
            return key
    return None


def _coordinates(adata: AnnData, spatial_key: str, *, several: bool) -> np.ndarray | None:
    if has_coordinates(adata, spatial_key):
        found = coordinates(adata, spatial_key)
        if not several:
            warn_of_overlaid(adata, found, argument="section_key")
        return found
    logger.info("no coordinates: neighbours and places of observations are not used")
    return None


@dataclass
class Counts:
    """Counts of some genes.

    Attributes
    ----------
    counts
        (n, g) float32.
    total
        (n,) counts of all genes of each observation.
    """

    counts: np.ndarray
    total: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """Log-normalised values, float64 (n, g)."""
        return log_normalised(self.counts, self.total)

    def shares(self, sections: np.ndarray) -> np.ndarray:
        """Share of each gene in each section (n_sections, g), at least a millionth of a count."""
        out = []
        for s in range(int(sections.max()) + 1):
            rows = sections == s
            total = max(float(self.total[rows].sum()), 1.0)
            out.append(np.maximum(self.counts[rows].sum(axis=0, dtype=np.float64), 0.1) / total)
        return np.stack(out)


def read_counts(
    adata: AnnData, layer: str | None, genes: np.ndarray, rows: np.ndarray | None = None
) -> Counts:
    """Read counts of genes by name, in blocks.

    Raises
    ------
    KeyError
        A gene that is not there.
    ValueError
        Negative, fractional or infinite values.
    """
    place = positions(list(genes), adata.var_names)
    X = inputs.by_gene(adata, layer).tocsr()
    if rows is not None:
        X = X[rows]
    names = np.asarray(adata.var_names).astype(str)
    inputs.check_expression(X.tocsc(), names, counts=True, layer=layer, source=adata)
    total = np.asarray(X.sum(axis=1), dtype=np.float64).ravel()
    return Counts(X[:, place].toarray().astype(np.float32), total)


def joined(
    mdata: Any, *, rna: str = "rna", image: str = "image", use_rep: str | None = None,
    layer: str | None = None,
) -> AnnData:  # fmt: skip
    """One AnnData of a MuData's counts and image features, joined by the names of observations.

    Raises
    ------
    KeyError
        A modality, or features, that are not there.
    ValueError
        No observation with an image. Observations without counts are kept out.
    """
    import anndata as ad

    for mod in (rna, image):
        if mod not in mdata.mod:
            raise checks.missing(mod, "mdata.mod", mdata.mod, hint="Name it with rna= or image=.")
    counts, pictures = mdata.mod[rna], mdata.mod[image]
    if use_rep is not None and use_rep not in pictures.obsm:
        raise checks.missing(use_rep, f"mdata[{image!r}].obsm", pictures.obsm)
    found = inputs.matrix(pictures) if use_rep is None else pictures.obsm[use_rep]
    features = np.asarray(found.toarray() if hasattr(found, "toarray") else found)
    both = counts.obs_names.intersection(pictures.obs_names, sort=False)
    if not len(both):
        msg = f"mdata[{rna!r}] and mdata[{image!r}] share no observation by name."
        raise ValueError(msg)
    mine = counts.obs_names.get_indexer(both)
    theirs = pictures.obs_names.get_indexer(both)
    X = inputs.by_gene(counts, layer).tocsr()[mine]
    obs = counts.obs.iloc[mine].copy()
    for column in pictures.obs.columns.difference(obs.columns):
        obs[column] = np.asarray(pictures.obs[column])[theirs]
    out = ad.AnnData(X, obs=obs, var=counts.var[[]].copy())
    if layer is not None:
        out.layers[layer] = out.X
    for key in {*counts.obsm.keys(), *pictures.obsm.keys()}:
        source, rows = (counts, mine) if key in counts.obsm else (pictures, theirs)
        value = source.obsm[key]
        value = inputs.readable(value)
        out.obsm[key] = (value.tocsr() if hasattr(value, "tocsr") else np.asarray(value))[rows]
    out.obsm["X_image"] = features[theirs]
    return out
