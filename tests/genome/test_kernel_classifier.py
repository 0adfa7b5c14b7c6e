"""The classifier that weights several kernels, and those kernels."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_checks

from omicllm.genome.kernel_classifier import (
    KernelClassifier,
    _kernels,
    _left_out,
    _parts,
    _Regression,
)
from omicllm.genome.kmers import kmer_names
from omicllm.genome.sequence_classifiers import CompositionClassifier, PositionClassifier
from omicllm.genome.sequence_kernels import Features, Positions, Regions, Words, _other_strand

COMPLEMENT = str.maketrans("ACGT", "TGCA")


def drawn(n=60, length=40, seed=0, p=(0.25,) * 4):
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list("ACGT"), length, p=p)) for _ in range(n)]


def reverse(sequence):
    return sequence.translate(COMPLEMENT)[::-1]


def made(kind, n=40, seed=0):
    """Two classes that differ in composition, at one position, or in what two places share."""
    rng = np.random.default_rng(seed)
    labels = np.arange(2 * n) % 2
    out = []
    for label in labels:
        p = [0.17, 0.33, 0.33, 0.17] if kind == "words" and label else [0.25] * 4
        bases = rng.choice(list("ACGT"), 40, p=p)
        if kind == "positions":
            bases[20:22] = list("GA" if label else "AG")
        if kind == "pair":
            first = rng.integers(2)
            bases[10:14] = list("ACGT" if first else "TTTT")
            bases[25:29] = list("ACGT" if first ^ label else "TTTT")
        out.append("".join(bases))
    return out, labels


def test_reverse_complements_by_number():
    for k in (1, 2, 3):
        names = kmer_names(k)
        assert [names[i] for i in _other_strand(k)] == [reverse(w) for w in names]


def test_words_are_of_either_strand_and_of_any_length():
    train = drawn()
    view = Words()
    K = view.fit(train)
    assert K.shape == (60, 60) and np.allclose(np.diag(K), 1) and (K > 0).all()
    np.testing.assert_allclose(K, K.T)
    np.testing.assert_allclose(view.between([reverse(s) for s in train]), K, atol=1e-5)
    assert np.isfinite(view.between(["ACG", "ACGTNNNACGTTTGATAGA" * 5])).all()


def test_words_by_hand():
    """One length, Hellinger distances, scaled to a mean squared norm of 1."""
    view = Words()
    view.lengths = (1,)
    train = ["AAAC", "CCGA", "ACGT", "TTTT"]
    share = np.array([[3, 1], [1, 3], [2, 2], [4, 0]]) / 4  # A or T, C or G
    root = np.sqrt(share)
    centred = root - root.mean(axis=0)
    centred /= np.sqrt((centred**2).sum(axis=1).mean())
    squared = ((centred[:, None] - centred[None]) ** 2).sum(axis=2) * (1 / 12 + 1 / 8)
    np.testing.assert_allclose(view.fit(train), np.exp(-squared / 2), atol=1e-6)


def test_regions_know_the_place():
    rng = np.random.default_rng(0)
    left = ["GGCC" * 4 + s for s in drawn(20, 24)]
    right = [s + "GGCC" * 4 for s in drawn(20, 24, seed=1)]
    order = rng.permutation(40)
    train = [(left + right)[i] for i in order]
    same = np.equal.outer(order < 20, order < 20)
    within = {view.__name__: view().fit(train) for view in (Words, Regions)}
    gap = {name: K[same].mean() - K[~same].mean() for name, K in within.items()}
    assert gap["Regions"] > gap["Words"] + 0.05
    view = Regions()
    K = view.fit(train)
    np.testing.assert_allclose(view.between(train), K, atol=1e-5)


def test_positions_by_hand():
    train = ["ACGTA", "ACGTT", "TTTTT"]
    K = Positions().fit(train)
    n = 5 + 4 + 3 + 2
    share = np.array([[n, 4 + 3 + 2 + 1, 1], [10, n, 2 + 1], [1, 3, n]]) / n
    np.testing.assert_allclose(K, (share**2 + share**3) / 2)
    view = Positions()
    view.fit(train)
    np.testing.assert_allclose(view.between(["GACGTAG", "TT"])[0], K[0], err_msg="about the centre")


def test_places_where_classes_differ_weigh_more():
    train, labels = made("positions", n=40)
    view = Positions()
    K = view.fit(train, labels)
    codes = np.array([["ATCG".index(b) for b in s] for s in train])
    statistic = np.zeros(40)
    for at in range(40):
        table = np.array(
            [[np.sum((codes[:, at] == b) & (labels == c)) for b in range(4)] for c in (0, 1)]
        )
        expected = table.sum(axis=0) / 2
        statistic[at] = ((table - expected) ** 2 / np.maximum(expected, 0.5)).sum() / 3
    padded = np.concatenate([statistic[:1], statistic, statistic[-1:]])
    excess = np.maximum(padded[:-2] / 4 + padded[1:-1] / 2 + padded[2:] / 4 - 1.5, 0)
    place = 1 + 20 * excess / (10 + excess)
    place /= place.mean()
    assert place[20] > 2.5 * np.median(place)

    def shared(a, b):
        return sum(
            place[i : i + j].mean()
            for j in (1, 2, 3, 4) for i in range(41 - j) if a[i : i + j] == b[i : i + j]
        )  # fmt: skip

    share = shared(train[0], train[1]) / shared(train[0], train[0])
    np.testing.assert_allclose(K[0, 1], (share**2 + share**3) / 2, rtol=1e-6)
    np.testing.assert_allclose(view.between(train[:2]), K[:2], atol=1e-9)


def test_labels_of_sequences_left_out_are_not_seen():
    """Weights of places are made anew in each fold: noise is not taken for signal."""
    right = []
    for seed in range(6):
        train = drawn(40, seed=seed)
        codes = np.random.default_rng(seed).permutation(np.arange(40) % 2)
        view = Positions()
        K = view.fit(train, codes)
        parts = _parts(codes, np.random.default_rng(0))
        scores = _left_out(_kernels(view, K, train, codes), codes, parts, 5.0)
        right.append(np.mean(scores.argmax(axis=1) == codes))
    assert np.mean(right) < 0.6


def test_kernel_regression_is_that_of_scikit_learn():
    """With a linear kernel it is logistic regression with a penalised intercept."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3))
    codes = rng.integers(0, 3, 80)
    new = rng.normal(size=(20, 3))
    ours = _Regression(2.0).fit(X @ X.T, codes).scores(new @ X.T)
    with_one = [np.c_[Z, np.ones(len(Z))] for Z in (X, new)]
    other = LogisticRegression(C=2.0, fit_intercept=False, tol=1e-8, max_iter=2000)
    expected = other.fit(with_one[0], codes).predict_log_proba(with_one[1])
    expected -= expected.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(ours, expected, atol=5e-3)


