"""What the verbs on genome models share: the model, lengths, tokens, haplotypes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, files, inputs
from omicllm._core.log import progress
from omicllm.genome import tokens as nucleotides
from omicllm.genome.haplotypes import centred

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from anndata import AnnData
    from mudata import MuData

    from omicllm.genome.fasta import Genome
    from omicllm.pp._haplotypes import Haplotypes


def trunk_of(model: Any, *, allow_download: bool) -> Any:
    """Return the trunk that ``model=`` stands for; also the one inside a trained or saved model."""
    if isinstance(model, str) and model == "genemask" and not Path(model).exists():
        msg = (
            "model='genemask' names no weights, since none come with the package: train an "
            "ol.model.GeneMaskLM and pass it, or its folder, or that of a DNABERT checkpoint."
        )
        raise ValueError(msg)
    model = model_of(model, allow_download=allow_download)
    inner = getattr(getattr(model, "module", None), "trunk", None)
    return inner if inner is not None else model


def model_of(model: Any, *, allow_download: bool = False) -> Any:
    """Return a trained model as it is, and what a folder holds: such a model, or a trunk."""
    from omicllm.nn.genome_trunk import load_trunk

    if isinstance(model, (str, Path)) and _is_dnabert(Path(model)):
        from omicllm.model import GeneMaskLM

        return GeneMaskLM.from_pretrained(model)
    if isinstance(model, (str, Path)) and (Path(model) / "model.json").is_file():
        from omicllm import model as models

        saved = str(files.read_json(Path(model) / "model.json").get("class"))
        checks.one_of("the saved model", saved, ("GeneMaskLM", "PersonalExpression"))
        return getattr(models, saved).load(model)
    trained = getattr(getattr(model, "module", None), "trunk", None) is not None
    return model if trained else load_trunk(model, allow_download=allow_download)


def _is_dnabert(folder: Path) -> bool:
    """Whether a folder holds a BERT on k-mers, which transformers' own tokeniser cannot feed."""
    if not (folder / "config.json").is_file():
        return False
    config = files.read_json(folder / "config.json", again="Copy the checkpoint anew")
    sizes = [5 + 4**k for k in (3, 4, 5, 6)]
    return config.get("model_type") == "bert" and config.get("vocab_size") in sizes


def fitting_length(trunk: Any, length: int, *, what: str, fix: str) -> int:
    """Return `length` when the trunk takes it.

    Raises
    ------
    ValueError
        No multiple of the trunk's bins, too short or too long.
    """
    step = trunk.length_multiple
    if length % step or length < 1:
        near = max(step, round(length / step) * step)
        msg = (
            f"{what} have {length} bases, but {trunk.name} takes multiples of {step}: {fix} "
            f"(for example {near})."
        )
        raise ValueError(msg)
    shortest = getattr(trunk, "min_len", None)
    if shortest is not None and length < shortest:
        msg = f"{what} have {length} bases, but {trunk.name} takes at least {shortest}: {fix}."
        raise ValueError(msg)
    if trunk.max_len is not None and length > trunk.max_len:
        msg = f"{what} have {length} bases, but {trunk.name} takes at most {trunk.max_len}: {fix}."
        raise ValueError(msg)
    return length


