"""What every verb and every model class keeps to. A new one adds a case to a list here."""

from __future__ import annotations

import copy
import functools
import locale
import logging
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_tiny
from helpers import (
    ATTRIBUTES,
    only_declared_written,
    round_trip,
    same,
    same_object,
    slots,
    tables_are_read,
)
from made_storage import dressed, fingerprint, of_object, unchanged
from scipy import sparse

import omicllm as ol
from omicllm._core.keys import KEYS, uns_name

if TYPE_CHECKING:
    from collections.abc import Callable


def sections():
    """Two sections of the small set."""
    first, second = make_tiny(), make_tiny(seed=1)
    return ad.concat({"a": first, "b": second[:60]}, label="slide", index_unique="-")


def embedded():
    """The small set with an embedding whose genes 3 and 4 are empty."""
    adata = make_tiny()
    Z = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    Z[3:5] = 0
    adata.varm["X_sigel"] = Z
    return adata


def viewed():
    """The small set with three embeddings of its genes, which some genes lack."""
    adata = embedded()
    Z = adata.varm["X_sigel"]
    rng = np.random.default_rng(1)
    other = Z @ rng.normal(size=(6, 5)) + 0.5 * rng.normal(size=(40, 5))
    other[:2] = np.nan
    adata.varm["X_kmers"] = other.astype(np.float32)
    adata.varm["X_other"] = rng.normal(size=(40, 4)).astype(np.float32)
    return adata


def clustered():
    """The small set with an embedding and clusters."""
    adata = embedded()
    adata.var["sigel_cluster"] = [str(i % 4) for i in range(40)]
    return adata


def regions():
    """The small set with two regions."""
    adata = make_tiny()
    adata.obs["side"] = np.where(np.arange(120) % 10 > 4, "right", "left")
    return adata


def conditions():
    """Three sections in two conditions."""
    parts = {name: make_tiny(seed=i) for i, name in enumerate("abc")}
    adata = ad.concat(parts, label="slide", index_unique="-")
    adata.obs["condition"] = np.where(adata.obs["slide"] == "a", "x", "y")
    return adata


def cohort():
    """The small set with classes and a split."""
    adata = make_tiny()
    adata.obs["kind"] = np.where(np.arange(120) % 10 > 4, "right", "left")
    adata.obs["split"] = np.where(np.arange(120) % 3 == 0, "test", "train")
    return adata


def gridded():
    """The small set with its gene images."""
    adata = make_tiny()
    ol.pp.spatial_grid(adata)
    return adata


def pictured():
    """The small set with a text and a small picture for each spot."""
    adata = make_tiny()
    adata.obs["note"] = [f"spot {i} of {i % 7}" for i in range(120)]
    adata.obsm["patches"] = np.random.default_rng(0).random((120, 8, 12)).astype(np.float32)
    return adata


def pictured_section():
    """A made section with its image."""
    from made_histology import make_section

    return make_section(n_side=8, n_genes=6)


@functools.cache
def _study():
    from made_histology import make_study

    study = make_study(2, n_side=8, n_genes=6)
    study.layers["guess"] = np.log1p(study.X.toarray()).astype(np.float32)
    return study


def study():
    """Two made sections with image features and predictions."""
    return _study().copy()


def encoded():
    """The small set as strings."""
    adata = make_tiny()
    ol.tl.ult(adata)
    return adata


def encoded_notes():
    """Texts of the spots as strings."""
    adata = pictured()
    ol.tl.ult(adata, method="text", text_key="note")
    return adata


def encoded_images():
    """Gene images as strings."""
    adata = gridded()
    ol.tl.ult(adata, method="image", patch_size=4)
    return adata


def dna():
    """Sequences in two classes, one with a planted word, and their counts of words of two bases."""
    rng = np.random.default_rng(0)
    drawn = ["".join(rng.choice(list("ACGT"), 40)) for _ in range(120)]
    label = np.where(np.arange(120) % 2 == 0, "planted", "plain")
    for i in range(0, 120, 2):
        drawn[i] = drawn[i][:15] + "TGACTCAG" + drawn[i][23:]
    adata = ad.AnnData(obs=pd.DataFrame({"sequence": drawn}, index=[f"s{i}" for i in range(120)]))
    adata = ol.pp.kmer_counts(adata, k=2)
    adata.obs["label"], adata.obs["split"] = label, ["train"] * 60 + ["test"] * 60
    del adata.uns["kmer_counts"]
    return adata


@functools.cache
def _classifier() -> str:
    """Folder of a small trained language model; one training serves every case."""
    folder = tempfile.mkdtemp() + "/model"
    ol.tl.classify_omics(cohort(), labels_key="kind", save=folder, **FAST_LM)
    return folder


def classified():
    """A cohort that says where its language model is."""
    adata = cohort()
    adata.uns["omiclm"] = {"model_dir": _classifier()}
    return adata


def stained():
    """Two sections with image features that go with the four patterns."""
    adata = sections()
    rng = np.random.default_rng(0)
    X = np.log1p(adata.X.toarray())
    shown = np.stack([X[:, i::4].mean(1) for i in range(4)], axis=1)
    adata.obsm["X_classical"] = (shown + 0.2 * rng.normal(size=shown.shape)).astype(np.float32)
    adata.obs["section"] = adata.obs["slide"].astype(str)
    return adata


