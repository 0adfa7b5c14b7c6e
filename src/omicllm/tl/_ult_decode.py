"""`omicllm.tl.ult_decode`, `ult_quality`: strings back to values, and what was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from omicllm._core import docs, inputs, results
from omicllm.codec import image, text
from omicllm.tl._ult import gene_blocks
from omicllm.tl._ult_stored import layer_of, stored

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from mudata import MuData

    from omicllm.tl._ult_stored import Stored

#: Values decoded at once.
_BLOCK = 1 << 23


@docs.fill()
def ult_decode(
    adata: AnnData | MuData,
    *,
    key: str = "ult",
    rescale: bool = True,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Decode the strings of :func:`omicllm.tl.ult`.

    Parameters
    ----------
    {adata}
        Genes may have been dropped or reordered since; values go to their gene by name.
    key
        Root of the strings: ``obs["<key>"]`` and ``uns["<key>"]``.
    rescale
        Images: shift and scale each to [0, 1], as published (absolute brightness is lost).
    {mod}
        Of a MuData that was encoded as a whole, the segments of this modality are decoded.
    {key_added}
        By default `key`.
    {copy}

    Returns
    -------
    None, or the changed copy. Sets one of the following fields:

    ``adata.layers["ult_decoded"]`` : float32 (n_obs, n_vars)
        Profiles; gene images, read at the pixel of each spot.
    ``adata.obsm["ult_decoded"]`` : float32 (n_obs, H, W[, C])
        Images of observations.
    ``adata.obs["ult_decoded"]`` : str
        Texts.

    Raises
    ------
    KeyError
        There are no strings of that name.
    ValueError
        Strings with characters that are not in the table or of another length; genes that were
        not encoded.
    """
    found = stored(adata, key, mod)
    if found.method == "series":
        order = found.gene_order()
        out = np.empty((found.source.n_obs, len(order)), dtype=np.float32)
        for rows, values in _decoded_blocks(found):
            out[rows] = values[:, order]
        value = {"layers:{root}_decoded": out}
    elif found.method == "text":
        texts = found.table.decode(found.strings.tolist())
        value = {"obs:{root}_decoded": np.array(texts, dtype=object)}
    else:
        shapes = [found.shape or ()] * len(found.strings)
        images = found.table.decode(found.strings.tolist(), shapes, rescale=rescale)
        stack = np.stack(images).astype(np.float32)
        value = (
            {"obsm:{root}_decoded": stack}
            if found.axis == "obs"
            else {"layers:{root}_decoded": _at_spots(found.source, stack)}
        )
    result = results.Result(
        "tl.ult_decode", value, {"key": key, "rescale": rescale}, key_added=key_added or key
    )
    return results.write(adata, result, mod=mod, copy=copy)


