"""Spatially variable genes: AUROC of known ones, agreement with Space Ranger, p values by chance.

`mob_rep11_layers`: AUROC of the 772 genes that SPARK calls, by `method="sigel"`, by Moran's I of
library-normalised log counts (equal to scanpy's) and by expression level alone.
`visium_mouse_embryo`: Spearman correlation of Moran's I with Space Ranger's over genes with 100
counts. By chance: Kolmogorov-Smirnov p values of p with permuted coordinates, and of genes whose
counts were replaced, half of all genes, by draws that follow depth or by permuted counts; and
shares of small p, which for genes that move together say more than the test.
"""

from __future__ import annotations

import numpy as np
from _common import table, timed, tissue, totals
from scipy import sparse, stats

import omicllm as ol
from omicllm.stats.scores import auroc

COLUMNS = ("array_row", "array_col", "array_x", "array_y")


def normalised(adata):
    """Library-normalised log counts."""
    import scanpy as sc

    work = adata.copy()
    sc.pp.normalize_total(work)
    sc.pp.log1p(work)
    return work


def shuffled(adata, seed: int):
    """The same spots at permuted places."""
    out, order = adata.copy(), np.random.default_rng(seed).permutation(adata.n_obs)
    out.obsm["spatial"] = out.obsm["spatial"][order]
    for name in set(COLUMNS) & set(out.obs):
        out.obs[name] = out.obs[name].to_numpy()[order]
    return out


def half_by_chance(adata, how: str, seed: int = 0):
    """Half of the genes without a pattern, and which they are."""
    rng = np.random.default_rng(seed)
    X = np.asarray(adata.X.toarray(), dtype=np.float32)
    chance = rng.random(adata.n_vars) < 0.5
    share = X[:, ~chance].sum(axis=1, dtype=float)
    share /= share.sum()
    for g in np.flatnonzero(chance):
        x = X[:, g]
        X[:, g] = rng.multinomial(int(x.sum()), share) if how == "depth" else rng.permutation(x)
    out = adata.copy()
    out.X = sparse.csr_matrix(X)
    return out, chance


def uniform(p: np.ndarray) -> float:
    """Kolmogorov-Smirnov p value against the uniform distribution."""
    return float(stats.kstest(p[np.isfinite(p)], "uniform").pvalue)


def calibration(p: np.ndarray) -> dict:
    """How p values without a pattern are spread."""
    p = p[np.isfinite(p)]
    return {"KS p": uniform(p)} | {f"p < {a}": float((p < a).mean()) for a in (0.1, 0.01, 0.001)}


def main() -> None:
    """Print the tables."""
    mob, embryo = tissue("mob_rep11_layers"), tissue("visium_mouse_embryo")
    truth = (mob.var["spark_adj_pval"] < 0.05).to_numpy()
    rows = [{"score": "expression level", "AUROC": auroc(totals(mob), truth)}]
    for method, data, null in (
        ("moran", normalised(mob), None), ("sigel", mob, "zinb"), ("sigel", mob, "permuted"),
    ):  # fmt: skip
        time: dict = {}
        with timed(time):
            ol.tl.spatially_variable_genes(data, method=method, null=null)
        found = np.nan_to_num(data.var[f"{method}_svg_score"].to_numpy(), nan=-9.0)
        name = method if null is None else f"{method}, null={null}"
        rows.append({"score": name, "AUROC": auroc(found, truth)} | time)
    rows[0]["wall s"] = ""
    table(rows)

    counted = totals(embryo) >= 100
    known = counted & np.isfinite(embryo.var["spaceranger_moran_i"].to_numpy())
    rows = []
    for method, data in (("moran", normalised(embryo)), ("sigel", embryo)):
        row = {"method": method}
        with timed(row):
            ol.tl.spatially_variable_genes(data, method=method)
        both = (
            data.var[c].to_numpy()[known] for c in (f"{method}_svg_score", "spaceranger_moran_i")
        )
        row["Spearman with Space Ranger"] = float(stats.spearmanr(*both).statistic)
        row["q < .05"] = int((data.var[f"{method}_svg_qval"] < 0.05).sum())
        rows.append(row)
    table(rows)

    rows = []
    seen = np.asarray((mob.X > 0).sum(axis=0)).ravel() >= 28
    some = np.random.default_rng(0).permutation(np.flatnonzero(seen))[:2000]
    for name, data, genes in (
        ("mob, 2,000 genes in >= 28 spots", mob, some),
        ("embryo, >= 100 counts", embryo, np.flatnonzero(counted)),
    ):
        for method in ("moran", "sigel"):
            for seed in (0, 1, 2):
                work = shuffled(normalised(data) if method == "moran" else data, seed)
                ol.tl.spatially_variable_genes(work, method=method)
                p = work.var[f"{method}_svg_pval"].to_numpy()[genes]
                q = int((work.var[f"{method}_svg_qval"] < 0.05).sum())
                row = {"data": name, "chance": f"coordinates permuted, seed {seed}"}
                rows.append(row | {"method": method} | calibration(p) | {"q < .05": q})
    for name, data in (("mob", mob), ("embryo", embryo)):
        for how in ("depth", "permuted"):
            work, chance = half_by_chance(data, how)
            tested = chance & (totals(work) >= 100)
            for null in ("zinb", "permuted"):
                ol.tl.spatially_variable_genes(work, null=null)
                p = work.var["sigel_svg_pval"].to_numpy()
                q = int((work.var["sigel_svg_qval"].to_numpy()[chance] < 0.05).sum())
                row = {
                    "data": f"{name}, >= 100 counts", "chance": f"half of the genes: {how}",
                    "method": f"sigel, null={null}",
                }  # fmt: skip
                row |= calibration(p[tested])
                rows.append(row | {"q < .05": f"{q} of {int(chance.sum())}"})
    table(rows)


if __name__ == "__main__":
    main()