@functools.cache
def _histologist() -> str:
    """Folder of a small model of expression from histology."""
    folder = tempfile.mkdtemp() + "/model"
    ol.tl.spam(stained(), save=folder, max_epochs=1)
    return folder


def seen():
    """Sections that say where the model of their expression is."""
    adata = stained()
    adata.uns["spam"] = {"model_dir": _histologist()}
    return adata


FAST_LM = {"n_top": 20, "n_folds": 0, "max_epochs": 2, "model_args": {"n_members": 1}}


@dataclass
class Verb:
    """One call of a verb: how to make the object, and what else the verb may write."""

    name: str
    make: Callable[[], ad.AnnData] = make_tiny
    kwargs: dict[str, Any] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    id: str = ""
    #: Takes a whole MuData too, so that it asks for no modality.
    whole_mudata: bool = False
    #: Draws something with these arguments; `rng=` is refused where it would do nothing.
    draws: bool = True

    def __call__(self, adata, **more):
        namespace, name = self.name.split(".")
        return getattr(getattr(ol, namespace), name)(adata, **self.kwargs, **more)

    @property
    def seeded(self) -> bool:
        import inspect

        namespace, name = self.name.split(".")
        function = getattr(getattr(ol, namespace), name)
        return self.draws and "rng" in inspect.signature(function).parameters


def located():
    """The small set with a start site for each gene."""
    adata = make_tiny()
    adata.var["chrom"], adata.var["strand"] = "c", np.where(np.arange(40) % 2, "+", "-")
    adata.var["tss"] = 30 + 4 * np.arange(40)
    return adata


def windowed():
    """The small set with a window for each gene."""
    adata = located()
    ol.pp.gene_windows(adata, length=20)
    return adata


#: A contig of 200 bases for the verbs that read sequences.
GENOME = Path(tempfile.mkdtemp()) / "genome.fa"
GENOME.write_text(">c\n" + "ACGGT" * 40 + "\n")


def small_trunk():
    """A genome model whose bins have 8 bases."""
    torch.manual_seed(0)
    return ol.nn.Enformer(dim=24, depth=1, heads=4, dim_divisible_by=12, num_downsamples=3,
                          output_heads={})  # fmt: skip


def predicted():
    """The small set with a split and predictions in a layer."""
    adata = cohort()
    adata.layers["twas_enet"] = np.random.default_rng(0).random(adata.shape).astype(np.float32)
    return adata


