"""What a verb is given: AnnData or MuData, X or a layer, in whatever storage it lies."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from omicllm._core import blocks, memory
from omicllm._core import rng as rngs
from omicllm._core.checks import listed, missing
from omicllm._core.log import logger
from omicllm._core.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from anndata import AnnData
    from mudata import MuData
    from scipy import sparse


def resolve(data: AnnData | MuData, mod: str | None = None) -> AnnData:
    """Return the AnnData a verb works on: the object itself, or one modality of a MuData.

    Raises
    ------
    TypeError
        When `data` is neither.
    ValueError
        When a MuData comes without ``mod=``, or ``mod=`` with an AnnData.
    KeyError
        When the modality is not there.
    """
    from anndata import AnnData

    if isinstance(data, AnnData):
        if mod is not None:
            msg = f"mod={mod!r} was given, but the object is an AnnData, which has no modalities."
            raise ValueError(msg)
        return data
    modalities = getattr(data, "mod", None)
    if modalities is None:
        msg = f"Expected an AnnData or a MuData, not {type(data).__name__}."
        raise TypeError(msg)
    if mod is None:
        msg = f"A MuData needs mod=: say which modality to use ({listed(modalities)})."
        raise ValueError(msg)
    if mod not in modalities:
        raise missing(mod, "mdata.mod", modalities, hint="Choose one of them with mod=.")
    return modalities[mod]


class NameOrder(NamedTuple):
    """Positions that put observations and genes of an object into the order of their names."""

    obs: np.ndarray
    var: np.ndarray

    def restore(self, values: dict[str, Any]) -> dict[str, Any]:
        """Put results (``"attribute:key"`` -> value) into the order of the object."""
        obs, var = np.argsort(self.obs), np.argsort(self.var)
        axes = {
            "obs": (obs,), "obsm": (obs,), "obsp": (obs, obs), "layers": (obs, var),
            "var": (var,), "varm": (var,), "varp": (var, var),
        }  # fmt: skip
        out = {}
        for slot, value in values.items():
            for axis, rows in enumerate(axes.get(slot.split(":")[0], ())):
                value = _taken(value, rows) if axis == 0 else value[:, rows]
            out[slot] = value
        return out

    def genes(self, at: np.ndarray) -> np.ndarray:
        """Where some genes of the ordered object are in that order which the object has them in."""
        return at[np.argsort(self.var[at])]


def _taken(value: Any, rows: np.ndarray) -> Any:
    """Rows of an array, a table or a categorical."""
    if hasattr(value, "iloc"):
        return value.iloc[rows]
    return np.asarray(value, dtype=object)[rows] if isinstance(value, list) else value[rows]


def by_name(adata: AnnData, *, obs: bool = True, var: bool = True) -> tuple[AnnData, NameOrder]:
    """View an object with observations and genes in the order of their names.

    What is computed from it (draws, folds, ties, signs of axes, the order of batches) is the same
    for the same object in any order; results go back by :meth:`NameOrder.restore`. Of names that
    occur twice the first comes first. Its matrices are copied when they are asked for; backed and
    dask ones are read as the file has them (:class:`Reordered`). An object that is in that order
    is returned as it is.
    """
    order = NameOrder(
        rngs.name_order(adata.obs_names) if obs else np.arange(adata.n_obs),
        rngs.name_order(adata.var_names) if var else np.arange(adata.n_vars),
    )
    if all((np.diff(at) == 1).all() for at in order):
        return adata, order
    view = adata[order.obs, order.var]
    vars(view)[_BASE] = adata, order
    return view, order


#: Where a view of :func:`by_name` keeps the object that it is of, and its order.
_BASE = "_omicllm_base"


def as_given(adata: AnnData) -> AnnData:
    """Return the object that a view of :func:`by_name` is of; any other is returned as it is."""
    return vars(adata).get(_BASE, (adata,))[0]


class Reordered:
    """A backed or dask matrix with rows and columns in another order than the file has them.

    It is not read row by row in that order: :func:`gene_major`, :func:`dense_rows` and other
    functions that gather values walk over the file, and put in place what they gathered.
    """

    def __init__(self, X: Any, order: NameOrder) -> None:
        self.X, self.obs, self.var = X, order.obs, order.var
        self.shape, self.dtype = (len(order.obs), len(order.var)), X.dtype

    @property
    def place(self) -> np.ndarray:
        """Row of each row of the file."""
        return np.argsort(self.obs)


def _values(adata: AnnData, layer: str | None) -> Any:
    """X or a layer; of a view of :func:`by_name`, without reading what is lazy."""
    base, order = vars(adata).get(_BASE, (adata, None))
    X = base.X if layer is None else base.layers[layer]
    if order is None or X is None:
        return X
    if storage(X) in ("backed", "dask") and not hasattr(X, "to_numpy"):
        return Reordered(X, order)
    if base.isbacked and base.is_view:  # just read
        return X[np.ix_(order.obs, order.var)]
    return adata.X if layer is None else adata.layers[layer]


def stored(adata: AnnData, layer: str | None = None) -> Any:
    """Return X or a layer as it is stored (dense, sparse, backed or dask); :func:`matrix` reads it.

    Raises
    ------
    KeyError, ValueError
        When it is not there.
    TypeError
        When it holds no real numbers.
    """
    if layer is None:
        X = _values(adata, None)
        if X is None:
            msg = f"adata.X is empty. Name a layer with layer= (there: {listed(adata.layers)})."
            raise ValueError(msg)
    elif layer in adata.layers:
        X = _values(adata, layer)
    else:
        raise missing(layer, "adata.layers", adata.layers, hint="Name one with layer=.")
    require_numbers(X, place(layer))
    return X


def place(layer: str | None, what: str = "adata") -> str:
    """Name of X or a layer in messages."""
    return f"{what}.X" if layer is None else f"{what}.layers[{layer!r}]"


def matrix(adata: AnnData, layer: str | None = None) -> Any:
    """Return X or a layer to compute with: dense, canonical csr or csc, backed or dask.

    Arrays of the caller come as read-only views, so that no step can change them; for sparse ones
    see :func:`canonical`. Backed and dask arrays are made so block by block (:func:`row_blocks`).
    """
    return readable(stored(adata, layer))


def readable(X: Any) -> Any:
    """What :func:`matrix` makes of an array in memory; anything lazy is returned as it is."""
    from scipy import sparse

    if sparse.issparse(X):
        return canonical(X)
    if hasattr(X, "to_numpy"):  # a layer may be a table
        X = X.to_numpy()
    return _locked(X) if isinstance(X, np.ndarray) else X


def require_numbers(X: Any, where: str) -> None:
    """Raise unless an array holds real numbers, all of them there."""
    dtypes = set(X.dtypes) if hasattr(X, "dtypes") else {X.dtype}
    odd = [str(d) for d in dtypes if getattr(d, "kind", "O") not in "biuf"]
    if odd:
        kind = next(iter(dtypes)).kind
        hint = "Take its real part or modulus first." if kind == "c" else (
            "Turn it into numbers first, as with .astype('float32')."
        )  # fmt: skip
        msg = f"{where} holds values of type {listed(odd, most=3)}, not real numbers. {hint}"
        raise TypeError(msg)
    if isinstance(X, np.ma.MaskedArray) and np.ma.getmaskarray(X).any():
        msg = f"{where} is a masked array with hidden values. Fill them first, as with .filled(0)."
        raise TypeError(msg)


#: Values above it are refused: sums of squares, in float32, of many of them would overflow.
LARGEST = 1e15


def refuse_large(values: Any, where: str) -> None:
    """Raise ValueError where finite values are so large that sums of their squares overflow."""
    values = np.asarray(values)
    if not values.size or values.dtype.itemsize < 4:
        return
    finite = True if values.dtype.kind != "f" else np.isfinite(values)
    top = float(np.max(values, where=finite, initial=0))
    top = max(top, -float(np.min(values, where=finite, initial=0)))
    if top > LARGEST:
        msg = (
            f"{where} holds values up to {top:.3g}, whose squares overflow; at most {LARGEST:g} "
            "can be worked with. Divide them by a constant first."
        )
        raise ValueError(msg)


def canonical(X: Any) -> Any:
    """Return a sparse matrix or array with sorted indices, each place once and no stored zero.

    The one canonicaliser of the package. The result is a new csc_matrix (of csc), else a
    csr_matrix, of the same dtype (a wider one where sums of duplicates need it, or where scipy
    cannot compute in it). Nothing of `X` changes, not even the marks scipy leaves on a matrix;
    buffers that can stay as they are are shared, read-only.
    """
    from scipy import sparse

    kind = sparse.csc_matrix if X.format == "csc" else sparse.csr_matrix
    if X.format in ("csr", "csc"):
        # A new object: scipy marks what it has looked at on the matrix it looked at.
        arrays = (_locked(a) for a in (_usable(X.data), X.indices, X.indptr))
        out = kind(tuple(arrays), shape=X.shape)
        if not out.has_canonical_format:
            own = kind((_wide(out.data), out.indices.copy(), out.indptr.copy()), shape=X.shape)
            own.sum_duplicates()
            out = _narrowed(own, out.dtype)
    else:
        coo = X.tocoo()
        data = _usable(coo.data)
        out = _narrowed(kind((_wide(data), (coo.row, coo.col)), shape=X.shape), data.dtype)
    return _without_zeros(out)


def _without_zeros(X: Any) -> Any:
    if np.count_nonzero(X.data) < X.data.size:
        X = X.copy()
        X.eliminate_zeros()
    return X


def _locked(array: np.ndarray) -> np.ndarray:
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


def _usable(data: np.ndarray) -> np.ndarray:
    """Values in a dtype that scipy computes in."""
    if data.dtype == np.float16:
        return data.astype(np.float32)
    return data.astype(data.dtype.newbyteorder("="), copy=False)


def _wide(data: np.ndarray) -> np.ndarray:
    """Copy of values in which sums are exact, or nearly so."""
    kind = data.dtype.kind
    narrow = kind in "bi" or (kind == "u" and data.dtype.itemsize < 8)
    dtype = np.int64 if narrow else np.float64 if data.dtype == np.float32 else data.dtype
    return data.astype(dtype)


def _narrowed(X: Any, dtype: np.dtype) -> Any:
    """The matrix in the dtype that it had, if its sums fit."""
    if dtype.kind in "iu" and X.nnz:
        bounds = np.iinfo(dtype)
        if X.data.min() < bounds.min or X.data.max() > bounds.max:
            return X
    with np.errstate(over="ignore"):
        return X.astype(dtype, copy=False)


def obs_column(adata: AnnData, key: str, *, argument: str) -> np.ndarray:
    """Return a column of obs as an array; `argument` is the parameter that named it."""
    if key not in adata.obs:
        raise missing(key, "adata.obs", adata.obs, hint=f"Name a column with {argument}=.")
    return np.asarray(adata.obs[key])


def uns_entry(adata: AnnData, key: str, *needed: str, hint: str) -> Any:
    """Return the `uns` entry of a verb, or say what of it is not there.

    Joining objects keeps a part of an entry (``uns_merge="same"``) or none of it.

    Raises
    ------
    KeyError
        No such entry, or not all of it.
    """
    entry = adata.uns.get(key)
    if not hasattr(entry, "keys"):
        raise missing(key, "adata.uns", adata.uns, hint=hint)
    for name in needed:
        if name not in entry:
            where = f"adata.uns[{key!r}], as after joining objects"
            raise missing(name, where, entry, hint=hint)
    return entry


def per_observation(value: Any, adata: AnnData, *, argument: str) -> np.ndarray:
    """An argument with a value for each observation as an array; a pandas Series goes by name.

    Raises
    ------
    ValueError
        A Series whose index is not that of the observations.
    """
    if not (hasattr(value, "index") and hasattr(value, "to_numpy")):
        return np.asarray(value)
    index = value.index.astype(str)
    place = index.get_indexer(adata.obs_names.astype(str)) if index.is_unique else [-1]
    if len(value) == adata.n_obs and np.min(place, initial=0) >= 0:
        return np.asarray(value.to_numpy())[place]
    msg = (
        f"{argument}= is a Series, which goes by the names of the observations: its index "
        f"({listed(value.index, most=3)}) is not {listed(adata.obs_names, most=3)}. Pass "
        f"{argument}=series.to_numpy() to go by position."
    )
    raise ValueError(msg)


def sections(adata: AnnData, batch_key: str | None) -> tuple[np.ndarray, list[str]]:
    """Section number of each observation and the section names (one unnamed without a key).

    Raises
    ------
    ValueError
        When observations have no section, or two sections have one name.
    """
    if batch_key is None:
        return np.zeros(adata.n_obs, dtype=np.int64), ["section"]
    codes, names = _named(adata, batch_key)
    if (codes < 0).any():
        msg = f"{int((codes < 0).sum())} observations have no value in adata.obs[{batch_key!r}]."
        raise ValueError(msg)
    if len(set(names)) < len(names):
        twice = sorted({n for n in names if names.count(n) > 1})
        msg = (
            f"adata.obs[{batch_key!r}] holds different values that read alike: "
            f"{listed(twice, most=3)}. Make them text first: adata.obs[{batch_key!r}] = "
            f"adata.obs[{batch_key!r}].astype(str)."
        )
        raise ValueError(msg)
    return codes, names


def section_text(adata: AnnData, batch_key: str) -> np.ndarray:
    """Name of each observation's section, as :func:`sections` writes it; "nan" without one."""
    codes, names = _named(adata, batch_key)
    return np.array([*names, "nan"])[codes]