def _decoded_blocks(found: Stored) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows, and the decoded values (float64) of all genes that were encoded."""
    assert found.codec is not None
    n, width = len(found.strings), len(found.codec.var_names[""])
    step = max(1, _BLOCK // max(1, width))
    for start in range(0, n, step):
        rows = slice(start, min(n, start + step))
        yield rows, found.codec.decode(found.strings[rows].tolist())[""]


def _at_spots(source: AnnData, stack: np.ndarray) -> np.ndarray:
    """Values of gene images at the pixel of each spot, (n_obs, n_vars)."""
    from omicllm.spatial.sections import stored_grid

    grid = stored_grid(source, "spatial_grid")[0]
    if stack.shape[1:3] != grid.shape:
        msg = (
            f"The strings hold images of {stack.shape[1]} x {stack.shape[2]} pixels, but the grid "
            f"has {grid.shape[0]} x {grid.shape[1]} now. Encode the gene images again with "
            "ol.tl.ult(adata, method='image')."
        )
        raise ValueError(msg)
    flat = stack.reshape(len(stack), -1)
    out = np.full((source.n_obs, len(stack)), np.nan, dtype=np.float32)
    out[grid.rows] = flat[:, grid.pixel].T
    return out


@docs.fill()
def ult_quality(
    adata: AnnData | MuData,
    *,
    key: str = "ult",
    layer: str | None = None,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Measure what is lost between the data and their strings.

    Parameters
    ----------
    {adata}
    key
        Root of the strings.
    layer
        Layer with the originals; by default the one that was encoded.
    {mod}
    {key_added}
        By default `key`.
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields, for profiles:

    ``adata.obs["ult_psnr"]`` : float64
        Peak signal-to-noise ratio in dB, ``20 log10(max_value / RMSE)``; 100 where exact.
    ``adata.obs["ult_rmse"]`` : float64
        Root mean squared error, in the units of the data.
    ``adata.obs["ult_saturated"]`` : float64
        Share of values beyond `max_value`: what the PSNR mostly depends on.
    ``adata.uns["ult_quality"]``
        ``baseline``: mean ``rmse``, and that of as many ``uniform`` steps (the same code without
        companding).

    For images ``adata.obs["ult_psnr"]`` (``adata.var`` for gene images), both images divided by
    their maxima; for texts ``adata.obs["ult_ratio"]``, the share of matching characters.

    Raises
    ------
    KeyError
        There are no strings of that name, or no such layer.
    ValueError
        Genes that were not encoded.
    """
    found = stored(adata, key, mod)
    layer = layer_of(found, layer, mod)
    arrays: dict[str, Any] = {}
    if found.method == "series":
        value, arrays["baseline"] = _profile_quality(found, layer)
    elif found.method == "text":
        column = str(found.params["text_key"])
        originals = inputs.obs_column(found.source, column, argument="text_key").tolist()
        decoded = found.table.decode(found.strings.tolist())
        ratio = [text.similarity(a, b) for a, b in zip(originals, decoded, strict=True)]
        value = {"obs:{root}_ratio": np.array(ratio)}
    else:
        value = {f"{found.axis}:{{root}}_psnr": _image_quality(found, layer)}
    result = results.Result(
        "tl.ult_quality", value, {"key": key, "layer": layer}, arrays, key_added or key
    )
    return results.write(adata, result, mod=mod, copy=copy)


def _profile_quality(found: Stored, layer: str | None) -> tuple[dict[str, Any], dict[str, float]]:
    assert found.codec is not None
    p, order = found.table.parameters, found.gene_order()
    peak = p.max_value * found.codec.scales.get("", 1.0)
    X = inputs.matrix(found.source, layer)
    n = found.source.n_obs
    squared, uniform, saturated = np.zeros(n), np.zeros(n), np.zeros(n)
    step = max(1, _BLOCK // max(1, len(order)))
    for start, block in inputs.row_blocks(X, rows=step):
        inputs.refuse_large(block.data if sparse.issparse(block) else block, inputs.place(layer))
        rows = slice(start, start + block.shape[0])
        dense = block.toarray() if sparse.issparse(block) else block
        x = dense.astype(np.float64, order="C")  # means are then equal to the last bit
        decoded = found.codec.decode(found.strings[rows].tolist())[""][:, order]
        squared[rows] = ((x - decoded) ** 2).mean(axis=1)
        clipped = np.clip(x, -peak, peak)
        steps = np.trunc(clipped / peak * p.steps) * (peak / p.steps)
        uniform[rows] = ((x - steps) ** 2).mean(axis=1)
        saturated[rows] = (np.abs(x) >= peak).mean(axis=1)
    rmse = np.sqrt(squared)
    with np.errstate(divide="ignore"):
        psnr = np.where(rmse == 0, 100.0, 20 * np.log10(peak / rmse))
    value = {
        "obs:{root}_psnr": psnr, "obs:{root}_rmse": rmse, "obs:{root}_saturated": saturated,
    }  # fmt: skip
    baseline = {
        "rmse": float(np.sqrt(np.nanmean(squared))),
        "uniform": float(np.sqrt(np.nanmean(uniform))),
    }
    return value, baseline


def _image_quality(found: Stored, layer: str | None) -> np.ndarray:
    source, shape = found.source, found.shape or ()
    if found.axis == "obs":
        originals: Any = iter(np.asarray(source.obsm[str(found.params["patches_key"])]))
    else:
        names = inputs.gene_names(source)
        originals = (i for block in gene_blocks(source, names, layer) for i in block)
    decoded = (found.table.decode([s], [shape])[0] for s in found.strings.tolist())
    return np.array([image.psnr(a, b) for a, b in zip(originals, decoded, strict=True)])
