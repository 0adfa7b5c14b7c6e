"""Two objects with genes in common: which are shared, which are asked for, and their values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, inputs, memory
from omicllm._core import rng as rngs
from omicllm._core.log import logger
from omicllm._core.names import describe, positions, unique

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

#: Fewest shared genes that can be predicted from each other, and fewest that intervals hold with.
FEWEST_SHARED, FEW_SHARED = 5, 20
_FEWEST_CELLS = 10
#: Whole numbers above this are taken for counts.
_LARGEST_LOG = 20.0


@dataclass
class Pair:
    """Values of shared genes in both data sets, and of targets in the reference, float32.

    Attributes
    ----------
    shared, targets
        Gene names.
    tissue
        (n_obs, p).
    reference, target
        (m, p) and (m, q).
    """

    shared: np.ndarray
    targets: np.ndarray
    tissue: np.ndarray
    reference: np.ndarray
    target: np.ndarray


def gene_pair(
    source: AnnData,
    reference: Any,
    genes: str | Sequence[str] | None,
    *,
    layer: str | None,
    reference_layer: str | None,
    max_reference: int,
    max_shared: int,
    rng: np.random.Generator,
) -> Pair:
    """Match genes by name, check values, and read what is needed of both matrices.

    Raises
    ------
    TypeError
        When the reference is no AnnData.
    KeyError
        When a gene is not in the reference, or a layer not there.
    ValueError
        Too few shared genes or cells, nothing to impute, values that are not finite.
    MemoryError
        What is read and imputed does not fit into memory.
    """
    from anndata import AnnData

    if not isinstance(reference, AnnData):
        msg = f"reference must be an AnnData, not {type(reference).__name__}"
        hint = ': pass one modality, as in reference=mdata["rna"].'
        raise TypeError(msg + (hint if hasattr(reference, "mod") else "."))
    measured = inputs.gene_names(source)
    known = unique(reference.var_names, what="reference.var_names")
    X, R = inputs.matrix(source, layer), inputs.matrix(reference, reference_layer)
    for what, n in (("adata", source.n_obs), ("reference", reference.n_obs)):
        if n < _FEWEST_CELLS:
            msg = f"{what} has {n} observations; at least {_FEWEST_CELLS} are needed."
            raise ValueError(msg)
    own = set(measured)
    targets = _targets(genes, own, known)
    asked = set(targets)
    both = set(known) & own
    shared = np.array([g for g in measured if g in both and g not in asked], dtype=object)
    if len(shared) < FEWEST_SHARED:
        raise _too_few(shared, measured, known, len(both & asked))
    if both & asked:
        logger.info("%d measured genes are imputed as if they were not", len(both & asked))
    n_cells = min(reference.n_obs, max_reference)
    memory.check(
        "Imputing genes",
        {
            "imputed values": ((source.n_obs, len(targets)), "float32"),
            "values of shared genes": ((source.n_obs, len(shared)), "float32"),
            "values of the reference": ((n_cells, len(shared) + len(targets)), "float32"),
        },
        instead="Name fewer genes to impute with genes=, or take adata in parts.",
    )
    tissue = read_columns(X, positions(list(shared), measured), shared, inputs.place(layer))
    names = np.concatenate([shared, targets])
    m = reference.n_obs
    rows = None
    if m > max_reference:
        drawn = rng.choice(m, max_reference, replace=False)
        rows = np.sort(rngs.name_order(reference.obs_names)[drawn])
    if rows is not None:
        logger.info("%d of %d reference cells are used", len(rows), m)
    where = inputs.place(reference_layer, "reference")
    values = read_columns(R, positions(list(names), known), names, where, rows)
    for what, block in (("adata", tissue), (where, values[:, : len(shared)])):
        if float(block.max()) > _LARGEST_LOG and not np.any(block != np.rint(block)):
            logger.warning(
                "%s looks like counts. Imputation takes values on a log scale: normalise both "
                "data sets the same way, then log(1 + x).", what,
            )  # fmt: skip
    known_part = values[:, : len(shared)]
    spread = np.stack([tissue.std(axis=0), known_part.std(axis=0)])
    kept = np.flatnonzero((spread > 1e-6).all(axis=0))
    if len(kept) < FEWEST_SHARED:
        msg = (
            f"Only {len(kept)} of {len(shared)} shared genes vary in both adata and the reference; "
            f"at least {FEWEST_SHARED} are needed."
        )
        raise ValueError(msg)
    if len(kept) > max_shared:
        rank = spread[:, kept].argsort(axis=1).argsort(axis=1).sum(axis=0)
        kept = np.sort(kept[np.argsort(-rank, kind="stable")[:max_shared]])
    if len(kept) < len(shared):
        logger.info("%d of %d shared genes are used", len(kept), len(shared))
    if len(kept) < FEW_SHARED:
        logger.warning(
            "%d shared genes are few: correlations will be low, and intervals may hold less "
            "than they should.", len(kept),
        )  # fmt: skip
    # Reference cells in the order of their names, which then decides between equally near ones.
    by_name = rngs.name_order(reference.obs_names if rows is None else reference.obs_names[rows])
    return Pair(
        shared[kept], targets, np.ascontiguousarray(tissue[:, kept]),
        known_part[np.ix_(by_name, kept)], values[by_name, len(shared) :],
    )  # fmt: skip


def _targets(genes: str | Sequence[str] | None, own: set[str], known: np.ndarray) -> np.ndarray:
    """Names of the genes to impute."""
    if genes is None:
        targets = np.array([g for g in known if g not in own], dtype=object)
        if not len(targets):
            msg = (
                "Every gene of the reference is measured in adata: there is nothing to impute. "
                "Name measured genes with genes= to predict them from the others."
            )
            raise ValueError(msg)
        return targets
    wanted = [genes] if isinstance(genes, str) else [str(g) for g in genes]
    if not wanted:
        msg = "genes= is empty: name genes of the reference, or leave it out for all new ones."
        raise ValueError(msg)
    positions(wanted, known, where="reference.var_names")
    return np.array(list(dict.fromkeys(wanted)), dtype=object)


def _too_few(
    shared: np.ndarray, measured: np.ndarray, known: np.ndarray, n_asked: int
) -> ValueError:
    msg = (
        f"adata and the reference share {len(shared)} genes"
        + (f" beside the {n_asked} measured ones that are asked for" if n_asked else "")
        + f"; at least {FEWEST_SHARED} are needed ({FEW_SHARED} or more are advised)."
    )
    if not len(shared) and not n_asked:
        msg += (
            f" Names in adata.var_names look like {describe(list(measured))}, those in the "
            f"reference like {describe(list(known))}."
        )
    return ValueError(msg)


def read_columns(
    X: Any, columns: np.ndarray, names: np.ndarray, where: str, rows: np.ndarray | None = None
) -> np.ndarray:
    """Some genes of a matrix in any storage, dense float32; nothing else is made dense.

    Parameters
    ----------
    X
        Matrix (n_obs, n_vars).
    columns, names
        Genes to read, and their names.
    where
        What messages call the matrix.
    rows
        Rows to read (ascending); all by default.

    Raises
    ------
    ValueError
        When these genes hold NaN or infinite values in any row.
    """
    from scipy import sparse

    if isinstance(X, inputs.Reordered) and rows is None:
        return read_columns(X.X, X.var[columns], names, where)[X.obs]
    if sparse.issparse(X) or isinstance(X, np.ndarray):
        X = inputs.readable(X)
        X, columns = (X.tocsc() if sparse.issparse(X) else X)[:, columns], np.arange(len(columns))
        if sparse.issparse(X):
            X = X.tocsr()
    wanted = np.arange(X.shape[0]) if rows is None else rows
    out = np.empty((len(wanted), len(columns)), dtype=np.float32)
    bad = np.zeros(len(columns), dtype=bool)
    for start, block in inputs.row_blocks(X):
        low, high = np.searchsorted(wanted, (start, start + block.shape[0]))
        part = block[:, columns]
        inputs.refuse_large(part.data if sparse.issparse(part) else part, where)
        if sparse.issparse(part):
            broken = ~np.isfinite(part.data)
            bad[np.unique(part.indices[broken])] = True
            out[low:high] = part[wanted[low:high] - start].toarray()
        else:
            bad |= ~np.isfinite(part).all(axis=0)
            out[low:high] = part[wanted[low:high] - start]
    if bad.any():
        msg = (
            f"{where} holds NaN or infinite values in {int(bad.sum())} of {len(names)} genes "
            f"({checks.listed(names[bad], most=3)}). Fill or drop them first."
        )
        raise ValueError(msg)
    return out
