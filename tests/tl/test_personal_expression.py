"""`ol.tl.personal_expression`, `evaluate_personal`, their table and plot."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import only_declared_written, round_trip, same_object, slots
from made_people import cohort, counted, mpra_of, tiny_trunk, tracks_of
from scipy import stats

import omicllm as ol

FAST = {"train_args": {"pairs_per_gene": 20, "lr": 2e-3}, "model_args": {"n_centre_bins": 4}}


def call(mdata, genome, **more):
    return ol.tl.personal_expression(
        mdata, **{"genome": genome, "trunk": tiny_trunk(), "max_epochs": 2, **FAST, **more}
    )


def test_writes_what_it_says(tmp_path):
    mdata, genome = cohort(tmp_path, n=60)
    before = {m: slots(mdata[m]) for m in mdata.mod}
    X = mdata["rna"].X.copy()
    assert call(mdata, genome, save=tmp_path / "model") is None
    rna = mdata["rna"]
    only_declared_written(before["rna"], rna, "tl.personal_expression")
    assert slots(mdata["geno"]) == before["geno"] and (rna.X == X).all()
    P = rna.layers["personal_pair_regression"]
    assert P.shape == rna.shape and P.dtype == np.float32
    test = (rna.obs["split"] == "test").to_numpy()
    for g in range(3):
        r = np.corrcoef(P[test, g], rna.X[test, g])[0, 1]
        assert rna.var["personal_pair_regression_pearson"].iloc[g] == pytest.approx(r, abs=1e-4)
    linear = ol.tl.twas(mdata, model="enet", copy=True)["rna"].var["twas_enet_pearson"]
    np.testing.assert_allclose(rna.var["personal_pair_regression_baseline"], linear, atol=1e-5)
    entry = rna.uns["personal"]
    assert entry["summary"]["prediction"].tolist() == ["pair_regression", "enet"]
    assert len(entry["history"]["train_loss"]) == 2 and entry["genes"].tolist() == list("PQR")
    round_trip(rna, tmp_path)
    mdata["rna"].layers["again"] = P.copy()
    ol.tl.personal_expression(
        mdata, genome=genome, model=entry["model_dir"], baseline=None, key_added="loaded"
    )
    np.testing.assert_allclose(rna.layers["loaded_pair_regression"], P, rtol=1e-4, atol=1e-5)
    assert "loaded_pair_regression_baseline" not in rna.var
    loaded = ol.model.PersonalExpression.load(entry["model_dir"])
    with pytest.raises(ValueError, match="trunk= .* or model="):
        call(mdata, genome, model=loaded)


def test_copy_genes_and_seed(tmp_path):
    mdata, genome = cohort(tmp_path, n=60)
    untouched = mdata["rna"].copy()
    out = call(mdata, genome, genes=["R"], copy=True, baseline=None)
    same_object(mdata["rna"], untouched)
    P = out["rna"].layers["personal_pair_regression"]
    assert np.isnan(P[:, :2]).all() and np.isfinite(P[:, 2]).all()
    again = call(mdata, genome, genes=["R"], copy=True, baseline=None)
    np.testing.assert_array_equal(again["rna"].layers["personal_pair_regression"], P)
    with pytest.raises(ValueError, match="max_epochs=, train_args= have no effect"):
        call(mdata, genome, strategy="baseline", baseline=None)
    track = call(  # trains nothing
        mdata, genome, strategy="baseline", baseline=None, copy=True, max_epochs=50, train_args=None
    )
    assert "personal_baseline" in track["rna"].layers
    assert "history" not in track["rna"].uns["personal"]


@pytest.mark.parametrize(
    "strategy",
    ["pair_regression_tracks", "pair_classification_tracks", "pair_regression_mpra"],
)
def test_together_with_other_data(tmp_path, strategy):
    mdata, genome = cohort(tmp_path, n=60)
    before = slots(mdata["rna"])
    more = {"mpra": mpra_of(genome, tmp_path)}
    if "tracks" in strategy:
        more = {"tracks": {"human": tracks_of(genome)}}
    given = next(iter(more.values()))
    untouched = given.copy()
    call(mdata, genome, strategy=strategy, baseline=None, save=tmp_path / "model", **more,
         model_args={"n_centre_bins": 4, "min_af": 0.05, "freeze": ["cnn"]},
         train_args={"pairs_per_gene": 20, "train_fraction": 0.8, "heads_first": 1})  # fmt: skip
    if hasattr(given, "obs"):
        same_object(given, untouched)
    rna = mdata["rna"]
    only_declared_written(before, rna, "tl.personal_expression")
    P = rna.layers[f"personal_{strategy}"]
    assert np.isfinite(P).all()
    entry = rna.uns["personal"]
    assert len(entry["history"]["heads_loss"]) == 1 and len(entry["history"]["train_loss"]) == 2
    kind = "mpra" if "mpra" in strategy else "human"
    assert f"train_val_{kind}" in entry["history"]
    assert entry["params"]["model_args"]["min_af"] == 0.05
    round_trip(rna, tmp_path)
    ol.tl.personal_expression(mdata, genome=genome, model=tmp_path / "model", baseline=None)
    assert np.isfinite(rna.layers[f"personal_{strategy}"]).all()
    with pytest.raises(ValueError, match="needs (tracks|mpra)="):
        call(mdata, genome, strategy=strategy)


def test_errors_come_first(tmp_path):
    mdata, genome = cohort(tmp_path, n=30)
    untouched = mdata["rna"].copy()
    (tmp_path / "there").mkdir()
    for error, match, more in (
        (ValueError, "strategy must be one of", {"strategy": "x"}),
        (FileExistsError, "there exists", {"save": tmp_path / "there"}),
        (KeyError, "'part' is not in obs and layers", {"split_key": "part"}),
        (KeyError, "'w_start' is not in", {"window_key": "w"}),
        (KeyError, "not in adata.layers", {"layer": "z"}),
        (ValueError, "have 64 bases, but shares takes multiples of 48",
         {"trunk": long_bins()}),
    ):  # fmt: skip
        with pytest.raises(error, match=match):
            call(mdata, genome, **more)
    same_object(mdata["rna"], untouched)


def long_bins():
    trunk = counted()
    trunk.length_multiple = 48
    return trunk


def test_unseen_genes_are_told_apart(tmp_path):
    mdata, genome = cohort(tmp_path, n=60)
    rna = mdata["rna"]
    codes = rna.obs["split"].map({"train": 0, "val": 1, "test": 2}).to_numpy()
    rna.layers["split"] = np.repeat(codes[:, None], 3, axis=1).astype(np.int8)
    rna.layers["split"][:, 1] = 2
    call(mdata, genome)
    summary = rna.uns["personal"]["summary"].set_index(["prediction", "gene_class"])
    assert summary.loc[("pair_regression", "unseen"), "n_genes"] == 1
    assert np.isnan(rna.var["personal_pair_regression_baseline"].iloc[1])
    assert np.isfinite(rna.var["personal_pair_regression_pearson"]).all()


def test_evaluation():
    rng = np.random.default_rng(0)
    import anndata as ad

    Y = rng.normal(size=(50, 3)).astype(np.float32)
    adata = ad.AnnData(Y)
    adata.layers["personal_x"] = Y + rng.normal(size=Y.shape).astype(np.float32)
    adata.layers["twas_enet"] = Y.copy()
    adata.layers["twas_enet"][:, 1] = 5
    adata.obs["split"] = np.where(np.arange(50) < 20, "test", "train")
    with pytest.raises(KeyError, match="ol.tl.evaluate_personal"):
        ol.get.table(adata, "evaluate_personal", table="summary")
    ol.tl.evaluate_personal(adata)
    table = ol.get.table(adata, "evaluate_personal")
    assert len(table) == 6 and (table["n"] == 20).all()
    for line in table[table["prediction"] == "personal_x"].itertuples():
        g = int(line.gene)
        a, b = adata.layers["personal_x"][:20, g], Y[:20, g]
        assert line.pearson == pytest.approx(stats.pearsonr(a, b)[0], abs=1e-5)
        assert line.spearman == pytest.approx(stats.spearmanr(a, b)[0], abs=1e-6)
    summary = ol.get.table(adata, "evaluate_personal", table="summary").set_index("prediction")
    assert summary.loc["twas_enet", "n_constant"] == 1
    assert summary.loc["twas_enet", "mean_pearson"] == pytest.approx(2 / 3)
    assert summary.loc["twas_enet", "gene_class"] == "seen"
    adata.var["kind"] = ["a", "b", "a"]
    ol.tl.evaluate_personal(adata, class_key="kind", predictions="twas_enet")
    assert ol.get.table(adata, "evaluate_personal", table="summary")["gene_class"].tolist() == [
        "a",
        "b",
    ]
    ol.tl.evaluate_personal(adata)
    ax = ol.pl.personal_accuracy(adata)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["personal_x", "twas_enet"]
    ax = ol.pl.personal_accuracy(adata, x="twas_enet", y="personal_x")
    assert len(ax.collections[0].get_offsets()) == 3
    plt.close("all")
    with pytest.raises(ValueError, match="Give both x= and y="):
        ol.pl.personal_accuracy(adata, x="twas_enet")
    with pytest.raises(KeyError, match="'z' is not in the evaluated predictions"):
        ol.pl.personal_accuracy(adata, x="twas_enet", y="z")
    adata.obs["split"] = "train"
    with pytest.raises(ValueError, match="Nobody is in the test part"):
        ol.tl.evaluate_personal(adata)
