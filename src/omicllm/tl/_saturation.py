"""`omicllm.tl.saturation_ism`, `input_gradients`: which bases a trained model reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, docs, inputs, results
from omicllm._core.log import progress
from omicllm.genome import tokens as nucleotides
from omicllm.genome.fasta import Genome as Fasta
from omicllm.tl._sequence_models import fitting_length, predictor_of
from omicllm.tl._variant_effects import chosen_windows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

    from omicllm.genome.fasta import Genome

SHARED = """\
genome
    FASTA file or :class:`omicllm.io.Genome`.
genes
    Genes; all with a window by default.
n_bases
    Bases about the middle of the window (the start site) that are scored; all when None or where
    there are fewer."""


@docs.fill(shared=SHARED)
def saturation_ism(
    adata: AnnData | MuData,
    *,
    model: Any,
    genome: Genome | str | Path,
    genes: str | Sequence[str] | None = None,
    n_bases: int | None = 200,
    both_strands: bool = True,
    batch_size: int = 16,
    accelerator: str = "auto",
    window_key: str = "window",
    mod: str | None = None,
    show_progress: bool | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Change every base to the three others, one at a time, and predict.

    Parameters
    ----------
    {adata}
    model
        Trained :class:`omicllm.model.PersonalExpression`, or folder with one.
    {shared}
    both_strands
        Average the sequence and its reverse complement.
    batch_size
        Sequences in a batch. There are three for each base, and two strands.
    accelerator
        Where to run.
    window_key
        Root of the windows of :func:`omicllm.pp.gene_windows`.
    {mod}
    {show_progress}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.uns["saturation_ism"]`` : dict
        ``scores`` float32 (n_genes, n_bases, 4): prediction with A, C, G or T at that base, minus
        that of the reference; 0 for the base that is there. In the direction of the gene.
        ``reference`` int8 (n_genes, n_bases), ``offset`` int64 (n_genes,): distance of the first
        base from the start site; ``genes``.

    Raises
    ------
    KeyError, ValueError
        No such gene or windows; windows of a length that the model does not take.
    TypeError, RuntimeError
        A model that is no PersonalExpression, or not trained.

    See Also
    --------
    omicllm.get.ism_df, omicllm.pl.ism_logo
    """
    checks.whole_number("batch_size", batch_size)
    names, rows, inside, offset, predictor, path = _prepared(
        adata, model, genome, genes, n_bases, window_key, mod
    )
    n = inside.stop - inside.start
    scores = np.zeros((len(names), n, 4), dtype=np.float32)
    for g, row in enumerate(
        progress(rows, what="Genes", total=len(rows), show_progress=show_progress)
    ):
        bases = np.arange(inside.start, inside.stop)
        at, new = (a.ravel() for a in np.meshgrid(bases, np.arange(4), indexing="ij"))
        changed = row[at] != new
        variants = np.repeat(row[None], int(changed.sum()) + 1, axis=0)
        variants[np.arange(1, len(variants)), at[changed]] = new[changed]
        values = predictor.predict_tokens(
            variants, both_strands=both_strands, batch_size=batch_size, accelerator=accelerator
        )
        scores[g, at[changed] - inside.start, new[changed]] = values[1:] - values[0]
    arrays = {
        "scores": scores, "reference": np.stack(rows)[:, inside], "offset": offset, "genes": names,
    }  # fmt: skip
    params = {
        "genome": path, "n_bases": n_bases, "both_strands": both_strands, "window_key": window_key,
        "model": predictor.strategy,
    }  # fmt: skip
    result = results.Result("tl.saturation_ism", {}, params, arrays, key_added)
    return results.write(adata, result, mod=mod, copy=copy)


