"""Train the SIGEL model that comes with the package, on the bundled section.

Run after a change of recipe or of what a model saves: ``make weights``.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

import omicllm as ol

FOLDER = Path(ol.__file__).parent / "model" / "weights" / "sigel_mouse_olfactory_bulb"
N_GENES = 1000


def main() -> None:
    """Keep the genes with most counts, train with the defaults and save."""
    adata = ol.datasets.mouse_olfactory_bulb()
    totals = np.asarray(adata.X.sum(axis=0)).ravel()
    adata = adata[:, np.sort(np.argsort(-totals, kind="stable")[:N_GENES])].copy()
    ol.model.SIGEL.setup_anndata(adata)
    model = ol.model.SIGEL(adata)
    model.train()
    shutil.rmtree(FOLDER, ignore_errors=True)
    model.save(FOLDER)
    for file in FOLDER.iterdir():
        file.chmod(0o644)
        print(file, file.stat().st_size)


if __name__ == "__main__":
    main()
