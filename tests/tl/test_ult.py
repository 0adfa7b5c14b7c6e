"""Verbs of the text codec."""

from __future__ import annotations

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
from conftest import make_tiny
from helpers import round_trip, same_object
from scipy import sparse
from scipy.spatial.distance import pdist, squareform
from scipy.stats import pearsonr, spearmanr

import omicllm as ol
from omicllm.codec import LookupTable, series


def two_groups(n=40, m=30, seed=0):
    """Profiles of two groups that differ in half of the genes."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, m))
    X[: n // 2, : m // 2] += 2
    adata = ad.AnnData(X.astype(np.float32))
    adata.obs_names, adata.var_names = [f"c{i}" for i in range(n)], [f"g{i}" for i in range(m)]
    adata.obs["group"] = np.where(np.arange(n) < n // 2, "a", "b")
    return adata


def partly():
    """Two modalities that share some observations, in other orders."""
    rna, protein = two_groups(30, 9), two_groups(25, 5, seed=1)
    protein.obs_names = [f"c{i}" for i in reversed(range(10, 35))]
    protein.var_names = [f"p{i}" for i in range(5)]
    del rna.obs["group"], protein.obs["group"]
    return md.MuData({"rna": rna, "protein": protein})


# -- profiles -------------------------------------------------------------------------------


def test_strings_and_table():
    adata = two_groups()
    ol.tl.ult(adata, max_value=3.0, patch_size=10, codepoints="reference")
    table = LookupTable.fit(adata.X, max_value=3.0, patch_size=10, codepoints="reference")
    assert adata.obs["ult"].tolist() == table.encode(adata.X)
    entry = adata.uns["ult"]
    np.testing.assert_array_equal(entry["levels"], table.levels)
    np.testing.assert_array_equal(entry["counts"], table.counts)
    np.testing.assert_array_equal(entry["codepoints"], table.codes)
    assert list(entry["var_names"]) == list(adata.var_names)
    assert entry["params"]["max_value"] == 3.0 and entry["params"]["bits"] == 8
    frame = ol.get.lut_df(adata)
    assert list(frame["level"]) == table.levels.tolist() and frame["share"].sum() == 1
    np.testing.assert_allclose(frame["value"], series.values(table.levels, max_value=3.0))
    assert "".join(frame["character"]) == table.characters


def test_decode_and_quality():
    adata = two_groups()
    ol.tl.ult(adata, max_value=1.5)
    ol.tl.ult_decode(adata)
    code = {"bits": 8, "mu": 255.0, "max_value": 1.5}
    wanted = series.values(series.levels(adata.X, **code), **code)
    np.testing.assert_array_equal(adata.layers["ult_decoded"], wanted.astype(np.float32))
    ol.tl.ult_quality(adata)
    error = np.sqrt(((adata.X.astype(float) - wanted) ** 2).mean(axis=1))
    np.testing.assert_allclose(adata.obs["ult_rmse"], error)
    np.testing.assert_allclose(adata.obs["ult_psnr"], 20 * np.log10(1.5 / error))
    np.testing.assert_allclose(adata.obs["ult_saturated"], (np.abs(adata.X) >= 1.5).mean(axis=1))
    baseline = adata.uns["ult_quality"]["baseline"]
    np.testing.assert_allclose(baseline["rmse"], np.sqrt((error**2).mean()))
    # Within the range, steps of equal width do worse on values near zero.
    ol.tl.ult(adata, max_value=20.0, bits=6)
    ol.tl.ult_quality(adata)
    baseline = adata.uns["ult_quality"]["baseline"]
    assert baseline["rmse"] < baseline["uniform"]


def test_exact_values_have_100_db():
    adata = ad.AnnData(np.array([[0.0, 5.0], [5.0, 5.0]], dtype=np.float32))
    ol.tl.ult(adata, max_value=5.0)
    ol.tl.ult_quality(adata)
    assert adata.obs["ult_psnr"].tolist() == [100.0, 100.0]


def test_values_go_to_their_gene_by_name():
    adata = two_groups()
    ol.tl.ult(adata)
    whole = ol.tl.ult_decode(adata, copy=True).to_df("ult_decoded")
    part = adata[5:20, ["g7", "g2", "g28"]].copy()
    ol.tl.ult_decode(part)
    pd.testing.assert_frame_equal(
        part.to_df("ult_decoded"), whole.loc[part.obs_names, part.var_names]
    )
    part.var_names = ["g7", "g2", "other"]
    with pytest.raises(ValueError, match="1 of 3 genes of adata were not encoded .'other'"):
        ol.tl.ult_decode(part)


def test_model_and_table_instead_of_fitting(tmp_path):
    adata, other = two_groups(), two_groups(seed=5)
    ol.model.ULT.setup_anndata(adata)
    model = ol.model.ULT(adata, bits=6)
    model.train()
    model.save(tmp_path / "m")
    for given in (model, tmp_path / "m", str(tmp_path / "m")):
        ol.tl.ult(other, model=given)
        assert other.obs["ult"].tolist() == model.encode(other)
        np.testing.assert_array_equal(other.uns["ult"]["levels"], model.table.levels)
        assert other.uns["ult"]["params"]["bits"] == 6
    permuted = other[:, ::-1].copy()
    before = permuted.copy()
    with pytest.raises(ValueError, match="another order. Pass reindex=True"):
        ol.tl.ult(permuted, model=model)
    same_object(permuted, before)
    ol.tl.ult(permuted, model=model, reindex=True)
    assert permuted.obs["ult"].tolist() == model.encode(other)
    ol.tl.ult_decode(permuted)
    ol.tl.ult_decode(other)
    np.testing.assert_array_equal(
        permuted.layers["ult_decoded"][:, ::-1], other.layers["ult_decoded"]
    )
    ol.tl.ult(other, table=model.table, key_added="mine")
    assert other.obs["mine"].tolist() == model.encode(other)
    with pytest.raises(ValueError, match="either model= or table="):
        ol.tl.ult(other, table=model.table, model=model)


def test_bad_input_leaves_the_object(tmp_path):
    adata = two_groups()
    adata.X[3, 3] = np.nan
    adata.X[8, 3] = np.inf
    before = adata.copy()
    with pytest.raises(ValueError, match="2 row.s. hold NaN or infinite values .* 'c3', 'c8'"):
        ol.tl.ult(adata)
    same_object(adata, before)
    adata = two_groups()
    for options, message in (
        ({"method": "sound"}, "method must be one of"),
        ({"bits": 0}, "bits must be"),
        ({"max_value": "most"}, "positive number or 'auto'"),
        ({"max_value": -1}, "max_value must be a positive"),
        ({"method": "text"}, "needs text_key="),
        ({"method": "text", "model": "m"}, "model= encodes profiles"),
        ({"modalities": ["rna"]}, "the object is an AnnData"),
    ):
        with pytest.raises(ValueError, match=message):
            ol.tl.ult(adata, **options)
    for call in (ol.tl.ult_decode, ol.tl.ult_quality, ol.tl.ult_distances, ol.get.lut_df):
        with pytest.raises(KeyError, match=r"'ult' is not in adata.uns .* ol.tl.ult\(adata\)"):
            call(adata)
    with pytest.raises(ValueError, match="nothing to count"):
        ol.tl.ult(adata[:0].copy())
    ol.tl.ult(adata)
    adata.obs["ult"] = ["\u2603" + s[1:] for s in adata.obs["ult"]]
    with pytest.raises(ValueError, match="not in the table"):
        ol.tl.ult_decode(adata)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("joint", [False, True])
def test_whole_mudata(joint, tmp_path):
    mdata = partly()
    assert ol.tl.ult(mdata, joint=joint) is None
    ol.model.ULT.setup_mudata(mdata)
    model = ol.model.ULT(mdata, joint=joint)
    model.train()
    assert mdata.obs["ult"].tolist() == model.encode()
    text = mdata.obs["ult"]
    assert text["c2"].endswith("<protein>") and text["c33"].startswith("<rna><protein>")
    names = set(mdata.uns["ult"]["modalities"])
    assert names == {"rna", "protein"}
    mdata.write_h5mu(tmp_path / "a.h5mu")
    again = md.read_h5mu(tmp_path / "a.h5mu")
    decoded = model.decode(text.tolist())
    for data in (mdata, again):
        for name in ("rna", "protein"):
            ol.tl.ult_decode(data, mod=name)
            ol.tl.ult_quality(data, mod=name)
            rows = data.obs_names.get_indexer(data[name].obs_names)
            np.testing.assert_allclose(
                data[name].layers["ult_decoded"], decoded[name][rows], rtol=1e-6
            )
            assert data[name].obs["ult_psnr"].min() > 25
    with pytest.raises(ValueError, match="needs mod="):
        ol.tl.ult_decode(mdata)
    frame = ol.get.lut_df(mdata, modality=None if joint else "protein")
    assert frame["count"].sum() == (30 * 16 + 25 * 8 if joint else 25 * 8)
    if not joint:
        with pytest.raises(KeyError, match="modality="):
            ol.get.lut_df(mdata)
    single = ol.tl.ult(mdata, mod="rna", copy=True)
    alone = ol.tl.ult(mdata["rna"], copy=True)
    assert single["rna"].obs["ult"].tolist() == alone.obs["ult"].tolist()
    with pytest.raises(ValueError, match="table= is for an AnnData"):
        ol.tl.ult(mdata, table=LookupTable.fit([[1.0]]))


# -- images and texts -----------------------------------------------------------------------


def test_texts(tmp_path):
    adata = two_groups(6)
    adata.obs["note"] = [
        "one two",
        "tab\tand\nline",
        "",
        "GATTACA" * 5,
        "\u03b1\u2192\U0001f9ec",
        "x",
    ]
    ol.tl.ult(adata, method="text", text_key="note")
    ol.tl.ult_decode(adata)
    ol.tl.ult_quality(adata)
    assert adata.obs["ult_decoded"].tolist() == adata.obs["note"].tolist()
    assert (adata.obs["ult_ratio"] == 1).all()
    round_trip(adata, tmp_path)
    adata.obs["note"] = adata.obs["note"].astype(object)
    adata.obs.loc["c3", "note"] = np.nan
    with pytest.raises(ValueError, match="1 observations have no text .* .'c3'"):
        ol.tl.ult(adata, method="text", text_key="note")
    with pytest.raises(KeyError, match="Name a column with text_key="):
        ol.tl.ult(adata, method="text", text_key="none")
    with pytest.raises(ValueError, match="Distances are for strings of profiles"):
        ol.tl.ult_distances(adata)


def test_patches(tmp_path):
    adata = two_groups(6)
    x = np.linspace(0, 1, 16)
    stack = np.stack([np.add.outer(x * i, x)[..., None] * [1, 0.5, 0.2] for i in range(6)])
    adata.obsm["patches"] = stack.astype(np.float32)
    ol.tl.ult(adata, method="image", patches_key="patches", precision=3)
    ol.tl.ult_decode(adata)
    ol.tl.ult_quality(adata)
    table = LookupTable.fit(list(adata.obsm["patches"]), method="image", precision=3)
    assert adata.obs["ult"].tolist() == table.encode(list(adata.obsm["patches"]))
    assert adata.obsm["ult_decoded"].shape == (6, 16, 16, 3)
    assert (adata.obs["ult_psnr"] > 25).all()
    round_trip(adata, tmp_path)
    adata.obsm["patches"][2, 3, 3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite values in 1 row.s. .'c2'"):
        ol.tl.ult(adata, method="image", patches_key="patches")
    adata.obsm["flat"] = np.ones((6, 3))
    with pytest.raises(ValueError, match="one image per observation"):
        ol.tl.ult(adata, method="image", patches_key="flat")
    with pytest.raises(KeyError, match="Name one with patches_key="):
        ol.tl.ult(adata, method="image", patches_key="none")


def test_gene_images():
    adata = make_tiny()
    with pytest.raises(KeyError, match="spatial_grid"):
        ol.tl.ult(adata, method="image")
    ol.pp.spatial_grid(adata)
    ol.tl.ult(adata, method="image", patch_size=1, max_coefficients=1, precision=2)
    images = ol.get.gene_images(adata)
    table = LookupTable.fit(
        list(images), method="image", patch_size=1, max_coefficients=1, precision=2
    )
    assert adata.var["ult"].tolist() == table.encode(list(images))
    ol.tl.ult_decode(adata, rescale=False)
    # One coefficient per pixel: everything is kept but rounding.
    np.testing.assert_allclose(adata.layers["ult_decoded"], adata.X.toarray(), atol=0.15)
    ol.tl.ult_quality(adata)
    assert adata.var["ult_psnr"].drop(["Gene3", "Gene4"]).min() > 40


# -- distances ------------------------------------------------------------------------------


def test_distances_agree_with_scipy():
    adata = two_groups()
    ol.tl.ult(adata, patch_size=None)
    metrics = ["level", "hamming", "levenshtein", "indel"]
    ol.tl.ult_distances(adata, metrics=metrics, n_permutations=99)
    table = ol.get.table(adata, "ult_distances").set_index("metric")
    profile = pdist(adata.X.astype(float))
    levels = series.levels(adata.X, max_value=float(np.abs(adata.X).max()))
    wanted = pdist(levels.astype(float))
    np.testing.assert_allclose(table.loc["level", "pearson"], pearsonr(profile, wanted)[0])
    np.testing.assert_allclose(table.loc["level", "spearman"], spearmanr(profile, wanted)[0])
    codes = np.array([[ord(c) for c in s] for s in adata.obs["ult"]])
    wanted = pdist(codes, "hamming")
    np.testing.assert_allclose(table.loc["hamming", "pearson"], pearsonr(profile, wanted)[0])
    assert table.loc["level", "pearson"] > 0.5 and table.loc["level", "pearson_pval"] == 0.01
    assert (table["n_obs"] == 40).all() and list(table.index) == metrics
    assert len(adata.uns["ult_distances"]["pairs"]) == 40 * 39 // 2


def test_shuffled_strings_agree_with_nothing():
    """Where the published statistic stays high, ours falls to zero."""
    adata = two_groups(60)
    ol.tl.ult(adata, max_value=1.0)
    shuffled = adata.copy()
    order = np.random.default_rng(0).permutation(60)
    shuffled.obs["ult"] = adata.obs["ult"].to_numpy()[order]
    published = []
    for data in (adata, shuffled):
        with pytest.warns(UserWarning, match="large whatever the strings"):
            ol.tl.ult_distances(data, formula="reference", key_added="published")
        published.append(ol.get.table(data, "published")["pearson"][0])
    assert min(published) > 0.5 and abs(published[0] - published[1]) < 0.1
    ol.tl.ult_distances(adata, metrics="level")
    ol.tl.ult_distances(shuffled, metrics="level")
    right, wrong = (ol.get.table(d, "ult_distances").iloc[0] for d in (adata, shuffled))
    assert right["pearson"] > 0.5 and right["pearson_pval"] < 0.005
    assert abs(wrong["pearson"]) < 0.15 and wrong["pearson_pval"] > 0.02
    # The published formula, written out.
    from omicllm.codec.distances import indel

    similarity = squareform(1 - indel(adata.obs["ult"].tolist())) + np.eye(60)
    distance = squareform(pdist(adata.X.astype(float)))
    wanted = pearsonr(np.triu(distance).ravel(), np.triu(similarity).ravel())[0]
    np.testing.assert_allclose(published[0], wanted)


def test_distances_sample_and_refuse():
    adata = two_groups()
    ol.tl.ult(adata)
    ol.tl.ult_distances(adata, n_sample=12, n_permutations=9, metrics="hamming", rng=3)
    assert ol.get.table(adata, "ult_distances")["n_obs"].tolist() == [12]
    with pytest.raises(ValueError, match="metrics must be one of"):
        ol.tl.ult_distances(adata, metrics="cosine")
    with pytest.raises(ValueError, match="At least three observations"):
        ol.tl.ult_distances(adata[:2].copy())
    adata.X = sparse.csr_matrix(adata.X)
    adata.X.data[5] = np.nan
    with pytest.raises(ValueError, match="1 row.s. hold NaN or infinite values .'c0'"):
        ol.tl.ult_distances(adata)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_gene_images_of_values_that_are_not_finite_are_refused(tiny, bad):
    ol.pp.spatial_grid(tiny)
    X = tiny.X.toarray()
    X[3, 7] = bad
    tiny.X = X
    with pytest.raises(ValueError, match=r"images hold NaN or infinite values.*Gene7"):
        ol.tl.ult(tiny, method="image", patch_size=4)
    assert "ult" not in tiny.var and "ult" not in tiny.uns


def test_patches_of_complex_numbers_are_refused(tiny):
    tiny.obsm["patches"] = np.ones((tiny.n_obs, 4, 4)) * 1j
    with pytest.raises(TypeError, match=r"adata.obsm\['patches'\] holds values of type 'complex"):
        ol.tl.ult(tiny, method="image", patches_key="patches")


@pytest.mark.parametrize("form", ["csr", "csc", "csr_array", "csc_array"])
def test_the_largest_value_is_that_of_sums_of_what_is_stored(form):
    """Entries stored twice add up before the scale of the levels is chosen."""
    from made_storage import dressed

    X = np.array([[100.0, 0.0], [0.0, 60.0], [5.0, 0.0]])
    wanted, adata = ad.AnnData(X), ad.AnnData(dressed(X, form, "float64", order="duplicates"))
    for one in (wanted, adata):
        ol.tl.ult(one, patch_size=1)
        ol.tl.ult_decode(one)
    assert adata.layers["ult_decoded"].max() == pytest.approx(100)
    np.testing.assert_array_equal(adata.layers["ult_decoded"], wanted.layers["ult_decoded"])


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32"])
@pytest.mark.parametrize("bits", [8, 10, 14])
def test_the_smallest_whole_number_of_a_dtype_keeps_its_size(dtype, bits):
    low = np.iinfo(dtype).min
    adata = ad.AnnData(np.array([[low, 5, 3, 0], [1, 2, 3, 4]], dtype=dtype))
    ol.tl.ult(adata, patch_size=None, bits=bits)
    ol.tl.ult_decode(adata)
    np.testing.assert_allclose(adata.layers["ult_decoded"][0, 0], low, rtol=1e-6)


def _two(scale=7):
    rng = np.random.default_rng(0)
    parts = [ad.AnnData(rng.poisson(3, (30, 12)) * s) for s in (1.0, scale)]
    for part, name in zip(parts, "ab", strict=True):
        part.obs_names = [f"{name}{i}" for i in range(30)]
    return parts


READERS_OF_STRINGS = ("ult_decode", "ult_quality", "ult_distances")


@pytest.mark.parametrize("verb", READERS_OF_STRINGS)
@pytest.mark.parametrize("uns_merge", ["same", "unique", "first"])
def test_strings_are_not_read_unsaid_by_the_table_of_others(verb, uns_merge):
    parts = _two()
    for part in parts:
        ol.tl.ult(part)
    joined = ad.concat(parts, uns_merge=uns_merge)
    for one in (joined, joined[30:].copy(), joined[::-1].copy()):
        if uns_merge == "first":  # the table of the first, whole
            with pytest.warns(UserWarning, match="another table is read wrong"):
                getattr(ol.tl, verb)(one)
            continue
        with pytest.raises(ValueError, match="as after joining objects"):
            getattr(ol.tl, verb)(one)
        assert not one.layers


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("how", ["same table", "copies", "subset"])
def test_strings_of_one_table_stay_readable(how):
    first, second = _two()
    ol.tl.ult(first, max_value=100)
    table = LookupTable.from_arrays(first.uns["ult"], first.uns["ult"]["params"])
    if how == "copies":
        second = first.copy()
        second.obs_names = [f"b{i}" for i in range(30)]
    ol.tl.ult(second, table=table)
    joined = ad.concat([first, second], uns_merge="first" if how == "copies" else "same")
    if how == "subset":
        joined = joined[::-2].copy()
    ol.tl.ult_decode(joined)
    ol.tl.ult_decode(second)
    apart = pd.DataFrame(second.layers["ult_decoded"], index=second.obs_names)
    if how != "copies":
        others = ~joined.obs_names.isin(first.obs_names)
        np.testing.assert_array_equal(
            joined.layers["ult_decoded"][others], apart.loc[joined.obs_names[others]]
        )
    rows = joined.obs_names.isin(first.obs_names)
    error = np.abs(joined.layers["ult_decoded"] - joined.X)[rows]
    assert error.max() < 1


@pytest.mark.parametrize("idle", [
    {"bits": 4}, {"mu": 9.0}, {"max_value": 3.0}, {"patch_size": 2}, {"offset": 40},
    {"tie_break": "reference"}, {"unknown": "max"}, {"joint": True},
])  # fmt: skip
def test_a_table_that_is_given_settles_the_arguments(idle):
    first, second = _two()
    ol.tl.ult(first)
    table = LookupTable.from_arrays(first.uns["ult"], first.uns["ult"]["params"])
    with pytest.raises(ValueError, match=f"{next(iter(idle))}= has no effect with table="):
        ol.tl.ult(second, table=table, **idle)
    assert "ult" not in second.obs


@pytest.mark.parametrize("method,idle", [
    ("series", {"text_key": "n"}), ("series", {"patches_key": "p"}), ("image", {"text_key": "n"}),
    ("text", {"layer": "x", "text_key": "n"}), ("image", {"layer": "x", "patches_key": "p"}),
])  # fmt: skip
def test_arguments_of_another_method_are_refused(method, idle):
    with pytest.raises(ValueError, match=f"{next(iter(idle))}= has no effect with method="):
        ol.tl.ult(_two()[0], method=method, **idle)
