"""`omicllm.io.read_basenji`: sequences and tracks of a Basenji data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from omicllm._core import checks
from omicllm._core.text_files import read_json, read_table, to_numbers, typed
from omicllm.genome import tokens as nucleotides
from omicllm.genome.fasta import Genome, fetch_padded
from omicllm.genome.tfrecord import read_records

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData

_SPLITS = {"train": "train", "val": "valid", "test": "test"}


def read_basenji(
    path: str | Path,
    *,
    split: str = "train",
    genome: Genome | str | Path | None = None,
    length: int = 196_608,
    targets: Sequence[int] | None = None,
    n: int | None = None,
) -> AnnData:
    """Read the sequences and tracks that Basenji and Enformer were trained on.

    Parameters
    ----------
    path
        Folder with ``statistics.json``, ``sequences.bed``, ``targets.txt`` and ``tfrecords/``.
        TensorFlow is not needed.
    split
        ``"train"``, ``"val"`` or ``"test"``.
    genome
        FASTA file or :class:`omicllm.io.Genome`: sequences are then read there, widened to
        `length` (N past the ends of a contig). Without it they are those of the records
        (131,072 bases).
    length
        Bases of a widened sequence.
    targets
        Numbers of the tracks to keep; all by default (10 MB per sequence for the 5,313 human
        ones).
    n
        Read the first `n` sequences only.

    Returns
    -------
    AnnData with one row per sequence and one column per track, and

    ``X`` : float32
        Mean of the track over bins.
    ``obsm["tracks"]`` : float16 (n_obs, n_bins, n_vars)
        The tracks.
    ``obs`` : DataFrame
        ``chrom``, ``start``, ``end`` (0-based, half-open; of the sequence given), ``sequence``,
        ``split``, ``bin_size`` (bases per bin of the tracks).
    ``var`` : DataFrame
        Columns of ``targets.txt``.

    Raises
    ------
    FileNotFoundError
        A file that is missing.
    ValueError
        A damaged file; records of another size than ``statistics.json`` says; fewer records than
        ``sequences.bed`` lists; an unknown split; `length` shorter than the records.
    """
    import anndata

    checks.one_of("split", split, _SPLITS)
    folder = Path(path)
    for name in ("statistics.json", "sequences.bed", "targets.txt", "tfrecords"):
        if not (folder / name).exists():
            msg = f"There is no {name} in {folder}."
            raise FileNotFoundError(msg)
    sizes = _sizes(folder / "statistics.json")
    own, n_bins, n_targets = sizes["seq_length"], sizes["target_length"], sizes["num_targets"]
    table = _targets(folder / "targets.txt", n_targets)
    bed = _places(folder / "sequences.bed")
    bed = bed[bed["split"] == _SPLITS[split]].reset_index(drop=True)
    if n is not None:
        bed = bed.iloc[: checks.whole_number("n", n)]
    if genome is not None:
        checks.whole_number("length", length, at_least=own)
        genome = genome if isinstance(genome, Genome) else Genome(genome)
        for chrom in dict.fromkeys(bed["chrom"]):
            genome.contig(chrom)
    kept = np.arange(n_targets) if targets is None else np.asarray(targets, dtype=np.int64)
    if len(kept) and not 0 <= kept.min() <= kept.max() < n_targets:
        msg = f"targets must lie between 0 and {n_targets - 1}."
        raise ValueError(msg)
    files = _files(folder / "tfrecords", _SPLITS[split])
    _enough(files, len(bed), 2 * n_bins * n_targets + 4 * own, folder / "statistics.json")
    tracks = np.zeros((len(bed), n_bins, len(kept)), dtype=np.float16)
    sequences: list[str] = []
    for file in files:
        if len(sequences) == len(bed):
            break
        for record in read_records(file):
            if len(sequences) == len(bed):
                break
            target = np.frombuffer(record.get("target", b""), dtype="<f2")
            base = np.frombuffer(record.get("sequence", b""), dtype=np.uint8)
            if len(target) != n_bins * n_targets or len(base) != 4 * own:
                msg = f"A record of {file} is not of the size that statistics.json says."
                raise ValueError(msg)
            tracks[len(sequences)] = target.reshape(n_bins, n_targets)[:, kept]
            sequences.append(_letters(base.reshape(own, 4)))
    if len(sequences) < len(bed):
        msg = f"sequences.bed lists {len(bed)} {split} sequences; {len(sequences)} were found."
        raise ValueError(msg)
    obs = bed.assign(split=split)
    if "pool_width" in sizes:
        obs["bin_size"] = int(sizes["pool_width"])
    if genome is not None:
        extra = length - own
        obs["start"] -= extra // 2
        obs["end"] += extra - extra // 2
        sequences = [fetch_padded(genome, c, s, e) for c, s, e in
                     zip(obs["chrom"], obs["start"], obs["end"], strict=True)]  # fmt: skip
    obs["sequence"] = np.array(sequences, dtype=object)
    obs.index = obs.index.astype(str)
    var = table.iloc[kept].copy()
    var.index = var.index.astype(str)
    X = tracks.mean(axis=1, dtype=np.float32)
    adata = anndata.AnnData(X, obs=obs, var=var)
    adata.obsm["tracks"] = tracks
    return adata


def _sizes(path: Path) -> dict[str, int]:
    """Lengths and numbers that ``statistics.json`` gives, as whole numbers from 1."""
    content = read_json(path, what="statistics of a Basenji data set")
    names = ("seq_length", "target_length", "num_targets", "pool_width")
    lacking = [n for n in names[:3] if not isinstance(content, dict) or n not in content]
    if lacking:
        msg = f"{path} lacks {checks.listed(lacking)}: is it that of a Basenji data set?"
        raise ValueError(msg)
    found = {n: content[n] for n in names if n in content}
    for name, value in found.items():
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not 1 <= value < 2**40
            or value % 1
        ):
            msg = f"{path}: {name} must be a whole number from 1, not {value!r}."
            raise ValueError(msg)
    return {n: int(v) for n, v in found.items()}


def _targets(path: Path, n_targets: int) -> pd.DataFrame:
    """The tracks: one row each, named by the first column."""
    table = read_table(path, what="list of targets", separator="\t")
    if len(table) != n_targets:
        msg = f"{path} lists {len(table)} targets, but statistics.json says {n_targets}."
        raise ValueError(msg)
    first = table.columns[0]
    rest = table.drop(columns=first).apply(typed)
    return rest.set_axis(table[first].to_numpy(dtype=object))


def _places(path: Path) -> pd.DataFrame:
    """Intervals of the sequences and the split of each."""
    bed = read_table(
        path, what="list of sequences", separator="\t", names=["chrom", "start", "end", "split"]
    )
    for column in ("start", "end"):
        values = to_numbers(bed[column], path=path, column=column)
        if values.isna().any() or (values % 1 != 0).any() or (values < 0).any():
            msg = f"{path}: the column of the {column} must hold whole numbers from 0."
            raise ValueError(msg)
        bed[column] = values.astype(np.int64)
    return bed.reset_index(drop=True)


def _enough(files: list[Path], n: int, n_bytes: int, path: Path) -> None:
    """Refuse sizes that the records cannot have, before memory is taken for them.

    Records are packed at most about 1,030 times (the limit of zlib).
    """
    held = sum(f.stat().st_size for f in files)
    if n * n_bytes > 1100 * held:
        msg = (
            f"{path} gives {n_bytes:,} bytes for each of {n:,} sequences, but the {len(files)} "
            f"file(s) of records have only {held:,} bytes: one of them is wrong or incomplete."
        )
        raise ValueError(msg)


def _files(folder: Path, split: str) -> list[Path]:
    """Files of a split in the order in which they were written: ``<split>-<i>-<j>.tfr``."""
    found = [
        (tuple(int(p) for p in path.stem.split("-")[1:]), path)
        for path in folder.glob(f"{split}-*.tfr")
    ]
    return [path for _, path in sorted(found)]


def _letters(one_hot: np.ndarray) -> str:
    """Bases of one-hot rows; N where no base or several are set."""
    found = np.where(one_hot.sum(axis=1) == 1, one_hot.argmax(axis=1), nucleotides.N)
    return nucleotides.decode(found)
