"""Plain baselines of histology to expression, on held-out sections.

HER2-positive breast cancer: train on A1 + A2, test on B4 (another patient); train on B4 + A1, test
on A2 (another section of a training patient), whole and region by region: to predict a quarter of
A2, the quarter of A1 that lies over it is not trained on. Olfactory bulb: one section from the
other, all shared genes. Genes are the 250 of the largest variance within training sections.

The row `ridge, best alpha` knows the test section: no tuning of the penalty can beat it.
"""

from __future__ import annotations

import argparse

import anndata as ad
import numpy as np
from _common import table, tissue

import omicllm as ol
from omicllm.stats.expression_scores import section_scores
from omicllm.stats.histology import METHODS, Baselines, variable_genes
from omicllm.stats.ridge import ALPHAS, GroupedRidge, mean_correlation
from omicllm.stats.splits import spatial_blocks
from omicllm.tl._histology_inputs import expression, inner_groups, rgb_columns

SPLITS = {
    "her2st A1+A2 -> B4": (("her2st_A1", "her2st_A2"), "her2st_B4", 250),
    "her2st B4+A1 -> A2": (("her2st_B4", "her2st_A1"), "her2st_A2", 250),
    "her2st B4+A1 -> A2, regions held out": (("her2st_B4", "her2st_A1"), "her2st_A2", 250),
    "bulb 1 -> 2": (("st_mob1",), "st_mob2", None),
    "bulb 2 -> 1": (("st_mob2",), "st_mob1", None),
}


def load(names: tuple[str, ...]) -> ad.AnnData:
    parts = {name: tissue(name) for name in names}
    for name, part in parts.items():
        part.obs["library"] = name
        ol.pp.image_features(part)
    keep = parts[names[0]].uns["classical"]
    out = ad.concat(parts, join="inner", index_unique="-")
    out.uns["classical"] = keep
    # A patient is the letter of a section; each bulb section is its own.
    out.obs["patient"] = [n.split("_")[1][0] if n.startswith("her2st") else n
                          for n in out.obs["library"]]  # fmt: skip
    return out


def quarters(coords: np.ndarray, sections: np.ndarray) -> np.ndarray:
    """Quarter of its section's extent in which each spot lies."""
    out = np.zeros(len(coords), dtype=int)
    for s in np.unique(sections):
        rows = sections == s
        middle = np.median(coords[rows], axis=0)
        out[rows] = (coords[rows] > middle) @ [1, 2]
    return out


def run(name: str, methods: tuple[str, ...], n_boot: int, choose_by: str) -> list[dict]:
    train, test, n_top = SPLITS[name]
    adata = load((*train, test))
    X = np.asarray(adata.obsm["X_classical"], dtype=float)
    values = expression(adata, None, "counts")
    sections = adata.obs["library"].to_numpy().astype(str)
    patients = adata.obs["patient"].to_numpy().astype(str)
    coords = np.asarray(adata.obsm["spatial"], dtype=float)
    of_test = sections == test
    fit = np.flatnonzero(~of_test)
    columns = np.arange(adata.n_vars)
    if n_top:
        by = adata.X.log1p() if choose_by == "counts" else values
        columns = variable_genes(by[fit], sections[fit], n_top)
    Y = values[:, columns].toarray()
    rgb = rgb_columns(adata, "X_classical")
    options = {f"ridge, alpha by {c}": Baselines(methods, criterion=c) for c in ("pearson", "mse")}
    options["ridge, not centred"] = Baselines(("ridge",), center=False)
    predicted: dict[str, np.ndarray] = {}
    alphas: dict[str, list] = {}
    quarter = quarters(coords, sections)
    regions = [0, 1, 2, 3] if "regions" in name else [None]
    for region in regions:
        rows, new = fit, np.flatnonzero(of_test)
        if region is not None:
            new = new[quarter[new] == region]
            over = (sections[fit] == "her2st_A1") & (quarter[fit] == region)
            rows = fit[~over]
        inner = inner_groups(rows, sections, patients, coords)
        # The features of the whole test section are known, so they are centred by all of it.
        for label, baselines in options.items():
            found, alpha = baselines.predict(
                X[rows], Y[rows], sections[rows], inner, X[of_test], sections[of_test], rgb
            )
            kept = np.isin(np.flatnonzero(of_test), new)
            for method, guess in found.items():
                if method != "ridge" and label != "ridge, alpha by pearson":
                    continue
                key = label if method == "ridge" else method
                out = predicted.setdefault(key, np.zeros((of_test.sum(), len(columns))))
                out[kept] = guess[kept]
                if method in alpha:
                    alphas.setdefault(key, []).append(alpha[method])
    if regions == [None]:
        guesses = {}
        for alpha in ALPHAS:
            model = GroupedRidge(alphas=np.array([alpha])).fit(X[fit], Y[fit], sections[fit])
            guesses[alpha] = model.predict(X[of_test], sections[of_test])
        best = max(
            ALPHAS, key=lambda a: mean_correlation(guesses[a], Y[of_test], sections[of_test])
        )
        predicted["ridge, best alpha"], alphas["ridge, best alpha"] = guesses[best], [best]
    blocks = spatial_blocks(coords[of_test], np.zeros(of_test.sum(), dtype=int), 25)
    rows_out, _ = section_scores(
        predicted, Y[of_test], sections[of_test], blocks, n_boot=n_boot, level=0.95,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    return [
        {
            "split": name, "method": r["method"], "PCC": r["pearson"],
            "95 %": f"{r['pearson_low']:.3f} to {r['pearson_high']:.3f}",
            "Spearman": r["spearman"], "MSE": r["mse"], "MAE": r["mae"],
            "alpha": ", ".join(f"{a:g}" for a in alphas.get(str(r["method"]), [])),
        }
        for r in rows_out if r["section"] == "all"
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boot", type=int, default=500)
    parser.add_argument(
        "--genes", choices=("normalised", "counts"), default="normalised",
        help="variance of which values, before scaling to the total or after, chooses the genes",
    )  # fmt: skip
    arguments = parser.parse_args()
    rows = []
    for name in SPLITS:
        rows += run(name, METHODS, arguments.boot, arguments.genes)
    table(rows)


if __name__ == "__main__":
    main()
