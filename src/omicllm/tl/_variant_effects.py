"""`omicllm.tl.variant_effects`: what each variant alone does to predicted expression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy import sparse

from omicllm._core import checks, docs, inputs, results
from omicllm._core.log import logger, progress
from omicllm._core.names import positions
from omicllm.genome.fasta import Genome as Fasta
from omicllm.genome.places import places_of
from omicllm.genome.windows import as_windows, from_columns
from omicllm.tl._genotypes import frequency
from omicllm.tl._sequence_models import fitting_length, predictor_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

    from omicllm.genome.fasta import Genome


@docs.fill()
def variant_effects(
    mdata: MuData,
    *,
    model: Any,
    genome: Genome | str | Path,
    genes: str | Sequence[str] | None = None,
    min_af: float = 0.0,
    length: int | None = None,
    both_strands: bool = True,
    batch_size: int = 16,
    accelerator: str = "auto",
    precision: Literal["32", "bf16"] = "32",
    window_key: str = "window",
    rna: str = "rna",
    geno: str = "geno",
    show_progress: bool | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> MuData | None:
    """Predicted effect of every variant in the window of a gene, alone on the reference.

    Parameters
    ----------
    mdata
        MuData of `rna` (genes with windows from :func:`omicllm.pp.gene_windows`) and `geno`
        (variants, from :func:`omicllm.io.read_vcf`).
    model
        Trained :class:`omicllm.model.PersonalExpression`, or folder with one.
    genome
        FASTA file or :class:`omicllm.io.Genome`.
    genes
        Genes; all with a window by default.
    min_af
        Leave out variants whose rarer allele is rarer (``var["af"]`` of `geno`).
    length
        Cut or pad sequences about their centre to this length; that of the windows by default.
    both_strands
        Average the sequence and its reverse complement.
    batch_size
        Sequences in a batch.
    accelerator, precision
        Where and how to run (``"32"``, ``"bf16"``).
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

    ``mdata["geno"].varm["variant_effects"]`` : csr float32 (n_variants, n_genes)
        Change of the prediction for a haplotype that carries the (first) alternate allele; genes
        in ``uns``. A person with d alleles changes by d / 2 times this, if effects add up.
    ``mdata["geno"].uns["variant_effects"]["table"]`` : DataFrame
        ``gene``, ``variant``, ``pos``, ``distance`` (bases from the middle of the window, in the
        direction of the gene), ``af``, ``effect``; strongest first within each gene. NaN for
        variants that no sequence can be made of (symbolic alleles, N in the reference).

    Raises
    ------
    KeyError, ValueError
        No such gene or windows; REF alleles that are not what the genome holds; windows of a
        length that the model does not take.
    TypeError
        A model that is no PersonalExpression.
    RuntimeError
        A model that is not trained.

    Notes
    -----
    Insertions and deletions shift what follows them, and the window is cut about its centre, so
    their effects include that of the shift.
    """
    people, variants = inputs.resolve(mdata, rna), inputs.resolve(mdata, geno)
    checks.share("min_af", min_af, high=0.5)
    checks.whole_number("batch_size", batch_size)
    checks.one_of("precision", precision, ("32", "bf16"))
    frame = chosen_windows(people, genes, window_key)
    predictor = predictor_of(model)
    genome = genome if isinstance(genome, Fasta) else Fasta(genome)
    for window in as_windows(frame):
        genome.check_window(*window[:3])
    columns = _by_gene(variants, frame, min_af)
    size = _one_length(frame, length)
    trunk = predictor.module.trunk
    fitting_length(trunk, size, what="The windows", fix="pass length= or make other windows")
    from omicllm.nn.genome_embedding import device_of, evaluated

    rows, at, data = [], [], []
    names = [str(n) for n in frame.index]
    steps = progress(names, what="Genes", total=len(names), show_progress=show_progress)
    with evaluated(predictor.module, device_of(accelerator)):  # on the device for all genes
        for g, name in enumerate(steps):
            found = columns[g]
            if not len(found):
                continue
            (tokens, index), left_out = _carriers(variants, found, genome, frame.iloc[[g]], size)
            values = predictor.predict_tokens(
                tokens, both_strands=both_strands, batch_size=batch_size, accelerator=accelerator,
                precision=precision,
            )  # fmt: skip
            effect = values[index[:, 0]] - values[index[:, 1]]
            logger.info("%s: %d variants, %d sequences", name, len(found), len(tokens))
            effect[left_out] = np.nan
            rows.append(_table(variants, found, frame.iloc[g], name, effect))
            at.append((found, np.full(len(found), g)))
            data.append(np.nan_to_num(effect))
    shape = (variants.n_vars, len(frame))
    W = sparse.csr_matrix(shape, dtype=np.float32)
    if data:
        place = tuple(np.concatenate(p) for p in zip(*at, strict=True))
        W = sparse.csr_matrix((np.concatenate(data).astype(np.float32), place), shape=shape)
        W.eliminate_zeros()
    empty = pd.DataFrame(columns=["gene", "variant", "pos", "distance", "af", "effect"])
    table = pd.concat(rows, ignore_index=True) if rows else empty
    table.index = table.index.astype(str)
    params = {
        "model": getattr(predictor, "strategy", None), "genome": str(genome.path),
        "min_af": min_af, "length": length, "both_strands": both_strands, "precision": precision,
        "window_key": window_key, "rna": rna, "geno": geno,
    }  # fmt: skip
    result = results.Result(
        "tl.variant_effects", {"varm:{root}": W}, params,
        {"table": table, "genes": names}, key_added,
    )  # fmt: skip
    return results.write(mdata, result, mod=geno, copy=copy)


def chosen_windows(people: AnnData, genes: Any, window_key: str) -> pd.DataFrame:
    """Windows of some genes, or of all that have one.

    Raises
    ------
    KeyError
        No such genes or windows.
    ValueError
        Genes without a window.
    """
    names = [str(g) for g in inputs.gene_names(people)]
    var = people.var.to_memory() if hasattr(people.var, "to_memory") else people.var
    frame = from_columns(var, window_key)
    if genes is None:
        if not len(frame):
            msg = "No gene has a window."
            raise ValueError(msg)
        return frame
    asked = [names[i] for i in positions(genes, names)]
    lost = [g for g in asked if g not in frame.index]
    if lost:
        msg = f"{len(lost)} genes have no window ({checks.listed(lost, most=3)})."
        raise ValueError(msg)
    return frame.loc[asked]


def _one_length(frame: pd.DataFrame, length: int | None) -> int:
    """The length asked for, or the one that all windows have."""
    if length is not None:
        return checks.whole_number("length", length)
    sizes = np.unique(frame["end"] - frame["start"])
    if len(sizes) > 1:
        msg = f"Windows have {len(sizes)} lengths: cut or pad all to one with length=."
        raise ValueError(msg)
    return int(sizes[0])


def _by_gene(variants: AnnData, frame: pd.DataFrame, min_af: float) -> list[np.ndarray]:
    """Numbers of the variants that touch each window."""
    for column in ("chrom", "pos", "ref", "alt"):
        if column not in variants.var:
            raise checks.missing(
                column, "geno.var", variants.var, hint="Read genotypes with ol.io.read_vcf."
            )
    var = variants.var
    chrom, pos = places_of(var)
    start = pos - 1
    end = start + var["ref"].astype(str).str.len().to_numpy()
    kept = np.ones(len(var), dtype=bool)
    if min_af > 0:
        af = frequency(variants)
        kept = np.minimum(af, 1 - af) >= min_af
    out = []
    for window in frame.itertuples():
        inside = (chrom == window.chrom) & (start < window.end) & (end > window.start) & kept
        out.append(np.flatnonzero(inside))
    return out


def _carriers(
    variants: AnnData, found: np.ndarray, genome: Genome, window: pd.DataFrame, length: int
) -> Any:
    """Tokens of one haplotype per variant, beside the reference, and which variants have none.

    Made-up people carry one variant each.
    """
    import anndata

    from omicllm.pp._haplotypes import haplotypes

    m = len(found)
    one = sparse.identity(m, dtype=np.int8, format="csc")
    var = variants.var.iloc[found][["chrom", "pos", "ref", "alt"]]
    carriers = anndata.AnnData(one, obs=pd.DataFrame(index=[str(i) for i in range(m)]), var=var)
    carriers.layers["hap1"] = one
    carriers.layers["hap2"] = sparse.csc_matrix((m, m), dtype=np.int8)
    found_there = haplotypes(carriers, genome=genome, windows=window, length=length)
    return found_there[0], found_there.left_out()


def _table(
    variants: AnnData, found: np.ndarray, window: pd.Series, gene: str, effect: np.ndarray
) -> pd.DataFrame:
    pos = places_of(variants.var)[1][found]
    # The start site is the base after the middle (from 0), on either strand.
    site = (int(window["start"]) + int(window["end"])) // 2
    distance = pos - 1 - site
    frame = pd.DataFrame(
        {
            "gene": np.full(len(found), gene, dtype=object),
            "variant": np.asarray(variants.var_names[found].astype(str), dtype=object),
            "pos": pos,
            "distance": -distance if window["strand"] == "-" else distance,
            "af": frequency(variants)[found],
            "effect": effect.astype(np.float64),
        }
    )
    return frame.iloc[np.argsort(-np.abs(effect), kind="stable")]
