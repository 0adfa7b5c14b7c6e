"""`omicllm.tl.variant_enrichment`: whether strong variants lie in regulatory regions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from omicllm._core import checks, docs, inputs, results
from omicllm._core import rng as rngs
from omicllm._core.log import logger
from omicllm.genome.bed import inside_regions
from omicllm.genome.places import places_of
from omicllm.stats.enrichment import matched_enrichment
from omicllm.tl._genotypes import frequency
from omicllm.tl._twas_inputs import by_gene, distances
from omicllm.tl._variant_drivers import genes_of_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData

_COLUMNS = ("effects", "regions", "n_selected", "n_unmatched", "n_background", "n_inside",
            "observed", "expected", "enrichment", "low", "high", "pval")  # fmt: skip


@docs.fill()
def variant_enrichment(
    mdata: MuData,
    *,
    bed: str | Path | pd.DataFrame | Mapping[str, str | Path | pd.DataFrame],
    effects_key: str | Sequence[str] = "variant_effects",
    n_top: int = 1,
    drivers_key: str | None = None,
    min_af: float = 0.0,
    distance_bin: int = 250,
    n_af_bins: int = 3,
    window: int | None = None,
    window_key: str = "window",
    n_boot: int = 1000,
    rna: str = "rna",
    geno: str = "geno",
    rng: int | np.random.Generator | None = 0,
    key_added: str | None = None,
    copy: bool = False,
) -> MuData | None:
    """Test whether the strongest variants of genes lie in regions more often than others.

    Variants near a start site are strong in any model, and lie in regulatory regions more often.
    So the strongest are compared with other variants at the same distance from a start site, and
    of a similar frequency.

    Parameters
    ----------
    mdata
        MuData of `rna` (genes with windows or start sites) and `geno` (variants with effects).
    bed
        Regions: BED file (plain or ``.gz``, read as a stream), DataFrame with ``chrom``,
        ``start``, ``end`` (0-based, half-open), or several of them by name.
    effects_key
        Effects in ``geno.varm``: of :func:`omicllm.tl.variant_effects`, or weights such as
        ``"twas_enet"`` of :func:`omicllm.tl.twas`; or several, each tested.
    n_top
        Variants of largest absolute effect that are selected for each gene, among those of its
        window that `min_af` leaves.
    drivers_key
        Select instead the variants of this root of :func:`omicllm.tl.variant_drivers`.
    min_af
        Leave out variants whose rarer allele is rarer (``var["af"]`` of `geno`).
    distance_bin
        Bases: variants whose distances from the start site fall into one such bin are alike.
    n_af_bins
        Groups of equal size by frequency of the rarer allele; 1 for no such matching.
    window
        Bases around the start site in which variants of a gene lie. By default the windows of
        :func:`omicllm.pp.gene_windows`, else 49,152 bases.
    window_key
        Root of those windows.
    n_boot
        Bootstrap draws of the interval.
    rna, geno
        Names of the modalities.
    {rng}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``mdata["geno"].uns["variant_enrichment"]["table"]`` : DataFrame
        Per effects and regions: ``n_selected``, ``n_unmatched`` (selected variants without others
        in their bin, left out), ``n_background``, ``n_inside`` (selected ones inside),
        ``observed`` and ``expected`` (shares inside), ``enrichment`` (their ratio), ``low`` and
        ``high`` (95 % interval over genes, or over variants with fewer than 5 genes), ``pval``
        (exact, one-sided, selected variants drawn at random within bins).

    Raises
    ------
    FileNotFoundError, KeyError
        No such file, modality or effects; no contig in common (``chr22`` and ``22``: suggested).
    ValueError
        A malformed line of a BED file (its number is given); no variant inside the regions; no
        selected variant with others in its bin.

    Notes
    -----
    The published analysis takes bins of 250 bases, and drivers as selected variants (doi
    10.1186/s13059-026-04091-1). The p value takes variants as independent; those in linkage
    disequilibrium are not, so with `n_top` above 1 trust the interval, which resamples genes.
    """
    people, variants = inputs.resolve(mdata, rna), inputs.resolve(mdata, geno)
    keys = [effects_key] if isinstance(effects_key, str) else list(effects_key)
    checks.whole_number("n_top", n_top)
    checks.share("min_af", min_af, high=0.5)
    for name, value in (("distance_bin", distance_bin), ("n_af_bins", n_af_bins),
                        ("n_boot", n_boot)):  # fmt: skip
        checks.whole_number(name, value)
    if window is not None:
        checks.whole_number("window", window)
    ranked = _ranked(variants, keys, drivers_key)
    most = n_top if drivers_key is None else None
    units = _units(people, variants, ranked, most, min_af, window, window_key)
    stratum = _strata(units, distance_bin, n_af_bins)
    generator = rngs.generator(rng)
    several = bed if isinstance(bed, Mapping) else {_name(bed): bed}
    chrom, pos = places_of(variants.var)
    start = pos - 1
    end = start + variants.var["ref"].astype(str).str.len().to_numpy()
    used = np.unique(units["variant"])
    rows = []
    for regions, source in several.items():
        inside = np.zeros(variants.n_vars, dtype=bool)
        inside[used], n_regions = inside_regions(source, chrom[used], start[used], end[used])
        if not inside.any():
            msg = (
                f"None of the {len(used)} variants lies in a region of {regions} ({n_regions} "
                "regions on their contigs). Are both of the same genome build?"
            )
            raise ValueError(msg)
        for key in keys:
            found = matched_enrichment(
                units[key].to_numpy(), inside[units["variant"]], stratum,
                units["gene"].to_numpy(), n_boot=n_boot, rng=generator,
            )  # fmt: skip
            if not found.n_selected:
                msg = (
                    f"No variant selected by {key!r} has another one in its bin: widen "
                    "distance_bin, or pass n_af_bins=1."
                )
                raise ValueError(msg)
            if found.n_unmatched > 0.2 * (found.n_selected + found.n_unmatched):
                logger.warning(
                    "%s: %d of %d selected variants have no other one in their bin and are left "
                    "out; widen distance_bin", key, found.n_unmatched,
                    found.n_selected + found.n_unmatched,
                )  # fmt: skip
            rows.append((key, str(regions), *vars(found).values()))
            logger.info("%s in %s: %.2f times (p %.2g)", key, regions, found.ratio, found.pval)
    table = pd.DataFrame(rows, columns=list(_COLUMNS), index=[str(i) for i in range(len(rows))])
    params = {
        "regions": [str(r) for r in several], "effects_key": keys, "n_top": n_top,
        "drivers_key": drivers_key, "min_af": min_af, "distance_bin": distance_bin,
        "n_af_bins": n_af_bins, "window": window, "window_key": window_key, "n_boot": n_boot,
        "rna": rna, "geno": geno, "rng": rngs.recorded(rng),
    }  # fmt: skip
    result = results.Result("tl.variant_enrichment", {}, params, {"table": table}, key_added)
    return results.write(mdata, result, mod=geno, copy=copy)


def _name(bed: Any) -> str:
    return Path(bed).name if isinstance(bed, (str, Path)) else "regions"


def _ranked(
    variants: AnnData, keys: Sequence[str], drivers_key: str | None
) -> dict[str, dict[str, np.ndarray]]:
    """Key of effects -> gene -> numbers of the variants with an effect, strongest first."""
    out: dict[str, dict[str, np.ndarray]] = {}
    for key in keys:
        if key not in variants.varm:
            hint = "Make them with ol.tl.variant_effects or ol.tl.twas."
            raise checks.missing(key, "geno.varm", variants.varm, hint=hint)
        W = inputs.columns(variants.varm[key])
        genes = genes_of_columns(variants, key, W.shape[1])
        out[key] = {}
        for g, gene in enumerate(genes):
            inside = slice(W.indptr[g], W.indptr[g + 1])
            at, size = W.indices[inside], np.abs(W.data[inside])
            best = np.lexsort((at, -size))
            out[key][gene] = at[best][size[best] > 0]
    if drivers_key is None:
        return out
    entry = variants.uns.get(drivers_key, {})
    if "table" not in entry:
        hint = "Make it with ol.tl.variant_drivers(mdata)."
        raise checks.missing(drivers_key, "geno.uns", variants.uns, hint=hint)
    of = str(entry.get("params", {}).get("effects_key", keys[0]))
    if keys != [of]:
        msg = f"uns[{drivers_key!r}] holds drivers of {of!r}: pass effects_key={of!r}."
        raise ValueError(msg)
    number = {str(v): i for i, v in enumerate(variants.var_names)}
    drivers: dict[str, np.ndarray] = {gene: np.zeros(0, dtype=np.int64) for gene in out[of]}
    for gene, block in entry["table"].groupby("gene", observed=True):
        drivers[str(gene)] = np.array([number[str(v)] for v in block["variant"]], dtype=np.int64)
    return {of: drivers}


def _units(
    people: AnnData, variants: AnnData, ranked: dict[str, dict[str, np.ndarray]],
    most: int | None, min_af: float, window: int | None, window_key: str,
) -> pd.DataFrame:  # fmt: skip
    """Pairs of gene and variant in its window: distance, frequency, and what is selected."""
    of_gene = by_gene(people, variants, window, window_key)
    far = distances(people, variants, window_key)
    af = frequency(variants)
    rarer = np.minimum(af, 1 - af)
    scored = set.intersection(*({*genes} for genes in ranked.values()))
    parts = []
    for g, gene in enumerate(people.var_names.astype(str)):
        if gene not in scored:
            continue
        at = of_gene(g)
        at = at[rarer[at] >= min_af]
        part = {"gene": g, "variant": at, "distance": far(g, at), "af": rarer[at]}
        for key, genes in ranked.items():
            there = genes[gene][np.isin(genes[gene], at)]
            part[key] = np.isin(at, there[:most])
        parts.append(pd.DataFrame(part))
    if not parts or not sum(map(len, parts)):
        msg = "No gene with effects has variants in its window."
        raise ValueError(msg)
    return pd.concat(parts, ignore_index=True)


def _strata(units: pd.DataFrame, distance_bin: int, n_af_bins: int) -> np.ndarray:
    """Number of the bin of distance and frequency."""
    near = units["distance"].abs().to_numpy() // distance_bin
    cuts = np.quantile(units["af"], np.arange(1, n_af_bins) / n_af_bins)
    return near * n_af_bins + np.searchsorted(cuts, units["af"], side="right")
