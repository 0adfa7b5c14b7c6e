"""`omicllm.io.read_cohort`: the published layout of an augmented cohort."""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from omicllm._core import checks, results
from omicllm._core.log import logger
from omicllm._core.text_files import read_json, read_table, row_names
from omicllm.stats import scaling, splits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData

#: Words of a file name that say what kind of table it is, and not which part of the cohort.
_KINDS = {"df", "data", "stdz", "std", "standardized", "logfpkm", "fpkm", "counts", "raw", "log"}
_LABELS = {"label", "labels"}
#: Names of rows that the published samplers drew end like this.
_DRAWN = re.compile(r"S\d+$")
#: Labels that mean "none".
_NO_LABEL = {"NOLBL", "nan", "NaN", "None", ""}
LABEL = "label"


def read_cohort(
    path: str | Path,
    *,
    seed: int | None = None,
    variant: str | None = None,
    modalities: Mapping[str, str] | None = None,
    val_size: float = 0.0,
) -> AnnData | MuData:
    """Read a cohort in the published layout: one folder per seed, a CSV for each part.

    Tables are found by their names. ``train``, ``val`` or ``validation``, and ``test`` (or
    ``external``) in a name say which part it is; ``labels`` says that it holds labels. What comes
    before decides which tables belong together: ``augmented_train_df_stdz.csv`` goes with
    ``augmented_train_labels.csv``, ``real_test_df_stdz.csv`` with ``real_test_labels.csv``.

    Parameters
    ----------
    path
        Folder with the tables, or with a folder of tables for each seed.
    seed
        Which of several seeds.
    variant
        Word that picks one of several tables of a part, for example ``"stdz"`` or ``"logfpkm"``.
    modalities
        Name -> prefix of its columns; the longest prefix that fits decides, and ``""`` takes what
        is left. The result is then a MuData.
    val_size
        Share of the training rows to set aside for validation, where no table has any
        (stratified; drawn with `seed`).

    Returns
    -------
    AnnData, or MuData with `modalities` (rows without any value in a modality are left out of it;
    fields of `obs` are in every modality and in the MuData). ``X`` holds the values of the files.

    ``obs["label"]`` : categorical
        Class, in the order of ``label_map.json`` where there is one; missing for ``NOLBL``.
    ``obs["split"]`` : categorical
        ``"train"``, ``"val"``, ``"test"``.
    ``obs["synthetic"]`` : bool, ``obs["part"]`` : categorical
        Drawn by a sampler; name of the part, for example ``"real_test"``.
    ``layers["standardized"]``, ``var["standardized_mean"]``, ``var["standardized_scale"]``
        z-scores refitted on the training rows, as :func:`omicllm.pp.standardize` writes them. A
        ``scaler.pkl`` is never opened, since a pickle can run code.
    ``uns["cohort"]``
        ``classes`` and their ``tokens`` (from ``label_map.json``), ``seed``.

    Raises
    ------
    FileNotFoundError
        No such folder, or no tables in it.
    ValueError
        Several seeds or variants to choose from; tables that do not go together; values that are
        not numbers, or NaN or infinite (rows are named); labels that the label map lacks.

    Notes
    -----
    ``synthetic`` follows from names: rows of a part called augmented or synthetic whose names end
    in ``S<number>``, or all of them when none does.
    """
    checks.share("val_size", val_size, high=0.9)
    folder, found_seed = _folder(Path(path), seed)
    parts = _parts(folder, variant)
    tables, obs = [], []
    for part, (table, labels) in parts.items():
        values = _table(table)
        tables.append(values)
        obs.append(_obs(part, values.index, labels))
    columns = tables[0].columns
    for (_, (file, _)), table in zip(parts.items(), tables, strict=True):
        _same_columns(columns, table.columns, file)
    values = pd.concat([t[columns] for t in tables])
    frame = pd.concat(obs)
    classes, tokens = _label_map(folder)
    frame[LABEL] = _categories(frame[LABEL], classes, tokens, folder)
    frame["split"] = _split(frame, val_size, found_seed)
    frame["part"] = pd.Categorical(frame["part"], list(parts))
    if not frame.index.is_unique:
        # A patient may be in the table of the training rows and in that of the test rows.
        frame.index = [f"{p}-{i}" for p, i in zip(frame["part"], frame.index, strict=True)]
    frame.index = _unique(frame.index)
    values.index = frame.index
    used = list(frame[LABEL].cat.categories)
    known = dict(zip(classes, tokens, strict=True))
    description = {
        "classes": np.array(used, dtype=object),
        "tokens": np.array([known.get(c, f"<C{i}>") for i, c in enumerate(used)], dtype=object),
        "seed": -1 if found_seed is None else found_seed,
    }
    if any(folder.glob("*.pkl")):
        logger.info("pickles in %s are not opened; means and scales are refitted", folder)
    if modalities is None:
        return _adata(values, frame, description)
    return _mudata(values, frame, description, modalities)


