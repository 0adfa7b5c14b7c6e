"""R through rpy2: mclust against our mixture, and what is said where R is missing."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from conftest import make_tiny

import omicllm as ol
from omicllm._bridges import r
from omicllm.metrics import ari
from omicllm.stats.tied_mixture import fit_tied_mixture, most_likely


def missing(package: str) -> str:
    """Why an R package cannot be used, or an empty string."""
    try:
        r.connect(package)
    except ImportError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def with_mclust():
    reason = missing("mclust")
    if reason:
        pytest.skip(reason)


@pytest.mark.r
@pytest.mark.usefixtures("with_mclust")
def test_mclust_fits_the_same_mixture():
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(3), 80)
    Z = rng.normal(size=(240, 4)) @ rng.normal(size=(4, 4)) + 4 * rng.normal(size=(3, 4))[truth]
    probability = r.mclust(Z, 3, seed=1)
    assert probability.shape == (240, 3)
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    label = probability.argmax(axis=1)
    ours = most_likely(Z, *fit_tied_mixture(Z, label, 3, max_iter=500, tol=1e-9))
    assert ari(label, ours) == 1, "EM from its labels stays there"
    np.testing.assert_allclose(r.mclust(Z, 3, seed=1), probability)


@pytest.mark.r
@pytest.mark.usefixtures("with_mclust")
def test_the_state_of_r_is_restored():
    ro = r.connect("mclust")
    drawn = []
    for between in (False, True):
        ro.r("set.seed(3)")
        if between:
            r.mclust(np.random.default_rng(0).normal(size=(60, 2)), 2, seed=8)
        drawn.append(ro.r("runif(1)")[0])
    assert drawn[0] == drawn[1]


@pytest.mark.r
@pytest.mark.usefixtures("with_mclust")
def test_cross_check_of_domains(tmp_path):
    adata = make_tiny()
    blobs = 6.0 * np.eye(3)[np.arange(120) // 40] + np.random.default_rng(0).normal(size=(120, 3))
    adata.obsm["X_blobs"] = blobs
    ol.tl.spatial_domains(adata, n_domains=3, use_rep="X_blobs", cross_check="mclust", n_starts=2)
    assert adata.uns["spatial_domain"]["mclust_ari"] > 0.9
    adata.write_h5ad(tmp_path / "a.h5ad")


@pytest.mark.r
@pytest.mark.usefixtures("with_mclust")
def test_child_processes_keep_their_libraries():
    code = "import os; print(os.environ.get('LD_LIBRARY_PATH', ''))"
    child = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    fresh = subprocess.run(
        [sys.executable, "-c", f"from omicllm._bridges import r; r.connect('mclust')\n"
         f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}], check=True)"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert child.stdout == fresh.stdout


@pytest.mark.r
def test_zinb_has_its_moments():
    reason = missing("ZIM")
    if reason:
        pytest.skip(reason)
    drawn = r.zinb(20_000, size=2.0, mean=3.0, zeros=0.3, seed=0)
    assert abs(drawn.mean() - 0.7 * 3.0) < 0.1
    assert abs((drawn == 0).mean() - (0.3 + 0.7 * (2 / 5) ** 2)) < 0.02
    np.testing.assert_array_equal(drawn[:50], r.zinb(20_000, size=2.0, mean=3.0, zeros=0.3)[:50])


def test_without_rpy2_the_commands_are_named(monkeypatch):
    for name in [m for m in sys.modules if m.split(".")[0] == "rpy2"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rpy2", None)
    adata = make_tiny()
    with pytest.raises(ImportError) as error:
        ol.tl.spatial_domains(adata, n_domains=3, cross_check="mclust")
    text = str(error.value)
    assert "apt-get install --no-install-recommends r-base-core r-cran-mclust" in text
    assert "pip install 'omicllm[r]'" in text and "\n" not in text
    assert "spatial_domain" not in adata.obs
