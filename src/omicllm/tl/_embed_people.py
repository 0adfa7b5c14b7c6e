"""`omicllm.tl.embed_people`: what a genome model makes of personal sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from omicllm._core import checks, docs, results
from omicllm._core.log import logger, progress
from omicllm.genome.dosage import HAPLOID
from omicllm.tl._embed_sequences import MODEL_DOC, RUN_DOC
from omicllm.tl._genotypes import HAPLOID_DOC
from omicllm.tl._sequence_models import personal_haplotypes, run_options, trunk_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mudata import MuData

    from omicllm.genome.fasta import Genome


@docs.fill(model=MODEL_DOC, run=RUN_DOC, haploid=HAPLOID_DOC)
def embed_people(
    mdata: MuData,
    *,
    model: Any,
    genome: Genome | str | Path,
    genes: str | Sequence[str] | None = None,
    n_components: int = 50,
    length: int | None = None,
    unphased: Literal["refuse", "iupac"] = "refuse",
    haploid: Literal["double", "single"] = "double",
    n_bins: int | None = 10,
    both_strands: bool = True,
    batch_size: int = 8,
    accelerator: str = "auto",
    precision: Literal["32", "bf16"] = "32",
    allow_download: bool = False,
    window_key: str = "window",
    rna: str = "rna",
    geno: str = "geno",
    show_progress: bool | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> MuData | None:
    """Embed people by their own sequences at one or several genes.

    A person is the mean of two haplotypes. The model runs once per distinct haplotype.

    Parameters
    ----------
    mdata
        MuData of `rna` (people x genes, with windows from :func:`omicllm.pp.gene_windows`) and
        `geno` (people x variants, from :func:`omicllm.io.read_vcf`).
    {model}
    genome
        FASTA file or :class:`omicllm.io.Genome`.
    genes
        Genes whose windows are read; all with a window by default.
    n_components
        Principal components, where there are several genes; with one gene its embedding is
        written as it is.
    length
        Cut or pad haplotypes about their centre to this length; that of the windows by default.
    unphased
        As in :func:`omicllm.pp.haplotypes`.
    {haploid}
    {run}
    window_key
        Root of the windows.
    rna, geno
        Names of the modalities.
    {show_progress}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``mdata["rna"].obsm["X_<name>"]`` : float32 (n_people, dim) or (n_people, n_components)
        Embedding of the one gene; or principal components of the embeddings of all genes side by
        side (each gene enters with its own leading `n_components` components).
    ``mdata["rna"].uns["<name>_people"]`` : dict
        ``genes``; ``n_haplotypes`` and ``n_unique`` of each (sequences, and forward passes);
        ``variance_ratio`` of the components.

    Raises
    ------
    KeyError, ValueError
        As :func:`omicllm.pp.haplotypes` says; people without genotypes; windows of a length that
        the model does not take.

    Notes
    -----
    Components of people follow ancestry before anything else. Use them as covariates, or after
    removing it.
    """
    device = run_options(batch_size, n_bins, precision, accelerator)
    checks.whole_number("n_components", n_components)
    checks.one_of("haploid", haploid, HAPLOID)
    trunk = trunk_of(model, allow_download=allow_download)
    people, store, names = personal_haplotypes(
        mdata, trunk, genome=genome, genes=genes, length=length, rna=rna, geno=geno,
        window_key=window_key, unphased=unphased, haploid=haploid,
    )  # fmt: skip
    if len(names) == 1:
        why = "with one gene, whose embedding is written as it is"
        checks.no_effect(embed_people, locals(), ("n_components",), because=why)
    from omicllm.nn.genome_embedding import embed_rows, evaluated

    blocks, unique = [], []
    with evaluated(trunk, device):  # on the device for all genes
        for gene in progress(names, what="Genes", total=len(names), show_progress=show_progress):
            tokens, index = store[gene]
            rows = embed_rows(
                trunk, tokens, n_bins=n_bins, strands=both_strands, batch_size=batch_size,
                device=device, precision=precision,
            )  # fmt: skip
            unique.append(len(tokens))
            diploid = rows[index].mean(axis=1)
            blocks.append(diploid if len(names) == 1 else _components(diploid, n_components)[0])
    logger.info("%d forward passes for %d haplotypes", sum(unique), 2 * people.n_obs * len(names))
    ratio = None
    X = blocks[0]
    if len(names) > 1:
        X, ratio = _components(np.hstack(blocks), n_components)
    params = {
        "model": trunk.name, "genome": str(getattr(genome, "path", genome)),
        "n_components": n_components if len(names) > 1 else None, "length": length,
        "unphased": unphased, "haploid": haploid, "n_bins": n_bins, "both_strands": both_strands,
        "precision": precision, "window_key": window_key,
        "rna": rna, "geno": geno,
    }  # fmt: skip
    arrays = {
        "genes": names, "n_unique": np.array(unique, dtype=np.int64),
        "n_haplotypes": 2 * people.n_obs, "variance_ratio": ratio,
    }  # fmt: skip
    result = results.Result(
        "tl.embed_people", {"obsm:X_{root}": X.astype(np.float32)}, params, arrays,
        key_added or trunk.name,
    )  # fmt: skip
    return results.write(mdata, result, mod=rna, copy=copy)


def _components(X: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores on the leading `k` principal axes, of settled sign, and their share of variance."""
    centred = X.astype(np.float64) - X.mean(axis=0)
    U, s, Vt = np.linalg.svd(centred, full_matrices=False)
    sign = np.sign(Vt[np.arange(len(Vt)), np.abs(Vt).argmax(axis=1)])
    total = float((s**2).sum())
    share = s**2 / total if total else s
    return (U * (s * np.where(sign == 0, 1, sign)))[:, :k], share[:k]
