"""Fine-tune a tiny pretrained model; run by ``accelerate launch`` in two processes.

``train_backbone.py <folder of the backbone> <folder of the result>``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import anndata as ad
import numpy as np
import pandas as pd

import omicllm as ol
from omicllm.train._ranks import rank_and_size


def main(backbone, folder):
    rng, kind = np.random.default_rng(0), np.arange(48) % 2
    X = rng.normal(5, 1, (48, 30)) + 2 * (np.arange(30) // 15 == kind[:, None])
    obs = pd.DataFrame({"kind": kind.astype(str)}, index=[f"p{i}" for i in range(48)])
    adata = ad.AnnData(X.astype(np.float32), obs=obs)
    ol.model.OmicLM.setup_anndata(adata, "kind")
    model = ol.model.OmicLM(adata, backbone=backbone, n_top=8, patch_size=4)
    model.train(max_epochs=4, batch_size=12, augment=None, lr=3e-3, training_args={"use_cpu": True})
    model.save(folder / "model")
    rank, size = rank_and_size()
    told = {"size": size, "loss": model.history_["train_loss"].to_numpy().ravel().tolist()}
    (folder / f"rank{rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    import transformers.trainer

    # The folder tests/datasets looks like the package `datasets`.
    transformers.trainer.is_datasets_available = lambda: False
    main(sys.argv[1], Path(sys.argv[2]))
