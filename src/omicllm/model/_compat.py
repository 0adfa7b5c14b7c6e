"""Private parts of scvi-tools that models stand on, in one place.

Seen in scvi-tools 1.4.2. Where a release changes one of them, this file changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omicllm._core.lazy import quiet_import

quiet_import("scvi")

from scvi.train import TrainRunner  # noqa: E402

if TYPE_CHECKING:
    import torch
    from anndata import AnnData
    from scvi.data import AnnDataManager
    from scvi.model.base import BaseModelClass


class QuietRunner(TrainRunner):
    """scvi's runner, without the line it prints when training is interrupted."""

    def _run_training_core(self) -> None:
        self.trainer.fit(self.training_plan, self.data_splitter, ckpt_path=self.ckpt_path)
        self._update_history()
        self.model.module.eval()
        self.model.to_device(self.device)
        self.model.trainer = self.trainer


def setup_arguments(model_cls: type[BaseModelClass], **given: Any) -> dict[str, Any]:
    """Record what `setup_anndata` was called with, as scvi's registry keeps it."""
    arguments: dict[str, Any] = model_cls._get_setup_method_args(cls=model_cls, **given)
    return arguments


def unpaired_manager(
    fields: list[Any], arguments: dict[str, Any], data: Any, **kwargs: Any
) -> AnnDataManager:
    """Register fields of data whose modalities may lack some rows."""
    from scvi.data import AnnDataManager
    from scvi.data._manager import AnnDataManagerValidationCheck

    manager = AnnDataManager(
        fields=fields,
        setup_method_args=arguments,
        validation_checks=AnnDataManagerValidationCheck(check_fully_paired_mudata=False),
    )
    manager.register_fields(data, **kwargs)
    return manager


def torch_device(accelerator: str, device: int | str) -> torch.device:
    """Say which single device Lightning's names of accelerator and device mean."""
    from scvi.model._utils import parse_device_args

    _, _, target = parse_device_args(
        accelerator=accelerator,
        devices=device,
        return_device="torch",
        validate_single_device=True,
    )
    return target


def forget(model_cls: type[BaseModelClass], adata: AnnData) -> None:
    """Drop an object from the class-wide stores of scvi, which would keep it alive."""
    uuid = adata.uns.get("_scvi_uuid")
    model_cls._setup_adata_manager_store.pop(uuid, None)
    for store in model_cls._per_instance_manager_store.values():
        store.pop(uuid, None)
