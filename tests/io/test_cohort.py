"""`ol.io.read_cohort`: the published layout, made here file by file."""

from __future__ import annotations

import json
import pickle

import mudata as md
import numpy as np
import pandas as pd
import pytest
from helpers import round_trip

import omicllm as ol

GENES = ["rna_A", "rna_B", "cg_1", "cg_2", "hsa_3"]


class Trap:
    """Unpickling this would raise."""

    def __reduce__(self):
        return (exec, ("raise SystemError('a pickle was opened')",))


def write(folder, part, names, labels, seed=0, end="_df_stdz"):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.normal(3, 2, size=(len(names), 5)), index=names, columns=GENES)
    table.to_csv(folder / f"{part}{end}.csv")
    pd.DataFrame({"CMS": labels}, index=names).to_csv(folder / f"{part}_labels.csv")
    return table


@pytest.fixture
def cohort(tmp_path):
    """Seed 42: synthetic training rows, real test rows, a label map and a pickle."""
    folder = tmp_path / "data" / "42"
    folder.mkdir(parents=True)
    drawn = [f"TCGA-{k}-S{i}" for k in ("CMS1", "CMS2") for i in range(10)]
    write(folder, "augmented_train", drawn, ["CMS1"] * 10 + ["CMS2"] * 10)
    write(folder, "real_test", ["P1", "P2", "P3"], ["CMS2", "CMS1", "NOLBL"], seed=1)
    (folder / "label_map.json").write_text(json.dumps({"CMS2": "<C0>", "CMS1": "<C1>"}))
    (folder / "scaler.pkl").write_bytes(pickle.dumps(Trap()))
    return folder.parent


def test_published_layout(cohort, tmp_path):
    adata = ol.io.read_cohort(cohort)
    assert adata.shape == (23, 5) and list(adata.var_names) == GENES
    assert list(adata.obs["split"].cat.categories) == ["train", "val", "test"]
    assert adata.obs["split"].value_counts().to_dict() == {"train": 20, "test": 3, "val": 0}
    assert list(adata.obs["label"].cat.categories) == ["CMS2", "CMS1"]  # the order of the map
    assert adata.obs["label"].isna().tolist() == [False] * 22 + [True]
    assert adata.obs["synthetic"].tolist() == [True] * 20 + [False] * 3
    assert set(adata.obs["part"]) == {"augmented_train", "real_test"}
    assert list(adata.uns["cohort"]["tokens"]) == ["<C0>", "<C1>"]
    assert adata.uns["cohort"]["seed"] == 42
    table = pd.read_csv(cohort / "42" / "real_test_df_stdz.csv", index_col=0)
    np.testing.assert_allclose(adata["P2"].X.ravel(), table.loc["P2"], rtol=1e-6)
    round_trip(adata, tmp_path)


