"""The same object in another order gives the same result: rows shuffled, genes shuffled, both."""

from __future__ import annotations

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
from helpers import ATTRIBUTES, slots
from scipy import sparse
from test_contract import VERBS

import omicllm as ol

#: Verbs whose result depends on the order of observations, of genes or of both, and why. Their
#: docstrings say so.
EXEMPT = {
    "tl.sigel": ({"genes"}, "folds that weigh the axes, and batches, go by position"),
    "tl.classify_omics": ({"rows", "genes"}, "batches, folds and positions in the text"),
    "tl.spam": ({"rows", "genes"}, "batches, and weights of the network that belong to a gene"),
    "tl.few_shot": ({"rows"}, "which sequences are shown is drawn by position"),
    "tl.pattern_genes": ({"rows", "genes"}, "null patterns, and folds of an encoder fitted there"),
    "tl.personal_expression": ({"rows", "genes"}, "batches, and pairs of people are drawn"),
    "pp.augment": ({"rows", "genes"}, "values are drawn one after the other"),
    "tl.ult": ({"genes"}, "a string holds the genes in their order"),
}
#: The same for what the cases of VERBS do not do.
TRAINED = {"pp.image_features": ({"rows"}, "encoder='simclr' draws its batches")}
_AXES = {
    "obs": "o", "obsm": "o", "obsp": "oo", "var": "v", "varm": "v", "varp": "vv", "layers": "ov",
}  # fmt: skip
ORDERED = [
    v for v in VERBS
    if v.id not in ("paper", "trained") and len(EXEMPT.get(v.name, [()])[0]) < 2
]  # fmt: skip


def put_back(value, attribute: str, obs: np.ndarray, var: np.ndarray):
    """A slot of the shuffled object in the order of the first."""
    back = {"o": np.argsort(obs), "v": np.argsort(var)}
    if sparse.issparse(value):
        value = value.toarray()
    for axis, kind in enumerate(_AXES[attribute]):
        if hasattr(value, "iloc"):
            value = value.iloc[back[kind]]
        else:
            value = np.take(value, back[kind], axis=axis)
    return value


def alike(a, b, where: str) -> None:
    """Fail when two values differ beyond rounding."""
    if hasattr(a, "items") and not hasattr(a, "to_numpy"):
        assert set(a) == set(b), where
        for key in a:
            one, other = a[key], b[key]
            if key == "X_sections":  # (sections, genes, axes): checked through the embedding
                continue
            if key in ("genes", "sets"):
                one, other = (sorted(map(str, v)) for v in (one, other))
            alike(one, other, f"{where}/{key}")
        return
    if isinstance(a, pd.DataFrame):
        assert list(a.columns) == list(b.columns), where
        columns = [c for c in a.columns if a[c].dtype.kind not in "fbiu"]
        a, b = (t.sort_values(columns) if "gene" in columns else t for t in (a, b))
        for column in a.columns:
            alike(a[column].to_numpy(), b[column].to_numpy(), f"{where}/{column}")
        return
    a, b = (v.toarray() if sparse.issparse(v) else np.asarray(v) for v in (a, b))
    assert a.shape == b.shape, where
    if a.dtype.kind in "fc":
        scale = np.nanmax(np.abs(a), initial=0.0)
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4 * scale, err_msg=where)
    else:
        assert [str(v) for v in a.ravel().tolist()] == [str(v) for v in b.ravel().tolist()], where


def reordered(verb, adata, obs: np.ndarray, var: np.ndarray):
    """The object in another order, and the verb with arguments in that order."""
    kwargs = dict(verb.kwargs)
    if isinstance(kwargs.get("mask"), np.ndarray):
        kwargs["mask"] = kwargs["mask"][obs]
    if hasattr(kwargs.get("reference"), "obs_names"):
        reference = kwargs["reference"]
        at = np.random.default_rng(5).permutation(reference.n_obs)
        kwargs["reference"] = reference[at].copy()
    shuffled = adata[obs, var].copy()
    type(verb)(verb.name, kwargs=kwargs)(shuffled)
    return shuffled


