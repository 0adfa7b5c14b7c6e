"""`omicllm.tl.ult`: profiles, images or texts as strings of a lookup table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from omicllm._core import checks, docs, inputs, results
from omicllm.codec.instances import rows_not_finite
from omicllm.codec.lookup_table import LookupTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

    from omicllm.model import ULT

#: Gene images drawn at once.
_GENES = 256


@docs.fill()
def ult(
    adata: AnnData | MuData,
    *,
    method: Literal["series", "image", "text"] = "series",
    layer: str | Mapping[str, str] | None = None,
    text_key: str | None = None,
    patches_key: str | None = None,
    bits: int = 8,
    mu: float = 255.0,
    max_value: float | str | Mapping[str, float] = "auto",
    patch_size: int | None = 8,
    max_coefficients: int = 3,
    precision: int = 1,
    rounding: Literal["trunc", "nearest"] = "trunc",
    offset: int = 33,
    separator: str | None = None,
    codepoints: Literal["safe", "reference"] = "safe",
    tie_break: Literal["value", "reference"] = "value",
    unseen: Literal["next", "nearest", "raise"] | None = None,
    unknown: Literal["raise", "max", "nan"] = "raise",
    joint: bool = False,
    modalities: Sequence[str] | None = None,
    model: ULT | str | Path | None = None,
    table: LookupTable | None = None,
    reindex: bool = False,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Write profiles, images or texts as short strings, one character per value.

    Values are turned into levels (profiles: mu-law companding), coefficients (images: cosine
    transform) or tokens (text: Burrows-Wheeler runs); these are counted and ranked, and each rank
    has a character.

    Parameters
    ----------
    {adata}
        A MuData without `mod` gives one text per observation over all its modalities,
        ``<rna>...<protein>...``, empty after the marker of a modality that lacks the observation.
    method
        ``"series"`` (profiles), ``"image"`` or ``"text"``.
    layer
        Layer to use instead of ``X``; of a MuData also a dict by modality.
    text_key
        Text: the column of `obs` to encode.
    patches_key
        Image: entry of `obsm` with one image per observation, (n_obs, H, W) or (n_obs, H, W, C).
        Without it the gene images are encoded, one string per gene.
    bits, mu, max_value, rounding
        Series: 2^bits levels on each side of zero, compression, the value that saturates
        (``"auto"``: the largest absolute value; of a MuData also a dict by modality), and
        ``"trunc"`` or ``"nearest"``.
    patch_size
        Genes in a word (None: one word), side of a patch of an image, characters of a chunk.
    max_coefficients, precision
        Image: side of the corner of coefficients that is kept, and their decimals.
    offset, separator
        First code point, and character between words.
    codepoints, tie_break, unseen, unknown
        See :class:`omicllm.codec.Parameters`.
    joint
        MuData: one table for all modalities, each scaled to its own `max_value`.
    modalities
        MuData: modalities of the text, in order; all by default.
    model
        A trained :class:`omicllm.model.ULT`, or the folder of a saved one, to use instead of
        fitting a table.
    table
        A table to use instead of fitting one, for example from :func:`omicllm.io.read_lut`.
    reindex
        With `model`: take genes by name where they are others or in another order.
    {mod}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.obs["ult"]`` : str
        One string per observation (``adata.var["ult"]``, one per gene, for gene images).
    ``adata.uns["ult"]``
        ``params``, the table as parallel arrays ``levels``, ``counts``, ``codepoints`` in rank
        order, and ``var_names``, the gene of each character. Of a MuData: such arrays under
        ``modalities``, by name. ``shapes`` of images.

    Raises
    ------
    KeyError
        No such layer, column or entry.
    ValueError
        NaN or infinite values; an empty object; other genes than those of `model`.

    Notes
    -----
    Unified lookup tables: Mach. Learn.: Sci. Technol. (2025), doi 10.1088/2632-2153/ae143c. A
    substitution table hides values only weakly; the strings are no means of privacy.

    The order of genes matters: a string holds them in the order of the object.
    """
    checks.one_of("method", method, ("series", "image", "text"))
    _refuse_idle(locals())
    if table is not None and (model is not None or table.parameters.method != method):
        msg = "Give either model= or table=, and a table made with the same method."
        raise ValueError(msg)
    if model is not None and method != "series":
        msg = f"model= encodes profiles (method='series'), not {method!r}."
        raise ValueError(msg)
    _refuse_unheard(locals())
    own: dict[str, Any] = {
        "bits": bits, "mu": mu, "patch_size": patch_size, "rounding": rounding, "offset": offset,
        "max_coefficients": max_coefficients, "precision": precision,
        "separator": separator or "", "codepoints": codepoints, "tie_break": tie_break,
        "unseen": unseen or "", "unknown": unknown,
    }  # fmt: skip
    call: dict[str, Any] = {"layer": layer, "fitted": model is None and table is None}
    if method == "series":
        whole = adata if mod is None and hasattr(adata, "mod") else inputs.resolve(adata, mod)
        result = _profiles(whole, own, call, max_value, joint, modalities, model, table, reindex)
    else:
        source = inputs.resolve(adata, mod)
        call |= {"text_key": text_key, "patches_key": patches_key}
        made = _texts if method == "text" else _images
        result = made(source, LookupTable([], [], method=method, **own), table, call)
    result.key_added = key_added
    return results.write(adata, result, mod=mod, copy=copy)


