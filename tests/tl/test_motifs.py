"""The motif verb, its table and logos."""

from __future__ import annotations

import sys
from types import ModuleType

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from helpers import same_object

import omicllm as ol

MOTIF = "TGACTCAGC"
MEME = """MEME version 4

ALPHABET= ACGT

MOTIF MA1 AP1
letter-probability matrix: alength= 4 w= 9 nsites= 20 E= 0
{}

MOTIF MA2 other
letter-probability matrix: alength= 4 w= 6 nsites= 20 E= 0
{}
"""


def rows_of(word):
    return "\n".join(" ".join("0.91" if b == c else "0.03" for c in "ACGT") for b in word)


@pytest.fixture
def planted():
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("ACGT"), 60)) for _ in range(400)]
    for i in range(80):
        at = rng.integers(0, 51)
        sequences[i] = sequences[i][:at] + MOTIF + sequences[i][at + 9 :]
    obs = pd.DataFrame(
        {"sequence": sequences, "label": [1] * 200 + [0] * 200},
        index=[f"s{i}" for i in range(400)],
    )
    return ad.AnnData(obs=obs)


@pytest.fixture
def meme(tmp_path):
    path = tmp_path / "db.meme"
    path.write_text(MEME.format(rows_of(MOTIF), rows_of("AATTCC")))
    return path


def test_denovo(planted):
    ol.tl.motifs(planted, n_motifs=2)
    table = ol.get.table(planted, "motifs")
    first = table.iloc[0]
    assert first["consensus"] in (MOTIF, "GCTGAGTCA")
    assert first["q"] < 0.01 and "qval" not in first
    assert first["positives"] == first["negatives"] == 100
    sites = ol.get.table(planted, "motifs", table="sites")
    sites = sites[sites["motif"] == "motif_1"]
    assert len(sites) == first["sites"] >= 78
    found = set(sites["sequence"])
    assert len(found & {f"s{i}" for i in range(80)}) >= 78
    for _, site in sites.iterrows():
        word = planted.obs.loc[site["sequence"], "sequence"][site["start"] : site["start"] + 9]
        if site["strand"] == "-":
            word = word[::-1].translate(str.maketrans("ACGT", "TGCA"))
        assert word == site["word"]


def test_shuffled_background_and_named_class(planted):
    positives = planted[:120].copy()
    ol.tl.motifs(positives, labels_key=None, n_motifs=1)
    assert ol.get.table(positives, "motifs")["q"].iloc[0] < 0.01
    planted.obs["kind"] = ["x"] * 200 + ["y"] * 100 + ["z"] * 100
    with pytest.raises(ValueError, match="3 classes .*positive="):
        ol.tl.motifs(planted, labels_key="kind")
    ol.tl.motifs(planted, labels_key="kind", positive="x", n_motifs=1)
    assert ol.get.table(planted, "motifs")["q"].iloc[0] < 0.01


def test_nothing_to_find_is_an_empty_table(planted, tmp_path):
    planted.obs["label"] = np.random.default_rng(1).permutation(planted.obs["label"])
    ol.tl.motifs(planted, n_motifs=1)
    table = ol.get.table(planted, "motifs")
    assert (table["q"] > 0.05).all()
    planted.write_h5ad(tmp_path / "a.h5ad")
    again = ad.read_h5ad(tmp_path / "a.h5ad")
    assert list(ol.get.table(again, "motifs")) == list(table)
    if not len(table):
        with pytest.raises(ValueError, match="none was found"):
            ol.pl.motif_logo(again)