VERBS = [
    Verb("tl.evaluate_personal", predicted, id="default"),
    Verb("tl.embed_genes", windowed, {"model": small_trunk(), "genome": GENOME}, id="default"),
    Verb("tl.embed_sequences", dna, {"model": small_trunk()}, id="default"),
    Verb("pp.kmer_pmi", dna, {"min_count": 20}, id="default"),
    Verb("tl.motifs", dna, {"n_motifs": 1}, id="denovo"),
    Verb("tl.few_shot", dna, {"shots": 10, "n_draws": 2}, id="baselines"),
    Verb("pp.gene_windows", located, {"length": 20}, id="default"),
    Verb("pp.correct_expression", kwargs={"n_pcs": 3}, id="default"),
    Verb("pp.attach_sequences", windowed, {"genome": GENOME}, id="default"),
    Verb("pp.split", kwargs={"method": "blocks", "n_blocks": 12}, id="blocks"),
    Verb("pp.split", sections, {"groupby": "slide", "val_size": 0}, id="groups"),
    Verb("pp.standardize", cohort, id="default"),
    Verb(
        "tl.augment_quality", cohort,
        {"labels_key": "kind", "methods": ["gamma_poisson", "replacement"], "n_new": 20},
        id="samplers",
    ),
    Verb("pp.spatial_grid", id="hex"),
    Verb("pp.spatial_grid", kwargs={"method": "bin", "n_pixels": 60, "agg": "mean"}, id="bin"),
    Verb("pp.spatial_grid", sections, {"batch_key": "slide"}, id="sections"),
    Verb("tl.sigel", also=("pp.spatial_grid",), id="default"),
    Verb("tl.sigel", kwargs={"max_epochs": 2}, also=("pp.spatial_grid",), id="trained"),
    Verb(
        "tl.sigel", sections, {"batch_key": "slide", "max_epochs": 1}, ("pp.spatial_grid",), "two"
    ),
    Verb(
        "tl.sigel", kwargs={"preset": "paper", "max_epochs": 2}, also=("pp.spatial_grid",),
        id="paper",
    ),
    Verb("tl.gene_neighbors", embedded, {"n_neighbors": 5}, id="default"),
    Verb(
        "tl.gene_views", viewed,
        {"views": ["X_sigel", "X_kmers", "X_other"], "n_permutations": 9, "n_neighbors": 5},
        id="default",
    ),
    Verb("tl.project_genes", embedded, id="default"),
    Verb("tl.spatially_variable_genes", kwargs={"n_null": 20}, id="default"),
    Verb(
        "tl.spatially_variable_genes", kwargs={"null": "permuted", "n_null": 20, "n_jobs": 2},
        id="permuted",
    ),
    Verb(
        "tl.spatially_variable_genes", sections, {"batch_key": "slide", "n_null": 20}, id="two"
    ),
    Verb(
        "tl.gene_functions", clustered,
        {"gene_sets": {f"p{p}": [f"Gene{i}" for i in range(p, 40, 4)] for p in range(4)},
         "n_neighbors": 5},
        id="default",
    ),
    Verb("tl.spatial_domains", kwargs={"n_domains": 3, "n_starts": 2}, id="default"),
    Verb(
        "tl.spatial_domains", sections, {"n_domains": 3, "n_starts": 2, "batch_key": "slide"},
        id="sections",
    ),
    Verb(
        "tl.impute_genes", kwargs={"reference": make_tiny(60, seed=1), "max_reference": 100},
        id="default",
    ),
    Verb(
        "tl.impute_genes", sections,
        {"reference": make_tiny(45, seed=1), "batch_key": "slide", "method": "knn",
         "genes": ["Gene7", "Gene44"]},
        id="knn",
    ),
    Verb("tl.gene_interactions", embedded, {"n_neighbors": 5, "n_bootstraps": 3}, id="network"),
    Verb(
        "tl.gene_interactions", embedded,
        {"known_pairs": [(f"Gene{i}", f"Gene{i + 4 * k}") for i in range(5, 28) for k in (1, 2)],
         "n_neighbors": 5, "n_repeats": 1},
        id="known",
    ),
    Verb(
        "tl.pattern_genes", kwargs={"mask": np.arange(120) % 10 > 4, "n_null": 20}, id="mask"
    ),
    Verb("tl.pattern_genes", embedded, {"like": "Gene1"}, id="like", draws=False),
    Verb(
        "tl.pattern_genes", regions,
        {"levels": {"left": 5, "right": 90}, "groupby": "side", "n_null": 20}, id="levels",
    ),
    Verb(
        "tl.compare_genes", conditions,
        {"batch_key": "slide", "condition_key": "condition", "min_count": 5}, id="default",
    ),
    Verb("pp.image_features", pictured_section, {"out_px": 16}, id="classical"),
    Verb("tl.histology_baselines", study, {"n_top": 4, "n_boot": 5}, id="patients"),
    Verb("tl.evaluate_expression", study, {"pred": "guess", "n_boot": 5}, id="layer"),
    Verb("tl.spam", stained, {"max_epochs": 1}, id="default"),
    Verb("tl.predict_expression", seen, id="default"),
    Verb("tl.ult", id="profiles", whole_mudata=True),
    Verb("tl.ult", pictured, {"method": "text", "text_key": "note"}, id="text"),
    Verb("tl.ult", pictured, {"method": "image", "patches_key": "patches"}, id="patches"),
    Verb("tl.ult", gridded, {"method": "image", "patch_size": 4}, id="gene images"),
    Verb("tl.ult_decode", encoded, id="profiles"),
    Verb("tl.ult_decode", encoded_notes, id="text"),
    Verb("tl.ult_decode", encoded_images, id="gene images"),
    Verb("tl.ult_quality", encoded, id="profiles"),
    Verb("tl.ult_quality", encoded_notes, id="text"),
    Verb("tl.ult_quality", encoded_images, id="gene images"),
    Verb("tl.ult_distances", encoded, {"n_sample": 20, "n_permutations": 19}, id="default"),
    Verb(
        "tl.classify_omics", cohort, {"labels_key": "kind", **FAST_LM}, id="default",
        whole_mudata=True,
    ),
    Verb("tl.explain_omics", classified, {"n_obs": 4}, id="default", whole_mudata=True),
]  # fmt: skip
#: The paper's preset is slow and writes as the others do.
quick_verb = pytest.mark.parametrize(
    "verb", [pytest.param(v, id=f"{v.name}-{v.id}") for v in VERBS if v.id != "paper"]
)
every_verb = pytest.mark.parametrize(
    "verb", [pytest.param(v, id=f"{v.name}-{v.id}") for v in VERBS]
)
seeded_verb = pytest.mark.parametrize(
    "verb", [pytest.param(v, id=f"{v.name}-{v.id}") for v in VERBS if v.seeded]
)
#: Storages cost a run each: one case per verb is enough.
one_of_each = pytest.mark.parametrize(
    "verb", [pytest.param(v, id=v.name) for v in {v.name: v for v in reversed(VERBS)}.values()]
)


def written(adata, before: dict[str, set[str]]) -> dict[str, Any]:
    """Everything that was not there before."""
    return {
        f"{a}:{k}": getattr(adata, a)[k] for a in ATTRIBUTES for k in slots(adata)[a] - before[a]
    }


