"""`omicllm.pp.split`: training, validation and test rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from omicllm._core import checks, docs, inputs, results
from omicllm._core import rng as rngs
from omicllm._core.log import logger
from omicllm.pp import _cohort
from omicllm.pp._split_personal import personal
from omicllm.spatial.positions import section_coordinates
from omicllm.stats import splits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData

PARTS = ("train", "val", "test")


@docs.fill()
def split(
    adata: AnnData | MuData,
    *,
    method: Literal["auto", "random", "stratified", "groups", "blocks", "personal"] = "auto",
    groupby: str | None = None,
    labels_key: str | None = None,
    test_size: float = 0.2,
    val_size: float = 0.1,
    test: str | Sequence[str] | None = None,
    val: str | Sequence[str] | None = None,
    n_folds: int | None = None,
    fold: int = 0,
    n_blocks: int = 25,
    gene_shares: Sequence[float] = (0.4, 0.4, 0.2),
    spatial_key: str = "spatial",
    batch_key: str | None = None,
    rng: int | np.random.Generator | None = 0,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Deal the observations to training, validation and test sets.

    Rows that are not independent must stay together: name the donor or slide with `groupby`, or
    cut a section into blocks. What is fitted later (tables, samplers, scalers) sees the rows of
    ``"train"`` only, so split first.

    Parameters
    ----------
    {adata}
    method
        ``"groups"``: whole groups of `groupby` (donor, slide). ``"stratified"``: single rows,
        each label in the same shares. ``"blocks"``: whole squares of tissue. ``"random"``: single
        rows. ``"auto"``: groups where `groupby` is given, else stratified where `labels_key` is,
        else random. ``"personal"``: people x genes, as published for expression from personal
        genomes; of the genes of class ``"random"`` random people are tested, of ``"population"``
        those of the population named with `groupby` and `test`, of ``"unseen"`` everybody.
    groupby
        Column of `obs` whose groups stay together.
    labels_key
        Column of `obs` with labels, balanced over the parts as well as the method lets; rows
        without a label are dealt like one more label.
    test_size, val_size
        Shares of the rows; 0 leaves a part empty.
    test, val
        Groups of `groupby` that make up the test and validation sets; all others train, and the
        shares are not used.
    n_folds, fold
        Cross-validation: cut into `n_folds` parts and test on number `fold`. Calls with the same
        seed and other folds have test sets that do not overlap.
    n_blocks
        Squares per section (``method="blocks"``).
    gene_shares
        Shares of the genes of the three classes (``method="personal"``); whole contigs of
        ``var["chrom"]`` are dealt.
    {spatial_key}
    {batch_key}
    {rng}
    {mod}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.obs["split"]`` : categorical
        ``"train"``, ``"val"`` or ``"test"``; not with ``method="personal"``.
    ``adata.layers["split"]`` : int8
        With ``method="personal"``: 0 train, 1 validation, 2 test.
    ``adata.var["split_class"]`` : categorical
        With ``method="personal"``: ``"random"``, ``"population"`` or ``"unseen"``.
    ``adata.uns["split"]``
        Parameters.

    Raises
    ------
    KeyError
        No such column, group or coordinates.
    ValueError
        Shares that leave nothing to train on; fewer groups than parts; rows without a group; an
        object that holds synthetic rows already (their real parents could end up in the test set).

    Notes
    -----
    Groups are dealt in up to 200 random orders, each group to the part that lacks most; the order
    that comes nearest the sizes and label shares asked for is kept. A label that would be missing
    from the training rows gets one of its rows back when single rows are dealt.
    """
    source, order = inputs.by_name(inputs.resolve(adata, mod))
    methods = ("auto", "random", "stratified", "groups", "blocks", "personal")
    checks.one_of("method", method, methods)
    checks.whole_number("n_blocks", n_blocks)
    _no_synthetic(source)
    if not source.n_obs:
        msg = "adata has no observations: there is nothing to split."
        raise ValueError(msg)
    if method == "auto":
        method = "groups" if groupby else "stratified" if labels_key else "random"
    for name, value in (("groups", groupby), ("stratified", labels_key)):
        if method == name and value is None:
            argument = "groupby" if name == "groups" else "labels_key"
            msg = f"method={name!r} needs {argument}=, a column of adata.obs."
            raise ValueError(msg)
    _refuse_unheard(locals())
    for name, chosen in (("test", test), ("val", val)):
        if chosen is not None and method not in ("groups", "personal"):
            msg = f"{name}= names groups: it needs groupby=, the column that holds them."
            raise ValueError(msg)
    if val is not None and test is None:
        msg = "val= goes with test=: name the groups of both."
        raise ValueError(msg)
    for name, share in (("test_size", test_size), ("val_size", val_size)):
        checks.share(name, share)
    if n_folds is not None:
        checks.whole_number("n_folds", n_folds, at_least=2)
        checks.whole_number("fold", fold, at_least=0)
        if fold >= n_folds:
            msg = f"fold must be below n_folds ({n_folds}), not {fold}; folds count from 0."
            raise ValueError(msg)
        if n_folds > source.n_obs:
            msg = f"n_folds={n_folds} needs as many rows; there are {source.n_obs}."
            raise ValueError(msg)
        test_size = 1.0 / n_folds
    if test_size + val_size >= 1:
        msg = (
            f"test_size + val_size is {test_size + val_size:g}: nothing is left to train on. "
            "Lower one of them."
        )
        raise ValueError(msg)
    if method == "personal":
        values = personal(
            source, groupby=groupby, test=_texts(test), test_size=test_size, val_size=val_size,
            gene_shares=gene_shares, rng=rngs.generator(rng),
        )  # fmt: skip
        params = {
            "method": method, "groupby": groupby, "test": _texts(test), "test_size": test_size,
            "val_size": val_size, "gene_shares": list(gene_shares), "rng": rngs.recorded(rng),
        }  # fmt: skip
        by_gene = results.Result("pp.split", order.restore(values), params, key_added=key_added)
        return results.write(adata, by_gene, mod=mod, copy=copy)
    strata, label_names = _labels(source, labels_key)
    groups, names = _groups(source, method, groupby, batch_key, spatial_key, n_blocks)
    generator = rngs.generator(rng)
    if test is not None:
        part = _named(groups, names, test, val)
    elif n_folds is not None:
        at = _deal(groups, strata, np.full(n_folds, 1 / n_folds), generator)
        part = np.where(at == fold, 2, 0)
        rest = np.flatnonzero(part == 0)
        if val_size:
            share = val_size / (1 - test_size)
            inner = None if groups is None else np.unique(groups[rest], return_inverse=True)[1]
            part[rest] = _deal(inner, strata[rest], np.array([1 - share, share]), generator)
    else:
        shares = np.array([1 - val_size - test_size, val_size, test_size])
        kept = np.flatnonzero(shares > 0)
        part = kept[_deal(groups, strata, shares[kept], generator)]
    if groups is None and labels_key is not None:
        _give_back(part, strata, generator)
    if not (part == 0).any():
        msg = "No row is left to train on: lower test_size= or val_size=."
        raise ValueError(msg)
    if labels_key is not None:
        _warn_of_one_label(part, strata, label_names, labels_key)
    import pandas as pd

    result = results.Result(
        "pp.split",
        order.restore({"obs:{root}": pd.Categorical.from_codes(part, PARTS)}),
        {
            "method": method, "groupby": groupby, "labels_key": labels_key,
            "test_size": test_size, "val_size": val_size, "test": _texts(test), "val": _texts(val),
            "n_folds": n_folds, "fold": fold if n_folds else None, "n_blocks": n_blocks,
            "spatial_key": spatial_key, "batch_key": batch_key, "rng": rngs.recorded(rng),
        },
        key_added=key_added,
    )  # fmt: skip
    return results.write(adata, result, mod=mod, copy=copy)


