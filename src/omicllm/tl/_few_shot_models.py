"""Models that `omicllm.tl.few_shot` compares: by name, as objects, and language models."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks
from omicllm.genome.kernel_classifier import KernelClassifier
from omicllm.genome.sequence_classifiers import BASELINES

if TYPE_CHECKING:
    from collections.abc import Callable

#: Models of the package that go by a name.
NAMED = {"kernels": KernelClassifier}
#: Vectors of so many sequences are made at once.
_BLOCK = 512


def compared(models: Any, *, combine: bool) -> dict[str, tuple[Any, bool]]:
    """Name -> (model or what makes one, whether it is a baseline).

    Raises
    ------
    TypeError
        A model without ``fit`` or ``predict_proba``.
    ValueError
        A name that is unknown or taken; ``combine=False`` where nothing would be combined.
    """
    out: dict[str, tuple[Any, bool]] = {name: (cls, True) for name, cls in BASELINES.items()}

    combinable = False

    def add(name: str, model: Any) -> None:
        if name in out:
            msg = f"The name {name!r} is taken: pass models as a dict with names of their own."
            raise ValueError(msg)
        out[name] = (model, False)

    for name, model in _named(models):
        if isinstance(model, (str, Path)) and Path(model).is_dir():
            model = _opened(Path(model))
        if isinstance(model, (str, Path)):
            checks.one_of("models", str(model), NAMED)
            add(name, NAMED[str(model)])
            continue
        lacks = [m for m in ("fit", "predict_proba") if not callable(getattr(model, m, None))]
        embed = None if isinstance(model, type) else _embedder(model)
        if embed is not None:
            embed, combinable = _Remembered(embed), True
            own = partial(KernelClassifier, views=(), features={name: embed})
            add(name, own if lacks else model)
            if combine:
                add(f"{name}+kernels", partial(KernelClassifier, features={name: embed}))
            continue
        if lacks and not (callable(model) and len(lacks) == 2):
            msg = f"The model {name!r} lacks {' and '.join(lacks)}(sequences, ...)."
            raise TypeError(msg)
        add(name, model)
    if not combine and not combinable:
        msg = "combine= has no effect without a language model in models=: leave it out."
        raise ValueError(msg)
    return out


def makes(maker: Any) -> bool:
    """Whether it makes models, being a class or a function, and is none itself."""
    return isinstance(maker, type) or not hasattr(maker, "fit")


def _named(models: Any) -> list[tuple[str, Any]]:
    if models is None:
        return []
    if isinstance(models, Mapping):
        return [(str(name), model) for name, model in models.items()]
    given = list(models) if isinstance(models, (list, tuple)) else [models]
    return [(_name(m), m) for m in given]


def _name(model: Any) -> str:
    if isinstance(model, (str, Path)):
        return Path(model).name if Path(model).is_dir() else str(model)
    return getattr(model, "__name__", type(model).__name__)


def _opened(folder: Path) -> Any:
    """The model of a folder: one of this package, in DNABERT's layout, or of transformers."""
    from omicllm.tl._sequence_models import model_of

    return model_of(folder)


def _embedder(model: Any) -> Callable[[list[str]], np.ndarray] | None:
    """Function from sequences to vectors, for language models; None for other models."""
    if callable(getattr(model, "get_latent_representation", None)):
        return model.get_latent_representation
    if all(hasattr(model, name) for name in ("embed", "dim", "length_multiple")):
        return partial(_mean_embedding, model)
    return None


def _mean_embedding(trunk: Any, sequences: list[str]) -> np.ndarray:
    """Mean over bins of a :class:`omicllm.nn.GenomeTrunk`."""
    from omicllm.nn.genome_embedding import embed_rows
    from omicllm.tl._sequence_models import as_tokens

    return embed_rows(trunk, as_tokens(sequences, trunk, None), strands=False, batch_size=32)


class _Remembered:
    """Vectors of sequences, each made once: draws share most of their sequences."""

    def __init__(self, embed: Callable[[list[str]], np.ndarray]) -> None:
        self.embed = embed
        self.known: dict[str, np.ndarray] = {}

    def __call__(self, sequences: list[str]) -> np.ndarray:
        new = [s for s in dict.fromkeys(sequences) if s not in self.known]
        for i in range(0, len(new), _BLOCK):
            part = new[i : i + _BLOCK]
            self.known.update(zip(part, np.asarray(self.embed(part)), strict=True))
        return np.stack([self.known[s] for s in sequences])
