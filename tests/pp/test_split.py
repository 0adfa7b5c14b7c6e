"""`ol.pp.split`."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from helpers import same_object

import omicllm as ol


@pytest.fixture
def people():
    """Ninety samples of nine donors, three labels, some missing."""
    rng = np.random.default_rng(0)
    adata = ad.AnnData(rng.poisson(3, size=(90, 5)).astype(np.float32))
    adata.obs["donor"] = [f"d{i // 10}" for i in range(90)]
    adata.obs["kind"] = pd.Categorical(np.array(["a", "b", "c"])[np.arange(90) % 3])
    adata.obs.loc[adata.obs_names[:6], "kind"] = np.nan
    return adata


def shares(adata, key="split"):
    return adata.obs[key].value_counts(normalize=True).reindex(["train", "val", "test"]).to_dict()


def test_stratified(people):
    ol.pp.split(people, labels_key="kind", test_size=0.2, val_size=0.1)
    assert list(people.obs["split"].cat.categories) == ["train", "val", "test"]
    assert shares(people) == pytest.approx({"train": 0.7, "val": 0.1, "test": 0.2}, abs=0.012)
    table = pd.crosstab(people.obs["kind"], people.obs["split"])
    assert (abs(table["test"] - 0.2 * 28) < 2).all()
    assert people.obs["split"].notna().all()  # rows without a label too
    assert people.uns["split"]["params"]["method"] == "stratified"


def test_groups_stay_together(people):
    ol.pp.split(people, groupby="donor", labels_key="kind")
    assert (people.obs.groupby("donor")["split"].nunique() == 1).all()
    assert set(people.obs["split"]) == {"train", "val", "test"}
    assert people.uns["split"]["params"]["method"] == "groups"


def test_named_groups(people):
    ol.pp.split(people, groupby="donor", test=["d1", "d2"], val="d3")
    got = people.obs.groupby("donor")["split"].first().astype(str).to_dict()
    assert got["d1"] == got["d2"] == "test" and got["d3"] == "val" and got["d0"] == "train"
    ol.pp.split(people, groupby="donor", test="d1")
    assert shares(people)["test"] == pytest.approx(10 / 90) and (people.obs["split"] != "val").all()
    with pytest.raises(KeyError, match="'d99' is not in the groups"):
        ol.pp.split(people, groupby="donor", test="d99")
    with pytest.raises(ValueError, match="both test= and val="):
        ol.pp.split(people, groupby="donor", test=["d1"], val=["d1"])


@pytest.mark.parametrize("kwargs", [{"labels_key": "kind"}, {"groupby": "donor"}, {}])
def test_folds_test_every_row_once(people, kwargs):
    tested = np.zeros(90, dtype=int)
    for fold in range(3):
        out = ol.pp.split(people, n_folds=3, fold=fold, copy=True, rng=4, **kwargs)
        tested += np.asarray(out.obs["split"] == "test")
        assert (out.obs["split"] == "val").any()
    assert (tested == 1).all()


def test_blocks_of_two_sections(tiny):
    two = ad.concat({"a": tiny, "b": tiny}, label="slide", index_unique="-")
    ol.pp.split(two, method="blocks", batch_key="slide", n_blocks=9, test_size=0.3)
    assert shares(two)["test"] == pytest.approx(0.3, abs=0.1)
    # Neighbours mostly share a part: far more than under a random split.
    xy = two[two.obs["slide"] == "a"].obsm["spatial"]
    part = np.asarray(two[two.obs["slide"] == "a"].obs["split"].astype(str))
    near = np.argsort(np.linalg.norm(xy[:, None] - xy[None], axis=2), axis=1)[:, 1]
    assert (part == part[near]).mean() > 0.75


def test_a_label_of_one_row_is_trained_on(people):
    people.obs["kind"] = ["rare"] + ["common"] * 89
    for seed in range(15):
        ol.pp.split(people, labels_key="kind", rng=seed, test_size=0.5)
        assert people.obs["split"].iloc[0] == "train"


def test_same_seed_same_split(people):
    one, two, other = (ol.pp.split(people, copy=True, rng=s) for s in (3, 3, 4))
    assert list(one.obs["split"]) == list(two.obs["split"])
    assert list(one.obs["split"]) != list(other.obs["split"])


def test_names_of_results(people):
    ol.pp.split(people, key_added="fold1")
    assert "fold1" in people.obs and "fold1" in people.uns and "split" not in people.obs


@pytest.mark.parametrize(
    "kwargs,error,message",
    [
        ({"method": "guess"}, ValueError, "method must be one of"),
        ({"method": "groups"}, ValueError, "method='groups' needs groupby="),
        ({"method": "stratified"}, ValueError, "needs labels_key="),
        ({"groupby": "slide"}, KeyError, "'slide' is not in adata.obs.*groupby|'slide' is not in"),
        ({"method": "blocks"}, KeyError, "Name the coordinates with spatial_key="),
        ({"test": "d1"}, ValueError, "test= names groups"),
        ({"groupby": "donor", "val": "d1"}, ValueError, "val= goes with test="),
        ({"test_size": 0.6, "val_size": 0.4}, ValueError, "nothing is left to train on"),
        ({"test_size": 1.5}, ValueError, "test_size must lie between 0 and 1"),
        ({"n_folds": 3, "fold": 3}, ValueError, "fold must be below n_folds"),
        ({"groupby": "donor", "n_folds": 12}, ValueError, "9 groups cannot fill 12 parts"),
    ],
)
def test_bad_input(people, kwargs, error, message):
    before = people.copy()
    with pytest.raises(error, match=message):
        ol.pp.split(people, **kwargs)
    same_object(people, before)


def test_rows_without_a_group(people):
    people.obs.loc[people.obs_names[0], "donor"] = None
    with pytest.raises(ValueError, match="1 observations have no value in adata.obs\\['donor'\\]"):
        ol.pp.split(people, groupby="donor")


def test_refuses_synthetic_rows(people):
    out = ol.pp.augment(people, labels_key="kind", n_new=3, allow_unsplit=True)
    with pytest.raises(ValueError, match="Split the real cohort first"):
        ol.pp.split(out)


@pytest.mark.parametrize("turn", ["90", "180", "270", "mirror", "transpose"])
def test_blocks_do_not_depend_on_how_a_section_is_turned(turn):
    y, x = (a.ravel() for a in np.indices((19, 19)))
    xy = np.stack([x, y], axis=1).astype(float)  # spots lie on the cuts between blocks
    ways = {
        "90": xy[:, ::-1] * [-1, 1], "180": -xy, "270": xy[:, ::-1] * [1, -1],
        "mirror": xy * [-1, 1], "transpose": xy[:, ::-1],
    }  # fmt: skip
    found = []
    for coords in (xy, ways[turn] + 100.0):
        adata = ad.AnnData(np.ones((361, 2), dtype=np.float32), obsm={"spatial": coords})
        ol.pp.split(adata, method="blocks", n_blocks=9)
        found.append(adata.obs["split"].astype(str).to_numpy())
    assert len(set(found[0])) > 1 and np.array_equal(*found)


def test_a_part_with_one_label_is_named(caplog):
    obs = pd.DataFrame(
        {"slide": ["a", "b", "c"] * 4, "condition": ["DKD", "DKD", "normal"] * 4},
        index=[str(i) for i in range(12)],
    )
    adata = ad.AnnData(np.zeros((12, 1), np.float32), obs=obs)
    ol.pp.split(adata, groupby="slide", test="a", labels_key="condition")
    assert "the test rows are all 'DKD'" in caplog.text and "the train rows" not in caplog.text
    caplog.clear()
    ol.pp.split(adata, method="stratified", labels_key="condition", test_size=0.5, val_size=0)
    assert not caplog.text


@pytest.mark.parametrize("column", ["bool", "boolean", "object", "text"])
def test_only_rows_marked_synthetic_are(tiny, column):
    """Joined with an object without the column, rows of it have no value there."""
    none = {"bool": False, "boolean": pd.NA, "object": np.nan, "text": "False"}[column]
    dtype = {"text": "category"}.get(column, column)
    tiny.obs["synthetic"] = pd.Series([none] * tiny.n_obs, index=tiny.obs_names, dtype=dtype)
    ol.pp.split(tiny)
    assert (tiny.obs["split"] == "test").sum() == round(0.2 * tiny.n_obs)
    values = [none] * (tiny.n_obs - 1) + ["True" if column == "text" else True]
    tiny.obs["synthetic"] = pd.Series(values, index=tiny.obs_names, dtype=dtype)
    with pytest.raises(ValueError, match="synthetic rows"):
        ol.pp.split(tiny)


@pytest.mark.parametrize("test", [2, [2], np.array([2]), "2"])
def test_groups_that_are_numbers(tiny, test):
    tiny.obs["slide"] = np.arange(tiny.n_obs) % 3
    ol.pp.split(tiny, groupby="slide", test=test)
    assert ((tiny.obs["split"] == "test") == (tiny.obs["slide"] == 2)).all()


@pytest.mark.parametrize("size", ["x", None, True, float("nan"), 1.5])
def test_shares_are_numbers(tiny, size):
    with pytest.raises(ValueError, match="test_size must lie between 0 and 1"):
        ol.pp.split(tiny, test_size=size)


def test_every_fold_has_a_row(tiny):
    with pytest.raises(ValueError, match=f"there are {tiny.n_obs}"):
        ol.pp.split(tiny, n_folds=tiny.n_obs + 1)


def test_no_rows(tiny):
    with pytest.raises(ValueError, match="no observations"):
        ol.pp.split(tiny[:0].copy())
    with pytest.raises(ValueError, match="no genes"):
        ol.tl.spatially_variable_genes(tiny[:, :0].copy(), method="moran")
