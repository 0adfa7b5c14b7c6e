"""OmicLM beside plain classifiers on the same folds: CMS, kidney slides, planted genes, MuData.

    python benchmarks/bench_omiclm.py [cms] [geomx] [explain] [multiomics] [others] [--repeats 10]

In every fold, genes, scales, table and mixed rows come from the training rows; labels of test rows
are blanked before the object is handed over. Baselines are shown twice: on log counts per million
with genes chosen in the fold by an F test, and on the genes and values the language model has.
"""

from __future__ import annotations

import argparse
import time
import warnings

import anndata
import numpy as np
from _common import DATA, table, tissue

import omicllm as ol
from omicllm.model import OmicLM
from omicllm.stats.classifiers import BASELINES, baseline_probabilities
from omicllm.stats.scores import balanced_accuracy

warnings.simplefilter("ignore")


def bulk(name: str) -> anndata.AnnData:
    return anndata.read_h5ad(DATA / "bulk" / f"{name}.h5ad")


def log_cpm(adata) -> np.ndarray:
    X = np.asarray(adata.X, dtype=np.float64)
    return np.log2(1 + 1e6 * X / X.sum(axis=1, keepdims=True))


def by_f_test(X, y, train, test, n_genes: int) -> dict[str, float]:
    """Balanced accuracy of each baseline on the `n_genes` genes with the largest F."""
    from sklearn.feature_selection import f_classif

    with np.errstate(all="ignore"):
        F = np.nan_to_num(f_classif(X[train], y[train])[0])
    genes = np.argsort(-F, kind="stable")[:n_genes]
    A = X[:, genes]
    Z = (A - A[train].mean(axis=0)) / np.maximum(A[train].std(axis=0), 1e-8)
    return scores(Z, y, train, test)


def scores(Z, y, train, test) -> dict[str, float]:
    names, codes = np.unique(y[train], return_inverse=True)
    truth = np.searchsorted(names, y[test])
    out = {}
    for name in BASELINES:
        P = baseline_probabilities(name, Z[train], codes, Z[test], len(names))
        out[name] = balanced_accuracy(truth, P.argmax(axis=1))
    return out


def language_model(adata, y, train, test, *, augment, seed, same: bool = False, **kwargs):
    """Balanced accuracy through the verb.

    With `same` also that of the weights the training starts from, and of the baselines on the
    genes and values of the model.
    """
    work = adata.copy()
    hidden = np.full(adata.n_obs, None, dtype=object)
    hidden[train] = y[train]
    work.obs["label"] = hidden
    ol.tl.classify_omics(work, labels_key="label", augment=augment, n_folds=0, rng=seed, **kwargs)
    guess = work.obs["omiclm_label"].astype(str).to_numpy()[test]
    names = np.unique(y[train])
    truth = np.searchsorted(names, y[test])
    ours = balanced_accuracy(truth, np.searchsorted(names, guess))
    if not same:
        return ours, {}
    # The genes and values of the model, fitted again on the training rows alone.
    model = OmicLM.over(work, work.obs["label"], {"labels_key": "label"}, **kwargs)
    model.train(max_epochs=1, lr=1e-12)
    first = np.searchsorted(names, model.predict(work)[test].astype(str))
    told = {"OmicLM, starting weights": balanced_accuracy(truth, first)}
    for name, value in scores(model.standardized()[0], y, train, test).items():
        told[f"{name}, same genes and values"] = value
    return ours, told


