"""`omicllm.io.read_twas_weights`: published weights of expression models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omicllm._core.log import logger
from omicllm.genome.expression_weights import read_weights

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd


def read_twas_weights(path: str | Path, *, gene: str | None = None) -> pd.DataFrame:
    """Read published weights of models that predict expression from genotypes.

    Parameters
    ----------
    path
        A file ``*.wgt.RDat`` of FUSION (read without R, by the package rdata of the extra
        ``genome``), a folder of them, or the ``.pos`` table that lists them with their genes; a
        SQLite data base of PredictDB (``.db``); or a table (tab or comma, plain or ``.gz``) with
        ``gene``, the variant (``rsid``, ``varID``, or ``chrom`` and ``pos``), ``eff_allele``,
        ``ref_allele``, ``weight``, and optionally ``model`` and ``standardized``.
    gene
        Gene of the file, where it does not say so. The name of a FUSION file is searched for an
        Ensembl id, and else ends with the gene (``TISSUE.GENE.wgt.RDat``).

    Returns
    -------
    DataFrame with one row per weight other than 0: ``gene``, ``model`` (``top1``, ``lasso``,
    ``enet``, ``blup``, ``bslmm``; ``enet`` where a file does not say), ``variant``, ``chrom``,
    ``pos`` (from 1; -1 when unknown), ``effect_allele``, ``other_allele``, ``weight``,
    ``standardized`` (weight per standard deviation of the dosage, as FUSION's; otherwise per
    allele), ``cv_r2`` and ``cv_pval`` (as published; NaN when unknown).
    :func:`omicllm.tl.twas` takes it as ``weights=``.

    Raises
    ------
    FileNotFoundError, KeyError
        No such file; a file without its parts or columns.
    ValueError
        A damaged file, weights that are no numbers.
    ImportError
        R data without the package rdata.

    Notes
    -----
    FUSION stores z scores of all variants for ``top1``, of which the model uses the largest; the
    others are left out here.

    Examples
    --------
    >>> weights = ol.io.read_twas_weights("Whole_Blood.pos")  # doctest: +SKIP
    >>> ol.tl.twas(mdata, weights=weights, key_added="fusion")  # doctest: +SKIP
    """
    frame = read_weights(path, gene=gene)
    logger.info("read %d weights of %d genes", len(frame), frame["gene"].nunique())
    return frame