def fake_memelite(monkeypatch):
    """What memelite returns, without its minutes of compilation."""
    module, io = ModuleType("memelite"), ModuleType("memelite.io")

    def read_meme(path):
        return {"MA1 AP1": np.full((4, 9), 0.25), "MA2 other": np.full((4, 6), 0.25)}

    def tomtom(queries, targets, *, reverse_complement, n_jobs):
        assert all(q.shape[0] == 4 for q in [*queries, *targets])
        return np.tile([1e-6, 0.7], (len(queries), 1)), None

    def fimo(motifs, one_hot, *, threshold, reverse_complement):
        assert one_hot.shape[1] == 4 and set(motifs) == {"MA1 AP1", "MA2 other"}
        word = (np.array(list(MOTIF))[:, None] == np.array(list("ACGT"))).astype(int)
        n = one_hot.shape[2] - 8
        match = sum(one_hot[:, :, t : t + n].transpose(0, 2, 1) @ word[t] for t in range(9))
        seq, start = np.nonzero(match == 9)
        hits = pd.DataFrame({"sequence_name": seq, "start": start, "strand": "+", "score": 15.0})
        return [hits, hits.iloc[:0]]

    io.read_meme, module.io, module.tomtom, module.fimo = read_meme, io, tomtom, fimo
    monkeypatch.setitem(sys.modules, "memelite", module)
    monkeypatch.setitem(sys.modules, "memelite.io", io)


def check_database(planted, meme):
    ol.tl.motifs(planted, n_motifs=1, database=meme)
    line = ol.get.table(planted, "motifs").iloc[0]
    assert line["match"] == "MA1 AP1" and line["match_pval"] < 0.01
    ol.tl.motifs(planted, method="scan", database=meme)
    table = ol.get.table(planted, "motifs")
    assert table["motif"].tolist() == ["MA1 AP1", "MA2 other"]
    assert table["q"].iloc[0] < 1e-6 and table["q"].iloc[1] > 0.05
    assert 0.4 <= table["share_positive"].iloc[0] < 0.5
    sites = ol.get.table(planted, "motifs", table="sites")
    assert (sites.loc[sites["motif"] == "MA1 AP1", "word"] == MOTIF).mean() > 0.8


def test_database(planted, meme, monkeypatch):
    fake_memelite(monkeypatch)
    check_database(planted, meme)


@pytest.mark.slow
def test_database_by_memelite(planted, meme):
    from importlib.util import find_spec

    if find_spec("memelite") is None:
        pytest.skip("memelite (extra motif) is not installed")
    check_database(planted, meme)


def test_without_memelite(planted, meme, monkeypatch):
    monkeypatch.setitem(sys.modules, "memelite.io", None)
    before = planted.copy()
    with pytest.raises(ImportError, match=r"omicllm\[motif\]"):
        ol.tl.motifs(planted, database=meme)
    same_object(planted, before)


def test_logo(planted):
    from importlib.util import find_spec

    if find_spec("logomaker") is None:
        pytest.skip("logomaker (extra motif) is not installed")
    import matplotlib.pyplot as plt

    ol.tl.motifs(planted, n_motifs=1)
    figure = ol.pl.motif_logo(planted)
    assert "q = " in figure.axes[0].get_title()
    with pytest.raises(KeyError, match="'none'.*|not in the motifs found"):
        ol.pl.motif_logo(planted, motifs="none")
    plt.close("all")


def test_logo_without_logomaker(planted, monkeypatch):
    ol.tl.motifs(planted, n_motifs=1)
    monkeypatch.setitem(sys.modules, "logomaker", None)
    with pytest.raises(ImportError, match=r"omicllm\[motif\]"):
        ol.pl.motif_logo(planted)


def test_refuses(planted):
    before = planted.copy()
    for kwargs, error, message in (
        ({"method": "meme"}, ValueError, "method must be one of"),
        ({"labels_key": "class"}, KeyError, "'class' is not in adata.obs"),
        ({"positive": 7}, KeyError, "'7' is not in"),
        ({"method": "scan"}, ValueError, "needs database="),
        ({"width": 4}, ValueError, "width must be"),
        ({"width": 31}, ValueError, "at most 30"),
        ({"sequence_key": "dna"}, KeyError, "read_sequences"),
    ):
        with pytest.raises(error, match=message):
            ol.tl.motifs(planted, **kwargs)
    with pytest.raises(ValueError, match="There are 5 positive sequences"):
        ol.tl.motifs(planted[195:].copy())
    same_object(planted, before)
    with pytest.raises(KeyError, match="ol.tl.motifs"):
        ol.get.table(planted, "motifs")
