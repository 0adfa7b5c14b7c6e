"""Made sections whose image says something about expression."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
from scipy import ndimage, sparse

#: Colours of glass, stroma and nuclei.
GLASS, STROMA, NUCLEUS = (np.array(c, dtype=float) for c in ((243, 241, 243), (224, 160, 190),
                                                             (88, 60, 140)))  # fmt: skip


def make_image(seed: int = 0, size: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """An H&E-like image (size, size, 3) uint8 and the field (size, size) that drew its nuclei."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=(size, size)), size / 8, mode="reflect")
    field = (field - field.min()) / (field.max() - field.min())
    dots = ndimage.gaussian_filter(
        (rng.random((size, size)) < 0.002 + 0.02 * field).astype(float), 1.2
    )
    nuclei = np.clip(dots * 12, 0, 1)[..., None]
    image = STROMA * (1 - nuclei) + NUCLEUS * nuclei + rng.normal(0, 4, (size, size, 3))
    border = np.ones((size, size), dtype=bool)
    border[12:-12, 12:-12] = False
    image[border] = GLASS
    return image.clip(0, 255).astype(np.uint8), field


def make_section(
    name: str = "S1", seed: int = 0, n_side: int = 12, n_genes: int = 20, patient: str = "P1"
) -> ad.AnnData:
    """A section of n_side^2 spots; even genes follow the nuclei, odd ones are noise.

    Coordinates are in a full-resolution frame, twice the pixels of the stored image.
    """
    image, field = make_image(seed)
    rng = np.random.default_rng(seed + 100)
    at = np.linspace(30, 270, n_side)
    x, y = (v.ravel() for v in np.meshgrid(at, at))
    local = ndimage.uniform_filter(field, 20)[y.astype(int), x.astype(int)]
    weight = np.where(np.arange(n_genes) % 2 == 0, 1.0, 0.0)
    level = np.exp(2.0 * weight * (local - local.mean())[:, None] / local.std() * 0.4)
    counts = rng.poisson(6 * level * rng.uniform(0.5, 1.5, n_genes)).astype(np.float32)
    adata = ad.AnnData(
        sparse.csr_matrix(counts),
        obs=pd.DataFrame(
            {"section": name, "patient": patient}, index=[f"{name}_{i}" for i in range(len(x))]
        ),
        var=pd.DataFrame(index=[f"Gene{g}" for g in range(n_genes)]),
    )
    adata.obsm["spatial"] = np.stack([x, y], axis=1) * 2.0
    adata.uns["spatial"] = {
        name: {
            "images": {"hires": image},
            "scalefactors": {"tissue_hires_scalef": 0.5, "spot_diameter_fullres": 20.0},
            "metadata": {"um_per_fullres_px": 2.5},
        }
    }
    return adata


def make_study(n: int = 3, **kwargs) -> ad.AnnData:
    """Several sections of different patients in one object, with classical features."""
    import omicllm as ol

    parts = [make_section(f"S{i}", seed=i, patient=f"P{i}", **kwargs) for i in range(n)]
    study = ad.concat(parts, uns_merge="unique")
    ol.pp.image_features(study, out_px=24)
    return study
