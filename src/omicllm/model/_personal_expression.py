"""`omicllm.model.PersonalExpression`: expression of people from their own sequences."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from omicllm._core import checks, inputs, parts
from omicllm._core import rng as rngs
from omicllm._core.log import logger
from omicllm.model._base import OmicModel
from omicllm.model._personal_data import PersonalSequences, PersonalTables, check_lengths
from omicllm.model._personal_predict import PersonalPredict
from omicllm.nn.borzoi import Borzoi
from omicllm.nn.enformer import Enformer
from omicllm.nn.genome_trunk import load_trunk
from omicllm.nn.personal_network import PersonalNetwork
from omicllm.train._personal import KeepBest, PersonalData, PersonalPlan, PersonalSampler

from scvi.data import AnnDataManager  # isort: skip  (after ours, which import scvi quietly)
from scvi.data.fields import LayerField  # isort: skip

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from anndata import AnnData

STRATEGIES = (
    "baseline", "single_counts", "single_z", "pair_regression", "pair_counts",
    "pair_classification",
)  # fmt: skip
#: CAGE of the cell line GM12878, the published track of lymphoblastoid cells.
GM12878 = 5110


class PersonalExpression(PersonalPredict, OmicModel):
    """Predict the expression of people from the two haplotypes they carry at a gene.

    A haplotype is a number f; a person is the mean of two. How f learns is the strategy:

    ===================== =========================== ======================================
    strategy              f                           loss
    ===================== =========================== ======================================
    baseline              track of the trunk          none
    single_counts         attention head              SMAPE with expression
    single_z              attention head              squared error of the z-score
    pair_regression       attention head              squared error of the difference of z
    pair_counts           attention head              SMAPE of both and of the difference
    pair_classification   track                       cross-entropy of who has more
    ===================== =========================== ======================================

    **Held-out genes are not predicted** by any strategy beyond what the trunk knew (published
    mean correlation .05, against .28 for genes of the training), and linear models reach as much
    on genes that were trained. Compare with :func:`omicllm.tl.twas`, as
    :func:`omicllm.tl.personal_expression` does.

    Parameters
    ----------
    adata
        People x genes that :meth:`setup_anndata` was called on; None for a model that is loaded.
    haplotypes
        From :func:`omicllm.pp.haplotypes` with ``length=``; its windows are the genes modelled.
    trunk
        :class:`omicllm.nn.GenomeTrunk` or folder of a checkpoint. A copy of it is trained.
    strategy
        See above. ``"pair_regression"`` is the publication's.
    n_centre_bins
        Bins about the start site that count.
    track
        Track of ``"baseline"`` and ``"pair_classification"``: by default 5,110 of Enformer's
        published human head (CAGE, GM12878), the first of a smaller head, and for other trunks a
        new one (``"baseline"`` wants to be told).
    freeze
        None, ``"trunk"``, or one of ``trunk.parts`` (Enformer: ``"cnn"``, ``"transformer"``).
    batch_norm
        ``"frozen"`` keeps the statistics of batch norm, as published; ``"train"`` does not.
    dropout
        Use the trunk's dropout while training.
    seed
        Seed of the head's starting weights.

    Raises
    ------
    ValueError
        Unknown strategy; haplotypes of a length that the trunk does not take; a trunk without
        tracks where one is needed; nobody to train on.

    Examples
    --------
    >>> personal = ol.pp.haplotypes(geno, genome=fasta, windows=rna, length=8192)  # doctest: +SKIP
    >>> ol.model.PersonalExpression.setup_anndata(rna, layer="corrected")  # doctest: +SKIP
    >>> model = ol.model.PersonalExpression(rna, personal, trunk=trunk)  # doctest: +SKIP
    >>> model.train()  # doctest: +SKIP
    >>> predicted = model.predict()  # doctest: +SKIP
    """

    def __init__(
        self,
        adata: AnnData | None = None,
        haplotypes: Any | None = None,
        *,
        trunk: Any = None,
        strategy: str = "pair_regression",
        n_centre_bins: int = 10,
        track: int | None = None,
        freeze: str | None = None,
        batch_norm: str = "frozen",
        dropout: bool = False,
        seed: int = 0,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        checks.one_of("strategy", strategy, STRATEGIES)
        checks.one_of("batch_norm", batch_norm, ("frozen", "train"))
        checks.whole_number("n_centre_bins", n_centre_bins)
        if adata is not None:
            super().__init__(adata)
            self.var_names_ = inputs.gene_names(adata)
        if description is not None:
            self.genes_ = list(description["attributes"]["genes"])
            self.var_names_ = np.asarray(description["var_names"], dtype=object)
            trunk = _rebuilt(description["attributes"]["trunk"], trunk)
            if adata is None:
                self._adata = self._adata_manager = None
                self.registry_ = {"setup_args": description["setup_args"]}
                self.is_trained_, self.history_, self.trainer = False, None, None
        elif adata is None or haplotypes is None or trunk is None:
            msg = (
                "PersonalExpression needs expression, haplotypes and a trunk: call "
                "PersonalExpression.setup_anndata(rna), then PersonalExpression(rna, "
                "ol.pp.haplotypes(geno, ..., length=), trunk=...)."
            )
            raise ValueError(msg)
        else:
            trunk = deepcopy(load_trunk(trunk))
            known = set(haplotypes.names)
            self.genes_ = [str(g) for g in self.var_names_ if str(g) in known]
            if not self.genes_:
                raise checks.missing(
                    str(haplotypes.names[0]), "adata.var_names", self.var_names_,
                    hint="The windows of haplotypes must bear the names of genes.",
                )  # fmt: skip
        self.strategy, self.seed = strategy, seed
        self.sequences: PersonalSequences | None = None
        if adata is not None and haplotypes is not None:
            self.sequences = PersonalSequences(haplotypes, adata.obs_names, self.genes_)
            self.length_ = check_lengths(self.sequences, trunk)
        elif description is not None:
            self.length_ = int(description["attributes"]["length"])
        signal = strategy in ("baseline", "pair_classification")
        with rngs.isolated(seed):
            self.module = PersonalNetwork(
                trunk, signal=signal, track=_track(trunk, track, strategy) if signal else None,
                n_centre_bins=n_centre_bins, freeze=freeze,
                frozen_batch_norm=batch_norm == "frozen", dropout=dropout,
            )  # fmt: skip
        self.module.eval()
        self.is_trained_ = strategy == "baseline"
        self.init_params_ = {
            "kwargs": {},
            "non_kwargs": {
                "strategy": strategy, "n_centre_bins": n_centre_bins, "track": track,
                "freeze": freeze, "batch_norm": batch_norm, "dropout": dropout, "seed": seed,
            },
        }  # fmt: skip

    @classmethod
    def setup_anndata(
        cls, adata: AnnData, *, layer: str | None = None, split_key: str = "split", **kwargs: Any
    ) -> None:
        """Say where expression and split are.

        Parameters
        ----------
        adata
            People x genes (the expression modality of a MuData).
        layer
            Layer with corrected expression; ``X`` by default.
        split_key
            Column of `obs` with train, val and test, or layer (0, 1, 2) where the split depends
            on the gene.
        kwargs
            Passed to scvi's registry.
        """
        arguments = cls._get_setup_method_args(layer=layer, split_key=split_key, cls=cls)
        inputs.matrix(adata, layer)
        parts.by_gene(adata, split_key)
        fields = [LayerField("X", layer, is_count_data=False, correct_data_format=False)]
        manager = AnnDataManager(fields=fields, setup_method_args=arguments)
        manager.register_fields(adata, **kwargs)
        cls.register_manager(manager)

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
        gradient_clip: float = 0.2,
        rng: int | np.random.Generator | None = 0,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
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
            ``"pair_classification"``.
        max_shift
            Sequences are shifted by up to this many bases, and turned to the other strand at
            random, all those of a gene alike.
        min_gap
            ``"pair_classification"``: least difference of percentile between two people.
        patience
            Epochs without improvement before stopping; None never stops.
        train_fraction
            Share of training people used.
        gradient_clip
            Largest norm of the gradient.
        rng
            Seed, Generator or None.
        accelerator, devices
            Passed to Lightning.
        show_progress
            Draw a progress bar.
        trainer
            Passed to Lightning (``precision="bf16-mixed"``, ``accumulate_grad_batches=``).

        Raises
        ------
        ValueError
            The baseline, which is not trained; a model without data.
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
        checks.share("train_fraction", train_fraction)
        setup = self.registry_["setup_args"]
        at = inputs.gene_names(self.adata).astype(str)
        genes = np.flatnonzero(np.isin(at, self.genes_))
        tables = PersonalTables(self.adata, setup["layer"], setup["split_key"], genes)
        seed = rngs.seed_of(rng)
        if train_fraction < 1:
            n = tables.train.shape[0]
            kept = np.random.default_rng(seed).permutation(n) < round(train_fraction * n)
            tables.train &= kept[:, None]
        target = tables.z if self.strategy in ("single_z", "pair_regression") else tables.y
        classify = self.strategy == "pair_classification"
        options: dict[str, Any] = {
            "pairs": self.strategy.startswith("pair"), "min_gap": min_gap if classify else 0.0,
        }  # fmt: skip
        samplers = [
            PersonalSampler(sequences, target, p, **options) for p in (tables.train, tables.val)
        ]
        if not len(samplers[0].genes):
            msg = "No gene has enough training people."
            raise ValueError(msg)
        if self.strategy in ("single_counts", "pair_counts") and not self.is_trained_:
            with torch.no_grad():
                self.module.head.value.bias.fill_(tables.level)
        data = PersonalData(
            samplers[0], samplers[1], per_gene=pairs_per_gene, val_per_gene=val_pairs_per_gene,
            batch_size=batch_size, genes_per_batch=genes_per_batch, seed=seed, shift=max_shift,
        )  # fmt: skip
        plan = PersonalPlan(
            self.module, strategy=self.strategy, lr=lr, weight_decay=weight_decay,
            warmup=None if classify else warmup,
        )  # fmt: skip
        best = KeepBest(
            "val_accuracy" if classify else "val_loss", largest=classify, patience=patience
        )
        self._fit(
            plan, data, stage="train", max_epochs=max_epochs, seed=seed, accelerator=accelerator,
            devices=devices, show_progress=show_progress, callbacks=[best],
            check_val_every_n_epoch=1, gradient_clip_val=gradient_clip, **trainer,
        )  # fmt: skip
        if best.state is not None:
            self.module.load_state_dict(best.state)
            logger.info("kept the weights of epoch %d", best.epoch)
        else:
            logger.warning("nobody validates: the weights of the last epoch are kept")

    @classmethod
    def load(  # type: ignore[override]
        cls, dir_path: str | Path, adata: AnnData | None = None, *, haplotypes: Any = None,
        trunk: Any = None, accelerator: str = "auto", device: int | str = "auto",
    ) -> Any:  # fmt: skip
        """Load a saved model.

        Parameters
        ----------
        dir_path
            Folder written by :meth:`save`.
        adata
            Expression to attach, with the genes of the model.
        haplotypes
            Haplotypes to attach; without them pass some to :meth:`predict`.
        trunk
            A trunk of the same kind and size, where it is no :class:`omicllm.nn.Enformer` or
            :class:`omicllm.nn.Borzoi`; its weights are replaced.
        accelerator, device
            Where to put the model.

        Raises
        ------
        FileNotFoundError
            When there is no saved model.
        ValueError
            When the model is of another class or schema, `adata` holds other genes, or the trunk
            is missing.
        """
        parts = {"haplotypes": haplotypes, "trunk": trunk}
        return cls._load(dir_path, adata, accelerator=accelerator, device=device, **parts)

    def _attributes_to_save(self) -> dict[str, Any]:
        trunk = self.module.trunk
        own = isinstance(trunk, (Enformer, Borzoi))
        known = {trunk.name: trunk.hparams} if own else {"other": trunk.name}
        return {"genes": self.genes_, "trunk": known, "length": self.length_}


def _track(trunk: Any, track: int | None, strategy: str) -> int | None:
    """The track that a strategy reads; None for a new one."""
    heads = getattr(trunk, "hparams", {}).get("output_heads", {})
    n = heads.get("human", 0) if isinstance(trunk, (Enformer, Borzoi)) else None
    if track is None and n and isinstance(trunk, Enformer):
        return GM12878 if n > GM12878 else 0
    if track is None and strategy == "baseline":
        has = hasattr(trunk, "tracks") and n != 0
        msg = f"strategy='baseline' reads a track, but {trunk.name} has none."
        if has:
            msg = f"strategy='baseline' reads a track of {trunk.name}: say which with track=."
        raise ValueError(msg)
    if track is not None and n is not None and not 0 <= track < n:
        msg = f"track must lie below {n}, the number of human tracks, not {track}."
        raise ValueError(msg)
    return track


def _rebuilt(described: Mapping[str, Any], trunk: Any) -> Any:
    """The trunk of a saved model: one of ours of the same sizes, or the one that was passed."""
    for kind in (Enformer, Borzoi):
        if kind.name in described:
            return kind(**described[kind.name])
    if trunk is None:
        msg = f"The model was trained on the trunk {described['other']!r}: pass it with trunk=."
        raise ValueError(msg)
    return deepcopy(load_trunk(trunk))
