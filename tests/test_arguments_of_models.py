"""Verbs that apply a model: each other argument acts on the results, or is refused by name."""

from __future__ import annotations

import inspect

import anndata as ad
import made_people
import numpy as np
import pandas as pd
import pytest
from conftest import make_tiny
from helpers import ATTRIBUTES, same
from made_people import FAST, tiny_trunk
from scipy import sparse
from test_arguments import counted
from test_contract import FAST_LM, dna, stained
from test_contract import cohort as classes

import omicllm as ol

#: How a call runs and where its results go, not what they are.
HOW = {
    "accelerator", "show_progress", "mod", "key_added", "copy", "batch_size", "allow_download",
    "image_mod", "reindex",
}  # fmt: skip


class Given:
    """Models of every kind, each trained once, and data for them."""

    def __init__(self, folder):
        self.folder = folder
        self.trunk = tiny_trunk()
        self.mdata, self.genome = made_people.cohort(folder)
        other = folder / "other.fa"
        other.write_text(">c\n" + self.genome.fetch("c", 0, 800)[::-1] + "\n")
        self.other = other
        variants = self.mdata["geno"]
        called = np.zeros(variants.shape, dtype=np.int8)
        called[:9] = variants.layers["hap2"].toarray()[:9] == 0
        variants.layers["haploid"] = sparse.csc_matrix(called)
        variants.var["af"] = variants.X.mean(axis=0).A1 / 2
        rna = self.mdata["rna"]
        rna.layers["other"] = rna.X[::-1].copy()
        rna.var["sequence"] = [self.genome.fetch("c", s, s + 64) for s in (100, 200, 300)]

    def personal(self):
        return self._once("personal", lambda path: ol.tl.personal_expression(
            self.mdata, genome=self.genome, trunk=self.trunk, baseline=None, max_epochs=1,
            train_args=FAST_TRAINING, save=path, copy=True,
        ))  # fmt: skip

    def language(self):
        return self._once("language", lambda path: ol.tl.classify_omics(
            classes(), labels_key="kind", save=path, **FAST_LM
        ))  # fmt: skip

    def histology(self):
        return self._once("spam", lambda path: ol.tl.spam(stained(), save=path, max_epochs=1))

    def middle(self):
        """A reliability that half of the genes have."""
        return float(ol.model.SPAM.load(self.histology()).get_reliability().median())

    def sigel(self):
        return self._once("sigel", lambda path: ol.tl.sigel(make_tiny(), n_clusters=3, save=path))

    def ult(self):
        adata = make_tiny()
        ol.model.ULT.setup_anndata(adata)
        model = ol.model.ULT(adata)
        model.train()
        return model

    def _once(self, name, make):
        path = self.folder / name
        if not path.exists():
            make(path)
        return path


FAST_TRAINING = {k: v for k, v in FAST.items() if k != "batch_size"}


def sequences(given):
    """A data set of sequences of 64 bases."""
    drawn = [given.genome.fetch("c", s, s + 64) for s in range(0, 200, 40)]
    return ad.AnnData(obs=pd.DataFrame({"sequence": drawn}, index=[f"s{i}" for i in range(5)]))


def seen(given):
    adata = stained()
    adata.layers["other"] = adata.X[::-1].copy()
    return adata


def unplaced(given):
    """Counts that have coordinates alone."""
    adata = counted(make_tiny())
    del adata.obs["array_row"], adata.obs["array_col"]
    return adata


