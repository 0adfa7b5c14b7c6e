"""`omicllm.model.PersonalExpression`: expression of people from their own sequences."""

from __future__ import annotations

from contextlib import nullcontext
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from omicllm._core import checks, inputs, parts
from omicllm._core import rng as rngs
from omicllm._core.log import logger, progress
from omicllm.model._base import OmicModel
from omicllm.model._compat import setup_arguments
from omicllm.model._personal_data import PersonalSequences, PersonalTables, check_lengths
from omicllm.model._personal_joint import JOINT, JointData
from omicllm.nn.borzoi import Borzoi
from omicllm.nn.enformer import Enformer
from omicllm.nn.genome_embedding import autocast, device_of, evaluated
from omicllm.nn.genome_embedding import both_strands as over_strands
from omicllm.nn.genome_input import one_hot
from omicllm.nn.genome_trunk import load_trunk
from omicllm.nn.joint_heads import random_start as restarted
from omicllm.nn.personal_network import PersonalNetwork
from omicllm.train._personal import KeepBest, PersonalData, PersonalPlan
from omicllm.train._personal_batches import PersonalSampler

from scvi.data import AnnDataManager  # isort: skip  (after ours, which import scvi quietly)
from scvi.data.fields import LayerField  # isort: skip

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData

STRATEGIES = (
    "baseline",
    "single_counts",
    "single_z",
    "pair_regression",
    "pair_counts",
    "pair_classification",
    *JOINT,
)
#: CAGE of the cell line GM12878, the published track of lymphoblastoid cells.
GM12878 = 5110
#: Arguments of `train` that are whole numbers from 1 on.
_WHOLE = ("max_epochs", "pairs_per_gene", "batch_size", "val_pairs_per_gene", "genes_per_batch")
#: Reporter sequences in a batch, and sequences with tracks.
_BATCH = {"mpra": 64, "tracks": 1}