def _named(adata: AnnData, batch_key: str) -> tuple[np.ndarray, list[str]]:
    import pandas as pd

    column = pd.Series(obs_column(adata, batch_key, argument="batch_key"))
    codes, names = pd.factorize(column, sort=True)
    return codes.astype(np.int64), [str(n) for n in names]


def section_number(names: Sequence[str], section: Any, *, where: str = "the sections") -> int:
    """Place of a section in `names`; it may be asked for as it stands in obs (a number, a date).

    Raises
    ------
    KeyError
        No such section.
    """
    if str(section) not in names:
        raise missing(section, where, names, hint="Name another with section=.")
    return list(names).index(str(section))


def row_blocks(X: Any, *, rows: int | None = None) -> Iterator[tuple[int, Any]]:
    """Walk over blocks of observations of any storage, each in memory (csr_matrix or ndarray).

    The one block iterator of the package: AnnData's own slicing of backed and dask arrays is
    used, and no dask algebra (its sparse blocks do not support it). Sparse blocks are
    :func:`canonical`.

    Yields
    ------
    Number of the first row, and the block.
    """
    yield from map_rows(X, _unchanged, rows=rows)


def map_rows(
    X: Any, function: Callable[..., Any], *shared: Any, rows: int | None = None
) -> Iterator[tuple[int, Any]]:
    """Apply ``function(block, start, *shared)`` to the blocks that :func:`row_blocks` walks over.

    Blocks of a dask array are read and worked on by the caller's dask client when there is one
    (see :mod:`omicllm._core.blocks`); their bounds then follow the chunks of the array.

    Yields
    ------
    Number of the first row, and what the function made of the block, in the order of the rows.
    """
    bounds = _row_bounds(X, rows)
    tasks = ((X[start:stop], start) for start, stop in bounds)
    found = blocks.run(_on_block, tasks, function, shared)
    for (start, _), out in zip(bounds, found, strict=True):
        yield start, out


