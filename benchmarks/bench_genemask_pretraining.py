"""Does PMI masking help? Four maskings, the same model, steps and pieces, eight seeds.

A tiny model is pretrained on the first 900 kb of the 1 Mb region; the other 100 kb are held out.
Scores: the loss of masked tokens there (every model with the same masks, single tokens and
DNABERT's spans; from the counts of words alone, the line "word counts"), and few-shot accuracy on
Prom-core of a kernel logistic regression on frozen vectors. Models of one seed share their starting
weights and their pieces, so the second table, differences from DNABERT's masking, is paired by
seed. Both are printed after every seed.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
import time
from pathlib import Path

import numpy as np
from _common import DATA, table
from scipy import stats

import omicllm as ol

MASKINGS = {
    "random": {"masking": "random"},
    "dnabert": {"masking": "dnabert"},
    "genemask, position": {"masking": "genemask", "rank_by": "position"},
    "genemask, token": {"masking": "genemask", "rank_by": "token"},
}


def region() -> str:
    """Bases of the 1 Mb region, in upper case."""
    with gzip.open(DATA / "genome" / "chr20_1Mb.fa.gz", "rt") as lines:
        return "".join(s.strip() for s in lines if not s.startswith(">")).upper()


def interval(values: list[float], digits: int) -> str:
    """Mean and half the 95 % interval over seeds."""
    if len(values) < 2:
        return f"{np.mean(values):.{digits}f}"
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{np.mean(values):.{digits}f} +- {half:.{digits}f}"


def by_counts(train: str, held_out: list[str]) -> float:
    """Loss of tokens from how often words occur in the training part."""
    tokenizer = ol.genome.KmerTokenizer(6, other="unknown")
    counts = np.bincount(tokenizer.encode(train), minlength=len(tokenizer))[5:] + 1.0
    share = np.log(counts / counts.sum())
    ids = np.concatenate([tokenizer.encode(s) for s in held_out])
    return -float(share[ids[ids >= 5] - 5].mean())


def step_time(path: Path) -> dict:
    """Seconds per step of the tiny preset, batch 32 x 128 tokens."""
    model = ol.model.GeneMaskLM()
    model.pretrain(fasta=path, max_steps=5, max_tokens=126)
    wall, cpu = time.perf_counter(), time.process_time()
    model.pretrain(fasta=path, max_steps=40, max_tokens=126)
    return {
        "step": "tiny, 32 x 128 tokens", "wall s": (time.perf_counter() - wall) / 40,
        "CPU s": (time.process_time() - cpu) / 40,
    }  # fmt: skip


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--tokens", type=int, default=62)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--shots", type=int, nargs="*", default=[50, 500])
    parser.add_argument("--save", help="keep the last model of genemask, token here")
    parser.add_argument("--only-time", action="store_true")
    args = parser.parse_args()
    bases = region()
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "train.fa"
    path.write_text(">train\n" + bases[:900_000] + "\n")
    table([step_time(path)])
    if args.only_time:
        return
    held_out = [bases[i : i + args.tokens + 5] for i in range(900_000, 999_000, 400)]
    held_out = [s for s in held_out if "N" not in s]
    loss_counts = by_counts(bases[:900_000], held_out)
    adata = ol.io.read_sequences(DATA / "dna" / "Prom-core.tsv.gz")
    scores: dict[str, dict[str, list[float]]] = {}
    for seed in range(args.seeds):
        readers = {}
        for name, how in {"not trained": {}, **MASKINGS}.items():
            model = ol.model.GeneMaskLM(seed=seed)
            start = time.perf_counter()
            if how:
                model.pretrain(
                    fasta=path, max_steps=args.steps, max_tokens=args.tokens,
                    batch_size=args.batch, lr=args.lr, rng=seed, **how,
                )  # fmt: skip
            model.is_trained_ = True
            line = scores.setdefault(name, {})
            line.setdefault("wall s", []).append(time.perf_counter() - start)
            for masking in ("random", "dnabert"):
                line.setdefault(f"loss, {masking} masks", []).append(
                    model.get_masked_loss(held_out, masking=masking)
                )
            readers[name] = _Frozen(model)
        if args.save:
            model.save(args.save, overwrite=True)
        ol.tl.few_shot(
            adata, shots=args.shots, n_draws=args.draws, models=readers, test="dev",
            combine=False, rng=0,
        )  # fmt: skip
        mean = ol.get.table(adata, "few_shot", table="summary")
        for row in mean.to_dict("records"):
            line = scores.setdefault(row["model"], {})
            line.setdefault(f"accuracy, {row['shots']}", []).append(100 * row["accuracy"])
        scores["word counts"] = {"loss, random masks": [loss_counts]}
        names = list(dict.fromkeys(n for line in scores.values() for n in line))
        table(
            [
                {"model": name}
                | {
                    n: interval(line[n], 3 if "loss" in n else 1) if n in line else "-"
                    for n in names
                }
                for name, line in scores.items()
            ]
        )
        print()
        table(
            [
                {"less those of dnabert": name}
                | {n: interval(_paired(line[n], scores["dnabert"][n]), 3) for n in names[1:]}
                for name, line in scores.items()
                if name in MASKINGS and name != "dnabert"
            ],
        )


def _paired(own: list[float], other: list[float]) -> list[float]:
    return [a - b for a, b in zip(own, other, strict=True)]


class _Frozen:
    """A model of which only the vectors are used."""

    def __init__(self, model: ol.model.GeneMaskLM) -> None:
        self.get_latent_representation = model.get_latent_representation


if __name__ == "__main__":
    main()