class PersonalExpression(OmicModel):
    """Predict the expression of people from the two haplotypes they carry at a gene.

    A haplotype is a number f; a person is the mean of two. How f learns is the strategy:

    =========================== =============== ==========================================
    strategy                    f               loss
    =========================== =============== ==========================================
    baseline                    track of trunk  none
    single_counts               attention head  SMAPE with expression
    single_z                    attention head  squared error of the z-score
    pair_regression             attention head  squared error of the difference of z
    pair_counts                 attention head  SMAPE of both and of the difference
    pair_classification         track           cross-entropy of who has more
    pair_regression_tracks      attention head  that of pairs, and Poisson of a genome's tracks
    pair_classification_tracks  track           the same, with the track itself once more
    pair_regression_mpra        attention head  that of pairs, and squared error of effects of
                                                alleles on a reporter
    =========================== =============== ==========================================

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
    tracks
        For ``*_tracks``: result of :func:`omicllm.io.read_basenji`, or several by species,
        ``{"human": ..., "mouse": ...}``. Rows train or validate as ``obs["split"]`` says. The head
        of an Enformer for that species predicts them (all its tracks, or those whose numbers are
        the ``var_names``); other trunks get a new head.
    mpra
        For ``*_mpra``: result of :func:`omicllm.io.read_mpra` with ``genome=``; all rows train
        where there is no ``obs["split"]``.
    random_start
        Begin with random weights of the trunk instead of those it has.
    min_af
        Leave out rare variants: alleles of a smaller share of the haplotypes of a gene's training
        people are replaced by the most frequent one, mostly the reference, in everybody. What is
        passed to :meth:`predict` stays as it is.
    freeze
        None, ``"trunk"``, or one or several of ``trunk.parts`` (Enformer and Borzoi: ``"cnn"``,
        ``"transformer"``). Heads always train.
    batch_norm
        ``"frozen"`` keeps the statistics of batch norm, as published; ``"train"`` does not.
    dropout
        Use the trunk's dropout while training.
    seed
        Seed of starting weights.

    Raises
    ------
    ValueError
        Unknown strategy; haplotypes of a length that the trunk does not take; a trunk without
        tracks where one is needed; a joint strategy without its data, or data that do not fit.

    Examples
    --------
    >>> personal = ol.pp.haplotypes(geno, genome=fasta, windows=rna, length=8192)  # doctest: +SKIP
    >>> ol.model.PersonalExpression.setup_anndata(rna, layer="corrected")  # doctest: +SKIP
    >>> model = ol.model.PersonalExpression(rna, personal, trunk=trunk)  # doctest: +SKIP
    >>> model.train()  # doctest: +SKIP
    >>> predicted = model.predict()  # doctest: +SKIP
    """

    module: Any

    def __init__(
        self,
        adata: AnnData | None = None,
        haplotypes: Any | None = None,
        *,
        trunk: Any = None,
        strategy: str = "pair_regression",
        n_centre_bins: int = 10,
        track: int | None = None,
        tracks: AnnData | Mapping[str, AnnData] | None = None,
        mpra: AnnData | None = None,
        random_start: bool = False,
        min_af: float = 0.0,
        freeze: str | Sequence[str] | None = None,
        batch_norm: str = "frozen",
        dropout: bool = False,
        seed: int = 0,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        checks.one_of("strategy", strategy, STRATEGIES)
        checks.one_of("batch_norm", batch_norm, ("frozen", "train"))
        checks.whole_number("n_centre_bins", n_centre_bins)
        checks.share("min_af", min_af, high=0.5)
        if adata is not None:
            super().__init__(adata)
            self.var_names_ = inputs.gene_names(adata)
        if description is not None:
            if adata is None:
                self._without_data(description)
            self.genes_ = list(description["attributes"]["genes"])
            self.var_names_ = np.asarray(description["var_names"], dtype=object)
            trunk = _rebuilt(description["attributes"]["trunk"], trunk)
        elif adata is None or haplotypes is None or trunk is None:
            msg = (
                "PersonalExpression needs expression, haplotypes and a trunk: call "
                "PersonalExpression.setup_anndata(rna), then PersonalExpression(rna, "
                "ol.pp.haplotypes(geno, ..., length=), trunk=...)."
            )
            raise ValueError(msg)
        else:
            with rngs.isolated(seed):
                trunk = (restarted if random_start else deepcopy)(load_trunk(trunk))
            self.genes_ = self._genes_of(haplotypes)
        self.strategy, self.seed = strategy, seed
        self.sequences: PersonalSequences | None = None
        if adata is not None and haplotypes is not None:
            self.sequences = self._sequences_of(adata, haplotypes, min_af)
            self.length_ = check_lengths(self.sequences, trunk)
        elif description is not None:
            self.length_ = int(description["attributes"]["length"])
        signal = JOINT.get(strategy, (strategy,))[0] in ("baseline", "pair_classification")
        chosen = _track(trunk, track, strategy) if signal else None
        self.others_: JointData | None = None
        self.joint_ = None if description is None else description["attributes"].get("joint")
        if description is None or tracks is not None or mpra is not None:
            self.others_ = JointData(strategy, trunk, tracks=tracks, mpra=mpra, track=chosen)
            if description is not None and self.others_.described != self.joint_:
                msg = "The model was trained together with other tracks, bins or cell types."
                raise ValueError(msg)
            self.joint_ = self.others_.described
        network: dict[str, Any] = {
            "n_centre_bins": n_centre_bins,
            "freeze": freeze,
            "dropout": dropout,
        }
        with rngs.isolated(seed):
            self.module = PersonalNetwork(
                trunk,
                signal=signal,
                track=chosen,
                frozen_batch_norm=batch_norm == "frozen",
                joint=self.joint_,
                **network,
            )
        self.module.eval()
        self.is_trained_ = strategy == "baseline"
        settings: dict[str, Any] = {
            "strategy": strategy,
            "track": track,
            "batch_norm": batch_norm,
            "seed": seed,
        }
        settings |= {"random_start": random_start, "min_af": min_af, **network}
        self.init_params_ = {"kwargs": {}, "non_kwargs": settings}

    def _genes_of(self, haplotypes: Any) -> list[str]:
        """Genes of the object that have haplotypes, in its order."""
        with_haplotypes = set(haplotypes.names)
        genes = [str(g) for g in self.var_names_ if str(g) in with_haplotypes]
        if not genes:
            raise checks.missing(
                str(haplotypes.names[0]),
                "adata.var_names",
                self.var_names_,
                hint="The windows of haplotypes must bear the names of genes.",
            )
        return genes

    def _sequences_of(self, adata: AnnData, haplotypes: Any, min_af: float) -> PersonalSequences:
        """Haplotypes of the people of the object, with rare variants of training left out."""
        train = None
        if min_af > 0:
            column = {str(g): i for i, g in enumerate(adata.var_names)}
            part = parts.by_gene(adata, self.registry_["setup_args"]["split_key"])
            train = part[:, [column[g] for g in self.genes_]] == parts.TRAIN
        return PersonalSequences(
            haplotypes, adata.obs_names, self.genes_, min_af=min_af, train=train
        )

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
        arguments = setup_arguments(cls, layer=layer, split_key=split_key)
        inputs.stored(adata, layer)
        parts.by_gene(adata, split_key)
        fields = [LayerField("X", layer, is_count_data=False, correct_data_format=False)]
        manager = AnnDataManager(fields=fields, setup_method_args=arguments)
        manager.register_fields(adata, **kwargs)
        cls.register_manager(manager)

    # -- training ---------------------------------------------------------------------------

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
        sequences = self._attached_sequences()
        given = locals()
        for name in _WHOLE:
            checks.whole_number(name, given[name])
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
            "pairs": objective.startswith("pair"),
            "min_gap": min_gap if classify else 0.0,
        }
        learning = PersonalSampler(sequences, target, tables.train, **options)
        judging = PersonalSampler(sequences, target, tables.val, **options)
        if not len(learning.genes):
            msg = "No gene has enough training people."
            raise ValueError(msg)
        others, val_others = self._others(joint_batch_size, max_shift)
        _check_weights(joint_weights, others, self.module)
        if objective in ("single_counts", "pair_counts") and not self.is_trained_:
            with torch.no_grad():
                self.module.head.value.bias.fill_(tables.level)
        for stage, epochs in (("heads", heads_first), ("train", max_epochs)):
            if not epochs:
                continue
            data = PersonalData(
                learning,
                judging,
                per_gene=pairs_per_gene,
                val_per_gene=val_pairs_per_gene,
                batch_size=batch_size,
                genes_per_batch=genes_per_batch,
                seed=seed,
                shift=max_shift,
                others=others,
                val_others=val_others,
                longest=self.strategy.endswith("_tracks"),
            )
            plan = PersonalPlan(
                self.module,
                strategy=objective,
                lr=lr,
                weight_decay=weight_decay,
                warmup=None if classify else warmup,
                weights=joint_weights,
            )
            best = KeepBest(
                "val_accuracy" if classify else "val_loss", largest=classify, patience=patience
            )
            with self.module.heads_only() if stage == "heads" else nullcontext():
                self._fit(
                    plan,
                    data,
                    stage=stage,
                    max_epochs=epochs,
                    seed=seed,
                    accelerator=accelerator,
                    devices=devices,
                    num_nodes=num_nodes,
                    strategy=strategy,
                    precision=precision,
                    show_progress=show_progress,
                    callbacks=[best],
                    check_val_every_n_epoch=1,
                    gradient_clip_val=gradient_clip,
                    **trainer,
                )
            if best.state is not None:
                logger.info("kept the weights of epoch %d", best.epoch)
        if not len(judging.genes):
            logger.warning("nobody validates: the weights of the last epoch are kept")

    def _tables(self, **options: Any) -> PersonalTables:
        """Expression of the modelled genes, in their order."""
        setup = self.registry_["setup_args"]
        column = {str(g): i for i, g in enumerate(inputs.gene_names(self.adata))}
        genes = np.array([column[g] for g in self.genes_])
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

    # -- results ----------------------------------------------------------------------------

    def predict(
        self,
        haplotypes: Any | None = None,
        *,
        both_strands: bool = True,
        batch_size: int = 16,
        accelerator: str = "auto",
        precision: str = "32",
        show_progress: bool | None = None,
    ) -> pd.DataFrame:
        """Predicted expression of people at genes, on the scale of the strategy's target.

        Only differences between people at one gene mean something for ``"pair_regression"``.

        Parameters
        ----------
        haplotypes
            Other people or genes, from :func:`omicllm.pp.haplotypes`; those of the model's own
            data by default.
        both_strands
            Average the sequence and its reverse complement.
        batch_size
            Haplotypes in a batch.
        accelerator, precision
            Where and how to run (``"32"``, ``"bf16"``).
        show_progress
            Draw a progress bar.

        Returns
        -------
        DataFrame float32, people x genes.
        """
        import pandas as pd

        if haplotypes is None:
            sequences = self._attached_sequences()
        else:
            sequences = PersonalSequences(haplotypes, None, [str(n) for n in haplotypes.names])
            check_lengths(sequences, self.module.trunk)
        genes = sequences.genes
        out = np.zeros((len(sequences.people), len(genes)), dtype=np.float32)
        steps = progress(
            range(len(genes)), what="Genes", total=len(genes), show_progress=show_progress
        )
        with evaluated(self.module, device_of(accelerator)):  # on the device for all genes
            for g in steps:
                tokens, index = sequences(g)
                values = self.predict_tokens(
                    tokens,
                    both_strands=both_strands,
                    batch_size=batch_size,
                    accelerator=accelerator,
                    precision=precision,
                )
                out[:, g] = values[index].mean(axis=1)
        return pd.DataFrame(out, index=sequences.people, columns=genes)

    def predict_tokens(
        self,
        tokens: np.ndarray,
        *,
        both_strands: bool = True,
        batch_size: int = 16,
        accelerator: str = "auto",
        precision: str = "32",
    ) -> np.ndarray:
        """Predicted expression of single haplotypes.

        Parameters
        ----------
        tokens
            int8 (n, length): A 0, C 1, G 2, T 3, N 4, padding -1.
        both_strands, batch_size, accelerator, precision
            As for :meth:`predict`.

        Returns
        -------
        float32 (n,).
        """
        self._check_trained()
        out = np.zeros(len(tokens), dtype=np.float32)
        with (
            evaluated(self.module, device_of(accelerator)) as device,
            torch.no_grad(),
            autocast(device, precision),
        ):
            for start in range(0, len(tokens), batch_size):
                x = torch.from_numpy(np.ascontiguousarray(tokens[start : start + batch_size]))
                values = over_strands(self.module, x.to(device), both=both_strands)
                out[start : start + batch_size] = values.float().cpu().numpy()
        return out

    def input_gradients(
        self, tokens: np.ndarray, *, both_strands: bool = True, accelerator: str = "auto"
    ) -> np.ndarray:
        """Gradient of the prediction by the one-hot rows of each sequence.

        Parameters
        ----------
        tokens
            int8 (n, length).
        both_strands
            Of the mean over both strands.
        accelerator
            Where to run.

        Returns
        -------
        float32 (n, length, 4): A, C, G, T.
        """
        self._check_trained()
        out = np.zeros((*np.shape(tokens), 4), dtype=np.float32)
        with evaluated(self.module, device_of(accelerator)) as device, torch.enable_grad():
            for i, row in enumerate(tokens):
                x = one_hot(row[None]).to(device).requires_grad_()
                value = over_strands(self.module, x, both=both_strands).sum()
                out[i] = torch.autograd.grad(value, x)[0][0].cpu().numpy()
        return out

    def _check_trained(self) -> None:
        if not self.is_trained_:
            msg = "This model is not trained: call train() first."
            raise RuntimeError(msg)

    def _attached_sequences(self) -> PersonalSequences:
        if self.sequences is None:
            msg = (
                "This model was loaded without data: pass haplotypes=, or load it with "
                "PersonalExpression.load(dir, rna, haplotypes=...)."
            )
            raise ValueError(msg)
        return self.sequences

    # -- saving -----------------------------------------------------------------------------

    @classmethod
    def load(  # type: ignore[override]
        cls,
        dir_path: str | Path,
        adata: AnnData | None = None,
        *,
        haplotypes: Any = None,
        trunk: Any = None,
        tracks: Any = None,
        mpra: AnnData | None = None,
        accelerator: str = "auto",
        device: int | str = "auto",
    ) -> Any:
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
        tracks, mpra
            Data of a joint strategy, needed only to train it further.
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
        given = {"haplotypes": haplotypes, "trunk": trunk, "tracks": tracks, "mpra": mpra}
        return cls._load(dir_path, adata, accelerator=accelerator, device=device, **given)

    def _attributes_to_save(self) -> dict[str, Any]:
        trunk = self.module.trunk
        rebuildable = isinstance(trunk, (Enformer, Borzoi))
        return {
            "genes": self.genes_,
            "trunk": {trunk.name: trunk.hparams} if rebuildable else {"other": trunk.name},
            "length": self.length_,
            "joint": self.joint_,
        }


def _track(trunk: Any, track: int | None, strategy: str) -> int | None:
    """The track that a strategy reads; None for a new one."""
    heads = getattr(trunk, "hparams", {}).get("output_heads", {})
    n = heads.get("human", 0) if isinstance(trunk, (Enformer, Borzoi)) else None
    if track is None and n and isinstance(trunk, Enformer):
        return GM12878 if n > GM12878 else 0
    if track is None and strategy == "baseline":
        has_tracks = hasattr(trunk, "tracks") and n != 0
        msg = (
            f"strategy='baseline' reads a track, but {trunk.name} has none. Give it a method "
            "tracks(embedding=, index=) that maps bins (n, bins, dim) to (n, bins, number of "
            "tracks), for example in a subclass of ol.nn.ModuleTrunk."
        )
        if has_tracks:
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
            if trunk is not None:
                msg = f"trunk= has no effect: the saved model holds its own {kind.__name__}."
                raise ValueError(msg)
            return kind(**described[kind.name])
    if trunk is None:
        msg = f"The model was trained on the trunk {described['other']!r}: pass it with trunk=."
        raise ValueError(msg)
    return deepcopy(load_trunk(trunk))


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
