"""Published weights of expression models: files of FUSION and PredictDB, and plain tables.

References
----------
Gusev et al. 2016 (FUSION), doi:10.1038/ng.3506; Gamazon et al. 2015 (PrediXcan, whose models
PredictDB distributes), doi:10.1038/ng.3367.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from omicllm._core.checks import listed, missing
from omicllm._core.optional import require
from omicllm._core.text_files import read_table, row_names, to_numbers
from omicllm.genome.places import as_contigs

if TYPE_CHECKING:
    import pandas as pd

#: Columns of a table of weights.
COLUMNS = (
    "gene", "model", "variant", "chrom", "pos", "effect_allele", "other_allele", "weight",
    "standardized", "cv_r2", "cv_pval",
)  # fmt: skip
#: Names of columns in tables -> ours.
_NAMES = {
    "gene": ("gene", "gene_id", "ensembl_id"),
    "model": ("model",),
    "variant": ("rsid", "variant", "snp", "id", "varid"),
    "place": ("varid", "variant_id"),
    "chrom": ("chrom", "chr", "chromosome"),
    "pos": ("pos", "position", "bp"),
    "effect_allele": ("eff_allele", "effect_allele", "eff", "a1", "alt_allele"),
    "other_allele": ("ref_allele", "other_allele", "noneff_allele", "ref", "a2"),
    "weight": ("weight", "beta"),
    "standardized": ("standardized",),
}
#: Columns of the table `extra` of PredictDB, old and new.
_PERFORMANCE = {
    "cv_r2": ("cv_R2_avg", "pred.perf.R2"), "cv_pval": ("zscore_pval", "pred.perf.pval"),
}  # fmt: skip
#: Words for a flag, in lower case.
_TRUE, _FALSE = ("true", "1", "1.0", "yes", "t"), ("false", "0", "0.0", "no", "f")
_ENSEMBL = re.compile(r"ENSG\d+(?:\.\d+)?")
_COMPLEMENT = str.maketrans("ACGT", "TGCA")
_AMBIGUOUS = ({"A", "T"}, {"C", "G"})


class Orientation(NamedTuple):
    """How a published effect lies on a record of the cohort.

    Attributes
    ----------
    sign
        1 when the effect is on the alternate allele, -1 when it is on the reference.
    other_strand
        Whether the alleles were published on the other strand.
    ambiguous
        Whether the strand cannot be told: A/T and C/G.
    """

    sign: float
    other_strand: bool
    ambiguous: bool


def orientation(effect: str, other: str, ref: str, alt: str) -> Orientation | None:
    """Compare published alleles with those of a record; None where they do not fit."""
    effect, other = effect.upper(), other.upper()
    ambiguous = {effect, other} in _AMBIGUOUS
    complements = effect.translate(_COMPLEMENT), other.translate(_COMPLEMENT)
    for strand, (counted, opposite) in enumerate(((effect, other), complements)):
        if strand and max(len(effect), len(other)) > 1:
            break
        for sign, pair in ((1.0, (opposite, counted)), (-1.0, (counted, opposite))):
            if pair == (ref, alt):
                return Orientation(sign, other_strand=strand == 1, ambiguous=ambiguous)
    return None


def read_weights(path: str | Path, *, gene: str | None = None) -> pd.DataFrame:
    """Read published weights; see :func:`omicllm.io.read_twas_weights`."""
    import pandas as pd

    path = Path(path)
    if path.is_dir():
        files = sorted(path.glob("*.wgt.RDat"))
        if not files:
            msg = f"{path} holds no file *.wgt.RDat."
            raise ValueError(msg)
        return pd.concat([_fusion(f, gene or gene_of(f.name)) for f in files], ignore_index=True)
    if not path.is_file():
        msg = f"There is no file {path}."
        raise FileNotFoundError(msg)
    name = path.name.lower()
    if name.endswith((".rdat", ".rda", ".rdata")):
        frame = _fusion(path, gene or gene_of(path.name))
    elif name.endswith(".pos"):
        frame = _listed(path)
    elif _starts(path, b"SQLite format 3"):
        frame = _predictdb(path)
    else:
        frame = _table(path, gene)
    wrong = ~np.isfinite(frame["weight"].to_numpy(dtype=np.float64))
    if wrong.any():
        msg = f"{path.name} holds {int(wrong.sum())} weights that are no numbers."
        raise ValueError(msg)
    return frame


def _starts(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def gene_of(name: str) -> str:
    """Gene in the name of a FUSION file: an Ensembl id, else what follows the last dot."""
    found = _ENSEMBL.search(name)
    if found:
        return found.group()
    stem = re.sub(r"(\.wgt)?\.(RDat|rda|RData)$", "", name, flags=re.IGNORECASE)
    return stem.rsplit(".", 1)[-1]


def _fusion(path: Path, gene: str) -> pd.DataFrame:
    """One file of FUSION: ``wgt.matrix`` (variants x models), ``snps`` (a .bim), performance."""
    import pandas as pd

    rdata = require("rdata", extra="genome", why="Reading an R data file")
    try:
        found: dict[str, Any] = rdata.read_rda(path)
    except Exception as error:  # whatever the parser stumbles over
        msg = f"{path} could not be read as R data ({type(error).__name__}: {error})."
        raise ValueError(msg) from error
    for name in ("wgt.matrix", "snps"):
        if name not in found:
            hint = "A FUSION file holds wgt.matrix, snps and cv.performance."
            raise missing(name, path.name, found, hint=hint)
    matrix, snps = found["wgt.matrix"], found["snps"]
    if getattr(matrix, "ndim", 0) != 2 or not hasattr(matrix, "coords") or snps.shape[1] < 6:
        msg = f"{path.name}: wgt.matrix must be a named matrix, and snps have the 6 columns of bim."
        raise ValueError(msg)
    W = np.nan_to_num(np.asarray(matrix, dtype=np.float64))  # NA: the model was not fitted
    models = [str(m) for m in np.asarray(matrix.coords[matrix.dims[1]])]
    if len(snps) != len(W):
        msg = f"{path.name}: wgt.matrix has {len(W)} variants, snps {len(snps)}."
        raise ValueError(msg)
    performance = found.get("cv.performance")
    parts = []
    for k, model in enumerate(models):
        w = W[:, k].copy()
        if model == "top1" and len(w):  # stored as z scores of all variants; the model is one
            w[np.arange(len(w)) != int(np.argmax(np.abs(w)))] = 0.0
        kept = np.flatnonzero(w)
        parts.append(
            pd.DataFrame({
                "gene": gene, "model": model,
                "variant": snps.iloc[kept, 1].astype(str).to_numpy(),
                "chrom": snps.iloc[kept, 0].astype(str).to_numpy(),
                "pos": snps.iloc[kept, 3].astype(np.int64).to_numpy(),
                "effect_allele": snps.iloc[kept, 4].astype(str).str.upper().to_numpy(),
                "other_allele": snps.iloc[kept, 5].astype(str).str.upper().to_numpy(),
                "weight": w[kept], "standardized": True,
                "cv_r2": _performance(performance, "rsq", model),
                "cv_pval": _performance(performance, "pval", model),
            })
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def _performance(table: Any, row: str, model: str) -> float:
    """One entry of ``cv.performance``; NaN where it is not there."""
    if table is None or not hasattr(table, "coords"):
        return float("nan")
    rows, columns = (np.asarray(table.coords[d]).astype(str).tolist() for d in table.dims)
    if row not in rows or model not in columns:
        return float("nan")
    return float(np.asarray(table)[rows.index(row), columns.index(model)])


def _listed(path: Path) -> pd.DataFrame:
    """Files of FUSION that a ``.pos`` table lists: WGT (path from here) and ID (gene)."""
    import pandas as pd

    table = read_table(path, what="list of weights", separator=None)
    for column in ("WGT", "ID"):
        if column not in table:
            raise missing(column, f"the columns of {path}", table.columns)
    files = [path.parent / str(w) for w in table["WGT"]]
    absent = [f.name for f in files if not f.is_file()]
    if absent:
        msg = (
            f"{len(absent)} of {len(files)} files in {path.name} are not there "
            f"({listed(absent, most=3)})."
        )
        raise FileNotFoundError(msg)
    parts = [_fusion(f, str(g)) for f, g in zip(files, table["ID"], strict=True)]
    return pd.concat(parts, ignore_index=True)


def _predictdb(path: Path) -> pd.DataFrame:
    """A PredictDB data base: tables ``weights`` and, for performance, ``extra``."""
    import sqlite3

    import pandas as pd

    # As an address, or '#', '?' and '%' in the name would mean something else.
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        known = {r[0] for r in connection.execute("select name from sqlite_master")}
        if "weights" not in known:
            table, hint = "weights", "Is it a data base of PredictDB?"
            raise missing(table, f"the tables of {path.name}", sorted(known), hint=hint)
        frame = pd.read_sql_query("select * from weights", connection)
        extra = pd.read_sql_query("select * from extra", connection) if "extra" in known else None
    except sqlite3.DatabaseError as error:
        msg = f"{path} is a damaged SQLite data base ({error})."
        raise ValueError(msg) from error
    finally:
        connection.close()
    out = arranged(frame, path.name)
    if extra is not None and "gene" in extra:
        by_gene = extra.drop_duplicates("gene").set_index("gene")
        by_gene.index = by_gene.index.astype(str)
        for ours, theirs in _PERFORMANCE.items():
            for column in theirs:
                if column in by_gene:
                    out[ours] = out["gene"].map(pd.to_numeric(by_gene[column], errors="coerce"))
                    break
    return out


def _table(path: Path, gene: str | None) -> pd.DataFrame:
    """A plain table, separated by tab or comma, packed or not."""
    frame = read_table(path, what="table of weights")
    if frame.empty:
        msg = f"{path} holds a header and no weight."
        raise ValueError(msg)
    if gene is not None:
        frame = frame.assign(gene=gene)
    for column in frame.columns:
        if str(column).lower().lstrip("#") in _NAMES["gene"]:
            row_names(frame[column], path=path, what="gene", unique=False)
    return arranged(frame, path.name).reset_index(drop=True)


def arranged(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """Columns under our names; places out of names like ``chr1_100_A_G_b38``."""
    import pandas as pd

    lower = {str(c).lower().lstrip("#"): c for c in frame.columns}
    found = {ours: next((lower[n] for n in names if n in lower), None)
             for ours, names in _NAMES.items()}  # fmt: skip
    for ours in ("gene", "effect_allele", "other_allele", "weight"):
        if found[ours] is None:
            hint = f"It is looked for under {listed(_NAMES[ours])}."
            raise missing(ours, f"the columns of {where}", frame.columns, hint=hint)
    out = pd.DataFrame({"gene": frame[found["gene"]].astype(str)})
    out["model"] = frame[found["model"]].astype(str) if found["model"] else "enet"
    names = frame[found["variant"]].astype(str) if found["variant"] else None
    if names is None and not (found["chrom"] and found["pos"]):
        column, hint = "variant", "Variants need a name (rsid), or chrom and pos."
        raise missing(column, f"the columns of {where}", frame.columns, hint=hint)
    out["variant"] = names if names is not None else ""
    if found["chrom"] and found["pos"]:
        out["chrom"] = as_contigs(frame[found["chrom"]])
        pos = to_numbers(frame[found["pos"]], path=where, column=found["pos"])
        if (odd := pos[pos.notna() & (pos % 1 != 0)]).size:
            msg = f"Positions must be whole numbers in {where}, not {listed(odd, most=3)}."
            raise ValueError(msg)
        out["pos"] = pos.fillna(-1).astype(np.int64)
    else:
        placed = frame[found["place"] or found["variant"]].astype(str)
        place = placed.str.extract(r"^(?:chr)?(\w+?)[_:](\d+)[_:]")
        out["chrom"] = place[0].fillna("").to_numpy()
        out["pos"] = pd.to_numeric(place[1]).fillna(-1).astype(np.int64).to_numpy()
    for ours in ("effect_allele", "other_allele"):
        out[ours] = frame[found[ours]].astype(str).str.upper()
    out["weight"] = pd.to_numeric(frame[found["weight"]], errors="coerce").astype(np.float64)
    out["standardized"] = False
    if found["standardized"]:
        flag = frame[found["standardized"]].astype(str).str.lower()
        unknown = ~flag.isin([*_TRUE, *_FALSE])
        if unknown.any():
            msg = (
                f"standardized must be true or false in {where}; "
                f"{listed(flag[unknown].unique(), most=3)} is neither."
            )
            raise ValueError(msg)
        out["standardized"] = flag.isin(_TRUE).to_numpy()
    return out.assign(cv_r2=np.nan, cv_pval=np.nan)