#: Arguments that a table has settled, and those that only one method reads.
_OF_TABLE = (
    "bits", "mu", "max_value", "patch_size", "max_coefficients", "precision", "rounding", "offset",
    "separator", "codepoints", "tie_break", "unseen", "unknown", "joint",
)  # fmt: skip
_OF_METHOD = {
    "series": ("bits", "mu", "max_value", "rounding", "joint", "modalities", "reindex"),
    "image": ("max_coefficients", "precision", "patches_key"),
    "text": ("text_key",),
}


def _refuse_unheard(given: dict[str, Any]) -> None:
    """Refuse arguments that change nothing in this call."""
    method = given["method"]
    for name in ("model", "table"):
        if given[name] is not None:
            why = f"with {name}=, which is applied as it is"
            checks.no_effect(ult, given, _OF_TABLE, because=why)
    other = [n for m, names in _OF_METHOD.items() if m != method for n in names]
    checks.no_effect(ult, given, other, because=f"with method={method!r}")
    if method == "text" or given["patches_key"] is not None:
        checks.no_effect(ult, given, ("layer",), because="where no expression is read")


#: Arguments that a table, or a model with its tables, has settled.
_OF_TABLE = (
    "bits", "mu", "max_value", "patch_size", "max_coefficients", "precision", "rounding", "offset",
    "separator", "codepoints", "tie_break", "unseen", "unknown", "joint",
)  # fmt: skip


def _refuse_idle(given: dict[str, Any]) -> None:
    """Raise for arguments without effect on this method, or beside a table that is given."""
    of_method = {"series": ("text_key", "patches_key"), "image": ("text_key",)}
    idle = of_method.get(given["method"], ("patches_key", "layer"))
    if given["patches_key"] is not None:
        idle = (*idle, "layer")
    because = f"with method={given['method']!r}"
    if given["method"] == "image" and given["patches_key"] is not None:
        because += " and patches_key="
    checks.no_effect(ult, given, dict.fromkeys(idle), because=because)
    if given["model"] is not None or given["table"] is not None:
        name = "model" if given["model"] is not None else "table"
        because = f"with {name}=, whose table is applied as it is"
        checks.no_effect(ult, given, _OF_TABLE, because=because)


def _profiles(
    data: Any,
    own: dict[str, Any],
    call: dict[str, Any],
    max_value: Any,
    joint: bool,  # noqa: FBT001
    modalities: Any,
    model: Any,
    table: LookupTable | None,
    reindex: bool,  # noqa: FBT001
) -> results.Result:
    """Strings of profiles, and how they were made."""
    from omicllm.model._ult_codec import ProfileCodec
    from omicllm.model._ult_sources import sources

    if model is not None and not hasattr(model, "codec_"):
        from omicllm.model import ULT

        call["model_dir"] = str(model)
        model = ULT.load(model)
    codec = None if model is None else model.codec
    if codec is not None and modalities is None and hasattr(data, "mod"):
        modalities = list(codec.tables)
    read = sources(data, layer=call["layer"], modalities=modalities)
    if table is not None:
        if set(read) != {""}:
            msg = "table= is for an AnnData; for a MuData use joint=True, or model=."
            raise ValueError(msg)
        codec = ProfileCodec({"": table}, {"": read[""].var_names})
    if codec is None:
        codec = ProfileCodec.fit(read, max_value=max_value, joint=joint, **own)
    strings = [s for block in codec.encode_blocks(read, reindex=reindex) for s in block]
    stored = codec.as_dict()
    first = next(iter(codec.tables.values())).parameters.as_dict()
    params = {**first, **call, "joint": codec.joint}
    if set(stored) == {""}:
        names = ("levels", "counts", "codepoints", "var_names")
        arrays = {k: stored[""][k] for k in names}
    else:
        arrays = {"modalities": stored}
        params["modalities"] = list(stored)  # their order in a text; files sort them
        params["max_value"] = {n: a["max_value"] * a["scale"] for n, a in stored.items()}
    return results.Result("tl.ult", {"obs:{root}": np.array(strings, dtype=object)}, params, arrays)