@docs.fill(shared=SHARED)
def input_gradients(
    adata: AnnData | MuData,
    *,
    model: Any,
    genome: Genome | str | Path,
    genes: str | Sequence[str] | None = None,
    n_bases: int | None = None,
    both_strands: bool = True,
    accelerator: str = "auto",
    window_key: str = "window",
    mod: str | None = None,
    show_progress: bool | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Gradient of the prediction by each base of the reference; one pass instead of three a base.

    Parameters
    ----------
    {adata}
    model
        Trained :class:`omicllm.model.PersonalExpression`, or folder with one, whose trunk has
        gradients by base (no model of transformers).
    {shared}
    both_strands
        Of the mean over both strands.
    accelerator
        Where to run.
    window_key
        Root of the windows of :func:`omicllm.pp.gene_windows`.
    {mod}
    {show_progress}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.uns["input_gradients"]`` : dict
        ``scores`` float32 (n_genes, n_bases, 4): gradient by A, C, G and T, minus their mean (a
        sequence always has one base at each place, so a change of all four means nothing). In the
        direction of the gene. ``reference``, ``offset``, ``genes`` as in :func:`saturation_ism`.

    Raises
    ------
    KeyError, ValueError
        No such gene or windows; windows of a length that the model does not take.
    TypeError, RuntimeError
        A model that is no PersonalExpression, not trained, or without such gradients.
    """
    names, rows, inside, offset, predictor, path = _prepared(
        adata, model, genome, genes, n_bases, window_key, mod
    )
    scores = np.zeros((len(names), inside.stop - inside.start, 4), dtype=np.float32)
    for g, row in enumerate(
        progress(rows, what="Genes", total=len(rows), show_progress=show_progress)
    ):
        gradient = predictor.input_gradients(
            row[None], both_strands=both_strands, accelerator=accelerator
        )[0, inside]
        scores[g] = gradient - gradient.mean(axis=1, keepdims=True)
    arrays = {
        "scores": scores, "reference": np.stack(rows)[:, inside], "offset": offset, "genes": names,
    }  # fmt: skip
    params = {
        "genome": path, "n_bases": n_bases, "both_strands": both_strands, "window_key": window_key,
        "model": predictor.strategy,
    }  # fmt: skip
    result = results.Result("tl.input_gradients", {}, params, arrays, key_added)
    return results.write(adata, result, mod=mod, copy=copy)


def _prepared(
    adata: Any, model: Any, genome: Any, genes: Any, n_bases: int | None, window_key: str,
    mod: str | None,
) -> tuple[list[str], list[np.ndarray], slice, np.ndarray, Any, str]:  # fmt: skip
    """Check everything; genes, reference tokens, scored bases, their offset, model, genome."""
    source = inputs.resolve(adata, mod)
    if n_bases is not None:
        checks.whole_number("n_bases", n_bases)
    frame = chosen_windows(source, genes, window_key)
    sizes = np.unique(frame["end"] - frame["start"])
    if len(sizes) > 1:
        msg = f"Windows have {len(sizes)} lengths; make them alike with ol.pp.gene_windows."
        raise ValueError(msg)
    length = int(sizes[0])
    predictor = predictor_of(model)
    fitting_length(
        predictor.module.trunk, length, what="The windows",
        fix="make others with ol.pp.gene_windows(..., length=)",
    )  # fmt: skip
    genome = genome if isinstance(genome, Fasta) else Fasta(genome)
    rows = []
    for window in frame.itertuples():
        genome.check_window(window.chrom, window.start, window.end)
        row = genome.tokens(window.chrom, window.start, window.end)
        rows.append(nucleotides.reverse_complement(row) if window.strand == "-" else row)
    n = length if n_bases is None else min(n_bases, length)
    first = (length - n) // 2
    # On "-" the start site is one base nearer to the beginning of the reversed window.
    minus = (frame["strand"] == "-").to_numpy()
    site = np.where(minus, length - 1 - length // 2, length // 2)
    names = [str(name) for name in frame.index]
    return names, rows, slice(first, first + n), first - site, predictor, str(genome.path)
