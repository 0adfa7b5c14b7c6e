"""The model class of the text codec."""

from __future__ import annotations

import json

import anndata as ad
import mudata as md
import numpy as np
import pytest
from conftest import make_tiny
from helpers import same_object
from scipy import sparse

import omicllm as ol
from omicllm.codec import LookupTable


def normal(n=60, m=23, seed=0):
    adata = ad.AnnData(np.random.default_rng(seed).normal(size=(n, m)).astype(np.float32))
    adata.obs_names = [f"cell{i}" for i in range(n)]
    adata.var_names = [f"gene{i}" for i in range(m)]
    return adata


def trained(adata, **options):
    ol.model.ULT.setup_anndata(adata)
    model = ol.model.ULT(adata, **options)
    model.train()
    return model


def partly():
    """Two modalities that share 30 of 60 observations, in different orders."""
    rna = ad.AnnData(sparse.random(50, 19, 0.3, "csr", np.float32, random_state=0))
    rna.obs_names, rna.var_names = [f"c{i}" for i in range(50)], [f"g{i}" for i in range(19)]
    protein = normal(40, 7)
    protein.obs_names = [f"c{i}" for i in reversed(range(20, 60))]
    protein.var_names = [f"p{i}" for i in range(7)]
    return md.MuData({"rna": rna, "protein": protein})


def test_encode_decode_and_blocks(monkeypatch):
    from omicllm.model import _ult_sources

    adata = normal()
    untouched = adata.copy()
    model = trained(adata, bits=8, mu=256, max_value=1.0, patch_size=10, codepoints="reference")
    strings = model.encode()
    table = LookupTable.fit(adata.X, mu=256, max_value=1.0, patch_size=10, codepoints="reference")
    assert strings == table.encode(adata.X)
    assert model.table.characters == table.characters
    decoded = model.decode(strings)
    assert decoded.shape == adata.shape and decoded.dtype == np.float64
    assert np.abs(decoded - np.clip(adata.X, -1, 1)).max() < 0.025
    monkeypatch.setattr(_ult_sources, "BLOCK", 23 * 7)
    blocks = list(model.encode_blocks(adata))
    assert [len(b) for b in blocks] == [7] * 8 + [4] and sum(blocks, []) == strings
    again = trained(adata, mu=256, max_value=1.0, patch_size=10)
    np.testing.assert_array_equal(again.table.counts, table.counts)
    assert (adata.X == untouched.X).all() and list(adata.obs) == []


def test_auto_takes_the_largest_value():
    adata = normal()
    model = trained(adata)
    assert model.table.parameters.max_value == float(np.abs(adata.X).max())
    zero = ad.AnnData(np.zeros((3, 4), dtype=np.float32))
    assert (trained(zero).decode(trained(zero).encode()) == 0).all()


@pytest.mark.parametrize("how", ["csr", "csc", "float64", "backed", "backed csr", "dask"])
def test_same_strings_from_every_storage(how, tmp_path):
    wanted = make_tiny()
    model = trained(wanted)
    strings = model.encode()
    adata = make_tiny()
    if how in ("csr", "csc"):
        adata.X = adata.X.asformat(how)
    elif how == "float64":
        adata.X = adata.X.toarray().astype(np.float64)
    else:
        adata.X = adata.X if how == "backed csr" else adata.X.toarray()
        adata.write_h5ad(tmp_path / "a.h5ad")
        adata = (
            ad.experimental.read_lazy(tmp_path / "a.h5ad")
            if how == "dask"
            else ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
        )
    assert model.encode(adata) == strings
    if how != "dask":
        other = trained(adata)
        np.testing.assert_array_equal(other.table.levels, model.table.levels)
        assert other.encode() == strings


def test_a_layer():
    adata = normal()
    adata.layers["half"] = adata.X / 2
    ol.model.ULT.setup_anndata(adata, layer="half")
    model = ol.model.ULT(adata, max_value=2.0)
    model.train()
    assert model.encode() == LookupTable.fit(adata.X / 2, max_value=2.0).encode(adata.X / 2)
    with pytest.raises(KeyError, match="'none' is not in adata.layers"):
        ol.model.ULT.setup_anndata(adata, layer="none")


def test_other_genes_are_refused_or_taken_by_name():
    adata = normal()
    model = trained(adata)
    strings = model.encode()
    order = np.random.default_rng(1).permutation(adata.n_vars)
    permuted = adata[:, order].copy()
    with pytest.raises(ValueError, match="same genes in another order. Pass reindex=True"):
        model.encode(permuted)
    assert model.encode(permuted, reindex=True) == strings
    more = ad.concat([permuted, normal(m=40, seed=3)[:, 30:].copy()], axis=1)
    with pytest.raises(ValueError, match="0 of its 23 genes are not there .* and 10 are new"):
        model.encode(more)
    assert model.encode(more, reindex=True) == strings
    for fewer in (adata[:, :20].copy(), normal(m=40)[:, 20:].copy()):
        with pytest.raises(ValueError, match="genes are not there .'gene"):
            model.encode(fewer, reindex=True)


def test_bad_values_and_strings():
    adata = normal()
    model = trained(adata)
    for bad in (np.nan, np.inf):
        broken = adata.copy()
        broken.X[[4, 17], 3] = bad
        with pytest.raises(ValueError, match="2 row.s. hold NaN or infinite .* 'cell4', 'cell17'"):
            model.encode(broken)
        fresh = normal()
        fresh.X = sparse.csr_matrix(broken.X)
        with pytest.raises(ValueError, match="'cell4', 'cell17'"):
            trained(fresh)
    strings = model.encode()
    with pytest.raises(ValueError, match="String 1 has 3 characters; 23 genes make 26"):
        model.decode([strings[0], "abc"])
    with pytest.raises(ValueError, match=r"not in the table \(for example U\+2603\)"):
        model.decode(["\u2603" + strings[0][1:]])
    with pytest.raises(ValueError, match="There is nothing to count"):
        trained(normal()[:0].copy())
    with pytest.raises(ValueError, match="bits must be"):
        ol.model.ULT(adata, bits=0)
    with pytest.raises(ValueError, match="ULT needs adata"):
        ol.model.ULT()
    untrained = ol.model.ULT(adata)
    with pytest.raises(RuntimeError, match="not trained yet: call model.train"):
        untrained.encode()
    assert "not trained" in repr(untrained) and "23 genes, trained" in repr(model)


