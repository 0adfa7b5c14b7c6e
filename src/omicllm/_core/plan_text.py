"""What verbs on profiles as text, synthetic cohorts and histology cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core.plan import Cost
from omicllm._core.plan_sizes import by_rows, in_memory
from omicllm._core.settings import settings

if TYPE_CHECKING:
    from omicllm._core.plan_sizes import Sizes

#: As in `model._omic_lm_parts` and `model._omic_lm_text`; a test compares them.
STEPS, N_TOP, MEMBERS = 40, 400, 3


def _block(s: Sizes, row_bytes: float) -> float:
    """Bytes of a block of rows with so many bytes a row."""
    rows = max(1, min(s.n, settings.block_bytes // max(1, 8 * s.m)))
    return rows * row_bytes


def ult(s: Sizes, p: dict[str, Any]) -> Cost:
    """`tl.ult`: profiles, texts, gene images and patches."""
    advice = ["encode parts of the observations with one model=, so that strings stay small"]
    if p["method"] == "series":
        cells = float(s.n) * s.m
        given = p["model"] is not None or p["table"] is not None
        passes = 1 if given else (2 if p["max_value"] != "auto" else 3)
        return Cost(
            "tl.ult:series", {"one": 1.0, "cells": cells, "observations": s.n},
            {"one": 2.0**20, "strings": cells, "block": _block(s, 8.0 * s.m)}, 0.0,
            s.nnz * s.outside * passes,
            [*(by_rows(s) or ["encoded in blocks of rows"]), "strings are held in memory"], advice,
        )  # fmt: skip
    if p["method"] == "text":
        texts = [] if p["text_key"] is None else np.asarray(s.adata.obs[p["text_key"]]).tolist()
        letters = float(sum(len(t) for t in texts if isinstance(t, str)))
        return Cost(
            "tl.ult:text", {"one": 1.0, "letters": letters, "texts": len(texts)},
            {"one": 2.0**20, "letters": letters}, path=["texts are in memory"], advice=advice,
        )  # fmt: skip
    if p["patches_key"] is not None:
        values = float(s.n) * s.width("obsm", p["patches_key"])
        read = 0.0
    else:
        shape = s.adata.uns.get("spatial_grid", {}).get("shape", (np.sqrt(s.n), np.sqrt(s.n)))
        values, read = float(s.m) * float(np.prod(np.asarray(shape, dtype=float))), s.nnz
    return Cost(
        "tl.ult:image", {"one": 1.0, "pixels": values, "stored": read},
        {"one": 2.0**20, "pixels": values, "stored": 8 * read}, 0.0, read * s.outside,
        ["images are encoded 256 at a time"], advice,
    )  # fmt: skip


def ult_distances(s: Sizes, p: dict[str, Any]) -> Cost:
    """`tl.ult_distances`."""
    n = float(min(s.n, p["n_sample"] or s.n))
    metrics = [p["metrics"]] if isinstance(p["metrics"], str) else list(p["metrics"])
    edits = sum(m in ("levenshtein", "indel") for m in metrics)
    pairs, length = n * (n - 1) / 2, float(s.m)
    return Cost(
        "tl.ult_distances",
        {
            "one": 1.0, "pairs": pairs * length * len(metrics), "edits": edits * pairs * length**2,
            "permuted": len(metrics) * 2.0 * p["n_permutations"] * n * n, "stored": s.nnz,
        },
        {"one": 2.0**20, "profiles": 8 * n * length, "pairs": 8 * n * n},
        0.0, s.nnz * s.outside,
        [f"{n:,.0f} observations, {pairs:,.0f} pairs", *by_rows(s)],
        ["lower n_sample=", "leave out levenshtein and indel: they take the square of the length"],
    )  # fmt: skip


def augment(s: Sizes, p: dict[str, Any]) -> Cost:
    """`pp.augment`."""
    wanted = np.asarray(s.adata.obs[p["labels_key"]]).astype(str)
    train = np.ones(s.n, dtype=bool)
    if p["split_key"] in s.adata.obs:
        train = np.asarray(s.adata.obs[p["split_key"]]).astype(str) == "train"
    names, sizes = np.unique(wanted[train], return_counts=True)
    n_new = p["n_new"]
    if n_new is None:
        size = p["class_size"]
        size = sizes.max() if size in (None, "max") else size
        new = float(np.maximum(size - sizes, 0).sum())
    elif isinstance(n_new, (int, np.integer)):
        new = float(n_new) * len(names)
    else:
        new = float(sum(n_new.values()))
    kept = 0.0 if p["only_synthetic"] else 1.0
    share = s.nnz / max(1.0, float(s.n) * s.m)
    per = 8.0 if s.sparse else 4.0 / max(share, 1e-9)
    drawn = new * s.m
    return Cost(
        f"pp.augment:{p['method']}",
        {
            "one": 1.0, "drawn": drawn, "stored": s.nnz, "rows": new * p["r"] * s.m * share,
            "fitted": float((sizes**2).sum()) * s.m * share,
        },
        {"one": 2.0**20, "drawn": drawn * share * per, "stored": s.nnz * per * (1 + kept)},
        0.0, s.nnz * s.outside * (1 + kept),
        [
            f"{new:,.0f} new rows of {len(names)} classes",
            *(["rows are drawn on the dask client when there is one"] if s.kind == "dask" else []),
            "the new object is held in memory",
        ],
        ["draw fewer rows with n_new= or class_size=", "use only_synthetic=True"],
    )  # fmt: skip


def classify_omics(s: Sizes, p: dict[str, Any]) -> Cost:
    """`tl.classify_omics` with the tiny backbone."""
    unknown = p["preset"] or p["backbone"] not in (None, "tiny") or p["lora"]
    args = dict(p["model_args"] or {})
    members = float(args.get("n_members", MEMBERS))
    top = float(min(p["n_top"] or N_TOP, s.m))
    labels = np.asarray(s.adata.obs[p["labels_key"]]).astype(str)
    has = ~np.isin(labels, ("nan", "", "NOLBL", "None", "<NA>"))
    classes = len(np.unique(labels[has]))
    split = p["split_key"] in s.adata.obs
    if split:
        has &= np.asarray(s.adata.obs[p["split_key"]]).astype(str) == "train"
    rows, n_folds = float(has.sum()), p["n_folds"]
    fits = [rows] if p["model"] is None else []
    if not split and p["model"] is None and n_folds:
        fits += [rows * (1 - 1 / n_folds)] * n_folds
    shown = steps = 0.0
    for each in fits:
        n_steps = -(-each // (p["batch_size"] or 32))
        epochs = p["max_epochs"] or max(3.0, -(-STEPS // max(1.0, n_steps)))
        shown, steps = shown + epochs * each, steps + epochs * n_steps
    judged = float(p["baselines"]) * sum(fits[1:] or fits)
    seconds = {
        "one": 1.0, "shown": shown * top * members, "steps": steps * members,
        "read": float(s.n) * s.m * (len(fits) * 2 + 2), "told": s.n * top * members,
        "baselines": judged * top * classes, "trees": judged * float(np.sqrt(top)) * 100,
        "fits": len(fits),
    }  # fmt: skip
    memory = {
        "one": 2.0**20, "profiles": 4.0 * s.n * top, "block": _block(s, 8.0 * s.m),
        "batch": float(p["batch_size"] or 32) * top * members * 32 * 4,
        "told": 4.0 * min(s.n * top, 65536.0) * 32,
    }  # fmt: skip
    return Cost(
        "tl.classify_omics" + (f":{p['backbone'] or p['preset'] or 'lora'}" if unknown else ""),
        seconds, memory, 0.0, s.nnz * s.outside * (2 * len(fits) + 2),
        [f"{top:.0f} genes in the text, {len(fits)} fit(s) of {members:.0f} members", *by_rows(s)],
        ["lower n_top=", "give a split (ol.pp.split) or n_folds=0: one fit instead of several"],
        on_gpu=True,
    )  # fmt: skip


def spam(s: Sizes, p: dict[str, Any]) -> Cost:
    """`tl.spam`."""
    f, n = float(s.width("obsm", p["use_rep"])), float(s.n)
    q = float(len(p["genes"]) if p["genes"] is not None else min(p["n_top_genes"] or s.m, s.m))
    variant = "tl.spam" + (f":pretrain={p['pretrain']}" if p["pretrain"] else "")
    extra, how = in_memory(s)
    shown = n * float(p["max_epochs"]) * 4
    seconds = {
        "one": 1.0, "stored": s.nnz, "features": n * f * f, "kernel": n * n * f, "solved": n**3,
        "genes": n * q, "square": n * n * q, "shown": shown, "outputs": shown * q,
    }  # fmt: skip
    memory = {
        "one": 2.0**20, "stored": 8 * s.nnz, "kernel": 8 * n * n, "genes": 8 * n * q,
        "features": 8 * n * f,
    }  # fmt: skip
    return Cost(
        variant, seconds, memory, 4 * n * s.m, s.nnz * s.outside,
        [*how, f"{q:,.0f} genes from {f:.0f} image features"],
        [
            "name fewer genes= or n_top_genes=", "lower max_epochs=: 0 keeps the closed form",
            "train on fewer rows (split_key=) and apply with ol.tl.predict_expression",
        ],
        on_gpu=True,
    )  # fmt: skip


def histology_baselines(s: Sizes, p: dict[str, Any]) -> Cost:
    """`tl.histology_baselines`."""
    f, n = float(s.width("obsm", p["use_rep"])), float(s.n)
    q = float(len(p["genes"]) if p["genes"] is not None else min(p["n_top"] or s.m, s.m))
    key = next(
        (k for k in (p["patient_key"], "patient", p["section_key"], "section", "library_id")
         if k is not None and k in s.adata.obs), None,
    )  # fmt: skip
    folds = 1.0 if p["split_key"] else float(len(s.parts(key)))
    folds = 9.0 if folds < 2 and not p["split_key"] else folds
    k = min(float(p["n_components"]), f, n)
    seconds = {
        "one": 1.0, "stored": s.nnz, "features": folds * n * f * min(n, f),
        "genes": folds * n * q, "fits": folds * n * k * q, "near": n * n * k,
        "scores": float(p["n_boot"]) * q * 25, "folds": folds,
    }  # fmt: skip
    memory = {
        "one": 2.0**20, "stored": 8 * s.nnz, "features": 8 * n * f, "genes": 8 * n * q,
        "near": 4 * n * n / folds,
    }  # fmt: skip
    extra, how = in_memory(s)
    return Cost(
        "tl.histology_baselines", seconds, memory, extra, s.nnz * s.outside,
        [*how, f"{folds:.0f} division(s), {q:,.0f} genes from {f:.0f} image features"],
        ["name fewer genes= or n_top=", "leave out methods=", "lower n_boot="],
    )  # fmt: skip


def image_features(s: Sizes, p: dict[str, Any]) -> Cost:
    """`pp.image_features` with the classical encoder."""
    encoder = p["encoder"]
    name = encoder if isinstance(encoder, str) else "module"
    side = float(p["out_px"] or 96)
    n, scales = float(s.n), 2.0 if p["context"] else 1.0
    batch = min(n, p["batch_size"])
    return Cost(
        "pp.image_features" + ("" if name == "classical" else f":{name}"),
        {"one": 1.0, "observations": n, "pixels": n * side * side * scales},
        {"one": 2.0**20, "batch": batch * side * side * 12, "features": 4 * n * 84},
        path=[f"patches of {side:.0f} pixels, {batch:.0f} at a time; X is not read"],
        advice=["lower out_px=", "leave out the wider scale with context=0"],
    )  # fmt: skip


MODELS = {
    "pp.augment": augment, "pp.image_features": image_features,
    **{
        f"tl.{f.__name__}": f
        for f in (ult, ult_distances, classify_omics, spam, histology_baselines)
    },
}  # fmt: skip
