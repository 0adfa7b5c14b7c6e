"""`omicllm.tl.gene_views`: several views of the same genes, compared and joined."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from omicllm._core import checks, docs, inputs, results
from omicllm._core import rng as rngs
from omicllm._core.log import logger, progress
from omicllm.stats.gene_views import ViewOptions, compare_views
from omicllm.stats.scores import benjamini_hochberg
from omicllm.stats.view_axes import present
from omicllm.tl._gene_neighbors import gene_graph

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

#: Fewest genes with all views that folds and canonical axes can be judged with.
_FEWEST_GENES = 30


@docs.fill()
def gene_views(
    adata: AnnData | MuData,
    *,
    views: Sequence[str],
    method: Literal["cca", "procrustes"] = "cca",
    n_axes: int = 20,
    n_components: int = 50,
    regularization: float = 0.1,
    groupby: str | None = None,
    n_folds: int = 5,
    n_permutations: int = 200,
    n_neighbors: int = 15,
    rng: int | np.random.Generator | None = 0,
    show_progress: bool | None = None,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Compare several embeddings of the same genes, and join them on common axes.

    A view is an entry of `varm`: what genes look like in tissue (``"X_sigel"``), what their
    sequence says (``"X_enformer"``, ``"X_genemask"``), or any other. Views are put on common axes
    (regularised generalised CCA, or orthogonal Procrustes); every pair is asked how well one
    predicts the other on genes that were left out, with a permutation null; and every gene how
    many of its neighbours the views agree on.

    Parameters
    ----------
    {adata}
    views
        Two or more entries of `varm`. A gene whose vector is zero or holds NaN lacks that view;
        genes with all views are shared, and only they are fitted and tested.
    method
        ``"cca"`` or ``"procrustes"``: how views are put on common axes. CCA stretches axes to
        find what is shared, Procrustes only turns each view as a whole.
    n_axes
        Common axes, at most as many as the narrowest view has.
    n_components
        Principal axes of each view that are used.
    regularization
        Ridge penalty of CCA in units of the mean variance of a view's axes.
    groupby
        Column of `var` with groups of genes that are no independent evidence, such as families of
        paralogues or chromosomes: a group is never split over folds, changes place as a whole in
        the null, and its genes are not counted as each other's neighbours. Genes without a value
        stand alone.
    n_folds
        Folds of genes.
    n_permutations
        Permutations behind the p values.
    n_neighbors
        Neighbours of a gene.
    {rng}
    {show_progress}
    {mod}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.varm["X_joint"]`` : float32 (n_vars, n_axes)
        Joint position of each gene, from the views it has; zero for genes without any.
    ``adata.varm["X_joint_views"]`` : float32 (n_vars, n_views, n_axes)
        The views on the common axes, in the order of `views`; NaN where a gene lacks one.
    ``adata.varp["joint_connectivities"]``, ``adata.varp["joint_distances"]`` : csr float32
        Graph of nearest genes in the joint embedding, as :func:`gene_neighbors` makes it.
    ``adata.var["joint_n_views"]`` : int64
        Views that the gene has.
    ``adata.var["joint_agreement"]`` : float32
        Share of its neighbours that two views agree on (mean over pairs of views); NaN for genes
        that are not shared.
    ``adata.var["joint_pval"]``, ``adata.var["joint_qval"]`` : float32
        p value against lists of neighbours drawn at random, with `groupby` no smaller than that
        against all genes of the permutations; and false discovery rate (Benjamini-Hochberg).
    ``adata.uns["joint"]``
        ``views``, ``n_genes`` of each, ``n_shared``; ``agreement`` of the views on each common
        axis, held out, and ``strength``, as fitted.
    ``adata.uns["joint"]["prediction"]`` : DataFrame
        How much of view ``target`` view ``source`` predicts on held-out genes: ``r2``,
        ``correlation``, ``r2_null`` (mean over permutations), ``pval``, ``qval``.
    ``adata.uns["joint"]["canonical"]`` : DataFrame
        Held-out correlation of each canonical axis of two views, its null mean and p value.
    ``adata.uns["joint"]["neighbors"]`` : DataFrame
        Share of a gene's neighbours that two views agree on, mean over genes; ``expected`` under
        permutation, ``pval``, ``qval``.
    ``adata.uns["joint"]["genes"]`` : DataFrame
        Of each shared gene (index) its ``agreement``, ``pval``, ``qval`` and the neighbours in
        ``common``, surest gene first.
    ``adata.uns["joint"]["alike"]`` : DataFrame
        Genes and those neighbours that two views or more agree on.

    Raises
    ------
    KeyError
        No such view or column.
    ValueError
        Fewer than two views, too few shared genes, a view in which these are all alike, fewer
        groups than folds, or a name that would overwrite a view.

    Notes
    -----
    p values of `prediction` come from R² with the genes of one view permuted within folds, those
    of `canonical` from the held-out correlation, each axis being no surer than the one before.
    All of them ask whether the views share anything, not why: two views that both follow the
    expression level of genes predict each other.

    References
    ----------
    Kettenring 1971, Biometrika 58:433 (generalised CCA). Gower 1975, Psychometrika 40:33
    (Procrustes). Winkler et al. 2020, NeuroImage 220:117065 (permutation tests of CCA).

    Examples
    --------
    >>> ol.tl.gene_views(adata, views=["X_sigel", "X_kmers"])  # doctest: +SKIP
    >>> ol.get.table(adata, "joint", table="genes")  # doctest: +SKIP
    """
    source, order = inputs.by_name(inputs.resolve(adata, mod))
    options = _options(
        method, n_axes, n_components, regularization, n_folds, n_permutations, n_neighbors
    )
    if method == "procrustes":
        why = "with method='procrustes'"
        checks.no_effect(gene_views, locals(), ("regularization",), because=why)
    names = _view_names(source, views, key_added or "joint")
    arrays = [_view(source, name) for name in names]
    has = np.stack([present(X) for X in arrays])
    shared = np.asarray(has.all(axis=0))
    n_shared = int(shared.sum())
    counts = ", ".join(f"{n} {h.sum()}" for n, h in zip(names, has, strict=True))
    logger.info("%d genes have all views, of %d (%s)", n_shared, source.n_vars, counts)
    if n_shared < max(_FEWEST_GENES, n_neighbors + 2):
        msg = (
            f"{n_shared} genes have a vector in all views ({counts}); at least "
            f"{max(_FEWEST_GENES, n_neighbors + 2)} are needed. Leave a view out, or lower "
            "n_neighbors=."
        )
        raise ValueError(msg)
    for name, X in zip(names, arrays, strict=True):
        if not _varies(X[shared]):
            msg = f"All shared genes have the same vector in adata.varm[{name!r}]: leave it out."
            raise ValueError(msg)
    groups = None if groupby is None else _groups(source, groupby, shared, options)
    generator = rngs.generator(rng)
    found = compare_views(
        arrays, has, generator, options, groups,
        lambda steps: progress(
            steps, what="permutations", total=n_permutations + 1, show_progress=show_progress
        ),
    )  # fmt: skip
    if not (found.agreement > 0).any():
        logger.warning("the views agree on no axis: the joint embedding means nothing")
    some = np.asarray(found.joint.any(axis=1))
    distances, connectivities = gene_graph(found.joint, some, n_neighbors)
    labels = [n.removeprefix("X_") for n in names]
    genes = [str(g) for g in source.var_names]
    alike = _frame(found.alike, genes, ("gene", "neighbor"))
    per_gene = {
        "agreement": found.share.astype(np.float32),
        "pval": found.pval.astype(np.float32),
        "qval": benjamini_hochberg(found.pval).astype(np.float32),
    }
    result = results.Result(
        "tl.gene_views",
        order.restore({
            "varm:X_{root}": found.joint,
            "varm:X_{root}_views": found.placed,
            "varp:{root}_distances": distances,
            "varp:{root}_connectivities": connectivities,
            "var:{root}_n_views": has.sum(axis=0),
            **{f"var:{{root}}_{column}": values for column, values in per_gene.items()},
        }),
        {
            "views": names, "method": method, "n_axes": n_axes, "n_components": n_components,
            "regularization": regularization, "groupby": groupby, "n_folds": n_folds,
            "n_permutations": n_permutations, "n_neighbors": n_neighbors,
            "rng": rngs.recorded(rng),
        },
        {
            "views": labels, "n_genes": has.sum(axis=1), "n_shared": n_shared,
            "agreement": found.agreement, "strength": found.strength,
            "prediction": _frame(found.prediction, labels, ("source", "target"), q=True),
            "canonical": _frame(found.canonical, labels, ("first", "second")),
            "neighbors": _frame(found.neighbors, labels, ("first", "second"), q=True),
            "genes": _gene_table(per_gene, genes, alike),
            "alike": alike,
        },
        key_added,
    )  # fmt: skip
    return results.write(adata, result, mod=mod, copy=copy)