def _texts(
    source: AnnData, empty: LookupTable, table: LookupTable | None, call: dict[str, Any]
) -> results.Result:
    """Strings of a column of texts."""
    if call["text_key"] is None:
        msg = f"method='text' needs text_key=, a column of adata.obs ({checks.listed(source.obs)})."
        raise ValueError(msg)
    texts = inputs.obs_column(source, call["text_key"], argument="text_key").tolist()
    missing = [n for n, t in zip(source.obs_names, texts, strict=True) if not isinstance(t, str)]
    if missing:
        msg = (
            f"{len(missing)} observations have no text in adata.obs[{call['text_key']!r}] "
            f"({checks.listed(missing, most=3)})."
        )
        raise ValueError(msg)
    fitted = _filled(empty, table, lambda: iter((texts,)))
    values = {"obs:{root}": np.array(fitted.encode(texts), dtype=object)}
    return results.Result("tl.ult", values, _params(fitted, call), fitted.as_arrays())


def _images(
    source: AnnData, empty: LookupTable, table: LookupTable | None, call: dict[str, Any]
) -> results.Result:
    """Strings of one image per observation, or of the gene images."""
    key = call["patches_key"]
    if key is not None:
        if key not in source.obsm:
            raise checks.missing(key, "adata.obsm", source.obsm, hint="Name one with patches_key=.")
        inputs.require_numbers(source.obsm[key], f"adata.obsm[{key!r}]")
        stack = np.asarray(source.obsm[key])
        if stack.ndim not in (3, 4):
            msg = (
                f"adata.obsm[{key!r}] has shape {stack.shape}; one image per observation is "
                "(n_obs, H, W) or (n_obs, H, W, C)."
            )
            raise ValueError(msg)
        _refuse_not_finite(stack, np.asarray(source.obs_names), f"adata.obsm[{key!r}]")
        fitted = _filled(empty, table, lambda: iter((list(stack),)))
        values = {"obs:{root}": np.array(fitted.encode(list(stack)), dtype=object)}
        shape = stack.shape[1:]
    else:
        names = inputs.gene_names(source)
        shape = next(gene_blocks(source, names[:1], call["layer"])).shape[1:]

        def blocks() -> Iterator[list[np.ndarray]]:
            for images in gene_blocks(source, names, call["layer"]):
                yield list(images)

        fitted = _filled(empty, table, blocks)
        strings = [s for block in blocks() for s in fitted.encode(block)]
        values = {"var:{root}": np.array(strings, dtype=object)}
    arrays = {**fitted.as_arrays(), "shape": np.array(shape, dtype=np.int64)}
    return results.Result("tl.ult", values, _params(fitted, call), arrays)


def gene_blocks(source: AnnData, names: Any, layer: str | None) -> Iterator[np.ndarray]:
    """Gene images (genes, H, W) in blocks of genes; pixels without a spot are zero."""
    from omicllm.get import gene_images

    for start in range(0, len(names), _GENES):
        chosen = [str(n) for n in names[start : start + _GENES]]
        images = gene_images(source, chosen, layer=layer)
        _refuse_not_finite(images, np.asarray(chosen), "The images")
        yield images


def _refuse_not_finite(stack: np.ndarray, names: np.ndarray, what: str) -> None:
    bad = rows_not_finite(stack.reshape(len(stack), -1))
    if len(bad):
        msg = (
            f"{what} hold NaN or infinite values in {len(bad)} row(s) "
            f"({checks.listed(names[bad], most=5)}). Fill or drop them first."
        )
        raise ValueError(msg)


def _filled(empty: LookupTable, table: LookupTable | None, blocks: Any) -> LookupTable:
    if table is not None:
        return table
    for block in blocks():
        empty.update(block)
    if not len(empty):
        msg = "There is nothing to count: the object or its texts are empty."
        raise ValueError(msg)
    return empty


def _params(table: LookupTable, call: dict[str, Any]) -> dict[str, Any]:
    return {**table.parameters.as_dict(), **call}