def test_a_given_table():
    adata = normal()
    table = LookupTable.fit(adata.X, max_value=1.0, codepoints="reference", patch_size=None)
    ol.model.ULT.setup_anndata(adata)
    model = ol.model.ULT(adata, table=table)
    assert model.is_trained_ and model.encode() == table.encode(adata.X)
    with pytest.raises(ValueError, match="the table is one for text"):
        ol.model.ULT(adata, table=LookupTable.fit(["a"], method="text"))


def test_save_and_load(tmp_path):
    adata = normal()
    model = trained(adata, bits=7, patch_size=None, unseen="next")
    strings = model.encode()
    model.save(tmp_path / "m")
    assert {p.name for p in (tmp_path / "m").iterdir()} == {"model.safetensors", "model.json"}
    with pytest.raises(FileExistsError, match="overwrite=True"):
        model.save(tmp_path / "m")
    for data in (None, adata.copy()):
        loaded = ol.model.ULT.load(tmp_path / "m", data)
        assert loaded.is_trained_ and loaded.table.parameters == model.table.parameters
        assert loaded.table.characters == model.table.characters
        assert loaded.encode(None if data is not None else adata) == strings
        np.testing.assert_array_equal(loaded.decode(strings), model.decode(strings))
    loaded.save(tmp_path / "n")
    assert (tmp_path / "n" / "model.safetensors").read_bytes() == (
        tmp_path / "m" / "model.safetensors"
    ).read_bytes()
    with pytest.raises(ValueError, match="loaded without data: pass adata"):
        ol.model.ULT.load(tmp_path / "m").encode()
    permuted = adata[:, ::-1].copy()
    attached = ol.model.ULT.load(tmp_path / "m", permuted)
    with pytest.raises(ValueError, match="another order"):
        attached.encode()
    assert attached.encode(reindex=True) == strings
    other = normal(m=5)
    before = other.copy()
    with pytest.raises(ValueError, match="18 of its 23 genes are not there"):
        ol.model.ULT.load(tmp_path / "m", other)
    same_object(other, before)
    with pytest.raises(FileNotFoundError, match="no saved model"):
        ol.model.ULT.load(tmp_path / "elsewhere")
    description = json.loads((tmp_path / "m" / "model.json").read_text())
    (tmp_path / "m" / "model.json").write_text(json.dumps({**description, "class": "SIGEL"}))
    with pytest.raises(ValueError, match="holds a SIGEL, not a ULT"):
        ol.model.ULT.load(tmp_path / "m")


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("joint", [False, True])
def test_modalities(joint, tmp_path):
    mdata = partly()
    ol.model.ULT.setup_mudata(mdata)
    model = ol.model.ULT(mdata, joint=joint, patch_size=4)
    model.train()
    strings = dict(zip(mdata.obs_names, model.encode(), strict=True))
    assert strings["c3"].endswith("<protein>") and strings["c55"].startswith("<rna><protein>")
    rna, protein = strings["c30"].removeprefix("<rna>").split("<protein>")
    assert len(rna) == 24 and len(protein) == 9
    if joint:
        assert isinstance(model.table, LookupTable)
        assert model.table.counts.sum() == 50 * 20 + 40 * 8
    else:
        assert set(model.table) == {"rna", "protein"}
        alone = trained(mdata["protein"].copy(), patch_size=4)
        assert alone.encode(mdata["protein"]["c30"].copy()) == [protein]
    decoded = model.decode(list(strings.values()))
    for name in ("rna", "protein"):
        there = mdata.obs_names.isin(mdata[name].obs_names)
        assert np.isnan(decoded[name][~there]).all()
        X = mdata[name].to_df().loc[mdata.obs_names[there]].to_numpy()
        assert np.abs(decoded[name][there] - X).max() < 0.05 * np.abs(X).max()
    model.save(tmp_path / "m")
    loaded = ol.model.ULT.load(tmp_path / "m", mdata)
    assert loaded.encode() == list(strings.values())
    other = md.MuData({"rna": mdata["rna"], "protein": mdata["protein"][:, ::-1].copy()})
    with pytest.raises(ValueError, match="of modality 'protein': they are the same genes"):
        loaded.encode(other)
    assert loaded.encode(other, reindex=True) == list(strings.values())
    with pytest.raises(ValueError, match="lacks the marker '<rna>'"):
        model.decode(["<protein>"])


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_some_modalities_in_an_order_of_choice():
    mdata = partly()
    ol.model.ULT.setup_mudata(mdata, modalities=["protein"])
    model = ol.model.ULT(mdata, max_value={"protein": 2.0})
    model.train()
    assert all(s.startswith("<protein>") and "<rna>" not in s for s in model.encode())
    assert model.table.parameters.max_value == 2.0
    with pytest.raises(KeyError, match="'dna' is not in mdata.mod"):
        ol.model.ULT.setup_mudata(mdata, modalities=["dna"])
    mdata["protein"].X[3, 3] = np.nan
    with pytest.raises(ValueError, match=r"1 row\(s\) of modality 'protein' hold NaN .*'c56'"):
        model.encode()
