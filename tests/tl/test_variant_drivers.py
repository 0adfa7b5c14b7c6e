"""`ol.tl.variant_drivers`, on predictions that are sums of known variants."""

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
from helpers import only_declared_written, round_trip, slots
from scipy import sparse

import omicllm as ol


def make(noise=0.2):
    """Two genes: the first follows variants 3 and 5, the second nothing."""
    rng = np.random.default_rng(0)
    dosage = rng.binomial(2, 0.4, size=(100, 8)).astype(np.int8)
    W = np.zeros((8, 2), dtype=np.float32)
    W[:, 0] = [0.02, 0, 0.01, -1.0, 0.9, 0.7, 0, 0.01]
    W[2, 1] = 0.5
    people = pd.DataFrame(index=[f"p{i}" for i in range(100)])
    geno = ad.AnnData(sparse.csc_matrix(dosage), obs=people.copy())
    geno.var_names = [f"v{i}" for i in range(8)]
    geno.varm["variant_effects"] = sparse.csr_matrix(W)
    geno.uns["variant_effects"] = {"genes": np.array(["A", "B"], dtype=object)}
    rna = ad.AnnData(np.zeros((100, 2), dtype=np.float32), obs=people.copy())
    rna.var_names = ["A", "B"]
    # Variant 4 has a large effect alone but is not what the prediction follows.
    P = np.stack([-dosage[:, 3] + 0.7 * dosage[:, 5], rng.normal(size=100)], axis=1)
    P[:, 0] += noise * rng.normal(size=100)
    rna.layers["personal_pair_regression"] = P.astype(np.float32)
    return md.MuData({"rna": rna, "geno": geno}), dosage, P


def test_finds_what_the_prediction_follows(tmp_path):
    mdata, dosage, P = make()
    before = {m: slots(mdata[m]) for m in mdata.mod}
    assert ol.tl.variant_drivers(mdata) is None
    for m in mdata.mod:
        only_declared_written(before[m], mdata[m], "tl.variant_drivers")
    table = ol.get.table(mdata, "variant_drivers", mod="geno")
    assert table["variant"].tolist() == ["v3", "v5"] and table["gene"].tolist() == ["A", "A"]
    assert table["rank"].tolist() == [1, 2]
    assert mdata["rna"].var["variant_drivers_n"].tolist() == [2, 0]
    total = -1.0 * dosage[:, 3] + 0.7 * dosage[:, 5]
    assert table["r"].iloc[1] == pytest.approx(np.corrcoef(total, P[:, 0])[0, 1], abs=1e-5)
    assert table["gain"].iloc[1] == pytest.approx(table["r"].iloc[1] - table["r"].iloc[0])
    one = np.corrcoef(-dosage[:, 3].astype(float), P[:, 0])[0, 1]
    assert table["marginal_r"].iloc[0] == pytest.approx(one, abs=1e-5)
    for m in mdata.mod:
        round_trip(mdata[m], tmp_path)


def test_gain_names_and_weights():
    mdata, *_ = make()
    out = ol.tl.variant_drivers(mdata, min_gain=0.9, key_added="few", copy=True)
    assert out["rna"].var["few_n"].sum() == 0 and "few_n" not in mdata["rna"].var
    geno = mdata["geno"]
    geno.varm["twas_enet"] = geno.varm["variant_effects"].copy()
    with pytest.raises(ValueError, match="does not say which genes the 2 columns"):
        ol.tl.variant_drivers(mdata, effects_key="twas_enet")
    geno.uns["twas"] = {"genes": np.array(["B", "A"], dtype=object)}
    ol.tl.variant_drivers(mdata, effects_key="twas_enet")
    assert mdata["rna"].var["variant_drivers_n"].iloc[0] == 0, "columns are matched by gene"
    with pytest.raises(KeyError, match="ol.tl.variant_effects"):
        ol.tl.variant_drivers(mdata, effects_key="nothing")
    with pytest.raises(KeyError, match="not in adata.layers"):
        ol.tl.variant_drivers(mdata, prediction="nothing")
    with pytest.raises(KeyError, match="of `geno`"):
        ol.get.table(mdata, "variant_drivers", "table", mod="rna")
