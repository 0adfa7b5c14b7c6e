"""`omicllm.model.GeneMaskLM`: a masked language model of DNA, and a classifier on top of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks
from omicllm._core import rng as rngs
from omicllm.genome.kmers import KmerTokenizer
from omicllm.genome.masking import mask_tokens, token_ranks
from omicllm.model import _genemask_rows as rows
from omicllm.model._base import OmicModel
from omicllm.model._genemask_pretrained import GeneMaskPretrained
from omicllm.model._genemask_results import MAX_TOKENS, GeneMaskResults
from omicllm.nn.kmer_bert import KmerBert
from omicllm.train._genemask import BatchData, KmerBertPlan

import torch  # isort: skip  (after _base, which imports scvi quietly)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from anndata import AnnData

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"d_model": 128, "n_layers": 2, "n_heads": 2, "d_ff": 512, "dropout": 0.1},
    "logo_genemask": {"d_model": 256, "n_layers": 2, "n_heads": 8, "d_ff": 3072, "dropout": 0.0},
    "dnabert": {"d_model": 768, "n_layers": 12, "n_heads": 12, "d_ff": 3072, "dropout": 0.1},
}
#: Gradients are clipped to this norm.
_LIMITS = {"gradient_clip_val": 1.0}
#: Points of the loss curve that a pretraining run leaves.
_POINTS = 20


class GeneMaskLM(GeneMaskResults, GeneMaskPretrained, OmicModel):
    """A BERT on k-mers, pretrained by span masking and fine-tuned to classify sequences.

    Parameters
    ----------
    adata
        Object that :meth:`setup_anndata` was called on. It may be left out: every method takes
        sequences too.
    k
        Bases of a token, 3 to 6.
    preset
        ``"tiny"`` (2 layers of 128), ``"logo_genemask"`` (2 of 256) or ``"dnabert"`` (12 of 768).
    d_model, n_layers, n_heads, d_ff, dropout
        Override the preset.
    too_long
        Sequences of more than 510 tokens: ``"refuse"``, ``"split"`` (parts are classified apart
        and their scores averaged) or ``"truncate"``.
    seed
        Seed of starting weights.

    Examples
    --------
    >>> import omicllm as ol
    >>> ol.model.GeneMaskLM.setup_anndata(adata, labels_key="label")
    >>> model = ol.model.GeneMaskLM(adata)
    >>> model.pretrain(fasta="genome.fa.gz")
    >>> model.train()
    >>> model.predict()

    Notes
    -----
    The classifier is linear, on the mean of the last hidden states of a sequence's k-mers. Roy et
    al. 2023, GeneMask, arXiv:2307.15933; Ji et al. 2021, DNABERT,
    doi:10.1093/bioinformatics/btab083.
    """

    def __init__(
        self,
        adata: AnnData | None = None,
        *,
        k: int = 6,
        preset: str = "tiny",
        d_model: int | None = None,
        n_layers: int | None = None,
        n_heads: int | None = None,
        d_ff: int | None = None,
        dropout: float | None = None,
        too_long: str = "refuse",
        seed: int = 0,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        checks.one_of("preset", preset, PRESETS)
        checks.one_of("too_long", too_long, ("refuse", "split", "truncate"))
        checks.one_of("k", k, (3, 4, 5, 6))
        given = {
            name: value
            for name, value in (
                ("d_model", d_model), ("n_layers", n_layers), ("n_heads", n_heads),
                ("d_ff", d_ff), ("dropout", dropout),
            )
            if value is not None
        }  # fmt: skip
        size = {**PRESETS[preset], **given}
        for name in ("d_model", "n_layers", "n_heads", "d_ff"):
            checks.whole_number(name, size[name])
        if size["d_model"] % size["n_heads"]:
            msg = f"d_model ({size['d_model']}) must be a multiple of n_heads ({size['n_heads']})."
            raise ValueError(msg)
        registry = {"setup_args": dict((description or {}).get("setup_args", {}))}
        super().__init__(adata, registry=None if adata is not None else _registry(registry))
        self.var_names_ = np.array([], dtype=str)
        self.k, self.too_long = k, too_long
        self.tokenizer = KmerTokenizer(k, other="unknown")
        self.classes_ = np.array((description or {}).get("attributes", {}).get("classes", []))
        with rngs.isolated(rngs.seed_of(seed)):
            self.module = KmerBert(len(self.tokenizer), n_classes=len(self.classes_), **size)
        self.module.eval()
        self.init_params_ = {
            "kwargs": {},
            "non_kwargs": {
                "k": k, "preset": preset, "too_long": too_long, "seed": rngs.seed_of(seed), **given,
            },
        }  # fmt: skip

    @classmethod
    def setup_anndata(  # type: ignore[override]
        cls, adata: AnnData, *, sequence_key: str = "sequence", labels_key: str | None = None,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        """Say where sequences and labels are.

        Parameters
        ----------
        adata
            One sequence per observation.
        sequence_key, labels_key
            Columns of `obs`; rows may lack a label.
        kwargs
            Passed to scvi's registry.
        """
        from scvi.data import AnnDataManager

        for name, key in (("sequence_key", sequence_key), ("labels_key", labels_key)):
            if key is not None and key not in adata.obs:
                raise checks.missing(
                    key, "adata.obs", adata.obs, hint=f"Name a column with {name}=."
                )
        arguments = cls._get_setup_method_args(
            sequence_key=sequence_key, labels_key=labels_key, cls=cls
        )
        manager = AnnDataManager(fields=[], setup_method_args=arguments)
        manager.register_fields(adata, **kwargs)
        cls.register_manager(manager)

    # -- training ---------------------------------------------------------------------------

    def pretrain(
        self,
        *,
        fasta: str | Path | None = None,
        sequences: Sequence[str] | None = None,
        masking: str = "genemask",
        ranks: Any = None,
        rank_by: str = "token",
        curriculum: bool = False,
        max_steps: int = 1000,
        batch_size: int = 32,
        max_tokens: int = 126,
        lr: float = 1e-3,
        warmup: float = 0.05,
        weight_decay: float = 0.01,
        rng: int | np.random.Generator | None = 0,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        show_progress: bool | None = None,
        **trainer: Any,
    ) -> None:
        """Train on masked tokens. Called again, it goes on from the weights it has.

        Parameters
        ----------
        fasta
            FASTA that pieces are cut from, in every pass anew (see
            :func:`omicllm.genome.sample_corpus`).
        sequences
            Sequences instead; those of the object when neither is given. Pass no test sequences.
        masking, ranks, rank_by
            As for :func:`omicllm.genome.mask_tokens`. Without `ranks` they are made from the
            corpus itself, for ``"genemask"``.
        curriculum
            Move from words that do not hold together to those that do, over the steps.
        max_steps
            Batches.
        batch_size
            Pieces in a batch.
        max_tokens
            Longest piece in tokens, at most 510.
        lr, warmup, weight_decay
            Peak learning rate of AdamW, share of the steps in which it rises, weight decay.
        rng
            Seed, Generator or None.
        accelerator, devices
            Passed to Lightning.
        show_progress
            Draw a progress bar.
        trainer
            Further arguments of :class:`lightning.pytorch.Trainer`.

        Raises
        ------
        ValueError
            Both `fasta` and `sequences`, or none at all; an argument out of range.
        """
        for name, value in (("max_steps", max_steps), ("batch_size", batch_size)):
            checks.whole_number(name, value)
        checks.whole_number("max_tokens", max_tokens, at_least=5)
        if max_tokens > MAX_TOKENS:
            msg = f"max_tokens must be at most {MAX_TOKENS}, not {max_tokens}."
            raise ValueError(msg)
        checks.share("warmup", warmup)
        if fasta is not None and sequences is not None:
            msg = "Pass either fasta= or sequences=, not both."
            raise ValueError(msg)
        if fasta is None:
            sequences = self._sequences(None, sequences)
        if masking == "genemask":
            known = ranks is not None
            ranks = token_ranks(ranks, self.k) if known else rows.corpus_ranks(
                fasta, sequences, self.k
            )  # fmt: skip
        how = {"masking": masking, "rank_by": rank_by, "ranks": ranks}
        mask_tokens(np.array([5]), k=self.k, **how)  # type: ignore[arg-type]  # says what is wrong
        seed = rngs.seed_of(rng)
        epochs = min(_POINTS, max_steps)
        steps = -(-max_steps // epochs)
        batches = rows.masked_batches(
            fasta, sequences, self.tokenizer, batch_size=batch_size, max_tokens=max_tokens,
            n_steps=max_steps, curriculum=curriculum, seed=seed, masking=how,
        )  # fmt: skip
        plan = KmerBertPlan(
            self.module, task="mask", lr=lr, weight_decay=weight_decay, n_steps=max_steps,
            warmup=warmup,
        )  # fmt: skip
        self._fit(
            plan, BatchData(batches, steps), stage="pretrain", max_epochs=epochs, seed=seed,
            accelerator=accelerator, devices=devices, show_progress=show_progress,
            **{**_precise(accelerator), **_LIMITS, "max_steps": max_steps, **trainer},
        )  # fmt: skip

    def train(
        self,
        *,
        max_epochs: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        warmup: float = 0.1,
        weight_decay: float = 0.01,
        mask: np.ndarray | None = None,
        rng: int | np.random.Generator | None = 0,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        show_progress: bool | None = None,
        **trainer: Any,
    ) -> None:
        """Fine-tune the whole model to classify the labelled sequences of the object.

        Parameters
        ----------
        max_epochs
            Passes over the sequences: 20 with up to 100 per class, else 5, as published.
        batch_size
            Sequences in a batch: 5 with up to 100 per class, else 15, as published.
        lr
            Peak learning rate: 1e-4 or 5e-5 as published for ``"dnabert"``; 1e-3 for the small
            presets.
        warmup, weight_decay
            Share of the steps in which the rate rises, and weight decay.
        mask
            Rows that may be trained on: bool, one per observation. All with a label when None;
            leave test rows out.
        rng
            Seed, Generator or None.
        accelerator, devices
            Passed to Lightning.
        show_progress
            Draw a progress bar.
        trainer
            Further arguments of :class:`lightning.pytorch.Trainer`.

        Raises
        ------
        ValueError
            Without labels, or under two classes.
        """
        import pandas as pd

        key = self._setup("labels_key")
        if self._adata is None or key is None:
            msg = "There are no labels: call setup_anndata(adata, labels_key=...), or fit(...)."
            raise ValueError(msg)
        labels = pd.Series(np.asarray(self._adata.obs[key]), dtype=object)
        kept = labels.notna().to_numpy()
        if mask is not None:
            if np.shape(mask) != (len(labels),):
                msg = f"mask must hold one value per observation ({len(labels)})."
                raise ValueError(msg)
            kept &= np.asarray(mask, dtype=bool)
        sequences = self._sequences(None, None)
        self.fit(
            [s for s, wanted in zip(sequences, kept, strict=True) if wanted],
            labels.to_numpy()[kept].tolist(), max_epochs=max_epochs, batch_size=batch_size, lr=lr,
            warmup=warmup, weight_decay=weight_decay, rng=rng, accelerator=accelerator,
            devices=devices, show_progress=show_progress, **trainer,
        )  # fmt: skip

    def fit(
        self,
        sequences: Sequence[str],
        labels: Any,
        *,
        max_epochs: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        warmup: float = 0.1,
        weight_decay: float = 0.01,
        rng: int | np.random.Generator | None = 0,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        show_progress: bool | None = None,
        **trainer: Any,
    ) -> GeneMaskLM:
        """Fine-tune on sequences and labels, and return the model: the form few-shot takes.

        Parameters
        ----------
        sequences, labels
            One label for each sequence.
        max_epochs, batch_size, lr, warmup, weight_decay
            As for :meth:`train`.
        rng, accelerator, devices, show_progress, trainer
            As for :meth:`train`.

        Raises
        ------
        ValueError
            Under two classes, or not one label per sequence.
        """
        labels = np.asarray(labels)
        if labels.shape != (len(sequences),):
            msg = f"There are {len(sequences)} sequences and labels of shape {labels.shape}."
            raise ValueError(msg)
        classes, codes = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            msg = f"Two classes are needed to train a classifier, not {len(classes)}."
            raise ValueError(msg)
        few = len(codes) / len(classes) <= 100
        epochs = checks.whole_number("max_epochs", max_epochs or (20 if few else 5))
        size = checks.whole_number("batch_size", batch_size or (5 if few else 15))
        published = 1e-4 if few else 5e-5
        large = self.init_params_["non_kwargs"]["preset"] == "dnabert"
        ids, owner = self._tokens(self._checked(sequences))
        steps = -(-len(ids) // size)
        seed = rngs.seed_of(rng)
        with rngs.isolated(seed):
            self.module.add_head(len(classes))
        self.classes_ = classes
        plan = KmerBertPlan(
            self.module, task="class", lr=lr or (published if large else 1e-3),
            weight_decay=weight_decay, n_steps=epochs * steps, warmup=warmup,
        )  # fmt: skip
        batches = rows.labelled_batches(ids, codes[owner], size, seed)
        self._fit(
            plan, BatchData(batches, steps), stage="train", max_epochs=epochs, seed=seed,
            accelerator=accelerator, devices=devices, show_progress=show_progress,
            **{**_precise(accelerator), **_LIMITS, **trainer},
        )  # fmt: skip
        return self

    def __repr__(self) -> str:
        """Say what the model is, in one line."""
        state = "trained" if self.is_trained_ else "not trained"
        return f"GeneMaskLM({self.k}-mers, {self.init_params_['non_kwargs']['preset']}, {state})"


def _registry(registry: dict[str, Any]) -> dict[str, Any]:
    """A registry without fields, for a model without an object."""
    return {"field_registries": {}, **registry}


def _precise(accelerator: str) -> dict[str, Any]:
    """Half precision where the card is made for it."""
    wanted = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return {"precision": "bf16-mixed"} if wanted and torch.cuda.is_bf16_supported() else {}