def _folder(path: Path, seed: int | None) -> tuple[Path, int | None]:
    """The folder with the tables, and its seed."""
    if not path.is_dir():
        msg = f"There is no folder {path}."
        raise FileNotFoundError(msg)
    seeds = {int(p.name): p for p in path.iterdir() if p.is_dir() and p.name.isdigit()}
    if seed is not None:
        if seed in seeds:
            return seeds[seed], seed
        if path.name == str(seed):
            return path, seed
        msg = f"{path} has no folder for seed {seed} (there: {checks.listed(sorted(seeds))})."
        raise ValueError(msg)
    if any(path.glob("*.csv")):
        return path, int(path.name) if path.name.isdigit() else None
    if len(seeds) == 1:
        return next((p, s) for s, p in seeds.items())
    if seeds:
        msg = f"{path} has several seeds ({checks.listed(sorted(seeds))}): name one with seed=."
        raise ValueError(msg)
    msg = f"{path} holds neither CSV files nor folders named by a seed."
    raise FileNotFoundError(msg)


def _words(file: Path) -> list[str]:
    return [w for w in re.split(r"[_\-. ]+", file.stem) if w]


def _which(part: str) -> str | None:
    """Split that a part belongs to."""
    words = part.lower().split("_")
    for name, signs in (
        ("train", ("train", "training")),
        ("val", ("val", "valid", "validation")),
        ("test", ("test", "external")),
    ):
        if any(s in words for s in signs):
            return name
    return None


def _parts(folder: Path, variant: str | None) -> dict[str, tuple[Path, Path]]:
    """Part -> (table, labels), training parts first."""
    tables: dict[str, list[Path]] = {}
    labels: dict[str, Path] = {}
    for file in sorted(folder.glob("*.csv")):
        words = _words(file)
        lower = [w.lower() for w in words]
        part = "_".join(w for w, x in zip(words, lower, strict=True) if x not in _KINDS | _LABELS)
        if _which(part) is None:
            logger.info("%s is left out: its name says neither train, val nor test", file.name)
        elif _LABELS & set(lower):
            labels[part] = file
        else:
            tables.setdefault(part, []).append(file)
    if not tables:
        msg = (
            f"{folder} holds no table of a cohort: CSV files with train, val or test in their "
            "names are expected, such as augmented_train_df_stdz.csv."
        )
        raise FileNotFoundError(msg)
    out = {}
    for part in sorted(tables, key=lambda p: (("train", "val", "test").index(str(_which(p))), p)):
        files = tables[part]
        if variant is not None:
            files = [f for f in files if variant in _words(f)]
        if len(files) != 1:
            names = checks.listed(f.name for f in tables[part])
            msg = f"{len(files)} tables of {part!r} to choose from ({names}): name one by variant=."
            raise ValueError(msg)
        if part not in labels:
            msg = f"{files[0].name} has no labels: {part}_labels.csv is not in {folder}."
            raise ValueError(msg)
        out[part] = (files[0], labels[part])
    if "train" not in {_which(p) for p in out}:
        msg = f"{folder} has no training table (parts there: {checks.listed(out)})."
        raise ValueError(msg)
    return out


def _table(file: Path) -> pd.DataFrame:
    """Values of a table, rows named by its first column."""
    frame = read_table(file, what="table of a cohort", numbers=lambda header: header[1:])
    if frame.empty or frame.shape[1] < 2:
        msg = f"{file} must hold row names, columns of values and at least one row."
        raise ValueError(msg)
    names = row_names(frame.iloc[:, 0], path=file, what="row", unique=False)
    return frame.iloc[:, 1:].set_axis(pd.Index(names)).astype(np.float64)


def _same_columns(columns: pd.Index, other: pd.Index, file: Path) -> None:
    missing = columns.difference(other)
    extra = other.difference(columns)
    if len(missing) or len(extra):
        msg = (
            f"{file} has other columns than the first table: it lacks "
            f"{checks.listed(missing, most=3)} and adds {checks.listed(extra, most=3)}."
        )
        raise ValueError(msg)


def _obs(part: str, index: pd.Index, file: Path) -> pd.DataFrame:
    """Label, part and origin of the rows of one table."""
    frame = read_table(file, what="table of labels")
    named = frame.shape[1] > 1
    if named:  # else a single column: labels in the order of the table
        frame = frame.iloc[:, 1:].set_axis(pd.Index(frame.iloc[:, 0].to_numpy(dtype=object)))
    if frame.shape[1] > 1:
        frame = frame[[c for c in frame if c.lower() in _LABELS]]
    if frame.shape[1] != 1:
        msg = f"{file} must hold row names and one column of labels."
        raise ValueError(msg)
    labels = frame.iloc[:, 0]
    if len(labels) != len(index):
        msg = f"{file} holds {len(labels)} labels for {len(index)} rows of {part!r}."
        raise ValueError(msg)
    names = labels.index.astype(str)
    numbered = list(names) == [str(i) for i in range(len(names))]
    if named and not names.equals(index):
        if names.is_unique and set(names) == set(index):
            labels = labels.set_axis(names).loc[index]
        elif not numbered:
            lacking = len(set(index) - set(names))
            msg = f"{file} names other rows than its table: {lacking} rows have no label."
            raise ValueError(msg)
    words = set(part.lower().split("_"))
    drawn = np.zeros(len(index), dtype=bool)
    if words & {"augmented", "synthetic"}:
        drawn = np.array([bool(_DRAWN.search(i)) for i in index])
        drawn |= not drawn.any()
    return pd.DataFrame({LABEL: labels.to_numpy(), "part": part, "synthetic": drawn}, index=index)


