"""Registration with scvi of models that read profiles of one object or several modalities."""

from __future__ import annotations

from typing import Any

from omicllm.model import _base  # noqa: F401  (imports scvi quietly)

from scvi.data import AnnDataManager  # isort: skip
from scvi.data._manager import AnnDataManagerValidationCheck  # isort: skip
from scvi.data.fields import LayerField, MuDataLayerField  # isort: skip


class ProfileSetup:
    """The end of `setup_anndata` and `setup_mudata`, once arguments are checked."""

    @classmethod
    def _register(cls, data: Any, layers: Any, arguments: Any, **kwargs: Any) -> None:
        """Register values of one layer, or of a layer of each modality; people may be missing."""
        plain = {"is_count_data": False, "correct_data_format": False}
        if hasattr(data, "mod"):
            fields: list[Any] = [
                MuDataLayerField(f"X_{m}", layer, mod_key=m, **plain) for m, layer in layers.items()
            ]
        else:
            fields = [LayerField("X", layers, **plain)]
        manager = AnnDataManager(
            fields=fields,
            setup_method_args=arguments,
            validation_checks=AnnDataManagerValidationCheck(check_fully_paired_mudata=False),
        )
        manager.register_fields(data, **kwargs)
        cls.register_manager(manager)  # type: ignore[attr-defined]