def _options(
    method: str, n_axes: int, n_components: int, regularization: float, n_folds: int,
    n_permutations: int, n_neighbors: int,
) -> ViewOptions:  # fmt: skip
    """Check the numbers."""
    checks.one_of("method", method, ("cca", "procrustes"))
    for name, value in (
        ("n_axes", n_axes), ("n_components", n_components),
        ("n_permutations", n_permutations), ("n_neighbors", n_neighbors),
    ):  # fmt: skip
        checks.whole_number(name, value)
    checks.whole_number("n_folds", n_folds, at_least=2)
    if not np.isfinite(regularization) or regularization < 0:
        msg = f"regularization must be a number of at least 0, not {regularization!r}."
        raise ValueError(msg)
    return ViewOptions(
        method, n_axes, n_components, float(regularization), n_folds, n_permutations, n_neighbors
    )


def _view_names(source: AnnData, views: Sequence[str], root: str) -> list[str]:
    """The entries of `varm` that are compared."""
    names = [views] if isinstance(views, str) else [str(v) for v in views]
    for name in names:
        if name not in source.varm:
            raise checks.missing(
                name, "adata.varm", source.varm,
                hint="Views are made with ol.tl.sigel, ol.tl.embed_genes and others.",
            )  # fmt: skip
    if len(set(names)) < 2 or len(set(names)) < len(names):
        msg = f"views= must name two or more different entries of adata.varm, not {names}."
        raise ValueError(msg)
    if {f"X_{root}", f"X_{root}_views"} & set(names):
        msg = f"key_added={root!r} would overwrite a view: choose another name."
        raise ValueError(msg)
    return names


