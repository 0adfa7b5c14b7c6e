"""`omicllm.model.SPAM`: gene expression predicted from histology."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from omicllm._core import checks, inputs
from omicllm._core import rng as rngs
from omicllm._core.log import logger
from omicllm._core.names import positions
from omicllm.model._base import OmicModel
from omicllm.model._compat import setup_arguments
from omicllm.model._live_encoder import LiveEncoder, live_plan
from omicllm.model._spam_data import (
    Counts,
    held_in,
    joined,
    read_counts,
    read_patches,
    read_tissue,
)
from omicllm.nn.count_likelihoods import LIKELIHOODS
from omicllm.nn.tissue_fusion import TissueFusion
from omicllm.spatial.measured_nearby import nearby_mean
from omicllm.stats.conformal import Intervals, calibrated
from omicllm.stats.count_intervals import SECTION_VARIANCE, CountIntervals
from omicllm.stats.expression_scores import held_out_pearson
from omicllm.stats.histology import variable_genes
from omicllm.stats.program_regression import ProgramRegression
from omicllm.stats.ridge import mean_of_sections, section_means
from omicllm.stats.tissue_context import TissueContext
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
from scvi.data import AnnDataManager  # isort: skip
from scvi.data.fields import LayerField, MuDataLayerField  # isort: skip

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

    from omicllm.model._spam_data import Tissue
    from omicllm.spatial.surroundings import Neighbors

#: Most held-out groups that the network is tried on.
_MAX_TRIALS = 3
#: Fewest observations that can be trained on.
_FEWEST = 16
_INTERVAL = ("centres", "low", "high", "coverage")
_COUNT_INTERVAL = ("log_rate", "overdispersion")
_CONTEXT = ("length", "noise", "covariance", "residual")
#: Latent representations that can be asked for.
MODALITIES = ("programs", "fused", "image", "spatial", "gene")


class SPAM(OmicModel):
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

    Attributes
    ----------
    genes_
        Names of the trained genes.
    regression_
        Closed-form prediction the network starts from.
    blend_
        Share of the network's addition that held-out groups asked for.
    reliability_
        (g,) correlation of each gene with its prediction in held-out groups.
    patients_, patient_level_, patient_share_
        Names of the training patients, where there are several, and (n_patients, g) the means of
        their log-normalised values and of their shares of the profile.

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

    #: 2: the scale of training features holds their range.
    schema_version: ClassVar[int] = 2
    params_: dict[str, Any]
    _live: LiveEncoder | None = None
    genes_: np.ndarray
    reliability_: np.ndarray
    regression_: ProgramRegression | None = None
    context_: TissueContext | None = None
    intervals_: Intervals | None = None
    count_intervals_: CountIntervals | None = None
    known_intervals_: Intervals | None = None
    known_count_intervals_: CountIntervals | None = None
    patients_: list[str]
    patient_level_: np.ndarray
    patient_share_: np.ndarray
    blend_: float = 0.0
    gene_mean_: np.ndarray
    gene_sd_: np.ndarray
    n_features_: int = 0
    pretrained_: list[str]
    start_loss_: float = float("nan")

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

    # -- set-up ----------------------------------------------------------------------------

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        *,
        use_rep: str = "X_classical",
        layer: str | None = None,
        section_key: str | None = None,
        patient_key: str | None = None,
        spatial_key: str = "spatial",
        **kwargs: Any,
    ) -> None:
        """Say where image features, counts, places and sections are.

        Parameters
        ----------
        adata
            Sections with counts, one after the other.
        use_rep
            Entry of `obsm` with image features, see :func:`omicllm.pp.image_features`, or with
            patches (n_obs, p, p, 3) of uint8 for an encoder that the model runs itself.
        layer
            Layer with raw counts; ``X`` by default.
        section_key, patient_key
            Columns of `obs`. By default ``section``, ``library_id`` or ``sample``, and ``patient``
            or ``donor``, where they are there; else all is one section, or of one patient.
        spatial_key
            Entry of `obsm` with coordinates; where it is missing ``obs["x_centroid"]`` and
            ``obs["y_centroid"]``.
        kwargs
            Passed to scvi's registry.

        Raises
        ------
        KeyError
            No such features, layer or column.
        ValueError
            Features that are not finite numbers.
        """
        arguments = setup_arguments(
            cls, use_rep=use_rep, layer=layer, section_key=section_key, patient_key=patient_key,
            spatial_key=spatial_key, rna=None, image=None,
        )  # fmt: skip
        for argument, key in (("section_key", section_key), ("patient_key", patient_key)):
            if key is not None:
                inputs.obs_column(adata, key, argument=argument)
        patches = read_patches(adata, use_rep)
        encode = None if patches is None else (lambda p: np.zeros((len(p), 1)))
        read_tissue(adata, arguments["setup_args"], encode=encode)
        inputs.stored(adata, layer)
        fields = [LayerField("X", layer, is_count_data=False, correct_data_format=False)]
        manager = AnnDataManager(fields=fields, setup_method_args=arguments)
        manager.register_fields(adata, **kwargs)
        cls.register_manager(manager)

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        *,
        rna: str = "rna",
        image: str = "image",
        use_rep: str | None = None,
        layer: str | None = None,
        section_key: str | None = None,
        patient_key: str | None = None,
        spatial_key: str = "spatial",
        **kwargs: Any,
    ) -> None:
        """Say where counts and image features are in a MuData; observations go by name.

        Parameters
        ----------
        mdata
            Two modalities: counts, and image features.
        rna, image
            Their names.
        use_rep
            Entry of `obsm` of the image modality with features; its ``X`` by default.
        layer
            Layer of the counts.
        section_key, patient_key, spatial_key
            As in :meth:`setup_anndata`; looked for in the counts first, then in the images.
        kwargs
            Passed to scvi's registry.
        """
        arguments = setup_arguments(
            cls, use_rep=use_rep, layer=layer, section_key=section_key, patient_key=patient_key,
            spatial_key=spatial_key, rna=rna, image=image,
        )  # fmt: skip
        joined(mdata, rna=rna, image=image, use_rep=use_rep, layer=layer)
        fields = [
            MuDataLayerField(
                "X", layer, mod_key=rna, is_count_data=False, correct_data_format=False
            )
        ]
        manager = AnnDataManager(fields=fields, setup_method_args=arguments)
        manager.register_fields(mdata, **kwargs)
        cls.register_manager(manager)

    # -- reading ----------------------------------------------------------------------------

    def _begin(self, adata: Any, description: Mapping[str, Any] | None) -> None:
        self.pretrained_, self.patients_ = [], []
        if self._live is None and self.params_["lora"]:
            msg = "lora= adapts an encoder: pass encoder= (a torch module) too."
            raise ValueError(msg)
        if adata is not None:
            super().__init__(adata)
            self.var_names_ = inputs.gene_names(self._plain(adata))
        elif description is None:
            msg = "SPAM needs adata: call SPAM.setup_anndata(adata), then SPAM(adata)."
            raise ValueError(msg)
        else:
            self._without_data(description)
            self.var_names_ = np.array(description["var_names"], dtype=object)
        self.module = torch.nn.Module()  # made once the genes and their programs are known
        if description is not None:
            saved = description["attributes"]
            mine = None if self._live is None else self._live.fingerprint
            if mine is not None and mine != saved["encoder"]:
                msg = "encoder= has other weights than the encoder this model was trained with."
                raise ValueError(msg)
            self.genes_ = np.array(saved["genes"], dtype=object)
            self.n_features_, self.blend_ = saved["n_features"], saved["blend"]
            self.pretrained_, self.start_loss_ = saved["pretrained"], saved["start_loss"]
            if saved["n_programs"]:
                axes = np.zeros((len(self.genes_), saved["n_programs"]))
                self.module = self._network(axes, saved["width_in"])
            self.patients_, self._interval_levels = saved["patients"], saved["interval_levels"]

    @property
    def setup_args(self) -> dict[str, Any]:
        """Where the model reads features, counts, places, sections and patients of an object."""
        setup = dict(self.registry_["setup_args"])
        if setup.get("rna"):  # what `joined` makes of a MuData
            setup["use_rep"] = "X_image"
        return setup

    def set_group_keys(self, *, section_key: str | None, patient_key: str | None) -> None:
        """Say under which names new objects hold sections and patients.

        Parameters
        ----------
        section_key, patient_key
            Columns of `obs`, as in :meth:`setup_anndata`.
        """
        self.registry_["setup_args"] |= {"section_key": section_key, "patient_key": patient_key}

    def _plain(self, data: Any) -> AnnData:
        """The AnnData that is worked on, made from two modalities where a MuData was given."""
        if not hasattr(data, "mod"):
            return data
        setup = self.registry_["setup_args"]
        return joined(
            data, rna=setup.get("rna") or "rna", image=setup.get("image") or "image",
            use_rep=setup["use_rep"] if setup.get("rna") else None, layer=setup["layer"],
        )  # fmt: skip

    def _own(self) -> AnnData:
        if self._adata is None:
            msg = "This model was loaded without data: pass adata to SPAM.load."
            raise ValueError(msg)
        return self._plain(self._adata)

    def _tissue(self, adata: Any) -> Tissue:
        """Everything of an object but expression."""
        data = self._own() if adata is None else self._plain(adata)
        tissue = read_tissue(data, self.setup_args, self.n_features_ or None, self._live)
        if self.is_trained_ and adata is not None and self.regression_ is not None:
            tissue.features = held_in(
                tissue.features, tissue.rows(), self.regression_.scale_["own"], tissue.obs_names
            )
        return tissue

    def _choose_genes(self, adata: AnnData, tissue: Tissue, genes: Sequence[str] | None) -> None:
        """Set `genes_`: those named, or the most variable within sections, or all."""
        if len(tissue.features) < _FEWEST:
            msg = f"At least {_FEWEST} observations are needed; there are {adata.n_obs}."
            raise ValueError(msg)
        names, n = self.var_names_, self.params_["n_top_genes"]
        if genes is not None:
            self.genes_ = names[positions(list(genes), names)]
            if len(self.genes_) < 2:
                msg = f"At least two genes are needed; genes= names {len(self.genes_)}."
                raise ValueError(msg)
            return
        every = read_counts(adata, self.setup_args["layer"], names)
        used = np.flatnonzero(every.counts.sum(axis=0) > 0)
        if n is not None and n < len(used):
            values = every.values[:, used]
            used = used[variable_genes(values, tissue.sections, checks.whole_number("n", n))]
        if len(used) < 2:
            msg = f"At least two genes with counts are needed; there are {len(used)}."
            raise ValueError(msg)
        self.genes_ = names[used]

    def _network(self, axes: np.ndarray, width_in: int) -> TissueFusion:
        p = self.params_
        return TissueFusion(
            width_in, len(self.genes_), torch.from_numpy(np.asarray(axes, dtype=np.float32)),
            width=p["n_hidden"], n_heads=p["n_heads"], n_tokens=p["n_tokens"],
            tokens=p["tokens"], likelihood=p["likelihood"],
        )  # fmt: skip

    def _require_training(self) -> ProgramRegression:
        if not self.is_trained_ or self.regression_ is None:
            msg = "The model is not trained yet: call model.train()."
            raise RuntimeError(msg)
        return self.regression_

    # -- training ---------------------------------------------------------------------------

    def _prepare(self) -> tuple[Tissue, Counts, TissueTensors]:
        """Fit what is in closed form, make the network, and gather what batches are cut from."""
        adata = self._own()
        tissue = self._tissue(adata)
        data = read_counts(adata, self.setup_args["layer"], self.genes_)
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
            patches = read_patches(self._own(), self.setup_args["use_rep"])
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

    # -- errors of held-out groups ----------------------------------------------------------

    def _calibrate(self, tissue: Tissue, data: Counts, seed: int) -> None:
        """Learn from held-out groups how wrong predictions are: intervals, genes, context."""
        regression = self._require_training()
        rng, other = np.random.default_rng(seed), np.random.default_rng([seed, 1])
        values, groups, sections = data.values, regression.groups_, tissue.sections
        self._learn_patients(tissue, data)
        programs = regression.deviations(regression.out_of_fold_)
        depth = regression.depth_out_of_fold_
        deviation = programs + regression.depth_effect(depth, sections)
        parts = [(groups == g, groups != g) for g in range(groups.max() + 1)]
        level, share = _levels_of(data, sections, parts)
        held = level + deviation
        self.reliability_ = held_out_pearson(values, deviation, sections, groups)
        regions = len(tissue.section_names) == 1 and not len(self.patients_)
        self.intervals_ = calibrated(held, values, rng)
        self.count_intervals_ = CountIntervals.fitted(
            data.counts, data.total, np.log(self._rates(programs, share)), sections, other,
            section_variance=SECTION_VARIANCE if regions else 0.0,
        )  # fmt: skip
        if len(self.patients_):
            self._calibrate_known(tissue, data, programs, deviation, other)
        coords = tissue.coords
        if coords is None:
            coords = np.arange(len(values))[:, None] * np.array([1e6, 0.0])
        rows = tissue.rows()
        self.context_ = TissueContext.fitted(
            values - held, [coords[r] for r in rows], rows, regression.axes_, rng
        )

    def _learn_patients(self, tissue: Tissue, data: Counts) -> None:
        """Levels of the patients, where there are several."""
        names = np.unique(tissue.patients)
        self.patients_ = [tissue.patient_names[i] for i in names] if len(names) > 1 else []
        self.patient_level_, self.patient_share_ = (np.zeros((0, len(self.genes_))),) * 2
        if self.patients_:
            parts = [tissue.patients == i for i in names]
            self.patient_level_, self.patient_share_ = (
                np.stack(v) for v in zip(*(_level_of(data, tissue.sections, p) for p in parts),
                                         strict=True)
            )  # fmt: skip

    def _calibrate_known(
        self, tissue: Tissue, data: Counts, programs: np.ndarray, deviation: np.ndarray,
        rng: np.random.Generator,
    ) -> None:  # fmt: skip
        """Intervals of new sections of patients that were trained on.

        The level of a section is that of the patient's other sections. Where no patient has two,
        it is the section's own, and a usual variance between sections is added.
        """
        sections, patients = tissue.sections, tissue.patients
        parts = []
        for mine in (sections == s for s in range(len(tissue.section_names))):
            others = np.isin(patients, patients[mine]) & ~mine
            parts.append((mine, others))
        alone = not any(others.any() for _, others in parts)
        parts = [(m, m) for m, _ in parts] if alone else [p for p in parts if p[1].any()]
        level, share = _levels_of(data, sections, parts)
        rows = np.flatnonzero(np.any([m for m, _ in parts], axis=0))
        self.known_intervals_ = calibrated((level + deviation)[rows], data.values[rows], rng)
        self.known_count_intervals_ = CountIntervals.fitted(
            data.counts[rows], data.total[rows], np.log(self._rates(programs, share)[rows]),
            sections[rows], rng, section_variance=SECTION_VARIANCE if alone else 0.0,
        )  # fmt: skip

    # -- results ----------------------------------------------------------------------------

    def _network_inputs(
        self, tissue: Tissue, blocks: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, Neighbors]:
        """Standardised features and places, their averages over neighbours, and the graph."""
        assert self.regression_ is not None
        design = self.regression_._design(blocks, tissue.sections)
        features = np.clip(np.hstack([design["own"], design["position"]]), -10, 10)
        graph = tissue.graph(self.params_["knn"])
        return features, graph.average(features), graph

    def predict(
        self,
        adata: AnnData | MuData | None = None,
        *,
        genes: Sequence[str] | None = None,
        context: str | np.ndarray | None = None,
        panel: Sequence[str] | None = None,
        layer: str | None = None,
        output: str = "log",
        library_size: float | np.ndarray = 1e4,
    ) -> pd.DataFrame:
        """Predict expression.

        Without `context` and `panel`, expression of `adata` is not looked at, and there need not
        be any.

        Parameters
        ----------
        adata
            Sections with image features, coordinates and, if there are several, section names
            under the keys of training; the training data by default.
        genes
            Genes to return; by default all trained ones.
        context
            Observations of `adata` that were measured: a mask, or a column of `obs` of bool.
            Their counts correct predictions of the others.
        panel
            Genes that were measured in all observations of `adata`. They are not returned.
        layer
            Layer of the counts of `context` and `panel`; by default that of training.
        output
            ``"log"``: log(1 + 10,000 x share of the profile), as such values are expected to be
            measured. ``"rate"``: share of the profile. ``"counts"``: expected counts.
        library_size
            Counts of a profile, for ``"counts"``: a number, or one per observation.

        Returns
        -------
        DataFrame (n_obs, n_genes), float32.

        Raises
        ------
        KeyError
            Features, genes or a column that are not there.
        ValueError
            Other features than those of training; nothing measured; context and panel at once.
        """
        import pandas as pd

        regression = self._require_training()
        checks.one_of("output", output, ("log", "rate", "counts"))
        if context is not None and panel is not None:
            msg = "Give context= (measured observations) or panel= (measured genes), not both."
            raise ValueError(msg)
        data = self._own() if adata is None else self._plain(adata)
        tissue = self._tissue(data)
        wanted = np.arange(len(self.genes_))
        if genes is not None:
            wanted = positions(list(genes), self.genes_, where="the genes of the model")
        measured = None if context is None else _mask(data, context)
        blocks = tissue.blocks(self.params_["knn"])
        deviation, depth = self._deviation(data, tissue, blocks, measured, layer)
        level, share, _ = self._levels(tissue)
        effect = regression.depth_effect(depth, tissue.sections)
        mean = level + deviation + effect
        if measured is not None:
            mean = self._with_context(data, tissue, mean, measured, layer)
        if panel is not None:
            mean, wanted = self._with_panel(data, tissue, mean, list(panel), layer, wanted)
        if output != "log":
            mean = self._rates(mean - level - effect, share)
            if output == "counts":
                zero = torch.sigmoid(self.module.zi_logits.detach()).cpu().numpy()
                extra = zero if self.params_["likelihood"] == "zinb" else 0.0
                size = np.broadcast_to(_depths(data, library_size), len(mean))
                mean = (1 - extra) * mean * size[:, None]
        mean = np.maximum(mean, 0.0)[:, wanted]
        return pd.DataFrame(
            mean.astype(np.float32), index=tissue.obs_names, columns=self.genes_[wanted]
        )

    def _deviation(
        self, data: AnnData, tissue: Tissue, blocks: dict[str, np.ndarray],
        measured: np.ndarray | None, layer: str | None,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Deviations (n, g) from the mean of the section, and relative log depth (n,)."""
        shown = None
        if self.blend_ > 0 and measured is not None and tissue.coords is not None:
            values = self._measured_values(data, layer)
            standard = (values - self.gene_mean_) / self.gene_sd_
            shown = nearby_mean(standard, measured, tissue.coords, tissue.sections)
        scores, depth = self._scores(tissue, blocks, shown)
        return self._require_training().deviations(scores), depth

    def _scores(
        self, tissue: Tissue, blocks: dict[str, np.ndarray],
        shown: tuple[np.ndarray, np.ndarray] | None,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Program scores (n, k), in closed form and by the network, and relative log depth."""
        scores, depth = self._require_training().scores(blocks, tissue.sections)
        if self.blend_ > 0:
            fused = torch.from_numpy(self._fused(tissue, blocks, shown)["fused"])
            with torch.no_grad():
                added = self.module.head(fused.to(self._where())).cpu().double().numpy()
            scores = scores + self.blend_ * (added - section_means(added, tissue.sections))
        return scores, depth

    def _where(self) -> Any:
        return next(self.module.parameters()).device

    def _levels(self, tissue: Tissue) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Levels and shares, (1, g) or (n, g), and rows of patients that were trained on.

        A section of such a patient has the level of that patient, others the mean of training.
        """
        regression = self._require_training()
        level, share = regression.level_[None], regression.share_[None]
        patients = [self.patients_.index(p) if p in self.patients_ else -1
                    for p in tissue.patient_names]  # fmt: skip
        if not patients or max(patients) < 0:
            return level, share, np.zeros(len(tissue.features), dtype=bool)
        of = np.array(patients)[tissue.patients]  # -1 takes the last row
        return (
            np.concatenate([self.patient_level_, level])[of],
            np.concatenate([self.patient_share_, share])[of],
            of >= 0,
        )

    def _rates(self, change: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Shares of the profile (n, g) from deviations of log-normalised values from `share`."""
        regression = self._require_training()
        rest = np.maximum(1.0 - share.sum(axis=1, keepdims=True), 1e-6)
        log_share = torch.from_numpy(np.log(np.hstack([share, rest])))
        slope = torch.from_numpy(regression.slopes())
        start = torch.from_numpy(change)
        return self.module.rates(start, torch.zeros_like(start), log_share, slope).numpy()

    def _measured_values(self, data: AnnData, layer: str | None) -> np.ndarray:
        counts = read_counts(data, layer or self.setup_args["layer"], self.genes_)
        return counts.values

    def _with_context(
        self, data: AnnData, tissue: Tissue, mean: np.ndarray, measured: np.ndarray,
        layer: str | None,
    ) -> np.ndarray:  # fmt: skip
        """Correct each section by the observations that were measured in it."""
        if tissue.coords is None:
            msg = "context= needs coordinates: measured observations inform those near them."
            raise ValueError(msg)
        assert self.context_ is not None
        values, out = self._measured_values(data, layer), mean.copy()
        for rows in tissue.rows():
            if measured[rows].any():
                out[rows] = self.context_.krige(
                    mean[rows], values[rows], measured[rows], tissue.coords[rows]
                )
        return out

    def _with_panel(
        self, data: AnnData, tissue: Tissue, mean: np.ndarray, panel: list[str],
        layer: str | None, wanted: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Correct predictions by a panel; what is left to return comes with them."""
        place = positions(panel, self.genes_, argument="panel", where="the genes of the model")
        assert self.context_ is not None
        names = self.genes_[place]
        X = read_counts(data, layer or self.setup_args["layer"], names)
        if set(self.genes_) - {str(v) for v in data.var_names}:
            # A panel alone has no library size: its share of the profile is that of training.
            assert self.regression_ is not None
            X.total = X.counts.sum(axis=1) / max(float(self.regression_.share_[place].sum()), 1e-9)
        out = mean.copy()
        for rows in tissue.rows():
            out[rows] = self.context_.condition(mean[rows], X.values[rows], place)
        return out, wanted[~np.isin(wanted, place)]

    def get_intervals(
        self,
        adata: AnnData | MuData | None = None,
        *,
        genes: Sequence[str] | None = None,
        library_size: float | np.ndarray | str | None = None,
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Bounds that hold about 90 % of measured log-normalised values.

        They were calibrated on sections (or regions of a single one) that were held out in
        training. How far measurements scatter depends on their depth. Where it is not known,
        bounds hold 90 % on average over sections as deep as those of training: less of a
        shallower section, more of a deeper one.

        Parameters
        ----------
        adata
            As in :meth:`predict`.
        genes
            Genes to return.
        library_size
            Counts of a profile as it would be measured: a number, one per observation, or a column
            of `obs`. Bounds are then those of a measurement of that depth.

        Returns
        -------
        Lower and upper bounds, two DataFrames as :meth:`predict` gives. Without `library_size`
        they hold the prediction itself.

        Raises
        ------
        ValueError
            Library sizes that are not positive, or not one per observation.
        """
        import pandas as pd

        data = self._own() if adata is None else self._plain(adata)
        output = "log" if library_size is None else "rate"
        mean = self.predict(data, genes=genes, output=output)
        known = self._levels(self._tissue(data))[2]
        bounds = np.zeros((2, *mean.shape), dtype=np.float32)
        chosen = [(~known, self.intervals_, self.count_intervals_)]
        if known.any():
            chosen.append((known, self.known_intervals_, self.known_count_intervals_))
        depth = None if library_size is None else _depths(data, library_size)
        for rows, plain, by_depth in chosen:
            assert plain is not None
            assert by_depth is not None
            if not rows.any():
                continue
            values = mean.to_numpy()[rows]
            if depth is None:
                bounds[:, rows] = plain.bounds(values)
            else:
                log_rate = np.log(np.maximum(values.astype(np.float64), 1e-12))
                bounds[:, rows] = by_depth.bounds(log_rate, depth[rows])
        low, high = (pd.DataFrame(b, index=mean.index, columns=mean.columns) for b in bounds)
        return low, high

    def get_reliability(self) -> pd.Series:
        """Correlation of each gene with its prediction in held-out groups of training data.

        Returns
        -------
        Series (n_genes,). Genes near 0 or below are better not read from predictions.
        """
        import pandas as pd

        self._require_training()
        return pd.Series(self.reliability_, index=self.genes_, name="reliability")

    def get_latent_representation(
        self, adata: AnnData | MuData | None = None, *, modality: str = "programs"
    ) -> np.ndarray:
        """Representation of observations.

        Parameters
        ----------
        adata
            As in :meth:`predict`.
        modality
            ``"programs"``: predicted scores of gene programs, which predictions are made of.
            ``"fused"``: state from which the network predicts its part of them. ``"image"``,
            ``"spatial"``, ``"gene"``: what the encoders give; the last reads the counts of
            `adata`, the others only images.

        Returns
        -------
        float32 (n_obs, d).
        """
        self._require_training()
        checks.one_of("modality", modality, MODALITIES)
        data = self._own() if adata is None else self._plain(adata)
        tissue = self._tissue(data)
        blocks = tissue.blocks(self.params_["knn"])
        if modality == "programs":
            return self._scores(tissue, blocks, None)[0].astype(np.float32)
        if modality == "gene":
            values = self._measured_values(data, None)
            standard = ((values - self.gene_mean_) / self.gene_sd_).astype(np.float32)
            with torch.no_grad():
                tokens = self.module.genes(torch.from_numpy(standard).to(self._where()))
            return tokens.mean(1).cpu().numpy()
        return self._fused(tissue, blocks, None)[modality]

    def _fused(
        self, tissue: Tissue, blocks: dict[str, np.ndarray],
        shown: tuple[np.ndarray, np.ndarray] | None, block: int = 2048,
    ) -> dict[str, np.ndarray]:  # fmt: skip
        """States of all observations, block by block."""
        features, around, graph = self._network_inputs(tissue, blocks)
        device, n = self._where(), len(features)
        x, a = (torch.from_numpy(v.astype(np.float32)) for v in (features, around))
        index, weight = torch.from_numpy(graph.index), torch.from_numpy(graph.weight)
        out: dict[str, list[np.ndarray]] = {"fused": [], "image": [], "spatial": []}
        with torch.no_grad():
            for start in range(0, n, block):
                rows = slice(start, min(start + block, n))
                own = (x[rows].to(device), a[index[rows]].to(device), weight[rows].to(device))
                size = rows.stop - rows.start
                genes = torch.zeros(size, len(self.genes_), device=device)
                known = torch.zeros(size, dtype=torch.bool, device=device)
                if shown is not None:
                    genes = torch.from_numpy(shown[0][rows]).to(device)
                    known = torch.from_numpy(shown[1][rows]).to(device)
                made = {
                    "fused": self.module.fuse(*own, genes, known),
                    "image": self.module.image(own[0]),
                    "spatial": self.module.space(own[1], own[2])[1],
                }
                for name, value in made.items():
                    out[name].append(value.float().cpu().numpy())
        return {name: np.concatenate(value) for name, value in out.items()}

    # -- storage ----------------------------------------------------------------------------

    def _all_intervals(self) -> dict[str, Any]:
        """Intervals by the names they are stored under; those that are there."""
        names = ("intervals", "count_intervals", "known_intervals", "known_count_intervals")
        found = {name: getattr(self, f"{name}_") for name in names}
        return {name: value for name, value in found.items() if value is not None}

    @classmethod
    def load(  # type: ignore[override]
        cls,
        dir_path: str | Path,
        adata: AnnData | None = None,
        *,
        encoder: torch.nn.Module | None = None,
        transform: Callable[[np.ndarray], torch.Tensor] | None = None,
        accelerator: str = "auto",
        device: int | str = "auto",
    ) -> Any:
        """Load a saved model.

        Parameters
        ----------
        dir_path
            Folder written by :meth:`save`.
        adata
            Data to attach; it must hold the genes the model was trained on, in any order.
        encoder, transform
            Encoder of a model that reads patches, as it was before adapters were trained: these,
            and not the encoder, were saved.
        accelerator, device
            Where to put the model.

        Raises
        ------
        FileNotFoundError
            When there is no saved model.
        ValueError
            When the model is of another class or schema, `adata` holds other genes, or the encoder
            has other weights.
        """
        return cls._load(
            dir_path, adata, accelerator=accelerator, device=device, encoder=encoder,
            transform=transform,
        )  # fmt: skip

    def _attributes_to_save(self) -> dict[str, Any]:
        made = isinstance(self.module, TissueFusion)
        return {
            "genes": list(getattr(self, "genes_", [])), "n_features": self.n_features_,
            "blend": self.blend_, "pretrained": self.pretrained_, "start_loss": self.start_loss_,
            "n_programs": int(self.module.axes.shape[1]) if made else 0,
            "width_in": int(self.module.adapter.in_features) if made else 0,
            "patients": self.patients_,
            "encoder": None if self._live is None else self._live.fingerprint,
            "interval_levels": {k: v.level for k, v in self._all_intervals().items()},
        }  # fmt: skip

    def _arrays_to_save(self) -> dict[str, np.ndarray]:
        if self.regression_ is None:
            return {}
        out = {f"regression.{k}": v for k, v in self.regression_.arrays().items()}
        out |= {"gene_mean": self.gene_mean_, "gene_sd": self.gene_sd_}
        if self._live is not None:
            out |= {f"adapter.{k}": v for k, v in self._live.arrays().items()}
        if self.context_ is not None:
            out |= {f"context.{k}": getattr(self.context_, k) for k in _CONTEXT}
            for name, value in self._all_intervals().items():
                keys = _INTERVAL if isinstance(value, Intervals) else _COUNT_INTERVAL
                out |= {f"{name}.{k}": getattr(value, k) for k in keys}
            out |= {"reliability": self.reliability_, "patient_level": self.patient_level_,
                    "patient_share": self.patient_share_}  # fmt: skip
        return out

    def _restore_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        def under(prefix: str) -> dict[str, np.ndarray]:
            return {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}

        if "gene_mean" not in arrays:
            return
        if self._live is not None:
            self._live.load(under("adapter."))
        self.regression_ = ProgramRegression.from_arrays(under("regression."))
        self.gene_mean_, self.gene_sd_ = arrays["gene_mean"], arrays["gene_sd"]
        if "reliability" in arrays:
            self.reliability_ = arrays["reliability"]
            self.patient_level_ = arrays["patient_level"]
            self.patient_share_ = arrays["patient_share"]
            self.context_ = TissueContext(self.regression_.axes_, **under("context."))
            for name, level in self._interval_levels.items():
                kind = CountIntervals if "count" in name else Intervals
                setattr(self, f"{name}_", kind(**under(f"{name}."), level=level))


def _level_of(
    data: Counts, sections: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Means (g,) over sections of some rows, of log-normalised values and of shares."""
    codes = np.unique(sections[rows], return_inverse=True)[1].ravel()
    part = Counts(data.counts[rows], data.total[rows])
    return mean_of_sections(part.values, codes), part.shares(codes).mean(axis=0)


def _levels_of(
    data: Counts, sections: np.ndarray, parts: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Levels and shares (n, g): rows of the first mask of a pair get those of the second."""
    level, share = (np.ones(data.counts.shape) for _ in range(2))
    for mine, source in parts:
        level[mine], share[mine] = _level_of(data, sections, source)
    return level, share


def _mask(data: AnnData, context: str | np.ndarray) -> np.ndarray:
    """Observations that were measured."""
    if isinstance(context, str):
        context = inputs.obs_column(data, context, argument="context")
    mask = inputs.per_observation(context, data, argument="context")
    if mask.dtype != bool or mask.shape != (data.n_obs,):
        msg = f"context must be {data.n_obs} values of True or False, one per observation."
        raise ValueError(msg)
    if not mask.any():
        msg = "context names no measured observation: leave it out."
        raise ValueError(msg)
    return mask


def _depths(data: AnnData, library_size: float | np.ndarray | str) -> np.ndarray:
    """Library sizes (n,) from what the caller gave."""
    if isinstance(library_size, str):
        library_size = inputs.obs_column(data, library_size, argument="library_size")
    given = inputs.per_observation(library_size, data, argument="library_size").astype(np.float64)
    if given.ndim > 1 or (given.ndim == 1 and len(given) != data.n_obs):
        msg = f"library_size must be a number, or {data.n_obs}, one per observation."
        raise ValueError(msg)
    if not (np.isfinite(given).all() and (given > 0).all()):
        msg = "library_size must be positive: counts of a profile."
        raise ValueError(msg)
    return np.broadcast_to(given, data.n_obs)