def agree(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert set(left) == set(right)
    for key in left:
        assert same(left[key], right[key]), key


def test_every_verb_has_a_case():
    # `pp.augment` makes a new object, others need two modalities: they have tests of their own.
    alone = {"pp.augment", "tl.twas", "tl.embed_people", "tl.personal_expression"}
    # `tests/tl/test_variant_effects.py`: they need a model trained on sequences.
    alone |= {"tl.variant_effects", "tl.saturation_ism", "tl.input_gradients", "tl.linearize"}
    alone |= {"tl.variant_drivers", "tl.variant_enrichment", "tl.sample_size"}
    assert {v.name for v in VERBS} == set(KEYS) - alone


@every_verb
def test_writes_declared_keys_only_and_survives_a_file(verb, tmp_path):
    adata = verb.make()
    before = slots(adata)
    X = adata.X.copy()
    assert verb(adata) is None
    only_declared_written(before, adata, verb.name, *verb.also)
    new = written(adata, before)
    assert new, "the verb wrote something"
    assert (abs(adata.X - X)).sum() == 0, "X is as it was"
    for name, value in new.items():
        if name.startswith(("obsm", "varm", "varp", "layers")) and hasattr(value, "dtype"):
            assert value.dtype.kind != "f" or value.dtype == np.float32, name
    round_trip(adata, tmp_path)
    tables_are_read(adata, ad.read_h5ad(tmp_path / "object.h5ad"), verb.name)


@quick_verb
def test_copy_leaves_the_object(verb):
    adata = verb.make()
    untouched = adata.copy()
    out = verb(adata, copy=True)
    same_object(adata, untouched)
    assert out is not adata
    before = slots(adata)
    verb(adata)
    agree(written(out, before), written(adata, before))


@quick_verb
def test_key_added_replaces_the_root_everywhere(verb):
    adata, root = verb.make(), KEYS[verb.name].root
    before = slots(adata)
    plain = written(verb(adata, copy=True), before)
    verb(adata, key_added="foo")
    only_declared_written(before, adata, verb.name, *verb.also, key_added="foo")
    named = written(adata, before)
    assert set(named) == {
        k.replace(root, "foo") if not k.endswith(":spatial_grid") or root == "spatial_grid" else k
        for k in plain
    }
    for key, value in plain.items():
        if not key.startswith("uns"):
            kept = key == "obsm:spatial_grid" and root != "spatial_grid"
            other = key if kept else key.replace(root, "foo")
            assert same(value, named[other])


@quick_verb
def test_mudata(verb):
    import mudata as md

    adata = verb.make()
    before = slots(adata)
    mdata = md.MuData({"rna": adata.copy(), "other": adata.copy()[:, :3].copy()})
    untouched = mdata["other"].copy()
    if not verb.whole_mudata:
        with pytest.raises(ValueError, match="needs mod=.*'rna'"):
            verb(mdata)
    with pytest.raises(KeyError, match="'dna' is not in mdata.mod"):
        verb(mdata, mod="dna")
    same_object(mdata["rna"], adata)
    out = verb(mdata, mod="rna", copy=True)
    same_object(mdata["rna"], adata)
    assert verb(mdata, mod="rna") is None
    verb(adata)
    for modality in (mdata["rna"], out["rna"]):
        agree(written(modality, before), written(adata, before))
    same_object(mdata["other"], untouched)
    with pytest.raises(ValueError, match="which has no modalities"):
        verb(adata, mod="rna")


def stored(adata, how: str, path):
    """The same object with X stored in another way."""
    if how == "backed":
        adata.write_h5ad(path / "a.h5ad")
        return ad.read_h5ad(path / "a.h5ad", backed="r")
    if how == "dask":
        adata.write_h5ad(path / "a.h5ad")
        adata.X = ad.experimental.read_lazy(path / "a.h5ad").X
        return adata
    if how == "view":
        more = adata[:7].copy()
        more.obs_names = [f"{name}-again" for name in more.obs_names]
        wider = ad.concat([adata, more], merge="same")
        wider.varm.update(adata.varm)
        wider.uns.update(adata.uns)
        return wider[: adata.n_obs]
    whole = (np.rint(adata.X) != adata.X).nnz == 0 if adata.X is not None else False
    small = "int8" if whole and adata.X.max() < 128 else "int32" if whole else "float32"
    clothes = {
        "dense": ("F", "float32", {"read_only": True}),
        "csc": ("csc", "int32" if whole else "float64", {"order": "unsorted"}),
        "float64": ("csr_array", "float64", {"order": "duplicates", "read_only": True}),
        "int": ("csc_array", small, {"order": "both", "zeros": True}),
    }
    form, dtype, more = clothes[how]
    adata.X = dressed(adata.X, form, dtype, **more)
    return adata


@pytest.mark.parametrize("how", ["dense", "csc", "float64", "int", "view", "backed", "dask"])
@one_of_each
def test_same_numbers_from_every_storage(verb, how, tmp_path):
    wanted, adata = verb.make(), stored(verb.make(), how, tmp_path)
    before = slots(wanted)
    verb(wanted)
    if how == "view":
        assert adata.is_view
    in_memory = how not in ("view", "backed", "dask")
    given = of_object(adata) if in_memory else {}
    arguments = fingerprint(verb.kwargs)
    verb(adata)
    agree(written(adata, before), written(wanted, before))
    if in_memory:
        unchanged(given, of_object(adata))
    if how == "int":
        again = {k: v for k, v in written(adata, before).items() if not k.startswith("uns")}
        again = copy.deepcopy(again)
        verb(adata)
        unchanged(given, of_object(adata))
        found = written(adata, before)
        agree({k: found[k] for k in again}, again)
    if not any(isinstance(v, torch.nn.Module) for v in verb.kwargs.values()):
        assert fingerprint(verb.kwargs) == arguments


def drawn_in(figure) -> list[np.ndarray]:
    """Every number in a figure: pixels, points, lines."""
    out = []
    for ax in getattr(figure, "axes", None) if hasattr(figure, "savefig") else [figure]:
        out += [np.asarray(image.get_array().filled(np.nan)) for image in ax.images]
        for points in ax.collections:
            out += [np.asarray(points.get_offsets()), np.asarray(points.get_array(), dtype=float)]
        out += [np.asarray(line.get_xydata()) for line in ax.lines]
    return out


def imputed():
    """Log values of some genes with others imputed."""
    adata, reference = make_tiny(40), make_tiny(45, seed=1)
    ol.tl.impute_genes(adata, reference=reference, max_reference=60)
    return adata


def scored():
    """The small set with images and scores of its genes."""
    adata = gridded()
    ol.tl.spatially_variable_genes(adata, method="moran")
    adata.var["sigel_cluster"] = [str(i % 2) for i in range(40)]
    return adata


def compared():
    """Sections in two conditions, compared."""
    adata = conditions()
    ol.tl.compare_genes(adata, batch_key="slide", condition_key="condition", min_count=5)
    return adata


def predicted_sections():
    """Sections with predictions from their images."""
    adata = seen()
    ol.tl.predict_expression(adata)
    return adata


def augmented():
    """A cohort with drawn rows."""
    return ol.pp.augment(cohort(), labels_key="kind", n_new=10)


#: What reads a matrix and writes nothing: how to make the object, and the numbers that come out.
READERS = {
    "get.gene_images": (gridded, lambda a: ol.get.gene_images(a, ["Gene7", "Gene2"])),
    "get.gene_images all": (gridded, ol.get.gene_images),
    "get.imputed": (imputed, lambda a: full(ol.get.imputed(a).X)),
    "pl.gene_image": (gridded, lambda a: ol.pl.gene_image(a, ["Gene7", "Gene1"])),
    "pl.gene_heatmap": (scored, ol.pl.gene_heatmap),
    "pl.svg": (scored, lambda a: ol.pl.svg(a, key="moran", n_genes=3)),
    "pl.compare_genes": (compared, lambda a: ol.pl.compare_genes(a, n_genes=2)),
    "pl.imputation": (imputed, lambda a: ol.pl.imputation(a, n_genes=1)),
    "pl.expression_maps": (
        predicted_sections, lambda a: ol.pl.expression_maps(a, ["Gene7"], section="a")
    ),
    "pl.expression_calibration": (predicted_sections, ol.pl.expression_calibration),
    "pl.augment": (augmented, lambda a: ol.pl.augment(a, labels_key="kind")),
}  # fmt: skip


def full(X):
    return X.toarray() if sparse.issparse(X) else np.asarray(X)


@pytest.mark.parametrize("name", READERS)
def test_readers_take_every_storage_and_change_nothing(name):
    import matplotlib.pyplot as plt

    make, read = READERS[name]
    adata = make()
    X = adata.X.copy()

    def numbers():
        out = read(adata)
        shown = [out] if isinstance(out, np.ndarray) else drawn_in(out)
        plt.close("all")
        assert shown
        return shown

    wanted = numbers()
    for form, dtype, more in (
        ("csc", "int32", {"order": "unsorted"}),
        ("csr", "float64", {"order": "duplicates", "read_only": True}),
        ("csc_array", "int8", {"order": "both", "zeros": True}),
        ("csr_array", "uint16", {"order": "both"}),
        ("F", "int64", {"read_only": True}),
    ):
        adata.X = dressed(X, form, dtype, **more)
        given = of_object(adata)
        for _ in range(2):
            found = numbers()
            assert len(found) == len(wanted)
            for left, right in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(left, right)
            unchanged(given, of_object(adata))


#: Verbs that read a graph.
GRAPHS = ["tl.spatially_variable_genes", "tl.spatial_domains"]


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_in_any_storage_is_read_and_left_alone(name):
    import squidpy

    verb = next(v for v in VERBS if v.name == name)
    adata = verb.make()
    squidpy.gr.spatial_neighbors(adata)
    graph = adata.obsp["spatial_connectivities"].copy()
    before = slots(adata)
    wanted = written(verb(adata, copy=True), before)
    for form, dtype, order in (
        ("csc", "int8", "unsorted"), ("csr_array", "float32", "duplicates"),
        ("csc_array", "int64", "both"), ("C", "float64", "sorted"),
    ):  # fmt: skip
        adata.obsp["spatial_connectivities"] = dressed(graph, form, dtype, order=order)
        given = of_object(adata)
        agree(written(verb(adata, copy=True), before), wanted)
        unchanged(given, of_object(adata))


@pytest.mark.parametrize("method", ["sigel", "knn"])
def test_a_reference_in_any_storage_is_read_and_left_alone(method):
    adata, reference = make_tiny(), make_tiny(45, seed=1)
    before, X = slots(adata), reference.X.copy()
    reference.layers["counts"] = X

    def call(**more):
        out = ol.tl.impute_genes(
            adata, reference=reference, method=method, max_reference=60, copy=True, **more
        )
        return {k: v for k, v in written(out, before).items() if not k.startswith("uns")}

    wanted = call()
    for form, dtype, more in (
        ("csc", "int8", {"order": "both", "zeros": True}), ("F", "int32", {"read_only": True}),
        ("csr_array", "float64", {"order": "duplicates", "read_only": True}),
    ):  # fmt: skip
        reference.layers["counts"] = reference.X = dressed(X, form, dtype, **more)
        given = of_object(reference)
        agree(call(), wanted)
        agree(call(reference_layer="counts"), wanted)
        unchanged(given, of_object(reference))
    reference.X = X * np.float32(1e30)
    with pytest.raises(ValueError, match="reference.X holds values up to .* overflow"):
        call()


#: Verbs that read vectors of genes or observations: which entry of which slot.
VECTORS = [
    ("tl.gene_neighbors", "varm", "X_sigel"), ("tl.gene_views", "varm", "X_kmers"),
    ("tl.gene_functions", "varm", "X_sigel"), ("tl.gene_interactions", "varm", "X_sigel"),
    ("tl.project_genes", "varm", "X_sigel"), ("tl.pattern_genes like", "varm", "X_sigel"),
    ("tl.histology_baselines", "obsm", "X_classical"),
    ("tl.predict_expression", "obsm", "X_classical"),
]  # fmt: skip


@pytest.mark.parametrize("name,slot,key", VECTORS, ids=[v[0] for v in VECTORS])
def test_vectors_in_any_storage_are_read_and_left_alone(name, slot, key):
    name, _, which = name.partition(" ")
    verb = next(v for v in VERBS if v.name == name and which in v.id)
    adata = verb.make()
    values = np.nan_to_num(np.asarray(getattr(adata, slot)[key]))
    table = pd.DataFrame(values, index=adata.var_names if slot == "varm" else adata.obs_names)
    table.columns = table.columns.astype(str)
    clothes = [
        np.array(values), dressed(values, "csc", order="both"), table,
        dressed(values, "csr_array", "float64", order="unsorted", read_only=True),
        dressed(values, "F", "float64", read_only=True),
    ]  # fmt: skip
    before, wanted = slots(adata), None
    for value in clothes:
        getattr(adata, slot)[key] = value
        given = of_object(adata)
        found = written(verb(adata, copy=True), before)
        found = {k: v for k, v in found.items() if not k.startswith("uns")} or found
        unchanged(given, of_object(adata))
        wanted = wanted or found
        agree(found, wanted)
    for wrong, error in ((values * 1j, "numbers"), (values.astype(str).astype(object), "numbers")):
        getattr(adata, slot)[key] = wrong
        with pytest.raises((TypeError, ValueError), match=error):
            verb(adata, copy=True)


def without_matrix() -> set[str]:
    """Verbs that read no matrix, only annotations, embeddings or sequences."""
    return {
        "tl.embed_genes", "tl.embed_sequences", "tl.motifs", "tl.few_shot", "pp.gene_windows",
        "pp.attach_sequences", "pp.split", "pp.spatial_grid", "tl.gene_neighbors",
        "tl.gene_views", "pp.image_features", "tl.ult_decode",
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["complex", "text", "1e30", "-1e200"])
@one_of_each
def test_what_cannot_be_computed_with_is_refused(verb, kind):
    if verb.name in without_matrix():
        return
    adata = verb.make()
    X = adata.X.toarray() if sparse.issparse(adata.X) else adata.X
    adata.X = {
        "complex": lambda: sparse.csr_matrix(X * (1 + 2j)),
        "text": lambda: X.astype(int).astype(str).astype(object),
        "1e30": lambda: sparse.csc_matrix(X * np.float32(1e30)),
        "-1e200": lambda: X * np.float64(-1e200),
    }[kind]()
    given = of_object(adata)
    wrong = (TypeError, "real numbers") if kind in ("complex", "text") else (ValueError, "overflow")
    with pytest.raises(wrong[0], match=wrong[1]):
        verb(adata)
    unchanged(given, of_object(adata))
    assert set(given) == set(of_object(adata))


@one_of_each
def test_lazy_object(verb, tmp_path):
    wanted = verb.make()
    before = slots(wanted)
    wanted.write_h5ad(tmp_path / "a.h5ad")
    lazy = ad.experimental.read_lazy(tmp_path / "a.h5ad")
    out = verb(lazy, copy=True)
    verb(wanted)
    agree(written(out, before), written(wanted, before))
    assert slots(lazy)["varm"] == before["varm"] and slots(lazy)["obsm"] == before["obsm"]


@seeded_verb
def test_seeds_and_the_state_of_others(verb):
    results = []
    adata = verb.make()
    before = slots(adata)
    random.seed(3), np.random.seed(3), torch.manual_seed(3)  # noqa: TID251
    state = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    for seed in (5, np.int64(5), np.random.default_rng(5)):
        one = adata.copy()
        verb(one, rng=seed)
        results.append(written(one, before))
    now = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert now == state
    agree(results[0], results[1])
    root = f"uns:{uns_name(verb.name)}"
    assert results[0][root]["params"]["rng"] == 5
    assert results[2][root]["params"]["rng"] == "generator"
    with pytest.raises(TypeError, match="rng must be"):
        verb(adata, rng="a")
    same_object(adata, verb.make())


def of_the_process() -> dict[str, Any]:
    """What belongs to everybody in the process, and a verb has to leave as it was."""
    umask = os.umask(0o022)
    os.umask(umask)
    loggers = [logging.getLogger(), *(logging.getLogger(n) for n in LOGGERS)]
    flags = torch.backends.cudnn
    return {
        "environment": dict(os.environ),
        "python": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),
        "torch": torch.get_rng_state().tolist(),
        "torch defaults": (torch.get_default_dtype(), torch.get_num_threads()),
        "cuDNN": (flags.enabled, flags.benchmark, flags.deterministic),
        "matrix products": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "start method": multiprocessing.get_start_method(allow_none=True),
        "threads": threading.active_count(),
        "signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)],
        "levels": [(log.level, log.propagate, list(log.handlers)) for log in loggers],
        "filters": list(warnings.filters),
        "numpy errors": np.geterr(),
        "figures": dict(mpl.rcParams),
        "folder": Path.cwd(),
        "umask": umask,
        "locale": locale.setlocale(locale.LC_ALL),
        "recursion": sys.getrecursionlimit(),
    }


