"""How `model.GeneMaskLM` is pretrained on masked tokens and fine-tuned to classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks
from omicllm._core import rng as rngs
from omicllm.genome.masking import mask_tokens, token_ranks
from omicllm.model import _genemask_rows as rows
from omicllm.model._genemask_results import MAX_TOKENS, GeneMaskResults
from omicllm.model._genemask_settings import (
    FEW,
    FINE_TUNING,
    PRETRAINING,
    SMALL_MODEL_LR,
    chosen,
)
from omicllm.train._genemask import BatchData, KmerBertPlan

import torch  # isort: skip

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: Gradients are clipped to this norm.
_LIMITS = {"gradient_clip_val": 1.0}
#: Points of the loss curve that a pretraining run leaves.
_POINTS = 20


class GeneMaskTraining(GeneMaskResults):
    """Pretraining and fine-tuning."""

    _fit: Any
    init_params_: dict[str, Any]

    def pretrain(
        self,
        *,
        fasta: str | Path | None = None,
        sequences: Sequence[str] | None = None,
        masking: str = "genemask",
        ranks: Any = None,
        rank_by: str = "token",
        curriculum: bool = False,
        settings: str = "small",
        max_steps: int | None = None,
        batch_size: int | None = None,
        accumulate: int | None = None,
        max_tokens: int | None = None,
        lr: float | None = None,
        warmup: float | None = None,
        weight_decay: float | None = None,
        checkpoint_dir: str | Path | None = None,
        resume: bool = False,
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
        settings
            Named values of the following: ``"small"`` (1,000 steps of 32 pieces of 126 tokens),
            ``"genemask_pretrain"`` or ``"dnabert_pretrain"`` (as published: 10,000 or 200,000
            steps of 250 pieces of 510 tokens).
        max_steps
            Updates of the weights.
        batch_size, accumulate
            Pieces in a batch, and batches in an update.
        max_tokens
            Longest piece in tokens, at most 510.
        lr, warmup, weight_decay
            Peak learning rate of AdamW, share of the steps in which it rises, weight decay.
        checkpoint_dir
            Folder for the state of training, kept up to date twenty times in a run.
        resume
            Go on from the state in `checkpoint_dir`, if there is one, as if there had been no
            interruption: same data, seed and arguments.
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
        given = {
            "max_steps": max_steps, "batch_size": batch_size, "accumulate": accumulate,
            "max_tokens": max_tokens, "lr": lr, "warmup": warmup, "weight_decay": weight_decay,
        }  # fmt: skip
        use = chosen(PRETRAINING, settings, given)
        longest = checks.whole_number("max_tokens", use["max_tokens"], at_least=5)
        if longest > MAX_TOKENS:
            msg = f"max_tokens must be at most {MAX_TOKENS}, not {longest}."
            raise ValueError(msg)
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
        n_steps, each = use["max_steps"], use["accumulate"]
        epochs = min(_POINTS, n_steps)
        steps = -(-n_steps // epochs) * each
        batches = rows.masked_batches(
            fasta, sequences, self.tokenizer, batch_size=use["batch_size"], max_tokens=longest,
            n_steps=n_steps * each, curriculum=curriculum, seed=seed, masking=how,
        )  # fmt: skip
        plan = KmerBertPlan(
            self.module, task="mask", lr=use["lr"], weight_decay=use["weight_decay"],
            n_steps=n_steps, warmup=use["warmup"],
        )  # fmt: skip
        limits = {**_LIMITS, "max_steps": n_steps, "accumulate_grad_batches": each}
        self._fit(
            plan, BatchData(batches, steps), stage="pretrain", max_epochs=epochs, seed=seed,
            accelerator=accelerator, devices=devices, show_progress=show_progress,
            checkpoint_dir=checkpoint_dir, resume=resume,
            **{**_precise(accelerator), **limits, **trainer},
        )  # fmt: skip

    def train(
        self,
        *,
        settings: str | None = None,
        max_epochs: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        warmup: float | None = None,
        weight_decay: float | None = None,
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
        settings
            Named values of the following, as published: ``"few_shot"`` (20 epochs, batches of 5,
            learning rate 1e-4) or ``"many_shot"`` (5, 15, 5e-5). By default the first with up to
            100 sequences per class, else the second, and a learning rate of 1e-3 in presets other
            than ``"dnabert"``.
        max_epochs
            Passes over the sequences.
        batch_size
            Sequences in a batch.
        lr, warmup, weight_decay
            Peak learning rate of AdamW, share of the steps in which it rises, weight decay.
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
            labels.to_numpy()[kept].tolist(), settings=settings, max_epochs=max_epochs,
            batch_size=batch_size, lr=lr, warmup=warmup, weight_decay=weight_decay, rng=rng,
            accelerator=accelerator, devices=devices, show_progress=show_progress, **trainer,
        )  # fmt: skip

    def fit(
        self,
        sequences: Sequence[str],
        labels: Any,
        *,
        settings: str | None = None,
        max_epochs: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        warmup: float | None = None,
        weight_decay: float | None = None,
        rng: int | np.random.Generator | None = 0,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        show_progress: bool | None = None,
        **trainer: Any,
    ) -> Any:
        """Fine-tune on sequences and labels, and return the model: the form few-shot takes.

        Parameters
        ----------
        sequences, labels
            One label for each sequence.
        settings, max_epochs, batch_size, lr, warmup, weight_decay
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
        given = {
            "max_epochs": max_epochs, "batch_size": batch_size, "lr": lr, "warmup": warmup,
            "weight_decay": weight_decay,
        }  # fmt: skip
        if settings is None:
            settings = "few_shot" if len(codes) / len(classes) <= FEW else "many_shot"
            if lr is None and self.init_params_["non_kwargs"]["preset"] != "dnabert":
                given["lr"] = SMALL_MODEL_LR
        use = chosen(FINE_TUNING, settings, given)
        epochs, size = use["max_epochs"], use["batch_size"]
        ids, owner = self._tokens(self._checked(sequences))
        steps = -(-len(ids) // size)
        seed = rngs.seed_of(rng)
        with rngs.isolated(seed):
            self.module.add_head(len(classes))
        self.classes_ = classes
        plan = KmerBertPlan(
            self.module, task="class", lr=use["lr"], weight_decay=use["weight_decay"],
            n_steps=epochs * steps, warmup=use["warmup"],
        )  # fmt: skip
        batches = rows.labelled_batches(ids, codes[owner], size, seed)
        self._fit(
            plan, BatchData(batches, steps), stage="train", max_epochs=epochs, seed=seed,
            accelerator=accelerator, devices=devices, show_progress=show_progress,
            **{**_precise(accelerator), **_LIMITS, **trainer},
        )  # fmt: skip
        return self


def _precise(accelerator: str) -> dict[str, Any]:
    """Half precision where the card is made for it."""
    wanted = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return {"precision": "bf16-mixed"} if wanted and torch.cuda.is_bf16_supported() else {}