@pytest.mark.parametrize("verb", [pytest.param(v, id=f"{v.name}-{v.id}") for v in ORDERED])
def test_another_order_gives_the_same_result(verb):
    adata = verb.make()
    before = slots(adata)
    rng = np.random.default_rng(3)
    obs, var = rng.permutation(adata.n_obs), rng.permutation(adata.n_vars)
    same_obs, same_var = np.arange(adata.n_obs), np.arange(adata.n_vars)
    wanted = adata.copy()
    verb(wanted)
    new = {(a, k) for a in ATTRIBUTES for k in slots(wanted)[a] - before[a]}
    matters = EXEMPT.get(verb.name, [()])[0]
    orders = {"rows": (obs, same_var), "genes": (same_obs, var)}
    for rows, genes in (pair for axis, pair in orders.items() if axis not in matters):
        out = reordered(verb, adata, rows, genes)
        for attribute, key in sorted(new):
            left, right = getattr(wanted, attribute)[key], getattr(out, attribute)[key]
            where = f"{'rows' if genes is same_var else 'genes'}: {attribute}[{key!r}]"
            if attribute == "uns":
                left, right = (
                    {k: v for k, v in u.items() if k not in ("params", "version")}
                    for u in (left, right)
                )
                alike(left, right, where)
            else:
                left = left.toarray() if sparse.issparse(left) else left
                right = put_back(right, attribute, rows, genes)
                if key.endswith(("_heldout", "_ridge")):  # a column per gene
                    left, right = (_by_gene(one, key) for one in (wanted, out))
                    right = put_back(right, attribute, rows, genes)
                alike(left, right, where)


def _by_gene(adata, key: str) -> np.ndarray:
    entry = adata.uns[key.rpartition("_")[0]]
    genes = entry["scores"]["gene"].to_numpy() if "scores" in entry else entry["genes"]
    return np.asarray(adata.obsm[key])[:, np.argsort(genes)]


@pytest.mark.parametrize("name", EXEMPT | TRAINED)
def test_docstrings_say_where_order_matters(name):
    namespace, verb = name.split(".")
    notes = getattr(getattr(ol, namespace), verb).__doc__.partition("Notes\n")[2]
    matters = (EXEMPT | TRAINED)[name][0]
    said = next(line for line in notes.split("\n\n") if "The order of" in line)
    for axis, word in (("rows", "observations"), ("genes", "genes")):
        assert (word in said) == (axis in matters)


def people(n: int = 90):
    """Expression and genotypes of people: two genes of a few causal variants each."""
    rng = np.random.default_rng(0)
    D = rng.binomial(2, 0.3, size=(n, 40)).astype(np.int8)
    Y = 20 + np.stack([D[:, :5].sum(1), D[:, 20:24].sum(1)], axis=1) + rng.normal(size=(n, 2))
    geno = ad.AnnData(sparse.csc_matrix(D))
    geno.var["pos"], geno.var["chrom"] = np.tile(np.arange(20), 2) + 1, np.repeat(["c", "d"], 20)
    geno.var["ref"], geno.var["alt"] = "A", "G"
    rna = ad.AnnData(np.hstack([Y, 10 + rng.random((n, 6))]).astype(np.float32))
    rna.var["chrom"], rna.var["tss"] = np.tile(["c", "d"], 4), 10
    rna.obs_names = geno.obs_names = [f"p{i}" for i in range(n)]
    rna.obs["split"] = np.where(np.arange(n) % 3 == 0, "test", "train")
    return rna, geno


@pytest.mark.parametrize(
    "call,key",
    [
        (lambda m: ol.tl.twas(m, model=["enet", "blup"], window=None, variants="all"), "twas"),
        (
            lambda m: ol.tl.sample_size(m, model="enet", fractions=[0.4, 1], n_draws=2, n_boot=50),
            "sample_size",
        ),
        (lambda m: ol.pp.correct_expression(m, n_pcs=2, mod="rna"), "corrected"),
    ],
    ids=["twas", "sample_size", "correct_expression"],
)
def test_people_in_another_order_in_each_modality(call, key):
    rna, geno = people()
    rng = np.random.default_rng(2)
    first, second = rng.permutation(rna.n_obs), rng.permutation(rna.n_obs)
    wanted = md.MuData({"rna": rna, "geno": geno})
    other = md.MuData({"rna": rna[first].copy(), "geno": geno[second].copy()})
    before = slots(rna)
    call(wanted)
    call(other)
    columns = np.arange(rna.n_vars)
    new = {(a, k) for a in ATTRIBUTES for k in slots(wanted["rna"])[a] - before[a]}
    assert any(k.startswith(key) or key in k for _, k in new), new
    for attribute, slot in sorted(new):
        left, right = (getattr(m["rna"], attribute)[slot] for m in (wanted, other))
        if attribute == "uns":
            left, right = (
                {k: v for k, v in u.items() if k not in ("params", "version")}
                for u in (left, right)
            )
        else:
            right = put_back(right, attribute, first, columns)
        alike(left, right, f"{attribute}[{slot!r}]")
    for slot in wanted["geno"].varm:
        alike(wanted["geno"].varm[slot], other["geno"].varm[slot], slot)
