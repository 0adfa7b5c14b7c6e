"""`tl.spatial_domains`: planted domains, sections, chosen genes, bad input."""

from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pytest
from helpers import same_object
from scipy import sparse

import omicllm as ol
from omicllm.metrics import ari


def planted(side: int = 20, seed: int = 0, depth: float = 3.0, shift: int = 0):
    """Three bands on a square lattice, 60 genes, spots of unequal depth."""
    rng = np.random.default_rng(seed)
    row, col = np.divmod(np.arange(side * side), side)
    band = ((col + shift) * 3 // side) % 3
    profile = np.random.default_rng(1).gamma(2.0, 0.5, size=(3, 60))
    spread = rng.uniform(0.3, 2.0, side * side)
    counts = rng.poisson(depth * spread[:, None] * profile[band])
    adata = ad.AnnData(sparse.csr_matrix(counts.astype(np.float32)))
    adata.obs_names = [f"s{i}" for i in range(side * side)]
    adata.var_names = [f"G{i}" for i in range(60)]
    adata.obsm["spatial"] = np.stack([col, row], axis=1) * 100.0
    adata.obs["band"] = band.astype(str)
    return adata


def test_planted_bands_are_found():
    adata = planted(depth=0.3)
    ol.tl.spatial_domains(adata, n_domains=3, n_starts=3)
    domain = adata.obs["spatial_domain"]
    found = ari(adata.obs["band"], domain)
    assert found > 0.8
    assert list(domain.cat.categories) == ["0", "1", "2"]
    sizes = domain.value_counts(sort=False)
    assert list(sizes) == sorted(sizes, reverse=True)
    confidence = adata.obs["spatial_domain_confidence"]
    assert confidence.between(0, 1).all() and confidence.mean() > 0.8
    entry = adata.uns["spatial_domain"]
    assert list(entry["dims"]) == [15, 15, 30, 30] and entry["gene_source"] == "all"
    np.testing.assert_allclose(entry["amounts"][1], 2 * entry["amounts"][0])
    # Smoothing is what does it: without a graph to speak of, spots of this depth are mixed up.
    lone = planted(depth=0.3)
    one_edge = sparse.csr_matrix(([1.0, 1.0], ([0, 1], [1, 0])), shape=(400, 400))
    lone.obsp["spatial_connectivities"] = one_edge
    ol.tl.spatial_domains(lone, n_domains=3, n_starts=3)
    assert ari(lone.obs["band"], lone.obs["spatial_domain"]) < found - 0.15


def test_other_seeds_agree():
    adata = planted()
    found = []
    for seed in (0, 1):
        ol.tl.spatial_domains(adata, n_domains=3, n_starts=2, rng=seed)
        found.append(adata.obs["spatial_domain"].astype(str))
    assert ari(*found) > 0.95


def test_spots_without_counts_go_with_their_neighbours():
    adata = planted()
    X = adata.X.toarray()
    X[[45, 150, 271]] = 0
    adata.X = sparse.csr_matrix(X)
    ol.tl.spatial_domains(adata, n_domains=3, n_starts=2)
    assert ari(adata.obs["band"], adata.obs["spatial_domain"]) > 0.95


def test_sections_share_domains_and_no_edge():
    parts = {"a": planted(14, 0), "b": planted(14, 1)}
    adata = ad.concat(parts, label="slide", index_unique="-")
    factor = np.random.default_rng(2).uniform(0.5, 2, 60)  # a batch effect on every gene
    X = adata.X.toarray()
    X[196:] = np.random.default_rng(3).poisson(X[196:] * factor)
    adata.X = sparse.csr_matrix(X.astype(np.float32))
    ol.tl.spatial_domains(adata, n_domains=3, batch_key="slide", n_starts=2)
    assert ari(adata.obs["band"], adata.obs["spatial_domain"]) > 0.9
    # A graph that crosses sections gives the same: those edges are not used.
    crossing = sparse.lil_matrix((392, 392))
    own = adata.copy()
    ol.tl.spatial_domains(adata, n_domains=3, batch_key="slide", n_starts=1, key_added="plain")
    from omicllm.tl._graph import spatial_graph

    graph = spatial_graph(own, "spatial_connectivities", batch_key="slide")
    crossing[:196, 196:] = 1.0
    own.obsp["spatial_connectivities"] = sparse.csr_matrix(graph + crossing)
    ol.tl.spatial_domains(own, n_domains=3, batch_key="slide", n_starts=1, key_added="plain")
    assert own.obs["plain"].equals(adata.obs["plain"])


def test_given_components():
    adata = planted()
    rng = np.random.default_rng(0)
    P = np.eye(3)[adata.obs["band"].astype(int)] + 0.5 * rng.normal(size=(400, 3))
    adata.obsm["X_mine"] = P
    del adata.X
    ol.tl.spatial_domains(adata, n_domains=3, use_rep="X_mine", n_starts=2)
    assert ari(adata.obs["band"], adata.obs["spatial_domain"]) > 0.95
    assert "genes" not in adata.uns["spatial_domain"]
    assert list(adata.uns["spatial_domain"]["dims"]) == [3, 3]
    P[7, 1] = np.nan
    adata.obsm["X_mine"] = P
    with pytest.raises(ValueError, match="'X_mine'.* NaN or infinite values in 1 rows"):
        ol.tl.spatial_domains(adata, n_domains=3, use_rep="X_mine")
    adata.obsm["X_mine"] = np.ones((400, 2))
    with pytest.raises(ValueError, match="the same in all observations"):
        ol.tl.spatial_domains(adata, n_domains=3, use_rep="X_mine")
    with pytest.raises(KeyError, match=r"'X_pca' is not in adata.obsm .*use_rep="):
        ol.tl.spatial_domains(adata, n_domains=3, use_rep="X_pca")
    with pytest.raises(ValueError, match="use_rep= replaces genes"):
        ol.tl.spatial_domains(adata, n_domains=3, use_rep="X_mine", genes=["G1", "G2"])


def test_genes_by_name_by_columns_and_by_score():
    adata = planted()
    noise = np.random.default_rng(0).poisson(1.0, size=(400, 60)).astype(np.float32)
    wide = ad.AnnData(
        sparse.csr_matrix(np.hstack([adata.X.toarray(), noise])), obs=adata.obs, obsm=adata.obsm
    )
    wide.var_names = [f"G{i}" for i in range(120)]
    ol.tl.spatial_domains(wide, n_domains=3, n_genes=40, n_starts=2)
    entry = wide.uns["spatial_domain"]
    number = np.array([int(g[1:]) for g in entry["genes"]])
    assert entry["gene_source"] == "builtin" and 40 <= len(number) <= 60
    assert (number < 60).mean() > 0.65, "patterned genes are chosen"
    ol.tl.spatial_domains(wide, n_domains=3, genes=["G7", "G3", "G50"], n_starts=1)
    assert list(wide.uns["spatial_domain"]["genes"]) == ["G3", "G7", "G50"]
    assert wide.uns["spatial_domain"]["gene_source"] == "genes"
    with pytest.raises(KeyError, match="G999"):
        ol.tl.spatial_domains(wide, n_domains=3, genes=["G3", "G999"])
    wide.var["sigel_cluster"] = np.repeat(["x", "y"], 60)
    wide.var["sigel_svg_score"] = np.concatenate([np.arange(60), np.arange(60)]).astype(float)
    ol.tl.spatial_domains(wide, n_domains=3, n_genes=20, n_starts=1)
    entry = wide.uns["spatial_domain"]
    assert entry["gene_source"] == "sigel_cluster and sigel_svg_score"
    wanted = {f"G{i}" for i in [*range(50, 60), *range(110, 120)]}
    assert set(entry["genes"]) == wanted, "by name, best of each cluster"
    shuffled = wide[:, np.random.default_rng(0).permutation(120)].copy()
    ol.tl.spatial_domains(shuffled, n_domains=3, n_genes=20, n_starts=1)
    assert set(shuffled.uns["spatial_domain"]["genes"]) == wanted
    with pytest.raises(KeyError, match=r"'mine_cluster' is not in adata.var .*ol.tl.sigel"):
        ol.tl.spatial_domains(wide, n_domains=3, gene_key="mine")


def test_normalised_values():
    import scanpy as sc

    adata = planted()
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    untouched = adata.copy()
    with pytest.raises(ValueError, match="not whole numbers.*layer=.*input='values'"):
        ol.tl.spatial_domains(adata, n_domains=3)
    same_object(adata, untouched)
    ol.tl.spatial_domains(adata, n_domains=3, input="values", n_starts=2)
    assert ari(adata.obs["band"], adata.obs["spatial_domain"]) > 0.95


def test_as_many_domains_as_asked_for_or_a_warning(caplog):
    adata = planted(10)
    ol.tl.spatial_domains(adata, n_domains=9, n_starts=2)
    assert adata.obs["spatial_domain"].nunique() == 9
    # Two distinct profiles cannot make five domains.
    adata.obsm["two"] = np.repeat([[0.0, 0.0], [1.0, 1.0]], 50, axis=0)
    adata.obsp["none"] = sparse.csr_matrix(([1.0, 1.0], ([0, 1], [1, 0])), shape=(100, 100))
    with caplog.at_level(logging.WARNING, "omicllm"):
        ol.tl.spatial_domains(
            adata, n_domains=5, use_rep="two", connectivity_key="none", n_starts=2
        )
    found = adata.obs["spatial_domain"].nunique()
    assert found < 5 and f"{found} domains were found instead of 5" in caplog.text


BAD = {
    "n_domains must be a whole number of at least 2": {"n_domains": 1},
    "n_domains=401 is more than the 400 observations": {"n_domains": 401},
    "n_starts must be a whole number": {"n_starts": 0},
    "dims and factors need one value": {"dims": ()},
    "factors must be positive": {"factors": (1.0, -1.0)},
    "method must be one of 'builtin', 'spagcn'": {"method": "leiden"},
    "input must be one of": {"input": "log"},
    "cross_check must be one of 'mclust'": {"cross_check": "sklearn"},
    "cross_check= belongs to method='builtin'": {"method": "spagcn", "cross_check": "mclust"},
    "use_rep= replaces genes": {"method": "spagcn", "use_rep": "spatial"},
}
ABSENT = {
    "'counts' is not in adata.layers": {"layer": "counts"},
    "'slide' is not in adata.obs": {"batch_key": "slide"},
    "'xy' is not in adata.obsm": {"spatial_key": "xy"},
    "'graph' is not in adata.obsp": {"connectivity_key": "graph"},
}


@pytest.mark.parametrize("message", [*BAD, *ABSENT])
def test_bad_input(message):
    adata = planted()
    untouched = adata.copy()
    error = ValueError if message in BAD else KeyError
    with pytest.raises(error, match=message):
        ol.tl.spatial_domains(adata, **({"n_domains": 3} | (BAD | ABSENT)[message]))
    same_object(adata, untouched)


def test_bad_data():
    with pytest.raises(ValueError, match="at least 20 observations; there are 19"):
        ol.tl.spatial_domains(planted()[:19].copy(), n_domains=2)
    adata = planted()
    adata.X.data[5] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite values in 1 of 60 genes"):
        ol.tl.spatial_domains(adata, n_domains=3)
    adata = planted()
    adata.obsm["spatial"][3, 0] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite coordinates"):
        ol.tl.spatial_domains(adata, n_domains=3)
    adata = planted()
    adata.X = sparse.csr_matrix((400, 60), dtype=np.float32)
    with pytest.raises(ValueError, match="no counts"):
        ol.tl.spatial_domains(adata, n_domains=3)
    adata.X = sparse.csr_matrix(np.ones((400, 60), dtype=np.float32))
    with pytest.raises(ValueError, match="0 genes vary"):
        ol.tl.spatial_domains(adata, n_domains=3)
    for weights, message in ((-1.0, "negative, NaN"), (np.nan, "negative, NaN"), (0.0, "no edges")):
        adata = planted()
        adata.obsp["spatial_connectivities"] = sparse.csr_matrix(
            ([weights, weights], ([0, 1], [1, 0])), shape=(400, 400)
        )
        with pytest.raises(ValueError, match=message):
            ol.tl.spatial_domains(adata, n_domains=3)


@pytest.mark.parametrize("name,key,k,least", [("starmap_mpfc_bz5", "domain", 4, 0.87)])
def test_real_cortex(data_dir, name, key, k, least):
    adata = ad.read_h5ad(data_dir / "tissue" / f"{name}.h5ad")
    ol.tl.spatial_domains(adata, n_domains=k)
    assert ari(adata.obs[key], adata.obs["spatial_domain"]) > least