def test_scaler_is_refitted_on_the_training_rows(cohort):
    adata = ol.io.read_cohort(cohort)
    train = adata.X[:20].astype(np.float64)
    np.testing.assert_allclose(adata.var["standardized_mean"], train.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(adata.var["standardized_scale"], train.std(axis=0), rtol=1e-6)
    own = adata.copy()
    ol.pp.standardize(own)
    np.testing.assert_allclose(
        own.layers["standardized"], adata.layers["standardized"], rtol=1e-4, atol=1e-5
    )


def test_seeds(cohort):
    (cohort / "7").mkdir()
    write(cohort / "7", "train", ["a", "b"], ["x", "y"])
    with pytest.raises(ValueError, match="several seeds \\('7', '42'\\).*seed="):
        ol.io.read_cohort(cohort)
    assert ol.io.read_cohort(cohort, seed=42).n_obs == 23
    assert ol.io.read_cohort(cohort / "42").uns["cohort"]["seed"] == 42
    assert ol.io.read_cohort(cohort, seed=7).obs["label"].tolist() == ["x", "y"]
    with pytest.raises(ValueError, match="no folder for seed 3"):
        ol.io.read_cohort(cohort, seed=3)


def test_validation_and_external_parts(tmp_path):
    write(tmp_path, "train", ["a", "b", "c"], ["x", "y", "x"], end="_logfpkm")
    write(tmp_path, "validation", ["d"], ["x"], end="_logfpkm")
    write(tmp_path, "external_CPTAC", ["a", "e"], ["y", "x"], end="_logfpkm")
    adata = ol.io.read_cohort(tmp_path)
    assert adata.obs["split"].tolist() == ["train"] * 3 + ["val", "test", "test"]
    assert not adata.obs["synthetic"].any()
    assert adata.obs_names.is_unique  # "a" is in two parts


def test_val_size(cohort):
    adata = ol.io.read_cohort(cohort, val_size=0.2)
    table = pd.crosstab(adata.obs["label"], adata.obs["split"])
    assert table.loc["CMS1", "val"] == table.loc["CMS2", "val"] == 2
    again = ol.io.read_cohort(cohort, val_size=0.2)
    assert list(adata.obs["split"]) == list(again.obs["split"])


def test_variants(cohort):
    folder = cohort / "42"
    for part in ("augmented_train", "real_test"):
        table = pd.read_csv(folder / f"{part}_df_stdz.csv", index_col=0)
        (table * 2).to_csv(folder / f"{part}_df_logfpkm.csv")
    with pytest.raises(ValueError, match="2 tables of 'augmented_train'.*variant="):
        ol.io.read_cohort(cohort)
    one, two = (ol.io.read_cohort(cohort, variant=v) for v in ("stdz", "logfpkm"))
    np.testing.assert_allclose(one.X * 2, two.X, rtol=1e-6)


def test_modalities(cohort):
    path = cohort / "42" / "real_test_df_stdz.csv"
    table = pd.read_csv(path, index_col=0)
    table.loc["P1", ["cg_1", "cg_2"]] = np.nan
    table.to_csv(path)
    mdata = ol.io.read_cohort(cohort, modalities={"rna": "rna_", "meth": "cg_", "mirna": ""})
    assert isinstance(mdata, md.MuData) and list(mdata.mod) == ["rna", "meth", "mirna"]
    assert mdata["rna"].shape == (23, 2) and mdata["meth"].shape == (22, 2)
    assert "P1" not in mdata["meth"].obs_names
    assert list(mdata.obs["split"].astype(str)) == ["train"] * 20 + ["test"] * 3
    assert mdata["meth"].obs["label"]["P2"] == mdata.obs["label"]["P2"] == "CMS1"
    assert np.allclose(mdata["meth"].layers["standardized"][:20].mean(axis=0), 0, atol=1e-5)
    with pytest.raises(ValueError, match="1 columns begin with none.*'hsa_3'"):
        ol.io.read_cohort(cohort, modalities={"rna": "rna_", "meth": "cg_"})
    with pytest.raises(ValueError, match="No column begins with the prefix of 'x'"):
        ol.io.read_cohort(cohort, modalities={"x": "zz", "rest": ""})
    with pytest.raises(ValueError, match="NaN or infinite values in 1 of 23 rows \\('P1'\\)"):
        ol.io.read_cohort(cohort)


def test_label_files(cohort):
    folder = cohort / "42"
    names = ["P3", "P1", "P2"]  # another order
    pd.DataFrame({"CMS": ["NOLBL", "CMS2", "CMS1"]}, index=names).to_csv(
        folder / "real_test_labels.csv"
    )
    wanted = ol.io.read_cohort(cohort).obs["label"]
    assert wanted["P1"] == "CMS2" and wanted["P2"] == "CMS1"
    # labels alone, by position; tokens in place of names
    pd.DataFrame({"label": ["<C0>", "<C1>", ""]}).to_csv(
        folder / "real_test_labels.csv", index=False
    )
    pd.DataFrame({"label": ["<C1>"] * 10 + ["<C0>"] * 10}).to_csv(
        folder / "augmented_train_labels.csv"
    )
    got = ol.io.read_cohort(cohort).obs["label"]
    assert got.astype(object).equals(wanted.astype(object))
    pd.DataFrame({"CMS": ["CMS1"] * 3}, index=["P1", "P2", "Q"]).to_csv(
        folder / "real_test_labels.csv"
    )
    with pytest.raises(ValueError, match="names other rows than its table: 1 rows"):
        ol.io.read_cohort(cohort)
    pd.DataFrame({"CMS": ["CMS1"]}, index=["P1"]).to_csv(folder / "real_test_labels.csv")
    with pytest.raises(ValueError, match="1 labels for 3 rows"):
        ol.io.read_cohort(cohort)
    pd.DataFrame({"CMS": ["CMS9"] * 3}, index=names).to_csv(folder / "real_test_labels.csv")
    with pytest.raises(ValueError, match="lacks the label\\(s\\) 'CMS9'"):
        ol.io.read_cohort(cohort)
    (folder / "real_test_labels.csv").unlink()
    with pytest.raises(ValueError, match="has no labels"):
        ol.io.read_cohort(cohort)


def test_bad_folders(tmp_path, cohort):
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        ol.io.read_cohort(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="neither CSV files nor folders"):
        ol.io.read_cohort(tmp_path / "empty")
    (tmp_path / "empty" / "notes.csv").write_text("a,b\n1,2\n")
    with pytest.raises(FileNotFoundError, match="no table of a cohort"):
        ol.io.read_cohort(tmp_path / "empty")
    file = cohort / "42" / "real_test_df_stdz.csv"
    text = file.read_text()
    file.write_text(text.replace("rna_B", "rna_Z"))
    with pytest.raises(ValueError, match="other columns.*lacks 'rna_B' and adds 'rna_Z'"):
        ol.io.read_cohort(cohort)
    file.write_text(text.replace("\nP1,", "\nP1,high"))
    where = "real_test_df_stdz.csv, line 2, column 'rna_A': 'high.*is no number"
    with pytest.raises(ValueError, match=where):
        ol.io.read_cohort(cohort)
