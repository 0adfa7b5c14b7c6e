"""Expression from histology: SPAM and the tuned ridge on held-out sections, same features.

Prints four tables: accuracy and coverage; a few measured spots; leakage; pretraining. With
``--more`` further divisions of the sections, with ``--short`` the first table alone.
"""

from __future__ import annotations

import sys

import anndata as ad
import numpy as np
from _common import table, timed, tissue

import omicllm as ol
from omicllm.spatial.surroundings import spacing
from omicllm.stats.agreement import gene_pearson
from omicllm.stats.depth import log_normalised
from omicllm.stats.histology import variable_genes
from omicllm.stats.ridge import GroupedRidge
from omicllm.stats.splits import spatial_blocks
from omicllm.stats.tissue_context import TissueContext

SPLITS = {
    "her2st A1 + A2 -> B4": (("her2st_A1", "her2st_A2"), "her2st_B4"),
    "her2st B4 + A1 -> A2": (("her2st_B4", "her2st_A1"), "her2st_A2"),
    "olfactory bulb 1 -> 2": (("st_mob1",), "st_mob2"),
    "olfactory bulb 2 -> 1": (("st_mob2",), "st_mob1"),
}
MORE = {
    "her2st B4 + A2 -> A1": (("her2st_B4", "her2st_A2"), "her2st_A1"),
    "her2st A1 -> B4": (("her2st_A1",), "her2st_B4"),
    "her2st A2 -> A1": (("her2st_A2",), "her2st_A1"),
    "her2st A1 -> A2": (("her2st_A1",), "her2st_A2"),
    "her2st B4 -> A1": (("her2st_B4",), "her2st_A1"),
    "her2st B4 -> A2": (("her2st_B4",), "her2st_A2"),
}
REPEATS = 5
_READ: dict = {}


def section(name):
    """A section with classical image features."""
    if name not in _READ:
        _READ[name] = tissue(name)
        ol.pp.image_features(_READ[name])
    return _READ[name]


def values(adata, genes):
    """Measured log-normalised values."""
    total = np.asarray(adata.X.sum(axis=1)).ravel()
    return log_normalised(adata[:, genes].X.toarray(), total)


def data(train, test):
    """Training sections in one object, the test section, and genes chosen on training alone."""
    parts = {n: section(n) for n in train}
    joined = ad.concat(parts, label="source", index_unique="-")
    held = section(test)
    shared = [g for g in joined.var_names if g in set(held.var_names)]
    codes = joined.obs["source"].cat.codes.to_numpy()
    if test.startswith("st_mob"):
        return joined, held, shared, codes
    top = variable_genes(values(joined, shared), codes, 250)
    return joined, held, [shared[i] for i in top], codes


def ridge(joined, held, genes, codes):
    """The tuned ridge: penalty by held-out patients, else sections, else regions."""
    groups = codes
    if "patient" in joined.obs and joined.obs["patient"].nunique() > 1:
        groups = joined.obs["patient"].to_numpy()
    elif len(np.unique(codes)) == 1:
        groups = spatial_blocks(np.asarray(joined.obsm["spatial"]), codes, 5)
    model = GroupedRidge().fit(joined.obsm["X_classical"], values(joined, genes), codes, groups)
    return model.predict(held.obsm["X_classical"], np.zeros(held.n_obs))


def trained(joined, genes, mode=None, **kwargs):
    """A trained model."""
    ol.model.SPAM.setup_anndata(joined)
    model = ol.model.SPAM(joined, genes=genes)
    if mode is not None:
        model.pretrain(mode, show_progress=False)
    model.train(show_progress=False, **kwargs)
    return model


def score(truth, guess):
    """Mean correlation and squared error."""
    return float(gene_pearson(truth, guess).mean()), float(((truth - guess) ** 2).mean())


def inside(truth, bounds):
    """Share of measured values within bounds."""
    low, high = (b.to_numpy() for b in bounds)
    return float(((truth >= low) & (truth <= high)).mean())