def compare(adata, y, splits, *, title: str, without: bool = True, **kwargs) -> None:
    X, rows, start = log_cpm(adata), {}, time.time()
    for seed, (train, test) in enumerate(splits):
        ours, same = language_model(
            adata, y, train, test, augment="mix", seed=seed, same=True, **kwargs
        )
        rows.setdefault("OmicLM + augmentation", []).append(ours)
        if without:
            plain, _ = language_model(adata, y, train, test, augment=None, seed=seed, **kwargs)
            rows.setdefault("OmicLM, no augmentation", []).append(plain)
        for name, value in same.items():
            rows.setdefault(name, []).append(value)
        for n in (40, 200, 2000):
            for name, value in by_f_test(X, y, train, test, n).items():
                if name != "majority":
                    rows.setdefault(f"{name}, {n} genes by F", []).append(value)
        print(f"# {seed + 1} splits, {time.time() - start:.0f} s, OmicLM "
              f"{np.mean(rows['OmicLM + augmentation']):.3f}", flush=True)  # fmt: skip
    print(f"\n## {title}: {len(splits)} splits\n")
    table(
        [
            {"classifier": k, "balanced accuracy": float(np.mean(v)),
             "standard error": float(np.std(v) / np.sqrt(len(v)))}
            for k, v in rows.items()
        ]
    )  # fmt: skip


def cms(repeats: int) -> None:
    from sklearn.model_selection import RepeatedStratifiedKFold

    adata = bulk("tcga_coadread_cms")
    y = adata.obs["CMS"].astype(str).to_numpy()
    known = np.flatnonzero(y != "nan")
    deal = RepeatedStratifiedKFold(n_splits=5, n_repeats=repeats, random_state=2025)
    splits = [(known[a], known[b]) for a, b in deal.split(known, y[known])]
    compare(adata, y, splits, title="tcga_coadread_cms, repeated stratified 5-fold")


def geomx(repeats: int) -> None:
    del repeats
    adata = bulk("geomx_kidney_dkd_shared")
    y = adata.obs["condition"].astype(str).to_numpy()
    slide = adata.obs["slide_name"].astype(str).to_numpy()
    sick, well = (sorted(set(slide[y == c])) for c in ("DKD", "normal"))
    splits = []
    for pair in [(a, b) for a in sick for b in well]:
        train = np.isin(slide, pair)
        splits.append((np.flatnonzero(train), np.flatnonzero(~train)))
    compare(adata, y, splits, title="geomx_kidney_dkd_shared, every pair of slides")


def explain(repeats: int) -> None:
    """Planted genes: 3 classes, 20 genes each, shifted by 1 SD among 1,000."""
    from sklearn.metrics import roc_auc_score

    rows = []
    for seed in range(min(repeats, 3)):
        rng = np.random.default_rng(seed)
        kind = np.arange(90) % 3
        mean = rng.gamma(2, 5, 1000)
        fold = np.ones((3, 1000))
        planted = rng.permutation(1000)[:60]
        for c in range(3):
            fold[c, planted[20 * c : 20 * c + 20]] = 2.0
        rate = mean * fold[kind] * rng.gamma(4, 0.25, (90, 1000))
        adata = anndata.AnnData(rng.poisson(rate).astype(np.float32))
        adata.var_names = [f"Gene{i}" for i in range(1000)]
        adata.obs["kind"] = np.array(["A", "B", "C"])[kind]
        truth = np.isin(np.arange(1000), planted)
        model = OmicLM.over(adata, adata.obs["kind"], {"labels_key": "kind"})
        model.train(rng=seed)
        ol.tl.explain_omics(adata, model=model, n_obs=30)
        score = adata.var["explain_omics_score"].to_numpy()
        rows.append({"seed": seed, "AUROC of planted genes": roc_auc_score(truth, score)})
    print("\n## explain_omics, 60 planted genes among 1,000\n")
    table(rows)


