"""The few-shot protocol."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from helpers import same_object
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, roc_auc_score

import omicllm as ol
from omicllm.genome.sequence_classifiers import CompositionClassifier, PositionClassifier
from omicllm.stats.scores import classification_scores


def made(kind="composition", n=60, length=40, seed=0, classes=(0, 1)):
    """Classes that differ in composition, or in the base at one position."""
    rng = np.random.default_rng(seed)
    sequences, labels = [], []
    for c, label in enumerate(classes):
        for _ in range(2 * n):
            p = [0.25] * 4 if kind == "position" or c == 0 else [0.17, 0.33, 0.33, 0.17]
            bases = rng.choice(list("ACGT"), length, p=p)
            if kind == "position":
                bases[20:22] = list("AG" if c == 0 else "GA")
            sequences.append("".join(bases))
            labels.append(label)
    split = np.tile(["train", "test"], len(labels) // 2)
    obs = pd.DataFrame(
        {"sequence": sequences, "label": labels, "split": split},
        index=[f"s{i}" for i in range(len(labels))],
    )
    return ad.AnnData(obs=obs)


class Constant:
    """Says the same of every sequence."""

    fits = []

    def fit(self, sequences, labels):
        self.fits.append((tuple(sequences), tuple(labels)))

    def predict_proba(self, sequences):
        return np.tile([0.7, 0.3], (len(sequences), 1))


class Reversed(CompositionClassifier):
    """Puts its columns in the other order, and says so."""

    def predict_proba(self, sequences):
        return super().predict_proba(sequences)[:, ::-1]

    def fit(self, sequences, labels):
        super().fit(sequences, labels)
        self.own, self.classes_ = self.classes_, self.classes_[::-1]
        return self


@pytest.mark.parametrize("kind", ["composition", "position"])
def test_each_baseline_sees_its_kind_of_signal(kind):
    adata = made(kind)
    ol.tl.few_shot(adata, shots=(10, 50), n_draws=3)
    table = ol.get.table(adata, "few_shot", table="summary").set_index(["model", "shots"])[
        "accuracy"
    ]
    other = {"composition": "position", "position": "composition"}[kind]
    assert table[kind, 50] > 0.8
    assert table[kind, 50] > table[other, 50] + 0.05


@pytest.mark.parametrize("kind", ["composition", "position"])
def test_kernels_are_the_default_and_see_both_kinds(kind):
    adata = made(kind, n=100)
    ol.tl.few_shot(adata, shots=50, n_draws=2)
    table = ol.get.table(adata, "few_shot", table="summary").set_index("model")
    assert list(table.index) == ["composition", "position", "kernels"]
    assert table.loc["kernels", "accuracy"] > table.loc[kind, "accuracy"] - 0.03
    assert not table.loc["kernels", "baseline"]


class Reader:
    """A language model: vectors of sequences; and how often it was asked."""

    seen = 0

    def get_latent_representation(self, sequences):
        self.seen += len(sequences)
        return np.array([[s.count("G") + s.count("C"), len(s)] for s in sequences], dtype=float)


class Tuned(Reader, Constant):
    """One that can be fine-tuned too."""


def test_language_models_alone_and_with_kernels():
    adata = made(n=60)
    reader = Reader()
    ol.tl.few_shot(adata, shots=(10, 20), n_draws=2, models={"lm": reader})
    table = ol.get.table(adata, "few_shot", table="summary").set_index(["model", "shots"])[
        "accuracy"
    ]
    assert list(dict.fromkeys(table.index.get_level_values(0))) == [
        "composition", "position", "lm", "lm+kernels",
    ]  # fmt: skip
    assert table["lm", 20] > table["composition", 20] - 0.05
    assert reader.seen <= adata.n_obs, "a sequence is embedded once"
    ol.tl.few_shot(adata, shots=10, n_draws=1, models={"t": Tuned()}, combine=False)
    table = ol.get.table(adata, "few_shot").set_index("model")["accuracy"]
    assert list(table.index) == ["composition", "position", "t"] and table["t"] == 0.5


def test_any_model_of_transformers():
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    torch.manual_seed(0)
    words = ol.genome.KmerTokenizer(3).vocabulary
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16,
    )  # fmt: skip
    tokenizer = BertTokenizer(vocab={w: i for i, w in enumerate(words)}, do_lower_case=False)
    trunk = ol.nn.TransformersTrunk(BertModel(config), tokenizer, words=3, name="dna")
    adata = made(n=30)
    ol.tl.few_shot(adata, shots=20, n_draws=1, models={"dna": trunk})
    table = ol.get.table(adata, "few_shot").set_index("model")
    assert list(table.index) == ["composition", "position", "dna", "dna+kernels"]
    assert np.isfinite(table["accuracy"]).all()


def test_folder_of_a_model(tmp_path):
    model = ol.model.GeneMaskLM(k=3, d_model=16, n_layers=1, n_heads=2, d_ff=16)
    model.save(tmp_path / "saved")
    adata = made(n=30)
    ol.tl.few_shot(adata, shots=10, n_draws=1, models=[tmp_path / "saved"], combine=False)
    table = ol.get.table(adata, "few_shot").set_index("model")
    assert list(table.index) == ["composition", "position", "saved"]
    with pytest.raises(ValueError, match="models must be one of 'kernels'"):
        ol.tl.few_shot(adata, models=[tmp_path / "none"])


def test_table(tmp_path):
    adata = made()
    before = adata.copy()
    out = ol.tl.few_shot(adata, shots=5, n_draws=2, models=[Constant], copy=True)
    same_object(adata, before)
    table = ol.get.table(out, "few_shot")
    assert list(table) == [
        "model", "shots", "draw", "accuracy", "auc", "f1_macro", "mcc", "baseline", "n_test",
    ]  # fmt: skip
    assert table.groupby("model").size().to_dict() == {
        "composition": 2, "position": 2, "Constant": 2,
    }  # fmt: skip
    assert table.groupby("model")["baseline"].first().to_dict() == {
        "composition": True, "position": True, "Constant": False,
    }  # fmt: skip
    constant = table[table["model"] == "Constant"]
    assert (constant["accuracy"] == 0.5).all() and (constant["auc"] == 0.5).all()
    entry = out.uns["few_shot"]
    assert entry["n_test"] == 120 and entry["n_pool"].tolist() == [60, 60]
    out.write_h5ad(tmp_path / "a.h5ad")
    again = ad.read_h5ad(tmp_path / "a.h5ad")
    pd.testing.assert_frame_equal(ol.get.table(again, "few_shot"), table)


def test_draws_are_balanced_nested_and_from_the_training_rows():
    adata = made()
    Constant.fits = []
    ol.tl.few_shot(adata, shots=(5, 20), n_draws=2, models={"c": Constant()}, rng=3)
    train = set(adata.obs.loc[adata.obs["split"] == "train", "sequence"])
    assert len(Constant.fits) == 4
    for sequences, labels in Constant.fits:
        assert set(sequences) <= train and len(set(sequences)) == len(sequences)
        assert labels.count(0) == labels.count(1) == len(labels) // 2
    small, _, large, _ = (set(f[0]) for f in Constant.fits)
    assert small < large, "fewer shots are among more, in the same draw"


def test_columns_go_by_the_classes_of_the_model():
    adata = made()
    ol.tl.few_shot(adata, shots=20, n_draws=2, models={"r": Reversed()})
    wide = ol.get.table(adata, "few_shot").pivot(index="draw", columns="model", values="accuracy")
    np.testing.assert_array_equal(wide["r"], wide["composition"])


def test_summary_intervals():
    adata = made()
    ol.tl.few_shot(adata, shots=5, n_draws=4)
    table, mean = ol.get.table(adata, "few_shot"), ol.get.table(adata, "few_shot", table="summary")
    from scipy import stats

    own = table[table["model"] == "composition"]["accuracy"]
    low, high = stats.t.interval(0.95, 3, own.mean(), stats.sem(own))
    line = mean[mean["model"] == "composition"].iloc[0]
    np.testing.assert_allclose(
        line[["accuracy", "accuracy_low", "accuracy_high"]].astype(float), [own.mean(), low, high]
    )
    assert line["gain"] == 0 and line["n_draws"] == 4
    other = mean[mean["model"] == "position"].iloc[0]
    assert other["gain"] == pytest.approx(other["accuracy"] - line["accuracy"])


def test_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    for n_classes in (2, 3):
        codes = np.arange(60) % n_classes
        proba = rng.dirichlet(np.ones(n_classes), 60)
        got, predicted = classification_scores(codes, proba), proba.argmax(axis=1)
        more = {"multi_class": "ovo"} if n_classes == 3 else {}
        auc = roc_auc_score(codes, proba if n_classes == 3 else proba[:, 1], **more)
        f1 = f1_score(codes, predicted, average="macro")
        mcc = matthews_corrcoef(codes, predicted)
        expected = [accuracy_score(codes, predicted), auc, f1, mcc]
        np.testing.assert_allclose(list(got.values()), expected)
    assert np.isnan(classification_scores(np.array([0, 1, 1]), np.full((3, 3), 1 / 3))["auc"])


def test_default_shots_missing_labels_text_classes_and_duplicates(caplog):
    adata = made(n=60, classes=("neg", "pos"))
    adata.obs["label"] = adata.obs["label"].astype(object)
    adata.obs.loc["s0", "label"] = None
    adata.obs.loc["s2", "sequence"] = adata.obs.loc["s4", "sequence"]
    adata.obs.loc["s6", "sequence"] = adata.obs.loc["s7", "sequence"]
    with caplog.at_level("WARNING", logger="omicllm"):
        ol.tl.few_shot(adata, n_draws=1)
    entry = adata.uns["few_shot"]
    assert entry["params"]["shots"].tolist() == [10, 50]
    assert entry["classes"].tolist() == ["neg", "pos"] and entry["n_pool"].tolist() == [58, 60]
    assert entry["duplicates"] == 1
    assert "1 rows without a label" in caplog.text
    assert "1 training sequence(s) are in the test set too (first: 's6')" in caplog.text


class Memory:
    """Knows what it was trained on, and nothing else."""

    def fit(self, sequences, labels):
        self.classes_ = np.unique(labels)
        self.known = dict(zip(sequences, labels, strict=True))

    def predict_proba(self, sequences):
        return np.array([[0.5 + (self.known.get(s) == c) for c in (0, 1)] for s in sequences])


def test_no_model_is_scored_on_what_it_was_trained_on():
    adata = made(n=60)
    train = (adata.obs["split"] == "train").to_numpy()
    adata.obs.loc[~train, "sequence"] = adata.obs.loc[train, "sequence"].to_numpy()
    ol.tl.few_shot(adata, shots=(10, 20), n_draws=3, models=[Memory])
    table = ol.get.table(adata, "few_shot")
    assert table["n_test"].tolist() == [100] * 9 + [80] * 9
    assert (table.loc[table["model"] == "Memory", "auc"] == 0.5).all()
    with pytest.raises(ValueError, match="takes every test sequence"):
        ol.tl.few_shot(adata, shots=60)


def test_unequal_lengths():
    sequences = ["ACGTA" * 4, "TTTTTTT" * 2, "GATTACA" * 3, "CCCCCCCCCCCC"]
    for cls in (CompositionClassifier, PositionClassifier):
        model = cls().fit(sequences, [0, 1, 0, 1])
        proba = model.predict_proba([*sequences, "ACG", "ACGTNNACGTACGATCGACTAGCTACG"])
        assert proba.shape == (6, 2) and np.isfinite(proba).all()
        with pytest.raises(NotFittedError, match="not fitted"):
            cls().predict_proba(sequences)


def test_plot():
    import matplotlib.pyplot as plt

    adata = made()
    ol.tl.few_shot(adata, shots=(5, 20), n_draws=2, models=[Constant])
    ax = ol.pl.few_shot(adata, score="auc")
    assert ax.get_ylabel() == "AUC"
    names = [t.get_text() for t in ax.get_legend().get_texts()]
    assert names == ["composition (baseline)", "position (baseline)", "Constant"]
    plt.close("all")


class NoProba:
    def fit(self, sequences, labels):
        return self


class Wrong(Constant):
    def predict_proba(self, sequences):
        return np.ones((len(sequences), 3))


def test_refuses():
    adata = made()
    before = adata.copy()
    for kwargs, error, message in (
        ({"shots": 61}, ValueError, r"shots=61 needs .* but [01] has 60. Lower shots="),
        ({"shots": 0}, ValueError, "shots must be a whole number"),
        ({"shots": []}, ValueError, "shots is empty"),
        ({"n_draws": 0}, ValueError, "n_draws must be"),
        ({"models": {"composition": Constant()}}, ValueError, "'composition' is taken"),
        ({"models": ["forest"]}, ValueError, "models must be one of 'kernels'"),
        ({"models": ["kernels", "kernels"]}, ValueError, "'kernels' is taken"),
        ({"models": {"n": NoProba()}}, TypeError, "'n' lacks predict_proba"),
        ({"models": {"w": Wrong()}, "shots": 5}, ValueError, r"predict_proba of 'w' returned"),
        ({"test": "dev"}, ValueError, r"is 'dev' \(there: 'test', 'train'\)"),
        ({"split_key": "part"}, KeyError, "'part' is not in adata.obs.*ol.pp.split"),
        ({"split_key": "label"}, ValueError, "starts with 'train'"),
        ({"labels_key": "kind"}, KeyError, "labels_key="),
    ):
        with pytest.raises(error, match=message):
            ol.tl.few_shot(adata, **kwargs)
    adata.obs["label"] = 1
    with pytest.raises(ValueError, match=r"has 1 class\(es\)"):
        ol.tl.few_shot(adata)
    adata.obs["label"] = before.obs["label"]
    same_object(adata, before)
    with pytest.raises(KeyError, match="ol.tl.few_shot"):
        ol.get.table(adata, "few_shot")


class Drawing:
    """A model that answers at random, by the global generator."""

    def fit(self, sequences, labels):
        return self

    def predict_proba(self, sequences):
        p = np.random.random(len(sequences))
        return np.column_stack([p, 1 - p])


def test_the_seed_reaches_models_and_intervals_stay_on_the_scale():
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("ACGT"), 20)) for _ in range(24)]
    obs = pd.DataFrame({"sequence": sequences, "label": ["a", "b"] * 12})
    obs["split"] = ["train"] * 16 + ["test"] * 8
    obs.index = obs.index.astype(str)

    def scores(seed):
        adata = ad.AnnData(obs=obs.copy())
        # All of a class is drawn, so that nothing but the model differs between seeds.
        ol.tl.few_shot(
            adata, shots=8, n_draws=2, models={"drawing": Drawing()}, rng=seed, show_progress=False
        )
        table = ol.get.table(adata, "few_shot")
        return adata, table.loc[table["model"] == "drawing", "auc"].tolist()

    adata, first = scores(0)
    assert scores(0)[1] == first and scores(1)[1] != first
    summary = ol.get.table(adata, "few_shot", table="summary")
    for score, lowest in (("accuracy", 0), ("auc", 0), ("f1_macro", 0), ("mcc", -1)):
        low, high = summary[f"{score}_low"], summary[f"{score}_high"]
        same = summary[f"{score}_sd"] < 1e-12
        assert low.isna().equals(same) and high.isna().equals(same)
        assert (low[~same] >= lowest).all() and (high[~same] <= 1).all()
        assert (low[~same] < high[~same]).all()
