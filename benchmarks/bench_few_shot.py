"""Few-shot classification: `KernelClassifier` and language models beside the two baselines.

Prom-core, Cohn-enh and Splice-40, N examples of each class, ten draws. The test rows are those of
the files (`dev` or `test`); their sequences occur in the training rows as well, so a draw is scored
on the test rows that it did not take. `--model` adds a language model saved by
`bench_genemask_pretraining.py --save`.
"""

from __future__ import annotations

import argparse
import time

from _common import DATA, table

import omicllm as ol

SETS = {
    "Prom-core": ("dev", (10, 50, 100, 500, 1000)),
    "Cohn-enh": ("test", (10, 50, 100, 500)),
    "Splice-40": ("dev", (10, 50, 100, 500, 1000)),
}


def main() -> None:
    """Print one table per set."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--shots", nargs="*", type=int)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--model", help="folder of a saved GeneMaskLM")
    args = parser.parse_args()
    for name in args.sets:
        test, shots = SETS[name]
        adata = ol.io.read_sequences(DATA / "dna" / f"{name}.tsv.gz")
        models = {"kernels": "kernels"}
        if args.model:
            models["genemask"] = ol.model.GeneMaskLM.load(args.model)
        start = time.perf_counter()
        ol.tl.few_shot(
            adata, shots=args.shots or shots, n_draws=args.draws, models=models, test=test
        )
        print(f"\n{name}: {time.perf_counter() - start:.0f} s\n")
        rows = []
        for line in ol.get.table(adata, "few_shot", table="summary").to_dict("records"):
            rows.append(
                {
                    "shots": line["shots"], "model": line["model"],
                    "accuracy": f"{100 * line['accuracy']:.1f}",
                    "95 % interval": f"{100 * line['accuracy_low']:.1f} to "
                    f"{100 * line['accuracy_high']:.1f}",
                    "gain": f"{100 * line['gain']:+.1f} ({100 * line['gain_low']:+.1f} to "
                    f"{100 * line['gain_high']:+.1f})",
                    "AUC": f"{line['auc']:.3f}", "MCC": f"{line['mcc']:.3f}",
                }
            )  # fmt: skip
        table(rows)


if __name__ == "__main__":
    main()
