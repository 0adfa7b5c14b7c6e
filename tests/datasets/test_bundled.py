"""The bundled sections."""

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