LOGGERS = ("omicllm", "lightning.pytorch", "lightning.fabric", "scvi", "anndata", "torch")


@pytest.fixture
def unusual():
    """A process whose owner set torch in ways of their own."""
    flags = torch.backends.cudnn
    kept = flags.benchmark, flags.deterministic
    torch.set_default_dtype(torch.float64)
    flags.benchmark = flags.deterministic = True
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
        flags.benchmark, flags.deterministic = kept


@one_of_each
def test_what_belongs_to_the_process_is_as_it_was(verb, unusual):
    adata = verb.make()
    before, state = slots(adata), None
    results = []
    for infer in (False, True):
        one = adata.copy()
        with torch.inference_mode(infer):
            state = of_the_process()
            verb(one)
            now = of_the_process()
            assert torch.is_inference_mode_enabled() is infer
        changed = [key for key in state if state[key] != now[key]]
        assert not changed, {key: (state[key], now[key]) for key in changed}
        results.append(written(one, before))
    torch.set_default_dtype(torch.float32)
    plain = adata.copy()
    verb(plain)
    for result in results:
        agree(result, written(plain, before))


def test_two_threads_train_at_once(nowhere):
    adata = make_tiny()
    before = slots(adata)
    alone = adata.copy()
    ol.tl.sigel(alone, max_epochs=2, rng=1)
    objects = [adata.copy() for _ in range(3)]
    state = of_the_process()
    calls = [
        threading.Thread(target=ol.tl.sigel, args=(one,), kwargs={"max_epochs": 2, "rng": 1})
        for one in objects
    ]
    with warnings.catch_warnings():
        # Filters are not compared: before Python 3.14 nobody's catch_warnings (anndata's, scipy's)
        # is safe between threads.
        for call in calls:
            call.start()
        for call in calls:
            call.join()
    now = of_the_process()
    assert [key for key in state if state[key] != now[key]] == []
    for one in objects:
        agree(written(one, before), written(alone, before))


