"""`omicllm.tl.few_shot`: how well models classify sequences after a few examples."""

from __future__ import annotations

import copy as copies
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from omicllm._core import checks, docs, inputs, results
from omicllm._core import rng as rngs
from omicllm._core.log import logger, progress
from omicllm.pp._sequences import sequences_of
from omicllm.stats.draws import mean_interval
from omicllm.stats.scores import classification_scores
from omicllm.tl._few_shot_models import compared, makes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData

#: Shots of the published protocol.
SHOTS = (10, 50, 100, 500, 1000)
#: Scores of a draw, and the lowest value of each; the highest is 1.
SCORES = {"accuracy": 0.0, "auc": 0.0, "f1_macro": 0.0, "mcc": -1.0}


@docs.fill()
def few_shot(
    adata: AnnData | MuData,
    *,
    shots: int | Sequence[int] | None = None,
    n_draws: int = 10,
    models: Mapping[str, Any] | Sequence[Any] | None = ("kernels",),
    combine: bool = True,
    coverage: float = 0.95,
    sequence_key: str = "sequence",
    labels_key: str = "label",
    split_key: str = "split",
    test: str = "test",
    show_progress: bool | None = None,
    rng: int | np.random.Generator | None = 0,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Compare models of sequences by what they learn from N examples per class.

    Each draw takes N sequences of each class at random from the training rows, fits every model to
    the same ones, and scores it on all test rows. Two baselines always take part: logistic
    regression on the composition (words of 1 to 4 bases, wherever they are) and on the position
    (words of 1 to 3 bases at each position).

    Parameters
    ----------
    adata
        Annotated data with one sequence per observation, or a MuData with `mod`.
    shots
        Training sequences per class. By default those of 10, 50, 100, 500 and 1,000 that the
        smallest class has.
    n_draws
        Random draws for each number of shots. The sequences of fewer shots are among those of
        more, in the same draw.
    models
        Name -> model, or a list of models (named by their classes):

        - ``"kernels"``: :class:`omicllm.genome.KernelClassifier`, words, regions and positions
          weighted by cross-validation inside the shots. It is the default.
        - any object with ``fit(sequences, labels)`` and ``predict_proba(sequences)``, with
          columns in the order of its ``classes_``, or of the sorted labels where it has none. Each
          fit works on a deep copy; a class or function is called for a new model instead. A
          :class:`omicllm.model.GeneMaskLM` is fine-tuned in this way.
        - a :class:`omicllm.nn.GenomeTrunk`, such as a model of transformers in
          :class:`omicllm.nn.TransformersTrunk`: kernel logistic regression on its embeddings.
        - the folder of a saved GeneMaskLM, of a DNABERT checkpoint, or of another model of
          transformers.
    combine
        Compare each language model a second time, as ``<name>+kernels``: its embeddings (before
        fine-tuning) as one more view of ``"kernels"``.
    coverage
        Coverage of the intervals in ``summary``.
    sequence_key, labels_key
        Columns of `obs` with sequences and classes; rows without a label are left out.
    split_key
        Column of `obs`: rows that start with ``"train"`` are drawn from, a sequence that repeats
        counting once.
    test
        Value of the split that models are scored on.
    {show_progress}
    {rng}
    {mod}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.uns["few_shot"]["table"]`` : DataFrame
        One row per model, shots and draw: ``model``, ``shots``, ``draw``, ``accuracy``, ``auc``
        (mean over pairs of classes where there are more than two), ``f1_macro``, ``mcc``,
        ``baseline`` (bool), ``n_test`` (sequences scored).
    ``adata.uns["few_shot"]["summary"]`` : DataFrame
        One row per model and number of shots: ``model``, ``shots``, ``baseline``, ``n_draws``, and
        of each score its mean, ``_sd``, ``_low`` and ``_high`` (Student's t over draws, ending at
        the ends of the scale of the score; NaN where draws cannot tell: a single one, or all
        alike, as when every sequence of a class is drawn); ``gain``, ``gain_low``,
        ``gain_high``: accuracy less that of the baseline with the better mean at as many shots,
        paired by draw.
    ``adata.uns["few_shot"]``
        Parameters; ``classes``, ``n_test``, ``n_pool`` (training sequences of each class),
        ``duplicates`` (training sequences that are in the test set too). A warning counts them,
        and no model is scored on a sequence that it was trained on: in each draw, test rows whose
        sequence was drawn are left out, for all models alike.

    Raises
    ------
    KeyError
        No such column.
    TypeError
        A model without ``fit`` or ``predict_proba``.
    ValueError
        No training or test rows, under two classes, a class with fewer than N sequences, the name
        of a model that is taken, probabilities of the wrong shape, or a draw that takes all test
        sequences.

    Notes
    -----
    Where N is close to the size of a class, draws share most of their sequences, and their spread
    understates the error. Read the tables with :func:`omicllm.get.table`, draw them with
    :func:`omicllm.pl.few_shot`.

    The order of observations matters: which of them are shown is drawn in it, so that the same
    object in another order is scored as with another `rng`.
    """
    source = inputs.resolve(adata, mod)
    checks.whole_number("n_draws", n_draws)
    checks.share("coverage", coverage)
    generator = rngs.generator(rng)
    makers = compared(models, combine=combine)
    sequences = np.array(sequences_of(source, sequence_key), dtype=object)
    codes, labels, classes = _labels(source, labels_key)
    train, held_out = _rows(source, split_key, test, codes)
    pool = _distinct(sequences, codes, train)
    sizes = np.bincount(codes[pool], minlength=len(classes))
    wanted = _shots(shots, sizes, classes)
    tested = set(sequences[held_out].tolist())
    twice = [i for i in pool.tolist() if sequences[i] in tested]
    if twice:
        logger.warning(
            "%d training sequence(s) are in the test set too (first: %r); no model is scored on "
            "those it was trained on",
            len(twice), str(source.obs_names[twice[0]]),
        )  # fmt: skip
    if max(wanted) == sizes.min() and n_draws > 1:
        logger.info("at %d shots a class is used up: its draws are all the same", max(wanted))
    rows = []
    draws = [generator.permutation(pool) for _ in range(n_draws)]
    seeds = generator.integers(2**31, size=n_draws)
    tasks = [(d, n) for n in wanted for d in range(n_draws)]
    for draw, n in progress(tasks, what="few-shot", show_progress=show_progress):
        order = draws[draw]
        chosen = np.concatenate([order[codes[order] == c][:n] for c in range(len(classes))])
        taken = set(sequences[chosen].tolist()) if twice else set()
        scored = np.array([i for i in held_out.tolist() if sequences[i] not in taken])
        if not len(scored):
            msg = f"At {n} shots a draw takes every test sequence: lower shots=, or split anew."
            raise ValueError(msg)
        for name, (maker, baseline) in makers.items():
            # Models that draw random numbers of the global kind give the same for the same seed.
            with rngs.isolated(int(seeds[draw])):
                model = maker() if makes(maker) else copies.deepcopy(maker)
                model.fit(sequences[chosen].tolist(), labels[chosen])
                proba = _aligned(
                    name, model, model.predict_proba(sequences[scored].tolist()), classes
                )
            if proba.shape != (len(scored), len(classes)) or not np.isfinite(proba).all():
                msg = (
                    f"predict_proba of {name!r} returned {proba.shape}, with "
                    f"{int((~np.isfinite(proba)).sum())} values that are not finite; expected "
                    f"({len(scored)}, {len(classes)})."
                )
                raise ValueError(msg)
            scores = classification_scores(codes[scored], proba)
            row = {"model": name, "shots": n, "draw": draw, **scores, "baseline": baseline}
            rows.append(row | {"n_test": len(scored)})
    table = pd.DataFrame(rows)
    table.index = table.index.astype(str)
    result = results.Result(
        "tl.few_shot",
        {},
        {
            "shots": wanted, "n_draws": n_draws, "models": list(makers), "combine": combine,
            "coverage": coverage,
            "sequence_key": sequence_key, "labels_key": labels_key, "split_key": split_key,
            "test": test, "rng": rngs.recorded(rng),
        },
        {
            "table": table, "summary": _summary(table, coverage),
            "classes": [str(c) for c in classes], "n_test": len(held_out),
            "n_pool": sizes, "duplicates": len(twice),
        },
        key_added,
    )  # fmt: skip
    return results.write(adata, result, mod=mod, copy=copy)


def _summary(table: pd.DataFrame, coverage: float) -> pd.DataFrame:
    """Means and intervals over draws, by model and number of shots."""
    rows = []
    for shots, block in table.groupby("shots", sort=True):
        wide = block.pivot(index="draw", columns="model", values="accuracy")
        best_baseline = block[block["baseline"]].groupby("model")["accuracy"].mean().idxmax()
        for model, of_model in block.groupby("model", sort=False):
            row = {"model": model, "shots": shots, "baseline": bool(of_model["baseline"].iloc[0])}
            row["n_draws"] = len(of_model)
            for score, lowest in SCORES.items():
                found = mean_interval(of_model[score].to_numpy(), coverage, lowest=lowest)
                row[score] = found.mean
                row |= {f"{score}_{part}": getattr(found, part) for part in ("sd", "low", "high")}
            gain = mean_interval(
                (wide[model] - wide[best_baseline]).to_numpy(), coverage, lowest=-1
            )
            rows.append(row | {"gain": gain.mean, "gain_low": gain.low, "gain_high": gain.high})
    return pd.DataFrame(rows, index=[str(i) for i in range(len(rows))])


def _labels(source: AnnData, key: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Class number of each row (-1 without a label), the labels, and the classes in order."""
    column = pd.Series(inputs.obs_column(source, key, argument="labels_key"), dtype=object)
    known = column.notna().to_numpy()
    values = column.to_numpy()
    if not known.all():
        logger.warning("%d rows without a label are left out", int((~known).sum()))
    kinds = {type(v) for v in values[known].tolist()}
    if len(kinds) > 1:
        values = np.array([str(v) if k else v for v, k in zip(values, known, strict=True)], object)
    classes, inverse = np.unique(np.array(values[known].tolist()), return_inverse=True)
    if len(classes) < 2:
        msg = f"adata.obs[{key!r}] has {len(classes)} class(es); two are needed."
        raise ValueError(msg)
    codes = np.full(len(values), -1, dtype=np.int64)
    codes[known] = inverse
    return codes, classes[np.maximum(codes, 0)], classes


def _rows(source: AnnData, key: str, test: str, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Training and test rows with a label."""
    if key not in source.obs:
        raise checks.missing(
            key, "adata.obs", source.obs, hint="Make it with ol.pp.split(adata), or name a column "
            "with split_key=.",
        )  # fmt: skip
    split = inputs.obs_column(source, key, argument="split_key").astype(str)
    train = np.flatnonzero(np.char.startswith(split.astype("U"), "train") & (codes >= 0))
    held_out = np.flatnonzero((split == test) & (codes >= 0))
    there = checks.listed(np.unique(split))
    if not len(train):
        msg = f"No labelled row of adata.obs[{key!r}] starts with 'train' (there: {there})."
        raise ValueError(msg)
    if not len(held_out):
        msg = f"No labelled row of adata.obs[{key!r}] is {test!r} (there: {there}). Choose test=."
        raise ValueError(msg)
    return train, held_out


def _distinct(sequences: np.ndarray, codes: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows without those that repeat the sequence and class of an earlier one."""
    seen = {(sequences[i], int(codes[i])): i for i in rows[::-1].tolist()}
    return np.array(sorted(seen.values()), dtype=np.int64)


def _shots(shots: Any, sizes: np.ndarray, classes: np.ndarray) -> list[int]:
    smallest = int(sizes.min())
    rarest = classes[sizes.argmin()]
    if shots is None:
        out = [n for n in SHOTS if n <= smallest]
        if out:
            return out
        shots = SHOTS[0]
    wanted = sorted({checks.whole_number("shots", n) for n in np.atleast_1d(shots).tolist()})
    if not wanted:
        msg = "shots is empty."
        raise ValueError(msg)
    if wanted[-1] > smallest:
        msg = (
            f"shots={wanted[-1]} needs as many distinct training sequences of each class, but "
            f"{rarest!s} has {smallest}. Lower shots=."
        )
        raise ValueError(msg)
    return wanted


def _aligned(name: str, model: Any, proba: Any, classes: np.ndarray) -> np.ndarray:
    """Probabilities with columns in the order of `classes`."""
    out = np.asarray(proba, dtype=np.float64)
    own = getattr(model, "classes_", None)
    if own is None or out.ndim != 2 or out.shape[1] != len(own):
        return out
    order = [str(c) for c in own]
    absent = [str(c) for c in classes if str(c) not in order]
    if absent:
        msg = f"The model {name!r} knows the classes {checks.listed(order)}, not {absent[0]!r}."
        raise ValueError(msg)
    return out[:, [order.index(str(c)) for c in classes]]
