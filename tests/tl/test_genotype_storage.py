"""Genotypes and expression in any storage: the same results, and nothing changes."""

from __future__ import annotations

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
from helpers import same, slots
from made_people import cohort
from made_storage import dressed, of_object, unchanged
from scipy import sparse

import omicllm as ol

#: What is given to X and to each layer of the genotypes: format, dtype, and how it is stored.
CLOTHES = [
    ("csc", "int8", {"order": "unsorted"}),
    ("csc_array", "int8", {"order": "both", "zeros": True}),
    ("csr", "float64", {"order": "duplicates", "read_only": True}),
    ("csr_array", "int64", {"order": "unsorted", "read_only": True}),
    ("F", "int32", {"read_only": True}),
]


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A cohort with missing alleles, effects and predictions, and its genome."""
    mdata, genome = cohort(tmp_path_factory.mktemp("people"))
    rng = np.random.default_rng(1)
    geno, rna = mdata["geno"], mdata["rna"]
    hap = [geno.layers[h].toarray() for h in ("hap1", "hap2")]
    lost = rng.random(hap[0].shape) < 0.05
    for one in hap:
        one[lost] = -1
    hap[1][rng.random(hap[0].shape) < 0.02] = -1
    geno.X = sparse.csc_matrix((hap[0] > 0).astype(np.int8) + (hap[1] > 0))
    geno.layers["hap1"], geno.layers["hap2"] = map(sparse.csc_matrix, hap)
    W = np.where(rng.random((60, 3)) < 0.4, rng.normal(size=(60, 3)), 0).astype(np.float32)
    geno.varm["variant_effects"] = sparse.csr_matrix(W)
    geno.uns["variant_effects"] = {"genes": np.array(list("PQR"), dtype=object)}
    rna.layers["personal_pair_regression"] = (geno.X @ W).astype(np.float32)
    return mdata, genome


def results(mdata, before):
    """What a call has added to each modality, without parameters."""
    out = {}
    for mod in mdata.mod:
        for attribute, keys in slots(mdata[mod]).items():
            for key in keys - before[mod][attribute]:
                value = getattr(mdata[mod], attribute)[key]
                if attribute == "uns":
                    value = {k: v for k, v in value.items() if k != "params"}
                out[f"{mod} {attribute} {key}"] = value
    return out


REGIONS = pd.DataFrame({"chrom": "c", "start": np.arange(150, 700, 40)})
REGIONS["end"] = REGIONS["start"] + 15
VERBS = {
    "twas": {"model": ["top1", "blup", "enet"], "window": 200},
    "twas haploid": {"model": "top1", "window": 200, "haploid": "single"},
    "sample_size": {"model": "top1", "fractions": [0.9, 1], "n_draws": 1, "n_boot": 10},
    "variant_drivers": {},
    "linearize": {"prediction": "personal_pair_regression"},
    "variant_enrichment": {"bed": REGIONS, "window": 400, "distance_bin": 100, "n_af_bins": 1},
}


@pytest.mark.parametrize("verb", VERBS)
def test_genotypes_in_any_storage(verb, people):
    given = people[0]
    before = {m: slots(given[m]) for m in given.mod}

    def call(mdata):
        out = getattr(ol.tl, verb.split()[0])(mdata, copy=True, **VERBS[verb])
        return results(out, before)

    wanted = call(given)
    assert wanted
    for form, dtype, more in CLOTHES:
        mdata = md.MuData({m: given[m].copy() for m in given.mod})
        geno = mdata["geno"]
        geno.X = dressed(geno.X, form, dtype, **more)
        for h in ("hap1", "hap2"):
            geno.layers[h] = dressed(geno.layers[h], form, dtype, **more)
        real = dtype if dtype.startswith("float") else "float32"
        geno.varm["variant_effects"] = dressed(geno.varm["variant_effects"], form, real, **more)
        rna = mdata["rna"]
        rna.X = dressed(rna.X, form, "float64", **more)
        key = "personal_pair_regression"
        rna.layers[key] = dressed(rna.layers[key], form, "float64", **more)
        table = of_object(rna), of_object(geno)
        for _ in range(2):
            found = call(mdata)
            assert set(found) == set(wanted)
            for name, value in wanted.items():
                assert same(found[name], value), (name, form, dtype, more)
            unchanged(table[0], of_object(rna))
            unchanged(table[1], of_object(geno))


def test_haplotypes_of_genotypes_in_any_storage(people):
    given, genome = people
    windows = pd.DataFrame(
        {"chrom": "c", "start": [180, 380], "end": [260, 460], "strand": ["+", "-"]},
        index=["x", "y"],
    )
    wanted = ol.pp.haplotypes(given["geno"], genome=genome, windows=windows)
    for form, dtype, more in CLOTHES[:-1]:
        geno = given["geno"].copy()
        for h in ("hap1", "hap2"):
            geno.layers[h] = dressed(geno.layers[h], form, dtype, **more)
        before = of_object(geno)
        found = ol.pp.haplotypes(geno, genome=genome, windows=windows)
        for window in ("x", "y"):
            for left, right in zip(found[window], wanted[window], strict=True):
                np.testing.assert_array_equal(left, right)
        unchanged(before, of_object(geno))


def test_dense_haplotypes_are_read(people):
    given, genome = people
    windows = pd.DataFrame({"chrom": "c", "start": [180], "end": [260]}, index=["x"])
    wanted = ol.pp.haplotypes(given["geno"], genome=genome, windows=windows)["x"]
    geno = given["geno"].copy()
    for h in ("hap1", "hap2"):
        geno.layers[h] = dressed(geno.layers[h], "C", "int64")
    found = ol.pp.haplotypes(geno, genome=genome, windows=windows)["x"]
    for left, right in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("factor", [1e30, 1j])
def test_genotypes_and_expression_that_cannot_be_used(people, factor):
    for mod in ("rna", "geno"):
        mdata = md.MuData({m: people[0][m].copy() for m in people[0].mod})
        X = mdata[mod].X
        mdata[mod].X = (X.toarray() if sparse.issparse(X) else X) * factor
        before = {m: of_object(mdata[m]) for m in mdata.mod}
        kind = (TypeError, "real numbers") if factor == 1j else (ValueError, "overflow")
        with pytest.raises(kind[0], match=kind[1]):
            ol.tl.twas(mdata, model="top1", window=200)
        for m in mdata.mod:
            assert before[m] == of_object(mdata[m])


def test_correlations_do_not_fall_on_a_second_call(people):
    """The published case: people in another order than the file, genotypes of small integers."""
    mdata = people[0]
    order = np.random.default_rng(0).permutation(mdata.n_obs)
    one = ad.AnnData(mdata["geno"].X[order], mdata["geno"].obs.iloc[order], mdata["geno"].var)
    one.X = dressed(one.X, "csc", "int8", order="unsorted")
    two = md.MuData(
        {"rna": mdata["rna"][order].copy(), "geno": ad.AnnData(one.X, one.obs, one.var)}
    )
    kept = two["geno"].X.toarray()
    r = []
    for _ in range(2):
        ol.tl.twas(two, model="top1", window=200)
        r.append(two["rna"].var["twas_top1_pearson"].tolist())
    assert r[0] == r[1] and np.array_equal(two["geno"].X.toarray(), kept)
