"""`omicllm.tl.embed_genes`, `embed_sequences`: what a genome model makes of sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from omicllm._core import checks, docs, inputs, results
from omicllm._core.log import logger
from omicllm.genome.windows import as_windows, from_columns
from omicllm.tl._sequence_models import as_tokens, run_options, trunk_of, watched

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

    from omicllm.genome.fasta import Genome

MODEL_DOC = """\
model
    A :class:`omicllm.nn.GenomeTrunk`: :class:`omicllm.nn.Enformer`, a model of transformers in
    :class:`omicllm.nn.TransformersTrunk`, a network of yours in :class:`omicllm.nn.ModuleTrunk`;
    or a trained :class:`omicllm.model.PersonalExpression` or
    :class:`omicllm.model.GeneMaskLM`; or the folder of a checkpoint or saved model. Its
    ``name`` is the root of what is written."""
RUN_DOC = """\
n_bins
    Central bins that are averaged; all when None or where there are fewer.
both_strands
    Average the sequence and its reverse complement.
batch_size
    Sequences in a batch.
accelerator
    ``"auto"``, ``"cpu"``, ``"gpu"`` or ``"mps"``.
precision
    ``"32"`` or ``"bf16"``.
allow_download
    Fetch a checkpoint named in `model` from the Hugging Face hub."""


@docs.fill(model=MODEL_DOC, run=RUN_DOC)
def embed_genes(
    adata: AnnData | MuData,
    *,
    model: Any,
    genome: Genome | str | Path | None = None,
    window_key: str = "window",
    sequence_key: str = "sequence",
    length: int | None = None,
    n_bins: int | None = 10,
    both_strands: bool = True,
    batch_size: int = 8,
    accelerator: str = "auto",
    precision: Literal["32", "bf16"] = "32",
    allow_download: bool = False,
    mod: str | None = None,
    show_progress: bool | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Embed every gene by the reference sequence around its start.

    Parameters
    ----------
    {adata}
    {model}
    genome
        FASTA file or :class:`omicllm.io.Genome`, read at the windows of
        :func:`omicllm.pp.gene_windows`; without it, sequences are taken from ``adata.var``.
    window_key
        Root of those windows.
    sequence_key
        Column of `var` that :func:`omicllm.pp.attach_sequences` wrote.
    length
        Cut or pad sequences about their centre to this length; by default the longest, rounded
        up to what the model takes.
    {run}
    {mod}
    {show_progress}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.varm["X_<name>"]`` : float32 (n_vars, dim)
        Mean embedding of the central bins; NaN for genes without a sequence. Each distinct
        sequence is run once.

    Raises
    ------
    KeyError
        No windows, or no such column of sequences.
    ValueError
        A length that the model does not take; no gene with a sequence.

    Examples
    --------
    >>> trunk = ol.nn.Enformer.from_pretrained("folder")  # doctest: +SKIP
    >>> ol.tl.embed_genes(adata, model=trunk, genome="hg38.fa")  # doctest: +SKIP
    """
    source = inputs.resolve(adata, mod)
    unread, other = ("window_key", "without") if genome is None else ("sequence_key", "with")
    checks.no_effect(embed_genes, locals(), (unread,), because=f"{other} genome=")
    inputs.gene_names(source)
    device = run_options(batch_size, n_bins, precision, accelerator)
    var = source.var.to_memory() if hasattr(source.var, "to_memory") else source.var
    sequences = np.full(source.n_vars, "", dtype=object)
    if genome is not None:
        from omicllm.genome.fasta import Genome as Fasta

        genome = genome if isinstance(genome, Fasta) else Fasta(genome)
        frame = from_columns(var, window_key)
        windows = as_windows(frame)
        for window in windows:
            genome.check_window(*window[:3])
        for row, window in zip(var.index.get_indexer(frame.index), windows, strict=True):
            sequences[row] = genome.fetch(*window[:3], strand=window.strand)
    elif sequence_key in var:
        sequences[:] = [s if isinstance(s, str) else "" for s in var[sequence_key]]
    else:
        raise checks.missing(
            sequence_key, "adata.var", var,
            hint="Make it with ol.pp.attach_sequences(adata, genome=...), or pass genome=.",
        )  # fmt: skip
    has = np.array([bool(s) for s in sequences])
    if not has.any():
        msg = "No gene has a sequence."
        raise ValueError(msg)
    trunk = trunk_of(model, allow_download=allow_download)
    X = np.full((source.n_vars, trunk.dim), np.nan, dtype=np.float32)
    X[has] = _embedded(
        list(sequences[has]), trunk, length, n_bins=n_bins, strands=both_strands,
        batch_size=batch_size, device=device, precision=precision,
        watch=watched("Genes", show_progress=show_progress),
    )  # fmt: skip
    if not has.all():
        logger.warning("%d of %d genes have no sequence: NaN", int((~has).sum()), len(has))
    params = {
        "model": trunk.name, "genome": None if genome is None else str(genome.path),  # type: ignore[union-attr]
        "window_key": None if genome is None else window_key,
        "sequence_key": sequence_key if genome is None else None, "length": length,
        "n_bins": n_bins,
        "both_strands": both_strands, "precision": precision,
    }  # fmt: skip
    result = results.Result(
        "tl.embed_genes", {"varm:X_{root}": X}, params, key_added=key_added or trunk.name
    )
    return results.write(adata, result, mod=mod, copy=copy)


