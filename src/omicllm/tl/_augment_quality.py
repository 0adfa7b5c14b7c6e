"""`omicllm.tl.augment_quality`: how good synthetic rows are, sampler by sampler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, docs, inputs, results
from omicllm._core import rng as rngs
from omicllm._core.log import logger
from omicllm.pp import _cohort
from omicllm.pp._augment import METHODS, augment
from omicllm.sampling import samplers
from omicllm.stats import fidelity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData

COLUMNS = (
    "sampler", "n", "ks", "variance_ratio", "mean_abs_r", "correlation", "separation",
    "near_copies", "accuracy", "accuracy_with_real",
)  # fmt: skip


@docs.fill()
def augment_quality(
    adata: AnnData | MuData,
    *,
    labels_key: str,
    methods: Sequence[str] | None = None,
    n_new: int = 100,
    signatures: Mapping[str, Sequence[str]] | None = None,
    layer: str | None = None,
    n_genes: int = 500,
    copy_ratio: float = 0.5,
    max_rows: int = 5000,
    split_key: str = "split",
    rng: int | np.random.Generator | None = 0,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Compare synthetic rows with real ones: marginals, correlation, separation, copies, use.

    An object from :func:`omicllm.pp.augment` is judged by its synthetic rows, one line for each
    sampler found in ``obs["sampler"]``. For a real cohort, or with `methods`, rows are drawn with
    each sampler from the training rows, judged, and thrown away.

    Parameters
    ----------
    {adata}
    labels_key
        Column of `obs` with classes.
    methods
        Samplers to compare; by default the synthetic rows that are there, else every sampler that
        the data allow (counts for the Poisson family, `signatures` for the crossovers).
    n_new
        Rows drawn per class with each of `methods`.
    signatures
        Name -> genes, for the crossovers.
    {layer}
    n_genes
        Most variable genes of the training rows, that all figures are computed on.
    copy_ratio
        A synthetic row is a near copy when its distance to the nearest real training row is below
        this share of that row's own distance to its nearest real neighbour.
    max_rows
        Rows of a sampler that are judged, at most (drawn at random).
    split_key
        Column of `obs` with the split. Real rows marked ``"train"`` are compared with; those
        marked ``"test"`` are classified.
    {rng}
    {mod}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.uns["augment_quality"]["table"]`` : DataFrame
        One row per sampler, and one, ``"real"``, with the same figures for real rows. Columns:
        ``n`` rows; ``ks``, mean over genes and classes of the Kolmogorov-Smirnov distance to the
        training rows of the class (``"real"``: of the test rows); ``variance_ratio``, median
        variance within classes over that of training rows, of values as given; ``mean_abs_r``,
        mean absolute correlation of gene pairs within classes; ``correlation``, Pearson
        correlation between these correlations and those of the training rows; ``separation``,
        silhouette of the classes; ``near_copies``, share of rows; ``accuracy``, balanced accuracy
        on real test rows of a logistic regression trained on the synthetic rows alone (``"real"``:
        on the real training rows); ``accuracy_with_real``, trained on both.
    ``adata.uns["augment_quality"]``
        Parameters, and ``genes``, the genes used.

    Raises
    ------
    KeyError
        No such column or layer.
    ValueError
        No training rows, NaN or infinite values, or a sampler that the data do not allow.

    Notes
    -----
    Counts are scaled to the median depth of the training rows and logged first; other values are
    taken as they are. For classification, copies and separation, genes are standardised with the
    training rows. ``accuracy`` needs test rows (and is NaN without): it is of use only when they
    took no part in drawing, so split first. A small distance and a high share of near copies go
    together: ``"replacement"`` is best in the one and worst in the other.
    """
    source, order = inputs.by_name(inputs.resolve(adata, mod))
    for name, value in (("n_new", n_new), ("n_genes", n_genes), ("max_rows", max_rows)):
        checks.whole_number(name, value)
    checks.share("copy_ratio", copy_ratio)
    for method in methods or ():
        checks.one_of("methods", method, METHODS)
    generator = rngs.generator(rng)
    codes, names = _cohort.labels(source, labels_key)
    fake = _cohort.synthetic(source)
    train, test = _parts(source, split_key, codes, fake)
    X = inputs.matrix(source, layer)
    real = _cohort.rows_of(X, train)
    _cohort.check_values(
        real,
        np.asarray(source.obs_names)[train],
        counts=False,
        layer=layer,
        source=source,
        method="",
    )
    judge = _Judge(real, codes[train], n_genes, copy_ratio)
    judge.test = judge.prepared(_cohort.rows_of(X, test))[1] if len(test) else None
    judge.test_codes = codes[test]
    rows = [judge.of_real(_cohort.rows_of(X, test) if len(test) else None)]
    if not len(test):
        logger.warning("no labelled test row: accuracy is NaN (see ol.pp.split)")
    drawn: Iterator[tuple[str, Any, np.ndarray]]
    if methods is None and fake.any():
        drawn = _found(source, X, fake, codes)
    else:
        chosen = methods or _allowed(judge.counts, np.bincount(codes[train]), signatures)
        drawn = _drawn(real, codes[train], names, source, chosen, n_new, signatures, generator)
    for method, values, own in drawn:
        keep = np.sort(generator.permutation(len(own))[:max_rows])
        rows.append(judge.of(method, values[keep], own[keep]))
    import pandas as pd

    result = results.Result(
        "tl.augment_quality",
        {},
        {
            "labels_key": labels_key, "methods": methods, "n_new": n_new, "layer": layer,
            "n_genes": n_genes, "copy_ratio": copy_ratio, "max_rows": max_rows,
            "split_key": split_key, "rng": rngs.recorded(rng),
        },
        {
            "table": pd.DataFrame(rows, columns=COLUMNS).astype({"n": np.int64}),
            "genes": [str(g) for g in np.asarray(source.var_names)[order.genes(judge.genes)]],
        },
        key_added,
    )  # fmt: skip
    return results.write(adata, result, mod=mod, copy=copy)


