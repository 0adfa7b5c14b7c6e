"""`omicllm.model.SPAM`: gene expression predicted from histology."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks
from omicllm._core import rng as rngs
from omicllm._core.log import logger
from omicllm.model._live_encoder import LiveEncoder, live_plan
from omicllm.model._spam_calibration import SPAMCalibration
from omicllm.model._spam_data import read_counts, read_patches
from omicllm.nn.count_likelihoods import LIKELIHOODS
from omicllm.stats.program_regression import ProgramRegression
from omicllm.train._spam import (
    MODES,
    AlignmentPlan,
    CountPlan,
    RowData,
    TissueTensors,
    blended,
    start_head,
)

import torch  # isort: skip  (after the model modules, which import scvi quietly)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

    from omicllm.model._spam_data import Counts, Tissue

#: Most held-out groups that the network is tried on.
_MAX_TRIALS = 3


class SPAM(SPAMCalibration):
    """Predict the expression of sections of which there is only an image.

    Image features are read together with the tissue around an observation and, where some
    expression is known, with genes. Prediction starts from regressions in closed form on gene
    programs; a network with cross-attention over neighbours and program tokens learns what they
    miss, and adds as much of it as held-out sections call for.

    Parameters
    ----------
    adata
        Object that :meth:`setup_anndata` or :meth:`setup_mudata` was called on.
    genes
        Genes to predict; by default all with counts.
    n_top_genes
        Predict only the genes that vary most within the training sections.
    n_programs
        Gene programs.
    n_hidden, n_heads, n_tokens
        Width of tokens, attention heads, and program tokens of the gene branch.
    tokens
        ``"multi"``, or ``"single"``: one token per modality as published, among which attention
        has no choice.
    likelihood
        Of raw counts: ``"zinb"``, ``"nb"``, ``"poisson"``; ``"gaussian"`` of log-normalised values.
    knn
        Neighbours of an observation; a smaller section has what there is.
    encoder, transform
        Torch module that makes features of patches, where `use_rep` names patches, and function
        from patches uint8 (n, p, p, 3) to its input (by default ImageNet's colours).
    lora
        Let :meth:`pretrain` train low-rank adapters on the linear layers of the encoder; True or a
        dict with arguments of :class:`peft.LoraConfig`. Its own weights stay as they are.
    seed
        Seed of starting weights.

    Examples
    --------
    >>> import omicllm as ol
    >>> adata = ol.datasets.mouse_olfactory_bulb()
    >>> ol.pp.image_features(adata)
    >>> ol.model.SPAM.setup_anndata(adata)
    >>> model = ol.model.SPAM(adata)
    >>> model.train()
    >>> predicted = model.predict(adata)

    References
    ----------
    Park, Kim and Oh, SPAM (in preparation). What differs from it is in the user guide.
    """

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        *,
        genes: Sequence[str] | None = None,
        n_top_genes: int | None = None,
        n_programs: int = 20,
        n_hidden: int = 64,
        n_heads: int = 4,
        n_tokens: int = 16,
        tokens: str = "multi",
        likelihood: str = "zinb",
        knn: int = 12,
        encoder: torch.nn.Module | None = None,
        transform: Callable[[np.ndarray], torch.Tensor] | None = None,
        lora: bool | Mapping[str, Any] = False,
        seed: int = 0,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        checks.one_of("tokens", tokens, ("multi", "single"))
        checks.one_of("likelihood", likelihood, LIKELIHOODS)
        sizes = {"n_programs": n_programs, "n_hidden": n_hidden, "n_heads": n_heads,
                 "n_tokens": n_tokens, "knn": knn}  # fmt: skip
        for name, value in sizes.items():
            checks.whole_number(name, value)
        if n_hidden % n_heads:
            msg = f"n_hidden ({n_hidden}) must be a multiple of n_heads ({n_heads})."
            raise ValueError(msg)
        own = {"n_top_genes": n_top_genes, **sizes, "tokens": tokens, "likelihood": likelihood,
               "seed": seed, "lora": lora}  # fmt: skip
        self.params_ = own
        if encoder is not None:
            self._live = LiveEncoder(encoder, transform, lora, seed)
        self._begin(adata, description)
        if description is None:
            data = self._own()
            self._choose_genes(data, self._tissue(None), genes)
        self.init_params_ = {"kwargs": {}, "non_kwargs": own}

    # -- training ---------------------------------------------------------------------------

    def _prepare(self) -> tuple[Tissue, Counts, TissueTensors]:
        """Fit what is in closed form, make the network, and gather what batches are cut from."""
        adata = self._own()
        tissue = self._tissue(adata)
        data = read_counts(adata, self._setup["layer"], self.genes_)
        empty = [n for n, rows in zip(tissue.section_names, tissue.rows(), strict=True)
                 if not data.total[rows].any()]  # fmt: skip
        if empty:
            msg = (
                f"There are no counts in section {checks.listed(empty)}: nothing can be learned "
                "from it. Leave it out, and predict it with ol.tl.predict_expression."
            )
            raise ValueError(msg)
        values, k = data.values, self.params_["knn"]
        groups, one_patient = tissue.groups()
        blocks = tissue.blocks(k)
        self.n_features_ = tissue.features.shape[1]
        # What was pretrained on live features goes on reading them in the same scale.
        like = self.regression_ if self._live is not None and self.pretrained_ else None
        regression = ProgramRegression(self.params_["n_programs"], seed=self.params_["seed"])
        self.regression_ = regression.fit(
            blocks, values, data.shares(tissue.sections), data.total, tissue.sections, groups,
            one_patient=one_patient, like=like,
        )  # fmt: skip
        self.gene_mean_ = values.mean(axis=0).astype(np.float32)
        self.gene_sd_ = np.maximum(values.std(axis=0), 1e-3).astype(np.float32)
        features, around, graph = self._network_inputs(tissue, blocks)
        if not self.pretrained_ and not self.is_trained_:
            with rngs.isolated(self.params_["seed"]):
                self.module = self._network(regression.axes_, features.shape[1])
        start = regression.out_of_fold_ @ regression.axes_.T
        rest = max(1.0 - float(regression.share_.sum()), 1e-6)
        share = np.concatenate([regression.share_, [rest]])

        def tensor(value: Any) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32))

        tensors = TissueTensors(
            features=tensor(features), around=tensor(around),
            index=torch.from_numpy(graph.index), weight=tensor(graph.weight),
            genes=tensor((values - self.gene_mean_) / self.gene_sd_),
            counts=tensor(data.counts), total=tensor(data.total), values=tensor(values),
            start=tensor(start), log_share=tensor(np.log(share)),
            slope=tensor(regression.slopes()), level=tensor(regression.level_),
        )  # fmt: skip
        return tissue, data, tensors

    def pretrain(
        self,
        mode: str = "joint",
        *,
        max_epochs: int = 50,
        batch_size: int = 256,
        lr: float = 1e-3,
        weight_decay: float = 1e-4,
        temperature: float = 0.15,
        rng: int | np.random.Generator | None = 0,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        show_progress: bool | None = None,
        **trainer: Any,
    ) -> None:
        """Align images with genes and with the tissue around, by contrast (InfoNCE).

        With ``lora=`` patches are encoded in every step and adapters of the encoder are trained
        along; :meth:`train` then works on features of the adapted encoder.

        Parameters
        ----------
        mode
            ``"image-gene"``, ``"image-space"`` or ``"joint"`` for both.
        max_epochs, batch_size
            Passes over the observations, and observations that are contrasted with each other.
        lr, weight_decay, temperature
            Of AdamW and InfoNCE.
        rng
            Seed, Generator or None.
        accelerator, devices
            Passed to Lightning.
        show_progress
            Draw a progress bar.
        trainer
            Further arguments of :class:`lightning.pytorch.Trainer`, such as ``precision``.
        """
        checks.one_of("mode", mode, MODES)
        checks.whole_number("max_epochs", max_epochs)
        checks.whole_number("batch_size", batch_size, at_least=2)
        seed = rngs.seed_of(rng)
        tissue, _, tensors = self._prepare()
        before = copy.deepcopy(self.module.cpu().state_dict())
        how: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay, "temperature": temperature}
        plan = AlignmentPlan(self.module, tensors, MODES[mode], **how)
        if self._live is not None and self._live.adapted:
            patches = read_patches(self._own(), self._setup["use_rep"])
            regression = self._regression()
            plan = live_plan(
                self._live, self.module, tensors, MODES[mode], tissue, regression, patches, how
            )
        self._fit(
            plan, RowData(np.arange(len(tissue.features)), batch_size, seed), stage="pretrain",
            max_epochs=max_epochs, seed=seed, accelerator=accelerator, devices=devices,
            show_progress=show_progress, gradient_clip_val=1.0, **trainer,
        )  # fmt: skip
        self.is_trained_ = False
        if self._live is not None:
            self._live.forget()
        parts = {"gene": ("adapter.", "genes."), "space": ("adapter.", "spatial.")}
        aligned = tuple(p for task in MODES[mode] for p in parts[task])
        after = {k: v.cpu() for k, v in self.module.state_dict().items() if k.startswith(aligned)}
        fresh = {k for k, v in after.items() if not torch.equal(v, before[k])}
        self.pretrained_ = sorted({*self.pretrained_, *fresh})

    def load_pretrained(self, model: SPAM | str | Path) -> None:
        """Start from the encoders of a pretrained model of the same features and genes.

        Parameters
        ----------
        model
            Model, or the folder it was saved in.

        Raises
        ------
        ValueError
            The model was not pretrained, or has other genes, features or widths.
        """
        other = model if isinstance(model, SPAM) else SPAM.load(model)
        if not other.pretrained_:
            msg = "That model was not pretrained: call its pretrain() first."
            raise ValueError(msg)
        if list(other.genes_) != list(self.genes_):
            msg = (
                f"That model was pretrained on {len(other.genes_)} genes, this one has "
                f"{len(self.genes_)} or another order: pass genes=list(model.genes_) to SPAM."
            )
            raise ValueError(msg)
        if self._live is not None and other._live is not None:
            self._live.load(other._live.arrays())
            self.regression_, self.pretrained_ = other.regression_, list(other.pretrained_)
            self.module = copy.deepcopy(other.module)
        self._prepare()
        mine, theirs = self.module.cpu().state_dict(), other.module.state_dict()
        wrong = [k for k in other.pretrained_ if mine[k].shape != theirs[k].shape]
        if wrong:
            msg = (
                f"Weights of another architecture: {checks.listed(wrong, most=3)} differ in shape."
            )
            raise ValueError(msg)
        self.module.load_state_dict({**mine, **{k: theirs[k] for k in other.pretrained_}})
        self.pretrained_ = list(other.pretrained_)

    def train(
        self,
        max_epochs: int = 40,
        *,
        batch_size: int = 128,
        lr: float = 3e-4,
        weight_decay: float = 0.05,
        patience: int = 8,
        rng: int | np.random.Generator | None = 0,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        show_progress: bool | None = None,
        **trainer: Any,
    ) -> None:
        """Fit the closed-form prediction, then the network on what it misses.

        The network is first trained without a held-out group (patient, section, or region of a
        single section), for up to three groups in turn. The number of epochs, and the share of the
        network's addition that predictions contain, are those that served these groups best; a
        share of 0 leaves the closed form as it is. It is then trained on all observations.

        Parameters
        ----------
        max_epochs
            Most passes over the observations; 0 trains no network.
        batch_size, lr, weight_decay
            Of AdamW.
        patience
            Epochs without improvement after which training stops.
        rng
            Seed, Generator or None.
        accelerator, devices
            Passed to Lightning.
        show_progress
            Draw a progress bar.
        trainer
            Further arguments of :class:`lightning.pytorch.Trainer`, such as ``precision``.
        """
        checks.whole_number("max_epochs", max_epochs, at_least=0)
        checks.whole_number("batch_size", batch_size)
        checks.whole_number("patience", patience)
        seed = rngs.seed_of(rng)
        tissue, data, tensors = self._prepare()
        regression = self._regression()
        if not regression.linked_:
            logger.warning(
                "Image features explain held-out expression no better than shuffled ones do: "
                "predictions are the means of training."
            )
        begin = copy.deepcopy(self.module.state_dict())
        everything = np.arange(len(tissue.features))
        coords = tissue.coords
        if coords is None:
            coords = np.zeros((len(everything), 2))
        around = (tensors.genes.numpy(), coords, tissue.sections)
        run = {"seed": seed, "accelerator": accelerator, "devices": devices,
               "show_progress": show_progress, "gradient_clip_val": 1.0, **trainer}  # fmt: skip

        def fitted(rows: np.ndarray, watched: np.ndarray, epochs: int, stage: str) -> CountPlan:
            self.module.cpu().load_state_dict(begin)
            start_head(self.module, tensors, torch.from_numpy(rows))
            plan = CountPlan(
                self.module, tensors, watched, tissue.sections, lr=lr, weight_decay=weight_decay,
                patience=patience,
            )  # fmt: skip
            if stage == "train":
                self.start_loss_ = self._start_loss(plan, rows)
            feed = RowData(rows, batch_size, seed, around)
            self._fit(plan, feed, stage=stage, max_epochs=epochs, **run)
            return plan

        if max_epochs:
            groups = regression.groups_
            names = np.argsort(-np.bincount(groups), kind="stable")[:_MAX_TRIALS]
            trials = []
            for g in names:
                held = np.flatnonzero(groups == g)
                trials.append(fitted(np.flatnonzero(groups != g), held, max_epochs, "validate"))
            n = min(len(t.cross) for t in trials)
            cross, square = (np.sum([getattr(t, a)[:n] for t in trials], axis=0)
                             for a in ("cross", "square"))  # fmt: skip
            shares, gains = zip(*(blended(c, s) for c, s in zip(cross, square, strict=True)),
                                strict=True)  # fmt: skip
            best = int(np.argmax(gains))
            linked = regression.linked_ > 0
            self.blend_ = shares[best] if gains[best] > 0 and linked else 0.0
            missing = sum(t.missing for t in trials)
            logger.info(
                "the network takes %.1f %% of the error that held-out groups had left, after %d "
                "epochs and with %.2f of its addition",
                100 * gains[best] / max(missing, 1e-12), best, self.blend_,
            )  # fmt: skip
            fitted(everything, everything[:0], max(best, min(10, max_epochs)), "train")
        else:
            self.blend_ = 0.0
        self.is_trained_, self.module = True, self.module.eval()
        self.history_ = self.history_ or {}
        self._calibrate(tissue, data, seed)

    def _regression(self) -> ProgramRegression:
        assert self.regression_ is not None
        return self.regression_

    def _start_loss(self, plan: CountPlan, rows: np.ndarray) -> float:
        """Loss of the very first network, without any expression shown."""
        self.module.eval()
        parts = torch.from_numpy(rows).split(1024)
        with torch.no_grad():
            total = 0.0
            for part in parts:
                genes = plan.data.genes.new_zeros(len(part), len(self.genes_))
                known = torch.zeros(len(part), dtype=torch.bool)
                total += float(plan.loss(part, genes, known)) * len(part)
        return total / len(rows)