@pytest.mark.parametrize("kind", ["words", "positions"])
def test_finds_the_view_that_tells(kind):
    train, labels = made(kind)
    other, truth = made(kind, n=200, seed=1)
    model = KernelClassifier().fit(train, labels)
    assert sum(model.weights_.values()) == pytest.approx(1)
    told = {"words": ("words", "regions"), "positions": ("positions",)}[kind]
    assert sum(model.weights_[v] for v in told) > 0.6
    proba = model.predict_proba(other)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert (model.predict(other) == truth).mean() > 0.8
    again = KernelClassifier().fit(train, labels).predict_proba(other)
    np.testing.assert_array_equal(again, proba)


def test_combinations_of_places():
    """Neither place alone tells the classes apart, so nothing linear does."""
    train, labels = made("pair", n=150)
    other, truth = made("pair", n=200, seed=1)
    model = KernelClassifier(views=("positions",)).fit(train, labels)
    assert (model.predict(other) == truth).mean() > 0.9
    plain = PositionClassifier().fit(train, labels)
    assert (plain.predict(other) == truth).mean() < 0.65


def test_features_are_a_view():
    train, labels = made("none")
    other, truth = made("none", n=100, seed=1)
    known = dict(zip(train + other, [*labels, *truth], strict=True))
    calls = []

    def embed(sequences):
        calls.append(len(sequences))
        noise = np.random.default_rng(len(sequences)).normal(size=(len(sequences), 4))
        return np.c_[[3 * known[s] for s in sequences], noise]

    model = KernelClassifier(features={"lm": embed}).fit(train, labels)
    assert model.weights_["lm"] > 0.8
    assert (model.predict(other) == truth).mean() > 0.85
    assert calls == [80, 200]
    alone = Features(embed)
    assert alone.fit(train).shape == (80, 80)