def as_tokens(sequences: Sequence[str], trunk: Any, length: int | None) -> np.ndarray:
    """Tokens int8 (n, length) of sequences, cut or padded about their centres.

    Raises
    ------
    ValueError
        As `fitting_length` says.
    """
    if length is None:
        step, longest = trunk.length_multiple, max(map(len, sequences))
        length = -(-longest // step) * step
    fitting_length(trunk, length, what="The sequences", fix="choose another length=")
    return np.stack([centred(nucleotides.encode(s), length) for s in sequences])


def run_options(batch_size: int, n_bins: int | None, precision: str, accelerator: str) -> Any:
    """Check the arguments that say how to run a trunk; returns the device."""
    checks.whole_number("batch_size", batch_size)
    if n_bins is not None:
        checks.whole_number("n_bins", n_bins)
    checks.one_of("precision", precision, ("32", "bf16"))
    from omicllm.nn.genome_embedding import device_of

    return device_of(accelerator)


def watched(what: str, *, show_progress: bool | None) -> Callable[[Iterable[int]], Iterable[int]]:
    """A progress bar over batches."""
    return lambda steps: progress(
        steps, what=what, show_progress=show_progress,
        total=len(steps) if hasattr(steps, "__len__") else None,  # type: ignore[arg-type]
    )  # fmt: skip


def personal_haplotypes(
    mdata: MuData, trunk: Any, *, genome: Genome | str | Path | Haplotypes, genes: Any,
    length: int | None, rna: str, geno: str, window_key: str, unphased: str,
    haploid: str,
) -> tuple[AnnData, Haplotypes, list[str]]:  # fmt: skip
    """People's sequences at genes, everybody of `rna` in its order.

    Returns
    -------
    The expression modality, the haplotypes, and the genes that have a window (of those asked).

    Raises
    ------
    KeyError, ValueError
        As :func:`omicllm.pp.haplotypes` says; people without genotypes; genes without windows.
    """
    from omicllm._core.names import positions
    from omicllm.genome.windows import from_columns
    from omicllm.pp._haplotypes import haplotypes
    from omicllm.tl._genotypes import rows_of_people

    people, variants = inputs.resolve(mdata, rna), inputs.resolve(mdata, geno)
    names = [str(g) for g in inputs.gene_names(people)]
    at = rows_of_people(people, variants, rna=rna, geno=geno)
    frame = from_columns(people.var, window_key)
    if genes is not None:
        asked = [names[i] for i in positions(genes, names)]
        lost = [g for g in asked if g not in frame.index]
        if lost:
            msg = f"{len(lost)} genes have no window ({checks.listed(lost, most=3)})."
            raise ValueError(msg)
        frame = frame.loc[asked]
    if not len(frame):
        msg = f"No gene of mdata[{rna!r}] has a window."
        raise ValueError(msg)
    if length is None:
        sizes = np.unique(frame["end"] - frame["start"])
        if len(sizes) > 1:
            msg = f"Windows have {len(sizes)} lengths: cut or pad all to one with length=."
            raise ValueError(msg)
        length = int(sizes[0])
    fitting_length(
        trunk, length, what="The windows",
        fix="make others with ol.pp.gene_windows(..., length=), or pass length=",
    )  # fmt: skip
    same = variants.n_obs == people.n_obs and bool((at == np.arange(people.n_obs)).all())
    chosen = variants if same else variants[people.obs_names]
    store = haplotypes(
        chosen, genome=genome, windows=frame, length=length, unphased=unphased,  # type: ignore[arg-type]
        haploid=haploid,  # type: ignore[arg-type]
    )  # fmt: skip
    return people, store, [str(g) for g in frame.index]


def predictor_of(model: Any) -> Any:
    """Return the trained model that ``model=`` stands for: an object, or a folder to load.

    Raises
    ------
    TypeError
        Something that cannot predict sequences.
    RuntimeError
        A model that is not trained.
    """
    from omicllm.model._personal_expression import PersonalExpression

    if isinstance(model, (str, Path)):
        model = PersonalExpression.load(model)
    if not isinstance(model, PersonalExpression):
        msg = (
            "model= must be a trained PersonalExpression or a folder with one, not "
            f"{type(model).__name__}. Train one with ol.tl.personal_expression(..., save=)"
        )
        msg += (
            "; a trunk with tracks needs no training: ol.model.PersonalExpression(..., trunk=, "
            "strategy='baseline', track=) predicts one of them."
            if hasattr(model, "embed")
            else "."
        )
        raise TypeError(msg)
    if not model.is_trained_:
        msg = "This model is not trained: call train() first."
        raise RuntimeError(msg)
    return model
