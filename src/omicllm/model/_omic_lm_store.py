"""Set-up, saving and loading of `model.OmicLM`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import rng as rngs
from omicllm.model import _omic_lm_parts as parts
from omicllm.model._omic_lm_text import OmicText, by_modality
from omicllm.model._profile_setup import ProfileSetup
from omicllm.model._saved import DESCRIPTION, check_fit, curve, description_of, mark_of, restoring
from omicllm.model._ult_sources import sources
from omicllm.nn.size_limit import no_larger_than

import torch  # isort: skip  (after _base, which imports scvi quietly)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData

#: Folder of a pretrained backbone inside a saved model.
_BACKBONE = "backbone"


class OmicLMStore(ProfileSetup):
    """What `OmicLM` does with objects and folders."""

    text_: OmicText | None
    classes_: list[str]
    params_: dict[str, Any]
    registry_: dict[str, Any]
    history_: dict[str, Any] | None
    backbone: Any
    _adata: Any
    _column: Any
    _z: tuple[np.ndarray, np.ndarray] | None

    # -- set-up -----------------------------------------------------------------------------

    @classmethod
    def setup_anndata(
        cls, adata: AnnData, labels_key: str, *, layer: str | None = None, **kwargs: Any
    ) -> None:
        """Say where profiles and labels are.

        Parameters
        ----------
        adata
            Observations x genes.
        labels_key
            Column of `obs` with the class of each row; rows may lack one.
        layer
            Layer with the values; ``X`` by default.
        kwargs
            Passed to scvi's registry.
        """
        arguments = cls._get_setup_method_args(labels_key=labels_key, layer=layer, cls=cls)  # type: ignore[attr-defined]
        parts.class_codes(parts.label_column(adata, labels_key), labels_key)
        sources(adata, layer=layer)
        cls._register(adata, layer, arguments, **kwargs)

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        labels_key: str,
        *,
        modalities: Sequence[str] | None = None,
        layer: str | Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Say which modalities make the text, and where profiles and labels are.

        Parameters
        ----------
        mdata
            Observations may be missing from some modalities.
        labels_key
            Column of ``mdata.obs``, or of the `obs` of modalities.
        modalities
            Names in the order of the text; all by default.
        layer
            Layer with the values, one name or a dict by modality; ``X`` by default.
        kwargs
            Passed to scvi's registry.
        """
        chosen = list(mdata.mod) if modalities is None else list(modalities)
        own = by_modality(layer, chosen)
        parts.class_codes(parts.label_column(mdata, labels_key), labels_key)
        sources(mdata, layer=own, modalities=chosen)
        arguments = cls._get_setup_method_args(  # type: ignore[attr-defined]
            labels_key=labels_key, modalities=chosen, layer=own, cls=cls
        )
        cls._register(mdata, own, arguments, **kwargs)

    def _begin(self, adata: Any, description: Mapping[str, Any] | None) -> None:
        if adata is not None:
            super().__init__(adata)  # type: ignore[call-arg]
        elif description is None:
            msg = "OmicLM needs adata: call OmicLM.setup_anndata(adata, labels_key=...) first."
            raise ValueError(msg)
        else:
            self._adata = self._adata_manager = None
            self.registry_ = {"setup_args": dict(description["setup_args"])}
            self.is_trained_, self.history_, self.trainer = False, None, None
        self.module = torch.nn.Module()
        self.text_, self.classes_, self._column, self._z = None, [], None, None
        self.var_names_ = np.array([])
        if adata is not None:
            data = self._sources()
            self.var_names_ = np.concatenate([s.var_names for s in data.values()])

    @classmethod
    def over(cls, data: Any, labels: Any, setup: Mapping[str, Any], **params: Any) -> Any:
        """Make a model on an object that is only read: nothing is registered or written.

        For verbs: whatever the storage of `data`, it is read in blocks.

        Parameters
        ----------
        data
            AnnData or MuData.
        labels
            Column of labels, one per observation.
        setup
            Arguments as of `setup_anndata` or `setup_mudata`.
        params
            Arguments of the class.
        """
        model = cls(None, description={"setup_args": dict(setup)}, **params)  # type: ignore[call-arg]
        model._adata, model._column = data, labels
        model.var_names_ = np.concatenate([s.var_names for s in model._sources().values()])
        return model

    def _codes(self) -> tuple[np.ndarray, list[str]]:
        """Class numbers and names of the rows of the model's data."""
        data, key = self._data(), self.registry_["setup_args"]["labels_key"]
        column = parts.label_column(data, key) if self._column is None else self._column
        return parts.class_codes(column, key)

    def _data(self, adata: Any = None) -> Any:
        if adata is None and self._adata is None:
            msg = "This model was loaded without data: pass adata, or pass adata to OmicLM.load."
            raise ValueError(msg)
        return self._adata if adata is None else adata

    def _sources(self, adata: Any = None) -> Any:
        data, setup = self._data(adata), self.registry_["setup_args"]
        if hasattr(data, "mod") and setup.get("modalities") is None:
            msg = "The model was set up with an AnnData; it cannot read a MuData."
            raise ValueError(msg)
        return sources(data, layer=setup.get("layer"), modalities=setup.get("modalities"))

    # -- saving -----------------------------------------------------------------------------

    def _arrays_to_save(self) -> dict[str, np.ndarray]:
        return {} if self.text_ is None else self.text_.arrays()

    def _attributes_to_save(self) -> dict[str, Any]:
        if self.text_ is None:
            return {}
        return {"text": self.text_.attributes(), "classes": list(self.classes_)}

    def _weights_to_save(self) -> dict[str, np.ndarray]:
        # Those of a pretrained backbone lie in their own folder.
        return {} if self.backbone is not None else super()._weights_to_save()  # type: ignore[misc]

    def _save_beside(self, folder: Path) -> None:
        if self.backbone is not None and self.text_ is not None:
            self.backbone.save(folder / _BACKBONE, mark=mark_of(description_of(folder)))

    @classmethod
    def load(
        cls,
        dir_path: str | Path,
        adata: AnnData | MuData | None = None,
        *,
        backbone: str | Path | None = None,
        allow_download: bool = False,
        accelerator: str = "auto",
        device: int | str = "auto",
    ) -> Any:
        """Load a saved model.

        Parameters
        ----------
        dir_path
            Folder written by :meth:`save`.
        adata
            Data to attach. It must hold the genes of training, in any order.
        backbone
            Folder of the pretrained model that adapters (`lora`) were trained on, where it is not
            where it was then.
        allow_download
            Fetch that model from the Hugging Face hub, if it came from there. Without it no
            connection is opened.
        accelerator, device
            Where to put the model.

        Raises
        ------
        FileNotFoundError
            When there is no saved model, or the model of its adapters is not at hand.
        ValueError
            When the model is of another class or schema, its backbone of another model (saving was
            cut short), a file is damaged, or `adata` lacks genes.
        """
        from scvi.model._utils import parse_device_args

        folder = Path(dir_path)
        told, arrays = cls._read(folder)  # type: ignore[attr-defined]
        own = {k[6:]: v for k, v in arrays.items() if k.startswith("array.")}
        attributes = told["attributes"]
        with restoring(folder):
            text = OmicText.restored(own, attributes["text"]) if attributes else None
        if adata is not None:
            setup = {k: v for k, v in told["setup_args"].items() if v is not None}
            if text is not None:
                _has_genes(text, adata, setup)
            if hasattr(adata, "mod"):
                cls.setup_mudata(adata, **setup)
            else:
                cls.setup_anndata(adata, **setup)
        model = cls(adata, **told["init_params"], description=told)  # type: ignore[call-arg]
        _, _, target = parse_device_args(
            accelerator=accelerator, devices=device, return_device="torch",
            validate_single_device=True,
        )  # fmt: skip
        if text is not None:
            model._restore(
                text, told, arrays, folder, target, base=backbone, allow_download=allow_download
            )
        model.var_names_ = np.asarray(told["var_names"], dtype=str)
        model.is_trained_ = told["is_trained"]
        model.history_ = {k: curve(v) for k, v in told["history"].items()}
        return model

    def _restore(
        self, text: OmicText, told: Mapping[str, Any], arrays: Any, folder: Path, target: Any,
        **base: Any,
    ) -> None:  # fmt: skip
        classes = told["attributes"]["classes"]
        self.text_, self.classes_ = text, list(classes)
        if self.params_["backbone"] == "tiny":
            state = {
                k[7:]: torch.from_numpy(v) for k, v in arrays.items() if k.startswith("module.")
            }
            limit = no_larger_than(sum(v.nbytes for v in arrays.values()), folder / DESCRIPTION)
            with torch.device("meta"), limit:  # shapes are compared before memory is asked for
                check_fit(parts.networks(self.params_, text, len(classes)), state, folder)
            with rngs.isolated(0):  # starting weights, which are overwritten below
                self.module = parts.networks(self.params_, text, len(classes))
            self.module.load_state_dict(state)
        else:
            from omicllm.model._omic_lm_pretrained import PretrainedLM

            with rngs.isolated(0):
                self.backbone = PretrainedLM.load(
                    folder / _BACKBONE, self.params_, text, len(classes), mark=mark_of(told),
                    **base,
                )  # fmt: skip
            self.module = self.backbone.model
        self.module.to(target)
        self.module.eval()


def _has_genes(text: OmicText, adata: Any, setup: Mapping[str, Any]) -> None:
    """Raise ValueError when genes of training are missing; nothing is written before."""
    from omicllm.model._omic_lm_text import _by_name

    data = sources(adata, layer=setup.get("layer"), modalities=setup.get("modalities"))
    for segment in text.segments:
        _by_name(data[segment.name], segment.universe)
