"""The bundled sets."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

import omicllm as ol


@pytest.mark.parametrize("section,n_obs", [(1, 379), (2, 407)])
def test_mouse_olfactory_bulb(section, n_obs):
    adata = ol.datasets.mouse_olfactory_bulb(section=section)
    assert adata.shape == (n_obs, 1000)
    assert sparse.issparse(adata.X) and adata.X.dtype == np.float32
    assert np.array_equal(adata.X.data, np.rint(adata.X.data)) and adata.X.data.min() > 0
    assert adata.obs["array_row"].dtype.kind == "i" and adata.obsm["spatial"].shape == (n_obs, 2)
    assert adata.var_names.is_unique and adata.obs_names.is_unique
    assert "source" in adata.uns and "MIT" in str(adata.uns["source"])
    (library,) = adata.uns["spatial"].values()
    image = next(iter(library["images"].values()))
    assert image.ndim == 3 and image.shape[2] == 3
    ol.pp.spatial_grid(adata)
    assert adata.uns["spatial_grid"]["method"] == "hex"


def test_no_such_section():
    with pytest.raises(ValueError, match="section must be one of '1', '2', not 3"):
        ol.datasets.mouse_olfactory_bulb(3)


@pytest.mark.parametrize(
    "name,shape",
    [("osmfish_cortex", (6471, 33)), ("osmfish_reference", (1000, 33)),
     ("geomx_kidney", (134, 18642))],
)  # fmt: skip
def test_others(name, shape):
    adata = getattr(ol.datasets, name)()
    assert adata.shape == shape and "MIT" in adata.uns["source"]["licence"]
    assert adata.var_names.is_unique and adata.obs_names.is_unique
    values = adata.X.data if sparse.issparse(adata.X) else adata.X
    assert np.array_equal(values, np.rint(values)) and values.min() >= 0


def test_the_two_of_the_cortex_go_together():
    tissue, reference = ol.datasets.osmfish_cortex(), ol.datasets.osmfish_reference()
    assert set(tissue.var_names) == set(reference.var_names)
    assert {"cluster", "region", "valid"} <= set(tissue.obs) and "spatial" in tissue.obsm


def test_the_slides_of_the_kidney_are_of_one_condition():
    obs = ol.datasets.geomx_kidney().obs
    assert obs.groupby("slide_name", observed=True)["condition"].nunique().max() == 1
    assert set(obs["condition"]) == {"DKD", "normal"}
