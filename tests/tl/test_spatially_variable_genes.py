"""`tl.spatially_variable_genes`: against scanpy in all storages, under chance, sections, errors."""

from __future__ import annotations

import logging

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import make_tiny
from helpers import only_declared_written, round_trip, same_object, slots
from scipy import sparse, stats

import omicllm as ol

COLUMNS = [f"svg_{c}" for c in ("score", "pval", "qval", "rank")]


def scored(adata, **more):
    ol.tl.spatially_variable_genes(adata, **more)
    root = more.get("key_added") or more.get("method", "sigel")
    return adata.var[[f"{root}_{c}" for c in COLUMNS]].to_numpy()


def uniform(p) -> float:
    return stats.kstest(p[np.isfinite(p)], "uniform").pvalue


@pytest.fixture
def logged(tiny):
    import scanpy as sc

    tiny.layers["counts"] = tiny.X.copy()
    sc.pp.log1p(tiny)
    return tiny


@pytest.mark.parametrize(
    "how",
    ["csr", "csc", "dense", "float64", "backed csr", "backed csc", "backed dense", "dask csr",
     "dask csc", "dask dense"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:2 variables were constant", "ignore:Calling")
def test_moran_equals_scanpy_and_the_formula_in_every_storage(logged, how, tmp_path):
    import scanpy as sc
    import squidpy as sq

    sq.gr.spatial_neighbors(logged, coord_type="grid", n_neighs=6)
    X, W = sparse.csr_matrix(logged.X), logged.obsp["spatial_connectivities"]
    assert X.dtype == np.float32
    seen = ~np.isin(np.arange(40), [3, 4])  # the others are zero everywhere
    wanted = sc.metrics.morans_i(W, X.T.tocsr())[seen]
    z = X.toarray()[:, seen].astype(np.float64)
    z -= z.mean(axis=0)
    formula = (
        120 / float(W.sum()) * np.einsum("ig,ij,jg->g", z, W.toarray(), z) / (z**2).sum(axis=0)
    )
    np.testing.assert_allclose(formula, wanted, rtol=1e-10)
    kind = how.split()[-1]
    if kind == "dense":
        logged.X = X.toarray()
    else:
        logged.X = X.astype(np.float64) if kind == "float64" else X.asformat(kind)
    adata = logged
    if len(how.split()) > 1:
        logged.write_h5ad(tmp_path / "a.h5ad")
        if how.startswith("backed"):
            adata = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
        else:
            adata.X = ad.experimental.read_lazy(tmp_path / "a.h5ad").X
    out = scored(adata, method="moran")
    np.testing.assert_allclose(out[seen, 0], formula, rtol=1e-10)
    assert np.isnan(out[3:5, :3]).all() and set(out[3:5, 3]) == {39, 40}
    assert sorted(out[:, 3]) == list(range(1, 41))


@pytest.mark.parametrize("method", ["sigel", "moran"])
def test_writes_what_it_says(tiny, method, tmp_path):
    before = slots(tiny)
    out = scored(tiny, method=method, **({"n_null": 20} if method == "sigel" else {}))
    only_declared_written(before, tiny, "tl.spatially_variable_genes", key_added=method)
    round_trip(tiny, tmp_path)
    frame = ol.get.svg_df(tiny, key=method)
    assert list(frame.columns) == ["score", "pval", "qval", "rank"]
    assert (
        frame["rank"].tolist() == list(range(1, 41))
        and frame["pval"].dropna().is_monotonic_increasing
    )
    assert (
        set(frame.index[-2:]) == {"Gene3", "Gene4"}
        and len(ol.get.svg_df(tiny, key=method, n_top=7)) == 7
    )
    assert (ol.get.svg_df(tiny, key=method, max_qval=0.05)["qval"] <= 0.05).all()
    assert np.nanmax(out[:, 2]) <= 1 and (out[:, 2] >= out[:, 1])[np.isfinite(out[:, 1])].all()
    figure = ol.pl.svg(tiny, key=method, n_genes=5)
    drawn = [a for a in figure.axes if a.get_title()]
    assert [a.get_title().split("\n")[0] for a in drawn] == list(frame.index[:5])
    plt.close("all")


def with_chance(n_genes: int, seed: int = 0):
    """Planted genes, and as many whose counts follow nothing but the depth of spots."""
    adata = make_tiny(n_genes, seed=seed)
    rng = np.random.default_rng(seed)
    share = np.asarray(adata.X.sum(axis=1)).ravel()
    share = share / share.sum()
    rate = rng.uniform(60, 1500, n_genes)[None] * share[:, None]
    chance = rng.poisson(rate * rng.gamma(3.0, 1 / 3.0, rate.shape)).astype(np.float32)
    out = ad.AnnData(sparse.hstack([adata.X, sparse.csr_matrix(chance)]).tocsr(), obs=adata.obs)
    out.obsm["spatial"] = adata.obsm["spatial"]
    return out


@pytest.mark.parametrize("null", ["zinb", "permuted"])
def test_sigel_finds_patterns_and_is_calibrated(null):
    adata = with_chance(400)
    X = adata.X.toarray()
    if null == "permuted":  # genes that ignore depth have no pattern either
        rng = np.random.default_rng(1)
        X[:, 400:] = rng.permuted(X[:, 400:], axis=0)
        adata.X = sparse.csr_matrix(X)
    p = scored(adata, null=null)[:, 1]
    assert adata.uns["sigel_svg"]["n_axes"].min() >= 1
    if null == "zinb":
        assert np.nanmedian(p[:400]) < 1e-3
    assert uniform(p[400:]) > 0.01 and (p[400:] < 0.001).mean() < 0.01
    score = adata.var["sigel_svg_score"].to_numpy()
    assert abs(np.mean(score[400:])) < 0.2 and np.nanmedian(score[:400]) > 0.5


def at_random_places(adata, seed: int):
    order = np.random.default_rng(seed).permutation(adata.n_obs)
    adata.obsm["spatial"] = adata.obsm["spatial"][order]
    for name in {"array_x", "array_y", "array_row", "array_col"} & set(adata.obs):
        adata.obs[name] = adata.obs[name].to_numpy()[order]


@pytest.mark.parametrize("method", ["sigel", "moran"])
@pytest.mark.parametrize("name", ["mob_rep11_layers", "visium_mouse_embryo"])
def test_uniform_when_coordinates_are_permuted(name, method, data_dir):
    adata = ad.read_h5ad(data_dir / "tissue" / f"{name}.h5ad")
    X = adata.X
    enough = (X > 0).sum(axis=0) >= 28 if adata.n_obs < 500 else X.sum(axis=0) >= 100
    adata = adata[:, np.asarray(enough).ravel()]
    adata = adata[:, np.random.default_rng(0).permutation(adata.n_vars)[:2000]].copy()
    at_random_places(adata, 1)
    if method == "moran":
        import scanpy as sc

        sc.pp.normalize_total(adata)
        sc.pp.log1p(adata)
    out = scored(adata, method=method)
    assert uniform(out[:, 1]) > 0.01 and (out[:, 2] < 0.05).sum() <= 2


def test_right_on_average_over_permutations(mob):
    # Genes of one section move together, so shares vary by more than chance between permutations.
    shares = []
    for seed in range(8):
        at_random_places(mob, seed)
        shares.append([(scored(mob, method="moran")[:, 1] < a).mean() for a in (0.5, 0.1, 0.01)])
    found = np.mean(shares, axis=0)
    error = np.std(shares, axis=0) / np.sqrt(len(shares))
    assert (np.abs(found - [0.5, 0.1, 0.01]) < 4 * error + 0.003).all()


def test_sigel_beats_moran_on_the_olfactory_bulb(data_dir):
    import scanpy as sc

    from omicllm.stats.scores import auroc

    adata = ad.read_h5ad(data_dir / "tissue" / "mob_rep11_layers.h5ad")
    truth = (adata.var["spark_adj_pval"] < 0.05).to_numpy()
    assert truth.sum() == 772
    score = scored(adata)[:, 0]
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    moran = scored(adata, method="moran")[:, 0]
    found = {k: auroc(np.nan_to_num(v, nan=-9.0), truth) for k, v in (("s", score), ("m", moran))}
    assert found["s"] >= max(found["m"], 0.97)


def test_sections_never_meet():
    first, second = make_tiny(), make_tiny(seed=1)
    second.X = second.X * 9.0  # a difference between sections is no pattern
    rng = np.random.default_rng(0)
    for adata in (first, second):
        X = adata.X.toarray()
        X[:, 20:] = rng.permuted(X[:, 20:], axis=0)
        adata.X = sparse.csr_matrix(X)
    two = ad.concat({"a": first, "b": second}, label="slide", index_unique="-")
    out = scored(two, method="moran", batch_key="slide")
    parts = [scored(a, method="moran")[:, 0] for a in (first, second)]
    np.testing.assert_allclose(out[:, 0], np.mean(parts, axis=0), rtol=1e-9)
    assert (out[20:, 2] < 0.05).sum() <= 1 and np.nanmedian(out[:20, 1]) < 1e-6
    shown = scored(two, batch_key="slide", n_null=20)
    assert np.nanmedian(shown[:20, 1]) < 0.01
    figure = ol.pl.svg(two, n_genes=2, section="b")
    assert figure.get_suptitle() == "b"
    plt.close("all")


def test_sections_must_be_told_apart():
    """Spots of two sections at the same places: neighbours only within each."""
    first, second = make_tiny(), make_tiny(seed=1)
    two = ad.concat({"a": first, "b": second}, label="slide", index_unique="-")
    kept = scored(two, method="moran", batch_key="slide")
    second.obsm["spatial"] = second.obsm["spatial"] + 1e5
    far = ad.concat({"a": first, "b": second}, label="slide", index_unique="-")
    np.testing.assert_allclose(kept, scored(far, method="moran", batch_key="slide"))


def test_same_numbers_for_any_number_of_threads(tiny):
    for call in ({"method": "sigel", "n_null": 20}, {"method": "moran"}):
        np.testing.assert_array_equal(scored(tiny, **call), scored(tiny, **call, n_jobs=3))


def test_values_that_are_no_counts(logged):
    out = scored(logged, input="values", n_null=20)
    assert logged.uns["sigel_svg"]["params"]["null"] == "permuted"
    assert np.isfinite(out[5:, 1]).all() and np.nanmedian(out[:, 1]) < 0.05


def test_a_layer_is_scored_and_drawn(logged):
    wanted = scored(logged, method="moran")
    logged.layers["logs"], logged.X = logged.X, logged.layers["counts"]
    out = scored(logged, method="moran", layer="logs", key_added="mine")
    np.testing.assert_array_equal(out, wanted)
    figure = ol.pl.svg(logged, key="mine", n_genes=1)
    best = ol.get.svg_df(logged, key="mine", n_top=1).index[0]
    image = np.nanmax(figure.axes[0].images[0].get_array() if figure.axes[0].images else
                      figure.axes[0].collections[0].get_array())  # fmt: skip
    assert image == pytest.approx(logged[:, best].layers["logs"].max())
    assert figure.axes[-1].get_ylabel() == "", "values as they are"
    scored(logged, n_null=20)
    assert ol.pl.svg(logged, n_genes=1).axes[-1].get_ylabel() == "log(1 + count)"
    plt.close("all")


def test_squidpy_keeps_quiet(tiny, recwarn):
    told = logging.getLogger("spatialdata._logging")
    records, level = [], told.level
    handler = logging.Handler()
    handler.emit = records.append
    told.addHandler(handler)
    try:
        scored(tiny, method="moran")
    finally:
        told.removeHandler(handler)
    assert not records and told.level == level
    assert not [w for w in recwarn if "docrep" in str(w.filename) or "squidpy" in str(w.message)]


@pytest.mark.parametrize(
    "asked,error,message",
    [
        ({"method": "spark"}, ValueError, "method must be one of 'sigel', 'moran'"),
        ({"n_null": 3}, ValueError, "n_null must be a whole number of at least 10"),
        ({"n_jobs": 0}, ValueError, "n_jobs must be"),
        ({"null": "normal"}, ValueError, "null must be one of"),
        ({"null": "zinb", "input": "values"}, ValueError, "null='zinb' draws counts"),
        ({"layer": "none"}, KeyError, "'none' is not in adata.layers"),
        ({"connectivity_key": "mine"}, KeyError, "'mine' is not in adata.obsp.*spatial_neighbors"),
        ({"spatial_key": "xy"}, KeyError, "'xy' is not in adata.obsm"),
        ({"batch_key": "slide"}, KeyError, "'slide' is not in adata.obs"),
        ({"layer": "half"}, ValueError, "not whole numbers"),
        ({"layer": "nan"}, ValueError, "NaN or infinite"),
        ({"layer": "nan", "method": "moran"}, ValueError, "NaN or infinite.*'Gene7'"),
    ],
)
def test_bad_input(tiny, asked, error, message):
    tiny.layers["half"] = tiny.X * 0.3
    tiny.layers["nan"] = tiny.X.toarray()
    tiny.layers["nan"][2, 7] = np.nan
    before = tiny.copy()
    with pytest.raises(error, match=message):
        ol.tl.spatially_variable_genes(tiny, **asked)
    same_object(tiny, before)


def test_nothing_to_score(tiny):
    tiny.obsp["none"] = sparse.csr_matrix((120, 120))
    alone = tiny[:, [3, 4, 5]].copy()
    for method in ("moran", "sigel"):
        before = tiny.copy()
        with pytest.raises(ValueError, match="no edges"):
            ol.tl.spatially_variable_genes(tiny, method=method, connectivity_key="none")
        same_object(tiny, before)
    with pytest.raises(ValueError, match="At least two genes with counts are needed; there are 1"):
        ol.tl.spatially_variable_genes(alone)
    with pytest.raises(ValueError, match="more than 6 observations; there are 5"):
        ol.tl.spatially_variable_genes(tiny[:5].copy(), method="moran")
    ol.tl.spatially_variable_genes(alone[:, :2].copy(), method="moran")
    assert np.isnan(scored(alone[:, :2].copy(), method="moran")[:, :3]).all()


def test_results_that_are_not_there(tiny):
    with pytest.raises(KeyError, match="Make it with ol.tl.spatially_variable_genes"):
        ol.get.svg_df(tiny)
    with pytest.raises(KeyError, match="Make it with ol.tl.spatially_variable_genes"):
        ol.pl.svg(tiny)
    scored(tiny, method="moran")
    with pytest.raises(ValueError, match="max_qval"):
        ol.get.svg_df(tiny, key="moran", max_qval=2.0)
    with pytest.raises(KeyError, match="'b' is not in the sections"):
        ol.pl.svg(tiny, key="moran", section="b")