def _view(source: AnnData, name: str) -> np.ndarray:
    """One view as an array (n_vars, d)."""
    return inputs.vectors(source.varm[name], f"adata.varm[{name!r}]")


def _varies(X: np.ndarray) -> bool:
    """Whether rows differ beyond rounding."""
    return bool((np.ptp(X.astype(np.float64), axis=0) > 1e-9 * np.abs(X).max(axis=0)).any())


def _groups(source: AnnData, groupby: str, shared: np.ndarray, options: ViewOptions) -> np.ndarray:
    """Number of each gene's group; genes without a value are groups of their own."""
    import pandas as pd

    if groupby not in source.var:
        raise checks.missing(groupby, "adata.var", source.var, hint="Name a column with groupby=.")
    codes = pd.factorize(pd.Series(np.asarray(source.var[groupby], dtype=object)))[0]
    codes = np.where(codes < 0, codes.max() + 1 + np.arange(len(codes)), codes)
    size = np.bincount(codes[shared])
    n_groups = int((size > 0).sum())
    if n_groups < options.n_folds:
        msg = (
            f"adata.var[{groupby!r}] has {n_groups} groups of shared genes; n_folds="
            f"{options.n_folds} needs as many. Lower n_folds=."
        )
        raise ValueError(msg)
    left = int(shared.sum() - size.max())
    if left < options.n_neighbors:
        msg = (
            f"The largest group of adata.var[{groupby!r}] leaves {left} other genes, fewer than "
            f"n_neighbors={options.n_neighbors}."
        )
        raise ValueError(msg)
    return codes


def _frame(columns: dict, names: list[str], named: tuple[str, ...], *, q: bool = False):  # type: ignore[no-untyped-def]
    """A table whose `named` columns hold numbers of views or genes."""
    import pandas as pd

    frame = pd.DataFrame({c: np.asarray(v) for c, v in columns.items()})
    text = np.asarray(names, dtype=object)
    for column in named:
        frame[column] = text[frame[column].to_numpy(dtype=np.int64)]
    if q:
        frame["qval"] = benjamini_hochberg(frame["pval"].to_numpy())
    # A file wants index labels to be text.
    frame.index = frame.index.astype(str)
    return frame


def _gene_table(
    columns: dict[str, np.ndarray], genes: list[str], alike: pd.DataFrame
) -> pd.DataFrame:
    """Shared genes and the neighbours that views agree on, surest first."""
    import pandas as pd

    frame = pd.DataFrame(columns, index=pd.Index(genes, name="gene"))
    common = alike.groupby("gene")["neighbor"].agg(", ".join)
    frame["common"] = common.reindex(frame.index).fillna("").astype(object)
    frame = frame[frame["agreement"].notna()]
    return frame.iloc[np.lexsort((-frame["agreement"].to_numpy(), frame["pval"].to_numpy()))]