@docs.fill(model=MODEL_DOC, run=RUN_DOC)
def embed_sequences(
    adata: AnnData | MuData,
    *,
    model: Any,
    sequence_key: str = "sequence",
    length: int | None = None,
    n_bins: int | None = None,
    both_strands: bool = True,
    batch_size: int = 8,
    accelerator: str = "auto",
    precision: Literal["32", "bf16"] = "32",
    allow_download: bool = False,
    mod: str | None = None,
    show_progress: bool | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Embed a data set of sequences, one per observation.

    Parameters
    ----------
    {adata}
    {model}
    sequence_key
        Column of `obs` with the sequences (:func:`omicllm.io.read_sequences`).
    length
        Cut or pad sequences about their centre to this length; by default the longest, rounded
        up to what the model takes.
    {run}
    {mod}
    {show_progress}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.obsm["X_<name>"]`` : float32 (n_obs, dim)
        Mean embedding of the bins. Each distinct sequence is run once.

    Raises
    ------
    KeyError
        No such column.
    ValueError
        Sequences that are missing or hold other letters than ACGTN; a length that the model does
        not take.
    """
    from omicllm.pp._sequences import sequences_of

    source = inputs.resolve(adata, mod)
    device = run_options(batch_size, n_bins, precision, accelerator)
    sequences = sequences_of(source, sequence_key)
    trunk = trunk_of(model, allow_download=allow_download)
    X = _embedded(
        sequences, trunk, length, n_bins=n_bins, strands=both_strands, batch_size=batch_size,
        device=device, precision=precision, watch=watched("Sequences", show_progress=show_progress),
    )  # fmt: skip
    params = {
        "model": trunk.name, "sequence_key": sequence_key, "length": length, "n_bins": n_bins,
        "both_strands": both_strands, "precision": precision,
    }  # fmt: skip
    result = results.Result(
        "tl.embed_sequences", {"obsm:X_{root}": X}, params, key_added=key_added or trunk.name
    )
    return results.write(adata, result, mod=mod, copy=copy)


def _embedded(sequences: list[str], trunk: Any, length: int | None, **options: Any) -> np.ndarray:
    """Embeddings of sequences, each distinct one run once."""
    from omicllm.nn.genome_embedding import embed_rows

    number: dict[str, int] = {}
    which = [number.setdefault(s, len(number)) for s in sequences]
    return embed_rows(trunk, as_tokens(list(number), trunk, length), **options)[which]
