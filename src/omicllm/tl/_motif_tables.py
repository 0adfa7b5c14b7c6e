"""Tables of `omicllm.tl.motifs`: motifs, how they fared, and where they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from omicllm.genome import motifs as search

COLUMNS = (
    "motif", "consensus", "width", "positives", "negatives", "share_positive", "share_negative",
    "p", "q", "sites", "match", "match_pval",
)  # fmt: skip


def _row(name: str, matrix: np.ndarray, hit: np.ndarray, label: np.ndarray) -> dict[str, Any]:
    """Line of the table from the sequences tested."""
    n, m = int(label.sum()), int((~label).sum())
    a, b = int((hit & label).sum()), int((hit & ~label).sum())
    return {
        "motif": name, "consensus": search.consensus(matrix), "width": len(matrix),
        "positives": n, "negatives": m, "share_positive": a / max(n, 1),
        "share_negative": b / max(m, 1), "p": search.enrichment(a, n, b, m),
        "q": np.nan, "match": "", "match_pval": np.nan,
    }  # fmt: skip


def tested_table(
    found: list[search.Motif], codes: np.ndarray, label: np.ndarray, held: np.ndarray,
    names: np.ndarray, *, both_strands: bool,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Motifs tested on the held-out half, and their sites in all positive sequences."""
    rows, sites = [], []
    for i, motif in enumerate(found):
        name = f"motif_{i + 1}"
        best = search.best_sites(codes, motif.log_odds, both_strands=both_strands)
        hit = best.score >= motif.threshold
        row = _row(name, motif.matrix, hit[held], label[held])
        # Sites that earlier motifs took are not counted again: these are the search's own counts.
        a, b = motif.found[2:]
        row["share_positive"] = a / max(row["positives"], 1)
        row["share_negative"] = b / max(row["negatives"], 1)
        row["p"], row["sites"] = motif.pval, int((hit & label).sum())
        rows.append(row)
        chosen = np.flatnonzero(hit & label)
        sites.append(
            _site_table(name, codes, chosen, names, best.start[chosen], best.forward[chosen],
                        best.score[chosen], len(motif.matrix))
        )  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS)), _joined(sites)


def scanned_table(
    known: dict[str, np.ndarray], codes: np.ndarray, label: np.ndarray, names: np.ndarray,
    pval: float, *, both_strands: bool,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Motifs of a database tested on all sequences, and their sites in the positive ones."""
    from omicllm._bridges import memelite

    one_hot = (codes[:, None, :] == search.ALPHABETICAL[:, None]).astype(np.int8)
    rows, sites = [], []
    hits = memelite.scan(known, one_hot, threshold=pval, both_strands=both_strands)
    for (name, matrix), frame in zip(known.items(), hits, strict=True):
        best = frame.sort_values("score", ascending=False).drop_duplicates("sequence_name")
        best = best.sort_values("sequence_name")
        at = best["sequence_name"].to_numpy(dtype=np.int64)
        hit = np.zeros(len(codes), dtype=bool)
        hit[at] = True
        rows.append(_row(name, matrix, hit, label) | {"sites": int((hit & label).sum())})
        kept = label[at]
        own = best[kept]
        sites.append(
            _site_table(name, codes, at[kept], names, own["start"].to_numpy(dtype=np.int64),
                        (own["strand"] == "+").to_numpy(),
                        own["score"].to_numpy(dtype=np.float64) * np.log(2), len(matrix))
        )  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS)), _joined(sites)


def _site_table(
    name: str, codes: np.ndarray, rows: np.ndarray, names: np.ndarray, start: np.ndarray,
    forward: np.ndarray, score: np.ndarray, width: int,
) -> pd.DataFrame:  # fmt: skip
    letters = np.array(list("ATCGN"))
    words = codes[rows[:, None], start[:, None] + np.arange(width)]
    words[~forward] = search.COMPLEMENT[words[~forward, ::-1]]
    return pd.DataFrame(
        {
            "motif": name, "sequence": names[rows], "start": start,
            "strand": np.where(forward, "+", "-").astype(object), "score": score.astype(float),
            "word": np.array(["".join(w) for w in letters[words]], dtype=object),
        }
    )  # fmt: skip


def _joined(sites: list[pd.DataFrame]) -> pd.DataFrame:
    names = ("motif", "sequence", "start", "strand", "score", "word")
    return pd.concat(sites) if sites else pd.DataFrame({n: [] for n in names})


def add_matches(
    table: pd.DataFrame, matrices: list[np.ndarray], known: dict[str, np.ndarray],
    *, both_strands: bool,
) -> None:  # fmt: skip
    """Name the most similar motif of a database, in place."""
    from omicllm._bridges import memelite

    best, p = memelite.matches(matrices, list(known.values()), both_strands=both_strands)
    table["match"] = np.array(list(known), dtype=object)[best]
    table["match_pval"] = p


def stacked(matrices: list[np.ndarray]) -> np.ndarray:
    """Matrices in one array, zero after the width of each."""
    out = np.zeros((len(matrices), max(map(len, matrices), default=0), 4), dtype=np.float32)
    for row, matrix in zip(out, matrices, strict=True):
        row[: len(matrix)] = matrix
    return out


def numbered(frame: pd.DataFrame) -> pd.DataFrame:
    """Row names of a table in `uns`: strings, which every file format keeps."""
    out = frame.copy()
    out.index = pd.Index([str(i) for i in range(len(out))])
    return out
