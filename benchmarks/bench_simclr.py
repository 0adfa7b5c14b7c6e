"""Ridge on SimCLR features against classical ones, on a held-out section.

The network is trained on the patches of the training sections alone (about two minutes of CPU for
each split), written, and read for the test section.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import anndata as ad
import numpy as np
from _common import table, tissue

import omicllm as ol
from omicllm.stats.histology import variable_genes
from omicllm.stats.ridge import GroupedRidge, mean_correlation, section_means
from omicllm.tl._histology_inputs import expression, inner_groups

SPLITS = {
    "bulb 1 -> 2": (("st_mob1",), "st_mob2", None),
    "breast A1+A2 -> B4": (("her2st_A1", "her2st_A2"), "her2st_B4", 250),
}


def run(name: str) -> list[dict]:
    names, test, n_top = SPLITS[name]
    network = Path(tempfile.mkdtemp()) / "network.safetensors"
    train = ad.concat(
        {n: tissue(n) for n in names}, uns_merge="unique", index_unique="-", join="inner"
    )
    start = time.process_time()
    ol.pp.image_features(train, encoder="simclr", save=network)
    seconds = time.process_time() - start
    new = tissue(test)
    ol.pp.image_features(new, encoder="simclr", weights=network)
    for part in (train, new):
        ol.pp.image_features(part)
    both = ad.concat([train, new], join="inner", index_unique="-")
    fit = np.arange(both.n_obs) < train.n_obs
    sections = both.obs["section"].to_numpy().astype(str)
    values = expression(both, None, "counts")
    columns = np.arange(both.n_vars)
    if n_top:
        columns = variable_genes(values[fit], sections[fit], n_top)
    Y = values[:, columns].toarray()
    groups = inner_groups(np.flatnonzero(fit), sections, sections, np.asarray(both.obsm["spatial"]))
    learned = both.obsm["X_simclr"] - section_means(both.obsm["X_simclr"], sections)
    learned /= learned[fit].std(axis=0)
    features = {"simclr": learned, "classical": both.obsm["X_classical"]}
    features["both"] = np.hstack([learned, both.obsm["X_classical"]])
    rows = []
    for what, X in features.items():
        model = GroupedRidge().fit(X[fit], Y[fit], sections[fit], groups)
        guess = model.predict(X[~fit], sections[~fit])
        score = mean_correlation(guess, Y[~fit], sections[~fit])
        used = round(seconds) if what == "simclr" else ""
        rows.append({"split": name, "features": what, "PCC": score, "training CPU s": used})
    return rows


if __name__ == "__main__":
    table([row for name in SPLITS for row in run(name)])
