"""Set-up, state and storage of `omicllm.model.SPAM`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, inputs
from omicllm._core.names import positions
from omicllm.model._base import OmicModel
from omicllm.model._compat import setup_arguments
from omicllm.model._spam_data import (
    Tissue,
    held_in,
    joined,
    read_counts,
    read_patches,
    read_tissue,
)
from omicllm.nn.tissue_fusion import TissueFusion
from omicllm.stats.conformal import Intervals
from omicllm.stats.count_intervals import CountIntervals
from omicllm.stats.histology import variable_genes
from omicllm.stats.program_regression import ProgramRegression
from omicllm.stats.tissue_context import TissueContext

import torch  # isort: skip  (after _base, which imports scvi quietly)
from scvi.data import AnnDataManager  # isort: skip
from scvi.data.fields import LayerField, MuDataLayerField  # isort: skip

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

    from omicllm.model._live_encoder import LiveEncoder

#: Fewest observations that can be trained on.
_FEWEST = 16
_INTERVAL = ("centres", "low", "high", "coverage")
_COUNT_INTERVAL = ("log_rate", "overdispersion")
_CONTEXT = ("length", "noise", "covariance", "residual")


class SPAMStore(OmicModel):
    """What every method of :class:`omicllm.model.SPAM` stands on.

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
    """

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
            self._adata = self._adata_manager = None
            self.registry_ = {"setup_args": description["setup_args"]}
            self.is_trained_, self.history_, self.trainer = False, None, None
            self.train_indices_ = self.test_indices_ = self.validation_indices_ = None
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
    def _setup(self) -> dict[str, Any]:
        setup = dict(self.registry_["setup_args"])
        if setup.get("rna"):  # what `joined` makes of a MuData
            setup["use_rep"] = "X_image"
        return setup

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
        tissue = read_tissue(data, self._setup, self.n_features_ or None, self._live)
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
        every = read_counts(adata, self._setup["layer"], names)
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
