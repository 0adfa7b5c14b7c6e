"""Train small models in one or two processes; history and weights go to a folder.

Run as a script, since DDP starts the same command again for every further process:
``python train_everything.py <folder> <number of processes>``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import anndata as ad
import numpy as np
import pandas as pd
import torch
from made_tissue import made_sections

import omicllm as ol


def sigel(run):
    adata = ol.datasets.mouse_olfactory_bulb()[:, :200].copy()
    ol.model.SIGEL.setup_anndata(adata)
    model = ol.model.SIGEL(adata, n_clusters=4)
    model.train(pretrain_epochs=3, refine_epochs=2, batch_size=64, **run)
    return model


def spam(run):
    adata = made_sections()
    ol.model.SPAM.setup_anndata(adata)
    model = ol.model.SPAM(adata, n_hidden=32, n_tokens=4, knn=6, n_programs=6)
    for layer in model.module.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0  # processes drop other units
    model.pretrain(max_epochs=3, batch_size=64, **run)
    model.train(3, batch_size=64, **run)
    return model


def omiclm(run):
    rng, kind = np.random.default_rng(0), np.arange(48) % 3
    X = rng.normal(5, 1, (48, 60)) + 2 * (np.arange(60) // 6 == kind[:, None])
    adata = ad.AnnData(X.astype(np.float32), obs=pd.DataFrame({"kind": kind.astype(str)}))
    ol.model.OmicLM.setup_anndata(adata, "kind")
    model = ol.model.OmicLM(adata, n_top=20, n_members=2)
    model.train(max_epochs=4, batch_size=12, **run)
    return model


def genemask(run):
    rng = np.random.default_rng(0)
    drawn = ["".join(rng.choice(list("ACGT" if i % 2 else "AATTCG"), 40)) for i in range(80)]
    obs = pd.DataFrame({"sequence": drawn, "label": np.where(np.arange(80) % 2, "gc", "at")})
    adata = ad.AnnData(obs=obs)
    ol.model.GeneMaskLM.setup_anndata(adata, labels_key="label")
    small = {"k": 3, "d_model": 32, "n_layers": 1, "n_heads": 2, "d_ff": 32, "dropout": 0.0}
    model = ol.model.GeneMaskLM(adata, **small)
    model.pretrain(max_steps=4, batch_size=8, max_tokens=20, **run)
    model.train(max_epochs=3, batch_size=8, lr=3e-3, **run)
    return model


def main(folder, n):
    run = {"accelerator": "cpu", "devices": n}
    if n > 1:
        run |= {"strategy": "ddp_find_unused_parameters_true", "num_nodes": 1}
    curves = {}
    for train in (sigel, spam, omiclm, genemask):
        model = train(run)
        model.save(folder / train.__name__)
        curves[train.__name__] = {
            k: [float(v) for v in frame.to_numpy().ravel()]
            for k, frame in model.history_.items()
            if k.endswith("loss")
        }
    from omicllm.train._ranks import rank_and_size

    if rank_and_size()[0] == 0:
        (folder / "curves.json").write_text(json.dumps(curves))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