def multiomics(repeats: int) -> None:
    import mudata
    from sklearn.model_selection import RepeatedStratifiedKFold

    parts = {m: bulk(f"tcga_brca_multiomics_{m}") for m in ("mrna", "mirna", "protein")}
    y = parts["mrna"].obs["subtype"].astype(str).to_numpy()
    for part in parts.values():
        del part.obs["subtype"]
    mdata = mudata.MuData(parts)
    deal = RepeatedStratifiedKFold(n_splits=5, n_repeats=max(1, repeats // 3), random_state=2025)
    rows: dict[str, list[float]] = {}
    for seed, (train, test) in enumerate(deal.split(y, y)):
        names = np.unique(y)
        truth = np.searchsorted(names, y[test])
        for what in ("joint", *parts):
            work = mdata.copy() if what == "joint" else mdata.mod[what].copy()
            hidden = np.full(len(y), None, dtype=object)
            hidden[train] = y[train]
            work.obs["label"] = hidden
            ol.tl.classify_omics(work, labels_key="label", n_folds=0, rng=seed)
            guess = work.obs["omiclm_label"].astype(str).to_numpy()[test]
            rows.setdefault(f"OmicLM, {what}", []).append(
                balanced_accuracy(truth, np.searchsorted(names, guess))
            )
        Z = np.concatenate([np.asarray(p.X, dtype=np.float64) for p in parts.values()], axis=1)
        Z = (Z - Z[train].mean(axis=0)) / Z[train].std(axis=0)
        for name, value in scores(Z, y, train, test).items():
            rows.setdefault(f"{name}, all modalities", []).append(value)
    print("\n## tcga_brca_multiomics, repeated stratified 5-fold\n")
    table(
        [
            {"classifier": k, "balanced accuracy": float(np.mean(v)),
             "standard error": float(np.std(v) / np.sqrt(len(v)))}
            for k, v in rows.items()
        ]
    )  # fmt: skip
    single = max((f"OmicLM, {m}" for m in parts), key=lambda k: np.mean(rows[k]))
    gain = np.subtract(rows["OmicLM, joint"], rows[single])
    print(f"\njoint less {single}: {gain.mean():.4f} (standard error over splits "
          f"{gain.std() / np.sqrt(len(gain)):.4f})")  # fmt: skip


def others(repeats: int) -> None:
    """Cell types and tissue layers that no setting was chosen on; ten labelled rows of a class."""
    rows: dict[str, dict[str, float]] = {}
    chosen = (
        ("merfish_hypothalamus_scrna_reference", "cell_type"),
        ("starmap_mpfc_bz5", "cell_type"),
        ("mob_rep11_layers", "layer"),
        ("her2st_A1", "pathologist"),
    )
    for name, column in chosen:
        adata = tissue(name)
        adata.X = adata.X.toarray() if hasattr(adata.X, "toarray") else np.asarray(adata.X)
        y = adata.obs[column].astype(object).where(adata.obs[column].notna(), "").astype(str)
        y = y.to_numpy()
        names, size = np.unique(y, return_counts=True)
        use = [
            n
            for n, k in zip(names, size, strict=True)
            if k >= 20 and n not in ("", "nan", "undetermined")
        ]
        found: dict[str, list[float]] = {}
        for seed in range(min(repeats, 5)):
            rng = np.random.default_rng(seed)
            mine = [rng.permutation(np.flatnonzero(y == n)) for n in use]
            train = np.concatenate([m[:10] for m in mine])
            test = np.concatenate([m[10:] for m in mine])
            ours, told = language_model(adata, y, train, test, augment="mix", seed=seed, same=True)
            for key, value in {"OmicLM + augmentation": ours, **told}.items():
                found.setdefault(key, []).append(value)
        rows[f"{name}, {column} ({len(use)})"] = {k: float(np.mean(v)) for k, v in found.items()}
    print("\n## data no setting was chosen on: ten labelled rows of each class, five draws\n")
    keys = list(next(iter(rows.values())))
    table([{"classifier": k, **{n: r[k] for n, r in rows.items()}} for k in keys])


def main() -> None:
    every = {
        "cms": cms, "geomx": geomx, "explain": explain, "multiomics": multiomics, "others": others,
    }  # fmt: skip
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="*", default=[])
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    for name in options.what or every:
        every[name](options.repeats)


if __name__ == "__main__":
    main()