TRUNK = {"length": 32, "n_bins": 1, "both_strands": False, "precision": "bf16"}
#: Name -> verb, object, call, and another value for every other argument.
#: ``"nowhere"`` names something that is not there: it is read when the error says so.
CASES = {
    "embed_genes": (
        "embed_genes", lambda g: g.mdata["rna"].copy(),
        lambda g: {"model": g.trunk, "genome": g.genome},
        {**TRUNK, "genome": lambda g: g.other, "window_key": "nowhere", "sequence_key": "x"},
    ),
    "embed_genes, stored": (
        "embed_genes", lambda g: g.mdata["rna"].copy(), lambda g: {"model": g.trunk},
        {**TRUNK, "genome": lambda g: g.genome, "window_key": "x", "sequence_key": "nowhere"},
    ),
    "embed_sequences": (
        "embed_sequences", sequences, lambda g: {"model": g.trunk},
        {**TRUNK, "n_bins": 1, "sequence_key": "nowhere"},
    ),
    "embed_people": (
        "embed_people", lambda g: g.mdata.copy(), lambda g: {"model": g.trunk, "genome": g.genome},
        {**TRUNK, "genome": lambda g: g.other, "genes": ["P"], "n_components": 2,
         "unphased": "nowhere", "haploid": "single", "window_key": "nowhere", "rna": "nowhere",
         "geno": "nowhere"},
    ),
    "embed_people, one gene": (
        "embed_people", lambda g: g.mdata.copy(),
        lambda g: {"model": g.trunk, "genome": g.genome, "genes": ["P"]},
        {**TRUNK, "genome": lambda g: g.other, "genes": ["Q"], "n_components": 2,
         "unphased": "nowhere", "haploid": "single", "window_key": "nowhere", "rna": "nowhere",
         "geno": "nowhere"},
    ),
    "variant_effects": (
        "variant_effects", lambda g: g.mdata.copy(),
        lambda g: {"model": g.personal(), "genome": g.genome},
        {"genome": lambda g: g.other, "genes": ["P"], "min_af": 0.45, "length": 56,
         "both_strands": False, "precision": "bf16", "window_key": "nowhere", "rna": "nowhere",
         "geno": "nowhere"},
    ),
    "saturation_ism": (
        "saturation_ism", lambda g: g.mdata["rna"].copy(),
        lambda g: {"model": g.personal(), "genome": g.genome, "n_bases": 4},
        {"genome": lambda g: g.other, "genes": ["P"], "n_bases": 6, "both_strands": False,
         "window_key": "nowhere"},
    ),
    "input_gradients": (
        "input_gradients", lambda g: g.mdata["rna"].copy(),
        lambda g: {"model": g.personal(), "genome": g.genome},
        {"genome": lambda g: g.other, "genes": ["P"], "n_bases": 6, "both_strands": False,
         "window_key": "nowhere"},
    ),
    "personal_expression": (
        "personal_expression", lambda g: g.mdata.copy(),
        lambda g: {"model": g.personal(), "genome": g.genome},
        {"genome": lambda g: g.other, "trunk": lambda g: tiny_trunk(1),
         "strategy": "pair_counts", "tracks": {}, "mpra": {}, "layer": "other", "genes": ["P"],
         "length": 56, "unphased": "nowhere", "haploid": "single", "split_key": "nowhere",
         "window_key": "nowhere", "max_epochs": 3, "baseline": None, "model_args": {},
         "train_args": {}, "save": lambda g: g.folder / "again", "rng": 7, "devices": 2,
         "rna": "nowhere", "geno": "nowhere"},
    ),
    "explain_omics": (
        "explain_omics", lambda g: classes(), lambda g: {"model": g.language(), "n_obs": 4},
        {"key": "x", "n_obs": 5, "rng": 7},
    ),
    "predict_expression": (
        "predict_expression", seen, lambda g: {"model": g.histology()},
        {"use_rep": "nowhere", "genes": ["Gene1"], "context": "nowhere", "panel": ["nowhere"],
         "intervals": False, "library_size": 100.0, "min_reliability": lambda g: g.middle(),
         "layer": "other"},
    ),
    "pattern_genes": (
        "pattern_genes", unplaced,
        lambda g: {"model": g.sigel(), "mask": np.arange(120) % 10 > 4},
        {"like": "Gene1", "region": "a", "levels": {"a": 3.0}, "image": np.ones((3, 3)),
         "mask": np.arange(120) % 10 > 6, "groupby": "half", "key": "x", "n_null": 40,
         "layer": "other", "input": "values", "spatial_key": "turned", "batch_key": "half",
         "rng": 7},
    ),
    "ult": (
        "ult", lambda g: counted(make_tiny()), lambda g: {"model": g.ult()},
        {"method": "text", "layer": "other", "text_key": "half", "patches_key": "x", "bits": 4,
         "mu": 10.0, "max_value": 5.0, "patch_size": 4, "max_coefficients": 2, "precision": 2,
         "rounding": "round", "offset": 40, "separator": "|", "codepoints": "plain",
         "tie_break": "first", "unseen": "?", "unknown": "skip", "joint": True,
         "modalities": ["x"], "table": lambda g: g.ult().table},
    ),
    "few_shot": (
        "few_shot", lambda g: dna(), lambda g: {"models": [], "shots": 10, "n_draws": 2},
        {"models": ["kernels"], "shots": 12, "n_draws": 3, "coverage": 0.5, "combine": False,
         "sequence_key": "nowhere", "labels_key": "nowhere", "split_key": "nowhere",
         "test": "nowhere", "rng": 7},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    return Given(tmp_path_factory.mktemp("given"))


@pytest.fixture(scope="module")
def plain(given):
    """What the call writes with nothing else said, made once for each case."""
    made = {}

    def of(name):
        if name not in made:
            verb, make, call, _ = CASES[name]
            made[name] = make(given)
            getattr(ol.tl, verb)(made[name], **call(given))
        return made[name]

    return of


def changed(a, b):
    """Whether two objects differ in anything but the recorded parameters."""
    if hasattr(a, "mod"):
        return any(changed(a.mod[m], b.mod[m]) for m in a.mod)
    for attribute in ATTRIBUTES:
        left, right = getattr(a, attribute), getattr(b, attribute)
        if set(left.keys()) != set(right.keys()):
            return True
        for key in left:
            values = left[key], right[key]
            if attribute == "uns":
                values = tuple({k: v for k, v in x.items() if k != "params"} for x in values)
            if not same(*values):
                return True
    return False


@pytest.mark.parametrize("name", CASES)
def test_every_argument_has_a_case(name):
    verb, _, _, values = CASES[name]
    first, *rest = inspect.signature(getattr(ol.tl, verb)).parameters
    assert set(rest) - HOW - {"model"} == set(values), first


@pytest.mark.parametrize("name,argument", [(n, a) for n, case in CASES.items() for a in case[3]])
def test_arguments_act_or_are_refused(name, argument, given, plain):
    verb, make, call, values = CASES[name]
    wanted, data, value = plain(name), make(given), values[argument]
    value = value(given) if callable(value) else value
    refusal = ""
    try:
        getattr(ol.tl, verb)(data, **{**call(given), argument: value})
    except (ValueError, KeyError, TypeError) as error:
        refusal = str(error)
    if refusal:
        named = (f"{argument}=", f"{argument!r}", "nowhere", "a REF allele")
        assert any(n in refusal for n in named), refusal
        assert not changed(data, make(given))
    elif argument == "save":
        assert ol.model.PersonalExpression.load(value).is_trained_
        assert data["rna"].uns["personal"]["model_dir"] == str(value)
    else:
        assert changed(data, wanted), f"{argument}= was taken and changed nothing"


def test_genes_in_another_order_are_taken_by_name_when_asked(given):
    adata = make_tiny()
    model = given.ult()
    ol.tl.ult(adata, model=model)
    turned = make_tiny()[:, ::-1].copy()
    with pytest.raises(ValueError, match="reindex=True"):
        ol.tl.ult(turned, model=model)
    ol.tl.ult(turned, model=model, reindex=True)
    assert turned.obs["ult"].tolist() == adata.obs["ult"].tolist()