class _Judge:
    """The real training rows, and what is compared with them."""

    test: np.ndarray | None
    test_codes: np.ndarray

    def __init__(self, real: Any, codes: np.ndarray, n_genes: int, copy_ratio: float) -> None:
        values = real.data if hasattr(real, "indptr") else real
        self.counts = bool((values >= 0).all() and (values == np.rint(values)).all())
        self.depth = float(np.median(_depth(real)))
        self.copy_ratio, self.codes = copy_ratio, codes
        self.genes = np.arange(real.shape[1])
        spread = self._scaled(real).var(axis=0)
        # The sort is stable, so ties go to the first genes whatever the storage.
        self.genes = np.sort(np.argsort(-np.round(spread, 10), kind="stable")[:n_genes])
        own = self._scaled(real)
        self.mean, self.sd = own.mean(axis=0), own.std(axis=0)
        self.sd[self.sd <= 1e-12] = 1.0
        self.raw, self.real = self.prepared(real)
        self.log = own
        self.r = fidelity.correlations(fidelity.within(own, codes))

    def _picked(self, rows: Any) -> np.ndarray:
        rows = rows[:, self.genes]
        dense = rows.toarray() if hasattr(rows, "toarray") else rows
        # One memory order for all storages: sums are then equal to the last bit.
        return np.array(dense, dtype=np.float64, order="C")

    def _scaled(self, rows: Any) -> np.ndarray:
        if self.counts:
            return fidelity.log_normalised(self._picked(rows), _depth(rows), self.depth)
        return self._picked(rows)

    def prepared(self, rows: Any) -> tuple[np.ndarray, np.ndarray]:
        """Values as given, and z-scores, of the chosen genes."""
        return self._picked(rows), (self._scaled(rows) - self.mean) / self.sd

    def _compared(self, rows: Any, codes: np.ndarray) -> dict[str, Any]:
        """Figures that compare rows with the training rows."""
        raw, z = self.prepared(rows)
        own = [
            fidelity.ks_distances(self.real[self.codes == c], z[codes == c])
            for c in np.unique(codes)
            if (self.codes == c).any()
        ]
        ratios = fidelity.variance_ratios(self.raw, raw, self.codes, codes)
        r = fidelity.correlations(fidelity.within(z, codes))
        return {
            "n": len(codes),
            "ks": float(np.mean(own)) if own else np.nan,
            "variance_ratio": float(np.median(ratios)) if len(ratios) else np.nan,
            "mean_abs_r": _mean(np.abs(r)),
            "correlation": fidelity.agreement(r, self.r),
            "near_copies": fidelity.near_copies(z, self.real, self.copy_ratio),
        }

    def of_real(self, test_rows: Any) -> dict[str, Any]:
        """Figures of real rows: test rows against training rows, and what training rows give."""
        out: dict[str, Any] = dict.fromkeys(COLUMNS, np.nan)
        if test_rows is not None:
            out |= self._compared(test_rows, self.test_codes)
        score = self._accuracy(self.real, self.codes)
        return out | {
            "sampler": "real",
            "n": len(self.codes),
            "mean_abs_r": _mean(np.abs(self.r)),
            "separation": fidelity.separation(self.real, self.codes),
            "accuracy": score,
            "accuracy_with_real": score,
        }

    def of(self, method: str, rows: Any, codes: np.ndarray) -> dict[str, Any]:
        """Figures of the rows of one sampler."""
        z = self.prepared(rows)[1]
        return self._compared(rows, codes) | {
            "sampler": method,
            "separation": fidelity.separation(z, codes),
            "accuracy": self._accuracy(z, codes),
            "accuracy_with_real": self._accuracy(
                np.concatenate([self.real, z]), np.concatenate([self.codes, codes])
            ),
        }

    def _accuracy(self, z: np.ndarray, codes: np.ndarray) -> float:
        if self.test is None:
            return float("nan")
        return fidelity.accuracy(z, codes, self.test, self.test_codes)


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _depth(rows: Any) -> np.ndarray:
    return np.asarray(rows.sum(axis=1, dtype=np.float64)).ravel()


