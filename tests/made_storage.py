"""One matrix in many clothes, and whether anything of an object changed."""

from __future__ import annotations

import numpy as np
from scipy import sparse

FORMS = {
    "csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "csr_array": sparse.csr_array,
    "csc_array": sparse.csc_array,
}  # fmt: skip


def dressed(X, form="csr", dtype="float32", *, order="sorted", read_only=False, zeros=False):
    """The numbers of a matrix in another storage.

    `order` is ``"sorted"``, ``"unsorted"``, ``"duplicates"`` or ``"both"``; of what is stored
    twice the two parts add up to the number. `zeros` stores some zeros.
    """
    dense = (X.toarray() if sparse.issparse(X) else np.asarray(X)).astype(dtype)
    if form in ("C", "F"):
        out = np.array(dense, order=form)
        out.flags.writeable = not read_only
        return out
    by_row = form.startswith("csr")
    major, minor = np.nonzero(dense if by_row else dense.T)
    value = dense[(major, minor) if by_row else (minor, major)]
    parts = [(major, minor, value)]
    if order in ("duplicates", "both") and len(value):
        part = value // 2 if value.dtype.kind in "iu" else value / 2
        parts = [(major, minor, part), (major, minor, value - part)]
    if zeros:
        at = np.arange(min(dense.shape))
        parts.append((at, at, np.zeros(len(at), dtype=dense.dtype)))
    major, minor, value = (np.concatenate(p) for p in zip(*parts, strict=True))
    place = np.arange(len(value))
    inner = -minor if order in ("unsorted", "both") else minor
    by = np.lexsort((place, inner, major))
    n = dense.shape[0 if by_row else 1]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(major, minlength=n))])
    arrays = value[by].astype(dtype), minor[by].astype(np.int32), indptr.astype(np.int32)
    for array in arrays:
        array.flags.writeable = not read_only
    return FORMS[form](arrays, shape=dense.shape)


def fingerprint(value):
    """Everything of a value that a call must leave as it is, marks of scipy included."""
    if sparse.issparse(value):
        marks = {k: v for k, v in vars(value).items() if k.startswith("_has_")}
        arrays = [vars(value).get(n) for n in ("data", "indices", "indptr", "row", "col")]
        return type(value), value.shape, marks, [fingerprint(a) for a in arrays]
    if isinstance(value, np.ndarray):
        flags = value.flags.writeable, value.strides
        plain = value.tolist() if value.dtype.hasobject else value.tobytes()
        return value.dtype, value.shape, flags, repr(plain)
    if hasattr(value, "n_obs") and hasattr(value, "uns"):
        return of_object(value)
    if hasattr(value, "columns") and hasattr(value, "index"):
        columns = [(name, str(value[name].dtype), value[name].tolist()) for name in value.columns]
        return repr((value.index.tolist(), columns))
    if hasattr(value, "mod"):
        return {name: of_object(value.mod[name]) for name in value.mod}
    if hasattr(value, "items"):
        return {str(k): fingerprint(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [fingerprint(v) for v in value]
    return repr(value)


def of_object(adata):
    """The fingerprint of each slot of an AnnData."""
    out = {"X": fingerprint(adata.X), "obs_names": list(adata.obs_names)}
    for what in ("layers", "obsm", "obsp", "varm", "varp", "uns"):
        for key, value in getattr(adata, what).items():
            out[f"{what}:{key}"] = fingerprint(value)
    for what in ("obs", "var"):
        table = getattr(adata, what)
        for key in table.columns:
            out[f"{what}:{key}"] = repr((str(table[key].dtype), table[key].tolist()))
    if adata.raw is not None:
        out["raw"] = fingerprint(adata.raw.X)
    return out


def unchanged(before, after) -> None:
    """Fail when something that was there before is not as it was."""
    changed = [key for key in before if key not in after or before[key] != after[key]]
    assert not changed, f"changed: {changed}"