def _label_map(folder: Path) -> tuple[list[str], list[str]]:
    """Classes and their tokens, in the order of the tokens."""
    file = folder / "label_map.json"
    if not file.exists():
        file = folder.parent / "label_map.json"
    if not file.exists():
        return [], []
    content = read_json(file, what="map of labels")
    if not isinstance(content, dict):
        msg = f"{file} must be an object of class name -> token."
        raise ValueError(msg)
    pairs = [(str(k), str(v)) for k, v in content.items()]
    return [k for k, _ in pairs], [v for _, v in pairs]


def _categories(
    column: pd.Series, classes: list[str], tokens: list[str], folder: Path
) -> pd.Categorical:
    text = column.astype(str).str.strip()
    text = text.where(~text.isin(_NO_LABEL), None)
    text = text.replace(dict(zip(tokens, classes, strict=True)))
    found = set(text.dropna())
    if classes and not found <= set(classes):
        extra = checks.listed(sorted(found - set(classes)))
        msg = f"label_map.json of {folder} lacks the label(s) {extra}."
        raise ValueError(msg)
    return pd.Categorical(text, classes or sorted(found))


def _split(frame: pd.DataFrame, val_size: float, seed: int | None) -> pd.Categorical:
    of_part = {p: _which(p) for p in frame["part"].unique()}
    split = frame["part"].map(of_part).to_numpy(dtype=object, copy=True)
    if val_size and "val" not in of_part.values():
        rows = np.flatnonzero(split == "train")
        strata = np.asarray(frame[LABEL].cat.codes)[rows].astype(np.int64)
        rng = np.random.default_rng(seed or 0)
        dealt = splits.by_rows(strata, np.array([1 - val_size, val_size]), rng)
        split[rows[dealt == 1]] = "val"
    return pd.Categorical(split, ["train", "val", "test"])


def _unique(names: Sequence[str]) -> pd.Index:
    """Names with a number behind those that occur again."""
    index = pd.Index(names).astype(str)
    again = index.to_series().groupby(level=0).cumcount().to_numpy()
    return pd.Index([n if k == 0 else f"{n}-{k}" for n, k in zip(index, again, strict=True)])


def _adata(values: pd.DataFrame, frame: pd.DataFrame, description: dict[str, Any]) -> AnnData:
    import anndata as ad

    X = values.to_numpy()
    bad = ~np.isfinite(X).all(axis=1)
    if bad.any():
        msg = (
            f"The tables hold NaN or infinite values in {int(bad.sum())} of {len(X)} rows "
            f"({checks.listed(values.index[bad], most=3)}). Fill or drop them first."
        )
        raise ValueError(msg)
    adata = ad.AnnData(
        X.astype(np.float32), obs=frame.copy(), var=pd.DataFrame(index=values.columns)
    )
    adata.uns["cohort"] = dict(description)
    train = np.asarray(frame["split"] == "train")
    n_fit, mean, variance = scaling.moments([X[train]], X.shape[1])
    scale = scaling.scales(mean, variance)
    fitted = results.Result(
        "pp.standardize",
        {
            "layers:{root}": ((X - mean) / scale).astype(np.float32),
            "var:{root}_mean": mean,
            "var:{root}_scale": scale,
        },
        {"fit_on": "train", "split_key": "split", "reference": False},
        {"n_fit": n_fit},
    )
    results.write(adata, fitted)
    return adata


def _mudata(
    values: pd.DataFrame,
    frame: pd.DataFrame,
    description: dict[str, Any],
    modalities: Mapping[str, str],
) -> MuData:
    import mudata as md

    columns: dict[str, list[str]] = {m: [] for m in modalities}
    rest = []
    for column in values.columns:
        fits = [m for m, prefix in modalities.items() if column.startswith(prefix)]
        if fits:
            columns[max(fits, key=lambda m: len(modalities[m]))].append(column)
        else:
            rest.append(column)
    empty = [m for m, names in columns.items() if not names]
    if rest or empty:
        msg = f"No column begins with the prefix of {checks.listed(empty)}." if empty else (
            f"{len(rest)} columns begin with none of the prefixes ({checks.listed(rest, most=3)}); "
            'the prefix "" takes what is left.'
        )  # fmt: skip
        raise ValueError(msg)
    parts = {}
    for name, own in columns.items():
        there = values[own].notna().any(axis=1).to_numpy()
        parts[name] = _adata(values.loc[there, own], frame[there], description)
    # From mudata 0.4 on this is what it does, and the option is gone.
    option = getattr(md, "set_options", None)
    with nullcontext() if option is None else option(pull_on_update=False):
        mdata = md.MuData(parts)
        for column in frame:
            mdata.obs[column] = frame[column].reindex(mdata.obs_names)
    mdata.uns["cohort"] = dict(description)
    return mdata