def test_a_fresh_process_is_as_it_was(tmp_path):
    """The first call imports everything; its imports leave nothing behind but what must stay."""
    script = """
import logging, multiprocessing, os, random, sys, warnings
import numpy as np
from conftest import make_tiny
import torch
adata = make_tiny()
random.seed(1), np.random.seed(1)
def state():
    return (
        dict(os.environ), random.getstate(), np.random.get_state()[1].tolist(),
        torch.get_rng_state().tolist(), torch.backends.cudnn.benchmark,
        multiprocessing.get_start_method(allow_none=True), list(warnings.filters),
        list(logging.getLogger().handlers), logging.getLogger().level,
    )
torch.backends.cudnn.benchmark = True
os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "true"
before = state()
import omicllm as ol
ol.tl.sigel(adata, max_epochs=1)
after = state()
new = {k: v for k, v in after[0].items() if before[0].get(k) != v}
assert set(new) <= {"KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK"}, new
assert before[1:] == after[1:], [i for i, (a, b) in enumerate(zip(before, after)) if a != b]
"""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    }
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, cwd=tmp_path)


# -- model classes --------------------------------------------------------------------------


@dataclass
class Model:
    """One model class: how to make and train it, what it gives, and which plan it trains with."""

    name: str
    plan: str
    make: Callable[[], ad.AnnData] = make_tiny
    setup: dict[str, Any] = field(default_factory=dict)
    init: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    id: str = ""

    @property
    def cls(self):
        return getattr(ol.model, self.name)

    def untrained(self, adata):
        self.cls.setup_anndata(adata, **self.setup)
        return self.cls(adata, **self.init)

    def __call__(self, adata):
        model = self.untrained(adata)
        model.train(**self.train)
        return model

    @staticmethod
    def rows(model) -> dict[str, np.ndarray]:
        """Results with one row per gene."""
        return {
            "embedding": model.get_gene_embedding(),
            "clusters": model.get_cluster_probabilities().to_numpy(),
        }

    @staticmethod
    def from_data(model) -> np.ndarray:
        """A result that goes through the weights and the data."""
        return model.get_reconstruction()


