"""Our trunks against enformer-pytorch and borzoi-pytorch: numbers, time and memory, in one run.

These packages pin other versions of transformers, so they live in an environment of their own:

    python -m venv oracle
    oracle/bin/pip install torch --index-url https://download.pytorch.org/whl/cpu
    oracle/bin/pip install enformer-pytorch==0.8.12 borzoi-pytorch==0.4.2
    python benchmarks/bench_enformer_trunk.py --oracle oracle/bin/python

Both run in processes of their own with one thread and the same random weights (every weight moved
from its starting value, so that no part is zero). Without --oracle only ours is measured.
borzoi-pytorch has position features for 4,096 bins only; it is given those of the length asked for.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

SMALL = {"dim": 384, "depth": 4, "heads": 8}


def peak_gib() -> float:
    """Largest memory this process has held, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def oracle_borzoi(sizes: dict, state: dict, length: int):
    """The published package's Borzoi; a function from tokens to embeddings."""
    import borzoi_pytorch.pytorch_borzoi_transformer as parts
    from borzoi_pytorch import Borzoi
    from borzoi_pytorch.config_borzoi import BorzoiConfig

    model = Borzoi(BorzoiConfig(**sizes, return_center_bins_only=False)).eval()
    model.human_head = torch.nn.Conv1d(1920, len(state["human_head.bias"]), 1)
    absent = set(model.load_state_dict(state, strict=False).missing_keys)
    if not all(name.endswith("positions") for name in absent):
        sys.exit(f"weights without a name in borzoi-pytorch: {sorted(absent)}")
    model.crop.target_length = -1
    for module in model.modules():
        if hasattr(module, "positions"):
            module.positions = parts.get_positional_embed(length // 128, 32, torch.device("cpu"))

    def embed(x):
        one_hot = torch.nn.functional.one_hot(x.clamp(max=3), 4) * (x < 4)[..., None]
        return model.get_embs_after_crop(one_hot.float().transpose(1, 2)).transpose(1, 2)

    return embed


def worker(kind: str, folder: Path, repeats: int, train: bool, borzoi: bool) -> None:
    """Embed the sequences of the folder, and say how long it took."""
    torch.set_num_threads(1)
    sizes = json.loads((folder / "sizes.json").read_text())
    tokens = torch.from_numpy(np.load(folder / "tokens.npy").astype(np.int64))
    state = load_file(folder / "weights.safetensors")
    heads = {"human": 8}
    if kind == "ours":
        import omicllm as ol

        network = ol.nn.Borzoi if borzoi else ol.nn.Enformer
        model = network(**sizes, output_heads=heads, checkpointing=train)
        model.load_weights(state)
        embed = model.embed
    elif borzoi:
        embed = oracle_borzoi(sizes, state, tokens.shape[1])
    else:
        from enformer_pytorch import Enformer

        model = Enformer.from_hparams(
            **sizes, output_heads=heads, target_length=-1, use_tf_gamma=False,
            use_checkpointing=train,
        )  # fmt: skip
        own = model.state_dict()
        model.load_state_dict(
            own
            | {k: v for k, v in state.items() if k in own}
            | {k: state[_plain(k)] for k in own if k.startswith("_trunk.")}
        )
        model.eval()

        def embed(x):
            return model(x, return_only_embeddings=True)

    del state
    seconds = []
    if train:
        start = time.process_time()
        embed(tokens).square().mean().backward()
        seconds.append(time.process_time() - start)
    else:
        with torch.no_grad():
            for _ in range(repeats):
                start = time.process_time()
                out = embed(tokens)
                seconds.append(time.process_time() - start)
        np.save(folder / f"{kind}.npy", out.numpy())
    print(json.dumps({"seconds": min(seconds), "GiB": peak_gib()}))


def _plain(name: str) -> str:
    """The name of a weight without that package's second name for it."""
    part = {"1": "stem", "2": "conv_tower", "4": "transformer", "6": "final_pointwise"}
    _, number, rest = name.split(".", 2)
    return f"{part[number]}.{rest}"


def compare(
    sizes: dict, length: int, oracle: str | None, repeats: int, train: bool, borzoi: bool
) -> dict:
    """One row of the table."""
    import omicllm as ol

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        network = ol.nn.Borzoi if borzoi else ol.nn.Enformer
        model = network(**sizes, output_heads={"human": 8})
        state = model.state_dict()
        for key, value in state.items():
            if value.is_floating_point():
                value += torch.randn_like(value) * 0.1 * max(float(value.std(unbiased=False)), 0.02)
            if key.endswith("running_var"):
                value.abs_().clamp_(min=0.5)
        save_file(state, folder / "weights.safetensors")
        del model, state
        tokens = np.random.default_rng(0).integers(0, 5, (1, length)).astype(np.int8)
        np.save(folder / "tokens.npy", tokens)
        (folder / "sizes.json").write_text(json.dumps(sizes))
        row: dict = {"network": network.__name__, "width": sizes.get("dim", 1536), "bp": length,
                     "what": "forward and backward" if train else "forward"}  # fmt: skip
        for kind, python in (("ours", sys.executable), ("oracle", oracle)):
            if python is None:
                continue
            command = [python, __file__, "--worker", kind, "--folder", name]
            command += ["--repeats", str(repeats)]
            command += ["--train"] * train + ["--borzoi"] * borzoi
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr[-3000:])
            figures = json.loads(done.stdout.strip().splitlines()[-1])
            row |= {f"{kind}, CPU s": figures["seconds"], f"{kind}, GiB": figures["GiB"]}
        if oracle and not train:
            ours, theirs = (np.load(folder / f"{k}.npy") for k in ("ours", "oracle"))
            row["largest difference"] = float(np.abs(ours - theirs).max())
            row["largest value"] = float(np.abs(theirs).max())
    return row


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--oracle", help="python of the environment with enformer-pytorch")
    parser.add_argument("--length", type=int, default=49_152)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--small", action="store_true", help="a small network only")
    parser.add_argument("--train", action="store_true", help="one step with checkpointing")
    parser.add_argument("--borzoi", action="store_true", help="Borzoi instead of Enformer")
    parser.add_argument("--worker")
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    if args.worker:
        worker(args.worker, args.folder, args.repeats, args.train, args.borzoi)
        return
    row = compare(
        SMALL if args.small else {}, args.length, args.oracle, args.repeats, args.train, args.borzoi
    )
    from _common import table

    table([row])


if __name__ == "__main__":
    main()