def _parts(
    source: AnnData, split_key: str, codes: np.ndarray, fake: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Labelled real rows to compare with, and to classify."""
    real = ~fake & (codes >= 0)
    if split_key not in source.obs:
        logger.warning("no split in obs[%r]: all real rows are compared with", split_key)
        train, test = real, np.zeros_like(real)
    else:
        train = real & _cohort.part(source, split_key, "train")
        test = real & _cohort.part(source, split_key, "test")
    if not train.any():
        msg = (
            f"No labelled real row is marked 'train' in adata.obs[{split_key!r}]: there is "
            "nothing to compare with. Keep the real rows (only_synthetic=False), and split first."
        )
        raise ValueError(msg)
    return np.flatnonzero(train), np.flatnonzero(test)


def _found(
    source: AnnData, X: Any, fake: np.ndarray, codes: np.ndarray
) -> Iterator[tuple[str, Any, np.ndarray]]:
    """Synthetic rows of the object, by sampler."""
    which = np.full(source.n_obs, "synthetic", dtype=object)
    if "sampler" in source.obs:
        which = np.asarray(source.obs["sampler"]).astype(object)
    for method in sorted({str(w) for w in which[fake]}):
        rows = np.flatnonzero(fake & (which.astype(str) == method) & (codes >= 0))
        if len(rows):
            yield method, _cohort.rows_of(X, rows), codes[rows]


def _allowed(counts: bool, sizes: np.ndarray, signatures: Any) -> list[str]:  # noqa: FBT001
    """Samplers that data of this kind can be given to."""
    single = bool((sizes == 1).any())
    out = [m for m in METHODS if counts or m not in samplers.COUNT_SAMPLERS]
    if single:
        out = [m for m in out if m not in ("smote", "vae")]
        logger.warning("a class has one training row: smote and vae are left out")
    return [m for m in out if signatures is not None or not m.endswith("crossover")]


def _drawn(
    real: Any,
    codes: np.ndarray,
    names: list[str],
    source: AnnData,
    methods: Sequence[str],
    n_new: int,
    signatures: Mapping[str, Sequence[str]] | None,
    generator: np.random.Generator,
) -> Iterator[tuple[str, Any, np.ndarray]]:
    """Rows drawn with each sampler from the training rows."""
    import anndata as ad
    import pandas as pd

    cohort = ad.AnnData(
        real,
        obs=pd.DataFrame({"label": np.array(names, dtype=object)[codes]},
                         index=np.arange(len(codes)).astype(str)),
        var=pd.DataFrame(index=np.asarray(source.var_names)),
    )  # fmt: skip
    for method in methods:
        own = signatures if method.endswith("crossover") else None
        drawn = augment(
            cohort, labels_key="label", method=method, n_new=n_new, signatures=own,
            allow_unsplit=True, only_synthetic=True, rng=int(generator.integers(2**31)),
        )  # fmt: skip
        at = {name: i for i, name in enumerate(names)}
        yield method, drawn.X, np.array([at[str(v)] for v in drawn.obs["label"]])