def _unchanged(block: Any, start: int) -> Any:
    return block


def _on_block(block: Any, start: int, function: Callable[..., Any], shared: tuple[Any, ...]) -> Any:
    from scipy import sparse

    block = canonical(block).tocsr() if sparse.issparse(block) else np.asarray(block)
    return function(block, start, *shared)


def _row_bounds(X: Any, rows: int | None) -> list[tuple[int, int]]:
    """First and last row of each block: of about `rows`, along the chunks of a dask array."""
    n, m = X.shape
    if rows is None:
        rows = max(1, min(n, settings.block_bytes // max(1, 8 * m)))
    cuts = [0]
    for size in X.chunks[0] if storage(X) == "dask" else (n,):
        start, stop = cuts[-1], cuts[-1] + size
        cuts += [*range(start + rows, stop, rows), stop]
    if len(cuts) > 2:  # small chunks are read together
        kept = [0]
        for here, following in pairwise(cuts[1:]):
            if following - kept[-1] > rows:
                kept.append(here)
        cuts = [*kept, n]
    return [(a, b) for a, b in pairwise(cuts) if b > a]


def storage(X: Any) -> str:
    """One word for how a matrix is stored, used in the log line of a verb."""
    from scipy import sparse

    if isinstance(X, np.ndarray):
        return "dense"
    if sparse.issparse(X):
        return X.format
    if isinstance(X, Reordered):
        return storage(X.X)
    if hasattr(X, "compute"):
        return "dask"
    return "backed"


def gene_major(X: Any, *, where: str = "The matrix") -> sparse.csc_matrix:
    """Any storage as an in-memory float32 csc_matrix (n_obs, n_vars): a gene is then contiguous.

    Backed and dask arrays are read in blocks of rows; nothing dense beyond one block is made.
    The result is :func:`canonical`, so that every storage gives the same arrays.

    Raises
    ------
    ValueError
        When values are too large to compute with; `where` is what the message calls them.
    """
    from scipy import sparse

    if isinstance(X, Reordered):
        out = gene_major(X.X, where=where)
        out = sparse.csc_matrix(
            (out.data, X.place.astype(out.indices.dtype)[out.indices], out.indptr), shape=out.shape
        )
        out = out[:, X.var]
        out.sort_indices()
        return out
    X = readable(X)
    kind = storage(X)
    if kind in ("dense", "csr", "csc"):
        refuse_large(X if kind == "dense" else X.data, where)
        out = sparse.csc_matrix(X, dtype=np.float32)
    else:
        group = getattr(X, "group", None)
        if group is not None:  # sparse in a file, which says how many values it holds
            n_stored = group["data"].shape[0]
            memory.check(
                f"Reading all values of a {kind} matrix",
                {
                    "values, row by row and gene by gene": ((2, n_stored), "float32"),
                    "their places": ((2, n_stored), "int32"),
                },
                instead="Take part of the genes or observations.",
            )
        logger.info("reading a %s matrix %s in blocks of rows", kind, tuple(X.shape))
        read = [block for _, block in map_rows(X, _as_float32, where)]
        out = sparse.csc_matrix(sparse.vstack(read, format="csr"))
    return _without_zeros(out)  # of what float32 cannot tell from 0


def vectors(value: Any, where: str) -> np.ndarray:
    """An entry of obsm or varm as a dense array of numbers with a row for each item.

    NaN and infinite values are left to the caller.

    Raises
    ------
    TypeError, ValueError
        When it holds no real numbers, values whose squares overflow, or has not two axes.
    """
    require_numbers(value, where)
    value = readable(value)
    out = value.toarray() if hasattr(value, "toarray") else np.asarray(value)
    if out.ndim != 2:
        msg = f"{where} must hold numbers, a row for each item, but has {out.ndim} axes."
        raise ValueError(msg)
    refuse_large(out, where)
    return out


def columns(X: Any) -> sparse.csc_matrix:
    """Any matrix in memory as a csc_matrix of its own dtype, :func:`canonical`."""
    from scipy import sparse

    return canonical(X if sparse.issparse(X) else sparse.csc_matrix(X)).tocsc()


def rows_sparse(X: Any) -> sparse.csr_matrix:
    """Any matrix in memory as a csr_matrix of its own dtype, :func:`canonical`."""
    from scipy import sparse

    return canonical(X if sparse.issparse(X) else sparse.csr_matrix(X)).tocsr()


def _as_float32(block: Any, start: int, where: str) -> sparse.csr_matrix:
    from scipy import sparse

    refuse_large(block.data if sparse.issparse(block) else block, where)
    return sparse.csr_matrix(block, dtype=np.float32)


def by_gene(adata: AnnData, layer: str | None = None) -> sparse.csc_matrix:
    """X or a layer, gene by gene: see :func:`gene_major`."""
    return gene_major(matrix(adata, layer), where=place(layer))


def dense_rows(adata: AnnData, layer: str | None = None) -> np.ndarray:
    """X or a layer as a new dense float64 array; NaN and infinite values are left to the caller."""
    X = matrix(adata, layer)
    out = np.empty(X.shape)
    rows, genes, X = (X.place, X.var, X.X) if isinstance(X, Reordered) else (None, None, X)
    for start, block in row_blocks(X):
        refuse_large(block.data if hasattr(block, "indptr") else block, place(layer))
        dense = block.toarray() if hasattr(block, "toarray") else block
        if rows is None:
            out[start : start + len(dense)] = dense
        else:
            out[rows[start : start + len(dense)]] = dense[:, genes]
    return out


def check_expression(
    X: sparse.csc_matrix,
    names: np.ndarray,
    *,
    counts: bool,
    layer: str | None,
    source: AnnData | None = None,
    has_input: bool = False,
) -> None:
    """Raise ValueError when expression is negative, not finite, or (for counts) not whole.

    `source` is the object it came from, in which counts are looked for; `has_input` says whether
    the caller has ``input="values"`` to offer.
    """
    not_counts = "values that are not whole numbers"
    bad = {"NaN or infinite values": ~np.isfinite(X.data), "negative values": X.data < 0}
    if counts:
        bad[not_counts] = X.data != np.rint(X.data)
    for what, where in bad.items():
        if not where.any():
            continue
        genes = np.unique(np.searchsorted(X.indptr, np.flatnonzero(where), side="right") - 1)
        if what.startswith("NaN"):
            hint = "Fill or drop them first."
        elif not counts:
            hint = "Non-negative values are expected: name the layer that holds them with layer=."
        else:
            hint = f"Counts as read from the file are expected: {where_counts(source, layer)}"
            hint += ", or pass input='values' for non-negative normalised data" * has_input + "."
        msg = (
            f"{place(layer)} holds {what} in {len(genes)} of {X.shape[1]} genes "
            f"({listed(names[genes], most=3)}). {hint}"
        )
        raise ValueError(msg)


def where_counts(source: AnnData | None, layer: str | None) -> str:
    """What to do to hand in counts, by where in the object there are any."""
    if source is None:
        return "name the layer that holds them with layer="
    there = [n for n in (None, *source.layers) if n != layer and _counted(source, n)]
    if there:
        says = [f"layer={n!r}" if n is not None else "no layer= (adata.X)" for n in there]
        return f"pass {' or '.join(says)}, which holds whole numbers"
    raw = source.raw
    if raw is not None and _looks_counted(raw.X):
        return "adata.raw holds whole numbers, so pass adata.raw.to_adata()"
    return f"name the layer that holds them with layer= (layers there: {listed(source.layers)})"


def _counted(source: AnnData, layer: str | None) -> bool:
    X = _values(source, layer)
    return X is not None and _looks_counted(X.X if isinstance(X, Reordered) else X)


def _looks_counted(X: Any) -> bool:
    """Whether the first rows hold whole numbers alone, some above 1."""
    if getattr(getattr(X, "dtype", None), "kind", "O") not in "iuf" or not min(X.shape):
        return False
    _, block = next(row_blocks(readable(X[: min(256, X.shape[0])])))
    values = block.data if hasattr(block, "indptr") else block
    with np.errstate(invalid="ignore"):
        return bool(values.size and (values >= 0).all() and (values == np.rint(values)).all()
                    and values.max() > 1)  # fmt: skip


def gene_names(adata: AnnData) -> np.ndarray:
    """Unique gene names, as an array of str."""
    from omicllm._core.names import unique

    return unique(adata.var_names, what="adata.var_names")