def few_spots(model, joined, held, genes, codes, guess):
    """Scores of unmeasured spots when 5 % are measured: none used, used, and kriged alone."""
    truth, rng = values(held, genes), np.random.default_rng(0)
    xy = [np.asarray(joined.obsm["spatial"])[codes == c] for c in np.unique(codes)]
    rows = [np.flatnonzero(codes == c) for c in np.unique(codes)]
    own = values(joined, genes)
    alone = TissueContext.fitted(
        own - own.mean(0), [v / spacing(v) for v in xy], rows, model.regression_.axes_, rng
    )
    here = np.asarray(held.obsm["spatial"]) / spacing(np.asarray(held.obsm["spatial"]))
    out = []
    for repeat in range(REPEATS):
        seen = np.zeros(held.n_obs, dtype=bool)
        order = np.random.default_rng(repeat).permutation(held.n_obs)
        seen[order[: round(0.05 * held.n_obs)]] = True
        flat = np.broadcast_to(truth[seen].mean(0), truth.shape)
        used = model.predict(held, context=seen).to_numpy()
        krige = alone.krige(flat, truth, seen, here)
        out.append([score(truth[~seen], g[~seen]) for g in (guess, used, krige)])
    mean = np.mean(out, axis=0)
    return {
        "PCC none": mean[0, 0], "PCC 5 %": mean[1, 0], "PCC kriging": mean[2, 0],
        "MSE none": mean[0, 1], "MSE 5 %": mean[1, 1], "MSE kriging": mean[2, 1],
    }  # fmt: skip


def leakage(model, joined, held, genes, guess):
    """Predictions without test counts, and correlation where images were shuffled in training."""
    shuffled = held.copy()
    shuffled.X = shuffled.X[np.random.default_rng(0).permutation(held.n_obs)]
    bare = ad.AnnData(obs=held.obs, obsm=dict(held.obsm))
    same = all(np.array_equal(model.predict(a).to_numpy(), guess) for a in (shuffled, bare))
    cut = joined.copy()
    rng = np.random.default_rng(1)
    cut.obsm["X_classical"] = cut.obsm["X_classical"][rng.permutation(cut.n_obs)]
    lone = trained(cut, genes, max_epochs=5)
    r = np.abs(gene_pearson(values(held, genes), lone.predict(held).to_numpy())).mean()
    return {"identical without counts": same, "mean abs. PCC, shuffled images": float(r)}


def main():
    main_rows, few_rows, leak_rows, pre_rows = [], [], [], []
    splits = SPLITS | (MORE if "--more" in sys.argv else {})
    for name, (train, test) in splits.items():
        joined, held, genes, codes = data(train, test)
        truth, took = values(held, genes), {}
        base = score(truth, ridge(joined, held, genes, codes))
        with timed(took):
            model = trained(joined, genes)
        guess = model.predict(held).to_numpy()
        depth = np.asarray(held.X.sum(axis=1)).ravel()
        holds = [inside(truth, model.get_intervals(held, library_size=n)) for n in (None, depth)]
        ours = score(truth, guess)
        start = model.regression_.predict(
            model._tissue(held).blocks(model.params_["knn"]), np.zeros(held.n_obs, dtype=int)
        )
        main_rows.append(
            {"split": name, "genes": len(genes), "PCC ridge": base[0], "PCC closed form":
             score(truth, start)[0], "PCC SPAM": ours[0], "gain": ours[0] - base[0],
             "MSE ridge": base[1], "MSE SPAM": ours[1], "90 % holds": holds[0],
             "given depth": holds[1], "wall s": took["wall s"]}
        )  # fmt: skip
        print(main_rows[-1], flush=True)
        if name not in SPLITS or "--short" in sys.argv:
            continue
        few_rows.append({"split": name, **few_spots(model, joined, held, genes, codes, guess)})
        leak_rows.append({"split": name, **leakage(model, joined, held, genes, guess)})
        print(few_rows[-1], leak_rows[-1], flush=True)
        runs = {"none": model}
        for mode in ("image-space", "image-gene", "joint"):
            runs[mode] = trained(joined, genes, mode)
        for mode, run in runs.items():
            made = score(truth, run.predict(held).to_numpy())
            pre_rows.append(
                {"split": name, "pretraining": mode, "tensors carried": len(run.pretrained_),
                 "start loss": run.start_loss_, "blend": run.blend_, "PCC": made[0],
                 "MSE": made[1]}
            )  # fmt: skip
    for rows in (main_rows, few_rows, leak_rows, pre_rows):
        if rows:
            print()
            table(rows)


if __name__ == "__main__":
    main()