#: Arguments that some methods do not read.
_IDLE = {
    "random": ("groupby", "n_blocks", "gene_shares", "spatial_key", "batch_key"),
    "stratified": ("groupby", "n_blocks", "gene_shares", "spatial_key", "batch_key"),
    "groups": ("n_blocks", "gene_shares", "spatial_key", "batch_key"),
    "blocks": ("groupby", "gene_shares"),
    "personal": ("labels_key", "val", "n_folds", "fold", "n_blocks", "spatial_key", "batch_key"),
}


def _refuse_unheard(given: dict[str, Any]) -> None:
    """Refuse arguments that change nothing in this call."""
    method = given["method"]
    checks.no_effect(split, given, _IDLE[method], because=f"with method={method!r}")
    if given["n_folds"] is None:
        checks.no_effect(split, given, ("fold",), because="without n_folds=")
    else:
        checks.no_effect(split, given, ("test_size", "test"), because="with n_folds=")
    if given["test"] is not None and method == "groups":
        unnamed = given["val"] is None and given["val_size"] == 0  # no validation set, as asked
        idle = ("test_size", "rng") if unnamed else ("test_size", "val_size", "rng")
        checks.no_effect(split, given, idle, because="with test=, which names the groups")


def _warn_of_one_label(part: np.ndarray, strata: np.ndarray, names: list[str], key: str) -> None:
    """Say which parts hold rows of one label only, where there are several."""
    for number, name in enumerate(PARTS):
        there = np.unique(strata[(part == number) & (strata < len(names))])
        if len(there) == 1 and len(names) > 1:
            logger.warning(
                "the %s rows are all %r in obs[%r]: scores on them, or models of them, do not tell "
                "classes apart; name groups with test= and val=, or split by other groups",
                name, names[there[0]], key,
            )  # fmt: skip


