"""Motifs that a fine-tuned model, or rGADEM, finds."""

from __future__ import annotations

import sys

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from helpers import same_object

import omicllm as ol
from omicllm._bridges import r

MOTIF = "TGACTCAGC"
FOUND = (MOTIF, "GCTGAGTCA")


def made(n, seed, share=1.0):
    """Half of the sequences are of the class that holds the motif, in `share` of these."""
    rng = np.random.default_rng(seed)
    sequences = ["".join(rng.choice(list("ACGT"), 60)) for _ in range(n)]
    for i in range(int(n // 2 * share)):
        at = rng.integers(0, 51)
        sequences[i] = sequences[i][:at] + MOTIF + sequences[i][at + 9 :]
    obs = pd.DataFrame(
        {"sequence": sequences, "label": np.where(np.arange(n) < n // 2, "with", "without")},
        index=[f"s{i}" for i in range(n)],
    )
    return ad.AnnData(obs=obs)


@pytest.fixture(scope="module")
def model():
    train = made(400, 0)
    out = ol.model.GeneMaskLM(k=4, d_model=32, n_layers=2, n_heads=2, d_ff=64, dropout=0.0)
    return out.fit(
        train.obs["sequence"].tolist(), train.obs["label"], max_epochs=8, batch_size=16, lr=3e-3,
        accelerator="cpu", show_progress=False,
    )  # fmt: skip


@pytest.fixture
def adata():
    out = made(240, 1, share=0.8)
    out.obs["new"] = np.arange(240) % 2 == 0
    return out


def test_scores_of_bases(model, adata):
    sequences = adata.obs["sequence"].tolist()[:20] + ["ACGTN" * 5, "acgtac"]
    for method in ("attention", "attribution"):
        scores = model.get_base_scores(sequences, method=method, positive="with")
        assert [len(s) for s in scores] == [60] * 20 + [25, 6]
        assert all(np.isfinite(s).all() for s in scores)
    motif = np.zeros((20, 60), dtype=bool)
    for row, sequence in zip(motif, sequences[:20], strict=True):
        row[sequence.find(MOTIF) : sequence.find(MOTIF) + 9] = True
    z = np.stack(scores[:20])
    z = (z - z.mean(axis=1, keepdims=True)) / z.std(axis=1, keepdims=True)
    assert z[motif].mean() > 1, "the class rests on the motif"
    one, other = (model.get_base_scores(sequences[:3], positive=c) for c in model.classes_)
    np.testing.assert_allclose(np.array(one), -np.array(other), atol=1e-4)
    with pytest.raises(KeyError, match="'x' is not in the classes of the model"):
        model.get_base_scores(sequences, positive="x")


def test_long_sequences_are_scored_in_pieces(model):
    sequence = "".join(np.random.default_rng(0).choice(list("ACGT"), 600))
    with pytest.raises(ValueError, match="too_long"):
        model.get_base_scores([sequence])
    model.too_long = "split"
    try:
        (whole,) = model.get_base_scores([sequence])
        model.too_long = "truncate"
        (part,) = model.get_base_scores([sequence])
    finally:
        model.too_long = "refuse"
    assert np.isfinite(whole).all() and len(whole) == len(part) == 600
    np.testing.assert_allclose(part[:500], whole[:500], atol=1e-4)
    assert np.isnan(part[513:]).all() and np.isfinite(part[:513]).all()


@pytest.mark.parametrize("method", ["attention", "attribution"])
def test_planted_motif(model, adata, method, tmp_path, caplog):
    caplog.set_level("WARNING", logger="omicllm")
    ol.tl.motifs(adata, method=method, model=model, positive="with", held_out="new", n_motifs=2)
    assert "held_out=" not in caplog.text
    table = ol.get.table(adata, "motifs")
    first = table.iloc[0]
    assert first["consensus"] in FOUND
    assert first["q"] < 0.01 and first["positives"] == first["negatives"] == 60
    assert 0.7 < first["share_positive"] < 0.9 and first["share_negative"] < 0.05
    sites = ol.get.table(adata, "motifs", table="sites")
    assert (sites.loc[sites["motif"] == "motif_1", "word"].isin(FOUND)).mean() > 0.9
    adata.write_h5ad(tmp_path / "a.h5ad")
    again = ad.read_h5ad(tmp_path / "a.h5ad")
    pd.testing.assert_frame_equal(ol.get.table(again, "motifs"), table)
    assert again.uns["motifs"]["params"]["model"] == "GeneMaskLM"


def test_saved_model_random_half_and_no_signal(model, adata, tmp_path, caplog):
    model.save(tmp_path / "m")
    caplog.set_level("WARNING", logger="omicllm")
    ol.tl.motifs(
        adata, method="attention", model=tmp_path / "m", positive="with", n_motifs=1
    )  # fmt: skip
    assert "name those it has not seen with held_out=" in caplog.text
    assert ol.get.table(adata, "motifs")["consensus"].iloc[0] in FOUND
    adata.obs["label"] = np.random.default_rng(0).permutation(adata.obs["label"])
    ol.tl.motifs(adata, method="attribution", model=model, positive="with", held_out="new")
    assert (ol.get.table(adata, "motifs")["q"] > 0.05).all()


def test_held_out_column_without_a_model(adata):
    ol.tl.motifs(adata, positive="with", held_out="new", n_motifs=1)
    first = ol.get.table(adata, "motifs").iloc[0]
    assert first["consensus"] in FOUND and first["positives"] == 60 and first["q"] < 0.01
    ol.tl.motifs(adata[:120].copy(), labels_key=None, held_out="new", n_motifs=1)


def test_refuses(model, adata):
    adata.obs["half"] = ["yes", "no"] * 120
    adata.obs["all"] = True
    before = adata.copy()
    untrained = ol.model.GeneMaskLM(k=3, d_model=16, n_layers=1, n_heads=2, d_ff=16)
    with_model = {"method": "attention", "model": model}
    for kwargs, error, message in (
        ({"method": "attention"}, ValueError, "needs model="),
        ({"method": "attribution", "model": print}, TypeError, "must be a GeneMaskLM"),
        ({**with_model, "labels_key": None}, ValueError, "compares classes"),
        ({**with_model, "model": untrained}, RuntimeError, "no classifier"),
        ({**with_model, "model": "nowhere"}, FileNotFoundError, "no saved model in nowhere"),
        ({"held_out": "half"}, ValueError, "must be true or false"),
        ({"held_out": "all"}, ValueError, "no positive sequence is searched"),
        ({"held_out": "none"}, KeyError, "held_out="),
    ):
        with pytest.raises(error, match=message):
            ol.tl.motifs(adata, **{"positive": "with", **kwargs})
    adata.obs["kind"] = np.where(adata.obs["label"] == "with", "x", "y")
    with pytest.raises(KeyError, match="'y' is not in the classes of the model"):
        ol.tl.motifs(adata, labels_key="kind", **with_model)
    del adata.obs["kind"]
    same_object(adata, before)


def test_rgadem_by_what_it_returns(adata, monkeypatch):
    given = []

    def gadem(sequences, *, n_motifs, seed):
        given.append((sequences, n_motifs, seed))
        return [np.array([[b == c for c in "ACGT"] for b in MOTIF], dtype=float)]

    monkeypatch.setattr(r, "connect", lambda package: None)
    monkeypatch.setattr(r, "gadem", gadem)
    ol.tl.motifs(adata, method="rgadem", positive="with", held_out="new", n_motifs=3)
    first = ol.get.table(adata, "motifs").iloc[0]
    assert first["consensus"] == MOTIF and first["q"] < 0.01 and first["positives"] == 60
    ((sequences, n_motifs, _),) = given
    # Rows go by name, so the sequences come in another order than that of the object.
    assert sorted(sequences) == sorted(adata.obs["sequence"].tolist()[1:120:2]) and n_motifs == 3


def test_rgadem_is_asked_for_by_name(adata, monkeypatch):
    for name in [m for m in sys.modules if m.split(".")[0] == "rpy2"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rpy2", None)
    before = adata.copy()
    with pytest.raises(ImportError, match=r"omicllm\[r\].*BiocManager::install\(\"rGADEM\"\)"):
        ol.tl.motifs(adata, method="rgadem", positive="with")
    same_object(adata, before)


@pytest.mark.r
def test_rgadem(adata):
    try:
        r.connect("rGADEM")
    except ImportError as error:
        pytest.skip(str(error))
    ol.tl.motifs(adata, method="rgadem", positive="with", n_motifs=2)
    assert (ol.get.table(adata, "motifs")["q"] < 0.01).any()
