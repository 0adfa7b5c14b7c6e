"""The same object in another order gives the same result: rows shuffled, genes shuffled, both."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers import ATTRIBUTES, slots
from scipy import sparse
from test_contract import VERBS

#: Verbs that work in the order of names.
_NAMED = {"tl.spatial_domains", "tl.impute_genes", "tl.gene_functions", "tl.gene_interactions"}
_NAMED |= {"pp.split"}
_AXES = {
    "obs": "o", "obsm": "o", "obsp": "oo", "var": "v", "varm": "v", "varp": "vv", "layers": "ov",
}  # fmt: skip
ORDERED = [v for v in VERBS if v.name in _NAMED]


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
    for rows, genes in ((obs, same_var), (same_obs, var)):
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