def _no_synthetic(source: AnnData) -> None:
    if _cohort.synthetic(source).any():
        msg = (
            "adata holds synthetic rows (obs['synthetic']); rows they were drawn from could end "
            "up in the test set. Split the real cohort first, then call ol.pp.augment(...)."
        )
        raise ValueError(msg)


def _texts(names: str | Sequence[str] | None) -> list[str] | None:
    if names is None:
        return None
    one = isinstance(names, str) or not hasattr(names, "__iter__")
    return [str(names)] if one else [str(n) for n in names]


def _labels(source: AnnData, key: str | None) -> tuple[np.ndarray, list[str]]:
    """Number of each row's label; rows without one have a number of their own."""
    import pandas as pd

    if key is None:
        return np.zeros(source.n_obs, dtype=np.int64), []
    column = pd.Series(inputs.obs_column(source, key, argument="labels_key"))
    codes, names = pd.factorize(column.astype(object), sort=False)
    order = np.argsort([str(n) for n in names], kind="stable")
    rank = np.empty(len(names) + 1, dtype=np.int64)
    rank[order], rank[-1] = np.arange(len(names)), len(names)
    return rank[codes], [str(names[i]) for i in order]


def _groups(
    source: AnnData, method: str, groupby: str | None, batch_key: str | None,
    spatial_key: str, n_blocks: int,
) -> tuple[np.ndarray | None, list[str]]:  # fmt: skip
    if method == "groups":
        return inputs.sections(source, groupby)
    if method != "blocks":
        return None, []
    coords = section_coordinates(
        source, spatial_key, batch_key, hint="Name the coordinates with spatial_key=."
    )
    sections, _ = inputs.sections(source, batch_key)
    return _blocks(coords, sections, n_blocks), []


def _blocks(coords: np.ndarray, sections: np.ndarray, n_blocks: int) -> np.ndarray:
    """Squares of each section, cut and counted alike whichever way the section is turned."""
    inward = coords.copy()
    for s in np.unique(sections):
        rows = np.flatnonzero(sections == s)
        low, high = coords[rows].min(axis=0), coords[rows].max(axis=0)
        # Observations on a cut go to the side of the middle, not to that of larger coordinates.
        inward[rows] -= np.sign(coords[rows] - (low + high) / 2) * (high - low) * 1e-9
    blocks = splits.spatial_blocks(inward, sections, n_blocks)
    _, first, number = np.unique(blocks, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[number.ravel()]


def _deal(
    groups: np.ndarray | None, strata: np.ndarray, shares: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    if groups is None:
        return splits.by_rows(strata, shares, rng)
    try:
        return splits.by_groups(groups, strata, shares, rng)
    except ValueError as error:
        msg = f"{error} Set val_size=0 or lower n_folds=, or split by another column."
        raise ValueError(msg) from error


def _named(groups: Any, names: list[str], test: Any, val: Any) -> np.ndarray:
    part = np.zeros(len(groups), dtype=np.int64)
    for number, wanted in ((2, _texts(test)), (1, _texts(val))):
        for name in wanted or []:
            if name not in names:
                raise checks.missing(name, "the groups", names, hint="Name others.")
            if number == 1 and (part[groups == names.index(name)] == 2).any():
                msg = f"Group {name!r} is named in both test= and val=."
                raise ValueError(msg)
            part[groups == names.index(name)] = number
    return part


def _give_back(part: np.ndarray, strata: np.ndarray, rng: np.random.Generator) -> None:
    """Give each stratum at least one row to train on."""
    for s in np.unique(strata):
        rows = np.flatnonzero(strata == s)
        if (part[rows] > 0).all():
            part[rng.choice(rows)] = 0
            logger.info("a label with %d row(s) keeps one of them for training", len(rows))
