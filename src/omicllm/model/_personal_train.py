"""Training of `model.PersonalExpression`: people, heads first, other data beside them."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from omicllm._core import checks, inputs
from omicllm._core import rng as rngs
from omicllm._core.log import logger
from omicllm.model._personal_data import PersonalTables
from omicllm.model._personal_joint import JOINT, JointData
from omicllm.train._personal import KeepBest, PersonalData, PersonalPlan
from omicllm.train._personal_batches import PersonalSampler

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omicllm.model._personal_data import PersonalSequences

#: Reporter sequences in a batch, and sequences with tracks.
_BATCH = {"mpra": 64, "tracks": 1}


class PersonalTrain:
    """How a model learns."""

    if TYPE_CHECKING:
        strategy: str
        module: Any
        adata: Any
        registry_: Any
        is_trained_: bool
        genes_: list[str]
        others_: JointData | None

        def _own_sequences(self) -> PersonalSequences: ...
        def _fit(self, plan: Any, data: Any, **options: Any) -> None: ...

    def train(
        self,
        max_epochs: int = 50,
        *,
        pairs_per_gene: int = 250,
        val_pairs_per_gene: int = 100,
        batch_size: int = 64,
        genes_per_batch: int = 4,
        lr: float = 1e-4,
        weight_decay: float = 1e-3,
        warmup: int = 1000,
        max_shift: int = 3,
        min_gap: float = 25.0,
        patience: int | None = 5,
        train_fraction: float = 1.0,
        heads_first: int = 0,
        joint_batch_size: int | None = None,
        joint_weights: Mapping[str, float] | None = None,
        gradient_clip: float = 0.2,
        rng: int | np.random.Generator | None = 0,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        num_nodes: int = 1,
        strategy: str = "auto",
        precision: str = "32-true",
        show_progress: bool | None = None,
        **trainer: Any,
    ) -> None:
        """Train on the training people; the best epoch on validation people is kept.

        Parameters
        ----------
        max_epochs
            Passes over the genes.
        pairs_per_gene, val_pairs_per_gene
            Pairs (people, for single strategies) of a gene in an epoch, and fixed for validation.
        batch_size, genes_per_batch
            Pairs in a batch, and the genes they come from. Each distinct haplotype of a batch
            runs once.
        lr, weight_decay, warmup
            AdamW; linear warm-up steps (a fifth of all at most), then a cosine. No schedule for
            classification.
        max_shift
            Sequences are shifted by up to this many bases, and turned to the other strand at
            random, all those of a gene alike.
        min_gap
            Classification: least difference of percentile between two people.
        patience
            Epochs without improvement before stopping; None never stops.
        train_fraction
            Share of each gene's training people used; z-scores are those of this share.
        heads_first
            Epochs in which only heads train, the trunk left as it is, before `max_epochs` of
            everything. Their history is ``heads_*``.
        joint_batch_size
            Rows of `tracks` or `mpra` beside each batch of pairs; by default 1 sequence with
            tracks, 64 variants. Like `batch_size`, of all processes together: give each device
            one at least.
        joint_weights
            Weights of the losses that are added: ``"pair"``, each species of `tracks`,
            ``"track"``, ``"mpra"``; 1 where none is given.
        gradient_clip
            Largest norm of the gradient.
        rng
            Seed, Generator or None.
        accelerator, devices, num_nodes, strategy, precision
            Passed to Lightning. `strategy` is Lightning's here (``"ddp"``), not the model's;
            ``precision="bf16-mixed"`` runs the trunk in bfloat16 and heads in float32.
        show_progress
            Draw a progress bar.
        trainer
            Passed to Lightning (``accumulate_grad_batches=``, ``limit_train_batches=``).

        Raises
        ------
        ValueError
            The baseline, which is not trained; a model without data; a weight of a loss that the
            strategy lacks.
        """
        if self.strategy == "baseline":
            msg = "strategy='baseline' is the trunk's own track: there is nothing to train."
            raise ValueError(msg)
        sequences = self._own_sequences()
        numbers = {
            "max_epochs": max_epochs, "pairs_per_gene": pairs_per_gene, "batch_size": batch_size,
            "val_pairs_per_gene": val_pairs_per_gene, "genes_per_batch": genes_per_batch,
        }  # fmt: skip
        for name, value in numbers.items():
            checks.whole_number(name, value)
        checks.whole_number("heads_first", heads_first, at_least=0)
        if joint_batch_size is not None:
            checks.whole_number("joint_batch_size", joint_batch_size)
        checks.share("train_fraction", train_fraction)
        seed = rngs.seed_of(rng)
        objective = JOINT.get(self.strategy, (self.strategy, None))[0]
        classify = objective == "pair_classification"
        tables = self._tables(train_fraction=train_fraction, seed=seed)
        target = tables.z if objective in ("single_z", "pair_regression") else tables.y
        options: dict[str, Any] = {
            "pairs": objective.startswith("pair"), "min_gap": min_gap if classify else 0.0,
        }  # fmt: skip
        samplers = [
            PersonalSampler(sequences, target, p, **options) for p in (tables.train, tables.val)
        ]
        if not len(samplers[0].genes):
            msg = "No gene has enough training people."
            raise ValueError(msg)
        others = self._others(joint_batch_size, max_shift)
        _check_weights(joint_weights, others[0], self.module)
        if objective in ("single_counts", "pair_counts") and not self.is_trained_:
            with torch.no_grad():
                self.module.head.value.bias.fill_(tables.level)
        for stage, epochs in (("heads", heads_first), ("train", max_epochs)):
            if not epochs:
                continue
            data = PersonalData(
                samplers[0], samplers[1], per_gene=pairs_per_gene,
                val_per_gene=val_pairs_per_gene, batch_size=batch_size,
                genes_per_batch=genes_per_batch, seed=seed, shift=max_shift,
                others=others[0], val_others=others[1],
                longest=self.strategy.endswith("_tracks"),
            )  # fmt: skip
            plan = PersonalPlan(
                self.module, strategy=objective, lr=lr, weight_decay=weight_decay,
                warmup=None if classify else warmup, weights=joint_weights,
            )  # fmt: skip
            best = KeepBest(
                "val_accuracy" if classify else "val_loss", largest=classify, patience=patience
            )
            with self.module.heads_only() if stage == "heads" else nullcontext():
                self._fit(
                    plan, data, stage=stage, max_epochs=epochs, seed=seed,
                    accelerator=accelerator, devices=devices, num_nodes=num_nodes,
                    strategy=strategy, precision=precision, show_progress=show_progress,
                    callbacks=[best], check_val_every_n_epoch=1,
                    gradient_clip_val=gradient_clip, **trainer,
                )  # fmt: skip
            if best.state is not None:
                logger.info("kept the weights of epoch %d", best.epoch)
        if not len(samplers[1].genes):
            logger.warning("nobody validates: the weights of the last epoch are kept")

    def _tables(self, **options: Any) -> PersonalTables:
        """Expression of the modelled genes, in their order."""
        setup = self.registry_["setup_args"]
        at = {str(g): i for i, g in enumerate(inputs.gene_names(self.adata))}
        genes = np.array([at[g] for g in self.genes_])
        return PersonalTables(self.adata, setup["layer"], setup["split_key"], genes, **options)

    def _others(self, size: int | None, shift: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Sources beside people that train, and that validate."""
        if self.strategy not in JOINT:
            return {}, {}
        if self.others_ is None:
            wanted = JOINT[self.strategy][1]
            msg = f"This model was loaded without {wanted}: pass {wanted}= to load() to train it."
            raise ValueError(msg)
        sizes = {name: size or n for name, n in _BATCH.items()}
        train, val = (
            self.others_.rows(part, shift=shift, batch_size=sizes) for part in ("train", "val")
        )
        return train, val


def _check_weights(weights: Mapping[str, float] | None, others: Any, module: Any) -> None:
    """Raise ValueError for weights that are negative or of no loss of the strategy."""
    known = ["pair", *others]
    described = {} if module.joint is None else module.joint.described
    if any(d["track"] is not None for d in described.values()):
        known.append("track")
    for name, weight in (weights or {}).items():
        checks.one_of("a name in joint_weights", name, known)
        if not 0 <= weight < float("inf"):
            msg = f"joint_weights[{name!r}] must not be negative or infinite, but is {weight!r}."
            raise ValueError(msg)