TWO = {"pretrain_epochs": 2, "refine_epochs": 2}
MODELS = [
    Model("SIGEL", "DistillationPlan", train=TWO, id="default"),
    Model("SIGEL", "DistillationPlan", sections, {"batch_key": "slide"}, train=TWO, id="sections"),
    Model("SIGEL", "MaskedPlan", init={"preset": "paper"}, train=TWO, id="paper"),
]
every_model = pytest.mark.parametrize(
    "case", [pytest.param(m, id=f"{m.name}-{m.id}") for m in MODELS]
)


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """An empty working directory that must stay empty."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder
    assert list(folder.iterdir()) == []


def test_every_model_has_a_case():
    # These have no gene rows or need a second object; tests of their own in tests/model hold them
    # to the same.
    others = {"GeneMaskLM", "OmicLM", "PersonalExpression", "SIGELImputer", "SPAM", "ULT"}
    assert {m.name for m in MODELS} | others == set(ol.model.__all__)


@every_model
def test_train_save_load(case, nowhere, tmp_path):
    adata = case.make()
    X = adata.X.copy()
    model = case(adata)
    assert model.is_trained_ and not model.module.training
    assert (abs(adata.X - X)).sum() == 0
    lengths = {k: len(v) for k, v in model.history_.items()}
    assert lengths["pretrain_loss"] == 2 and lengths["refine_loss"] >= 1
    assert all(np.isfinite(np.asarray(v, dtype=float)).all() for v in model.history_.values())
    model.save(tmp_path / "model")
    assert {p.name for p in (tmp_path / "model").iterdir()} == {"model.safetensors", "model.json"}
    with pytest.raises(FileExistsError, match="overwrite=True"):
        model.save(tmp_path / "model")
    model.save(tmp_path / "model", overwrite=True)
    loaded = case.cls.load(tmp_path / "model", case.make())
    assert loaded.is_trained_ and not loaded.module.training
    for name, value in case.rows(model).items():
        np.testing.assert_array_equal(case.rows(loaded)[name], value, err_msg=name)
    np.testing.assert_array_equal(case.from_data(loaded), case.from_data(model))
    assert set(loaded.history_) == set(model.history_)
    for key, value in model.history_.items():
        values = (np.asarray(v, dtype=float).ravel() for v in (loaded.history_[key], value))
        np.testing.assert_allclose(*values)
    loaded.save(tmp_path / "again")
    again = (tmp_path / "again" / "model.safetensors").read_bytes()
    assert again == (tmp_path / "model" / "model.safetensors").read_bytes()


@every_model
def test_load_goes_by_gene_name(case, tmp_path):
    model = case(case.make())
    model.save(tmp_path / "model")
    order = np.random.default_rng(0).permutation(model.get_gene_embedding().shape[0])
    permuted = case.make()[:, order].copy()
    loaded = case.cls.load(tmp_path / "model", permuted)
    for name, value in case.rows(model).items():
        np.testing.assert_array_equal(case.rows(loaded)[name], value[order], err_msg=name)
    np.testing.assert_array_equal(case.from_data(loaded), case.from_data(model)[order])
    other = case.make()
    other.var_names = [f"Other{i}" for i in range(other.n_vars)]
    for bad, message in (
        (other, "40 of them are not in adata.var_names"),
        (case.make()[:, :30].copy(), "10 of them are not"),
    ):
        before = bad.copy()
        with pytest.raises(ValueError, match=message):
            case.cls.load(tmp_path / "model", bad)
        same_object(bad, before)


@every_model
def test_load_without_data(case, tmp_path):
    model = case(case.make())
    model.save(tmp_path / "model")
    loaded = case.cls.load(tmp_path / "model")
    for name, value in case.rows(model).items():
        np.testing.assert_array_equal(case.rows(loaded)[name], value, err_msg=name)
    with pytest.raises(ValueError, match=r"pass adata to \w+.load"):
        case.from_data(loaded)
    with pytest.raises(FileNotFoundError, match="no saved model"):
        case.cls.load(tmp_path / "elsewhere")
    description = tmp_path / "model" / "model.json"
    text = description.read_text()
    description.write_text(re.sub(r'"schema_version": \d+', '"schema_version": 99', text))
    with pytest.raises(ValueError, match="schema 99"):
        case.cls.load(tmp_path / "model")
    description.write_text(text.replace(f'"class": "{case.name}"', '"class": "Other"'))
    with pytest.raises(ValueError, match="holds a Other"):
        case.cls.load(tmp_path / "model")


@every_model
def test_an_interrupt_leaves_everything_usable(case, nowhere, monkeypatch):
    from omicllm.train import _sigel as plans

    adata = case.make()
    model = case.untrained(adata)
    untouched = adata.copy()
    with monkeypatch.context() as patch:
        calls = []

        def stop(self, batch, number):
            calls.append(number)
            raise KeyboardInterrupt

        patch.setattr(getattr(plans, case.plan), "training_step", stop)
        with pytest.raises(KeyboardInterrupt):
            model.train(**case.train)
    assert calls == [0]
    assert not model.module.training and not model.is_trained_
    same_object(adata, untouched)
    with pytest.raises(RuntimeError, match="not trained yet"):
        model.get_gene_embedding()
    model.train(**case.train)
    assert np.isfinite(model.get_gene_embedding()).all()


@every_model
def test_training_goes_on(case, nowhere):
    model = case(case.make())
    first = len(model.history_["pretrain_loss"])
    model.train(pretrain_epochs=3, refine_epochs=0)
    assert len(model.history_["pretrain_loss"]) == first + 3


def test_an_interrupted_verb_writes_nothing(tiny, nowhere, monkeypatch):
    from omicllm.train import _sigel as plans

    def stop(self, batch, number):
        raise KeyboardInterrupt

    monkeypatch.setattr(plans.DistillationPlan, "training_step", stop)
    untouched = tiny.copy()
    with pytest.raises(KeyboardInterrupt):
        ol.tl.sigel(tiny, max_epochs=3)
    same_object(tiny, untouched)


def test_verbs_leave_no_trace_in_the_stores_of_scvi(tiny, nowhere):
    ol.model.SIGEL.setup_anndata(tiny)
    model = ol.model.SIGEL(tiny)
    own = {k: v for k, v in tiny.uns.items() if k.startswith("_scvi")}
    stores = [
        ol.model.SIGEL._setup_adata_manager_store,
        *ol.model.SIGEL._per_instance_manager_store.values(),
    ]
    before = [set(s) for s in stores]
    ol.tl.sigel(tiny, max_epochs=1)
    assert [set(s) for s in stores] == before
    assert {k: v for k, v in tiny.uns.items() if k.startswith("_scvi")} == own
    model.train()
    assert np.isfinite(model.get_gene_embedding()).all()
