"""Memory: what is left, and verbs that stop before they need more."""

from __future__ import annotations

import tracemalloc

import anndata as ad
import numpy as np
import pytest
from conftest import make_tiny
from helpers import same_object
from scipy import sparse

import omicllm as ol
from omicllm._core import memory

MEMINFO = "MemTotal:  900 kB\nMemFree:  100 kB\nMemAvailable:  {} kB\nSwapFree:  {} kB\nHuge:  3\n"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine without control groups: a function that says what it has left, in kB."""
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_OWN_GROUP", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "groups")

    def has(left, swap=0):
        (tmp_path / "meminfo").write_text(MEMINFO.format(left, swap))
        return tmp_path

    return has


def test_what_the_machine_has_left_counts_its_swap(machine):
    machine(500)
    assert memory.available() == 500 * 1024
    machine(500, swap=40)
    assert memory.available() == 540 * 1024


def test_without_meminfo_the_whole_memory_is_taken(machine):
    import os

    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert memory.available() == whole


@pytest.mark.parametrize("old", [False, True])
def test_the_smallest_limit_of_nested_groups_holds(machine, old):
    folder = machine(500)
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if old else (
        "memory.max", "memory.current")  # fmt: skip
    root = folder / "groups" / ("memory" if old else "")
    (folder / "cgroup").write_text("4:cpu,memory:/job/step\n" if old else "0::/job/step\n")
    prefix = "total_" if old else ""

    def group(path, limit, used, files):
        (root / path).mkdir(parents=True, exist_ok=True)
        (root / path / names[0]).write_text(f"{limit}\n")
        (root / path / names[1]).write_text(f"{used}\n")
        text = f"anon 1\n{prefix}active_file {files}\n{prefix}inactive_file 10\n"
        (root / path / "memory.stat").write_text(text)

    # Pages of files (active and inactive) are given back: they are not in use.
    group("job", limit=200_000, used=150_000, files=30_000)
    group("job/step", limit="max" if not old else 2**63 - 4096, used=150_000, files=30_000)
    assert memory.available() == 200_000 - 150_000 + 30_010
    group("job/step", limit=100_000, used=90_000, files=0)
    assert memory.available() == 10_010
    machine(5)
    assert memory.available() == 5 * 1024


def test_check_adds_up_arrays_and_names_the_largest_first(monkeypatch):
    arrays = {"few": ((2, 3), "int8"), "many": ((1000, 2**20), "float32")}
    needed = 6 + 1000 * 2**22
    monkeypatch.setattr(memory, "available", lambda: needed)
    memory.check("a call", arrays, instead="Take less.")
    monkeypatch.setattr(memory, "available", lambda: needed - 1)
    with pytest.raises(MemoryError) as caught:
        memory.check("a call", arrays, instead="Take less.")
    assert str(caught.value) == (
        "a call is about to make arrays of 3.9 GiB, and 3.9 GiB of memory are left (many, "
        "1,000 x 1,048,576 float32, 3.9 GiB; few, 2 x 3 int8, 0 KiB). Take less."
    )


def drawn():
    """Counts of 200 genes in 400 observations, with made embeddings, and two gene sets."""
    rng = np.random.default_rng(0)
    out = ad.AnnData(sparse.csr_matrix(rng.poisson(0.5, (400, 200)).astype(np.float32)))
    out.var_names = [f"g{i}" for i in range(200)]
    out.varm["X_sigel"] = rng.normal(size=(200, 4)).astype(np.float32)
    out.var["sigel_cluster"] = np.where(np.arange(200) % 2, "a", "b")
    out.obsm["spatial"] = np.indices((20, 20)).reshape(2, -1).T.astype(float)
    return out


def _functions():
    sets = {name: [f"g{i}" for i in range(first, 200, 4)] for first, name in enumerate("abcd")}
    return drawn(), lambda a: ol.tl.gene_functions(a, gene_sets=sets, n_folds=3)


def _distances():
    adata = drawn()[:, :20].copy()
    ol.tl.ult(adata)
    return adata, lambda a: ol.tl.ult_distances(
        a, n_sample=None, n_permutations=2, metrics="hamming"
    )


def _distances_as_published():
    adata = drawn()[:100, :20].copy()
    ol.tl.ult(adata)
    return adata, lambda a: ol.tl.ult_distances(a, n_sample=None, formula="reference")


def _imputation():
    adata = drawn()
    adata.X = adata.X.log1p()
    return adata[:, :40].copy(), lambda a: ol.tl.impute_genes(
        a, reference=adata, method="knn", n_folds=3, max_reference=60
    )


def _prediction():
    adata = drawn()
    adata.obsm["X_f"] = np.random.default_rng(1).normal(size=(400, 3)).astype(np.float32)
    model = ol.model.SPAM
    model.setup_anndata(adata, use_rep="X_f")
    model = model(adata)
    model.train(0)
    return adata, lambda a: ol.tl.predict_expression(a, model=model, use_rep="X_f")


def _images():
    adata = drawn()
    ol.pp.spatial_grid(adata)
    return adata, ol.get.gene_images


CALLS = [_functions, _distances, _distances_as_published, _imputation, _prediction, _images]


@pytest.mark.filterwarnings("ignore:formula='reference'")
@pytest.mark.parametrize("made", CALLS, ids=lambda f: f.__name__.strip("_"))
def test_verbs_stop_before_they_start(made, monkeypatch):
    adata, call = made()
    before = adata.copy()
    needed = []
    check = memory.check

    def noted(what, arrays, **kwargs):
        sizes = [np.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in arrays.values()]
        needed.append(int(sum(sizes)))
        check(what, arrays, **kwargs)

    monkeypatch.setattr(memory, "check", noted)
    monkeypatch.setattr(memory, "available", lambda: 1000)
    with pytest.raises(MemoryError, match="is about to make arrays of .* and 1 KiB of memory"):
        call(adata)
    same_object(adata, before)
    # What is refused is certain: the call that has the memory takes at least as much.
    monkeypatch.setattr(memory, "available", lambda: 2**50)
    tracemalloc.start()
    try:
        call(adata)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert needed[0] == needed[1] > 1000
    assert peak >= needed[0]
    # With one byte less than that it stops, with all of it it goes through.
    monkeypatch.setattr(memory, "available", lambda: needed[0] - 1)
    with pytest.raises(MemoryError):
        call(before)
    monkeypatch.setattr(memory, "available", lambda: needed[0])
    call(before)


@pytest.mark.parametrize("form", ["csr", "csc"])
def test_a_sparse_file_is_not_read_whole_where_it_does_not_fit(form, tmp_path, monkeypatch):
    adata = make_tiny()
    adata.X = adata.X.asformat(form)
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    monkeypatch.setattr(memory, "available", lambda: 16 * adata.X.nnz - 1)
    with pytest.raises(MemoryError, match="Reading all values of a backed matrix"):
        ol.tl.sigel(backed, n_clusters=4)
    monkeypatch.setattr(memory, "available", lambda: 16 * adata.X.nnz)
    ol.tl.sigel(backed, n_clusters=4)
    assert "X_sigel" in backed.varm