def test_text_classes_three_of_them_and_one_example_each():
    train = drawn(9)
    model = KernelClassifier().fit(train, ["c", "a", "b"] * 3)
    assert model.classes_.tolist() == ["a", "b", "c"]
    assert model.predict_proba(drawn(4, seed=2)).shape == (4, 3)
    few = KernelClassifier().fit(train[:2], [0, 1])
    assert np.isfinite(few.predict_proba(train)).all()


def test_refuses():
    for arguments, message in (
        ({"views": ("letters",)}, "views must be one of"),
        ({"views": ()}, "nothing to learn from"),
    ):
        with pytest.raises(ValueError, match=message):
            KernelClassifier(**arguments).fit(["ACGT", "ACGG"], [0, 1])
    with pytest.raises(ValueError, match="Two classes"):
        KernelClassifier().fit(["ACGT", "ACGG"], [1, 1])
    with pytest.raises(ValueError, match="labels of shape"):
        KernelClassifier().fit(["ACGT", "ACGG"], [1])
    with pytest.raises(NotFittedError, match="not fitted"):
        KernelClassifier().predict(["ACGT"])


CLASSIFIERS = [
    KernelClassifier(views=("words",), seed=2),
    KernelClassifier(),
    CompositionClassifier(k=2),
    PositionClassifier(),
]


#: Those of scikit-learn that draw no numbers: rows are strings here.
CHECKS = """
estimator_cloneable estimator_repr estimator_tags_renamed valid_tag_types mixin_order set_params
get_params_invariance parameters_default_constructible no_attributes_set_in_init
do_not_raise_errors_in_init_or_set_params
"""


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=str)
def test_checks_of_scikit_learn(classifier):
    estimator_checks.check_estimator(clone(classifier))
    for name in CHECKS.split():
        check = getattr(estimator_checks, f"check_{name}")
        check(type(classifier).__name__, clone(classifier))


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=str)
def test_search_and_pipelines_of_scikit_learn(classifier):
    import pickle

    import pandas as pd
    from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    train, labels = made("words", n=12)
    other, truth = made("words", n=20, seed=1)
    fitted = clone(classifier).fit(train, labels)
    proba = fitted.predict_proba(other)
    assert fitted.score(other, truth) == (fitted.predict(other) == truth).mean()
    # A clone knows nothing of the fit, and a second fit is the first.
    assert not hasattr(clone(fitted), "classes_")
    np.testing.assert_array_equal(clone(fitted).fit(train, labels).predict_proba(other), proba)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(other), proba)
    # Arrays and columns of a table, in any order of rows, hold the same strings.
    column = pd.Series(train, index=np.arange(len(train))[::-1])
    for sequences in (np.array(train), column):
        model = clone(classifier).fit(sequences, labels)
        np.testing.assert_allclose(model.predict_proba(np.array(other)), proba)
    folds = KFold(2, shuffle=True, random_state=0)
    guess = cross_val_predict(classifier, train, labels, cv=folds, method="predict_proba")
    for fit, test in folds.split(train):
        model = clone(classifier).fit([train[i] for i in fit], labels[fit])
        np.testing.assert_allclose(guess[test], model.predict_proba([train[i] for i in test]))
    search = GridSearchCV(classifier, {"C": [1e-9, classifier.C]}, cv=2).fit(train, labels)
    assert search.best_estimator_.C in (1e-9, classifier.C)
    lower = FunctionTransformer(lambda rows: [s.upper() for s in rows])
    piped = make_pipeline(lower, clone(classifier)).fit([s.lower() for s in train], labels)
    np.testing.assert_array_equal(piped.predict_proba([s.lower() for s in other]), proba)
