"""What our models share on top of `scvi.model.base.BaseModelClass`.

Saving as safetensors and JSON (nothing is pickled), loading that checks gene names, training
through scvi's runner without its side effects, and a throw-away AnnData for verbs.
"""

from __future__ import annotations

import inspect
import logging
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from omicllm._core import process
from omicllm._core import rng as rngs
from omicllm._core.checks import listed
from omicllm._core.files import check_writable, made_folders
from omicllm._core.lazy import quiet_import
from omicllm._core.log import logger, progress_wanted
from omicllm._version import __version__

quiet_import("scvi")

import torch  # noqa: E402
from scvi.model.base import BaseModelClass  # noqa: E402

from omicllm.model._compat import (  # noqa: E402
    QuietRunner,
    forget,
    torch_device,
    unpaired_manager,
)
from omicllm.model._saved import (  # noqa: E402
    DESCRIPTION,
    check_fit,
    curve,
    numbers,
    read,
    restoring,
    verify,
    write,
)
from omicllm.nn.size_limit import no_larger_than  # noqa: E402
from omicllm.train._checkpoint import KeepLast  # noqa: E402
from omicllm.train._ranks import rank_and_size, together  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import lightning.pytorch as pl
    from anndata import AnnData


class OmicModel(BaseModelClass):
    """Base of the model classes of this package."""

    #: Raised when a change makes older saved models unreadable.
    schema_version: ClassVar[int] = 1
    history_: dict[str, Any] | None

    def _without_data(self, description: Mapping[str, Any]) -> None:
        """Start without an object, in place of scvi's ``__init__``."""
        self._adata = self._adata_manager = None
        self.registry_ = {"setup_args": dict(description["setup_args"])}
        self.is_trained_, self.history_, self.trainer = False, None, None
        self.train_indices_ = self.test_indices_ = self.validation_indices_ = None

    # -- training ---------------------------------------------------------------------------

    def _fit(
        self,
        plan: pl.LightningModule,
        data: pl.LightningDataModule,
        *,
        stage: str,
        max_epochs: int,
        seed: int,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        show_progress: bool | None = None,
        checkpoint_dir: str | Path | None = None,
        resume: bool = False,
        **trainer: Any,
    ) -> None:
        """Train `plan` on `data` and append its history under ``<stage>_<metric>``.

        With `checkpoint_dir`, the state of every epoch replaces that of the one before in
        ``<checkpoint_dir>/<stage>``; with `resume`, training goes on from it when there is one.
        The caller's random state, working directory and warning filters are left alone; an
        interrupt comes out as KeyboardInterrupt with the model in evaluation mode.
        """
        if checkpoint_dir is not None:
            check_writable(checkpoint_dir, argument="checkpoint_dir", fresh=False)
        bar = progress_wanted(show_progress=show_progress)
        earlier = dict(self.history_ or {})
        self.history_, self.is_trained_ = {}, False
        with (
            tempfile.TemporaryDirectory() as folder,
            rngs.isolated(seed),
            process.same_start_method(),
            _quiet_lightning(),
        ):
            if trainer.get("strategy", "auto") != "auto":
                # scvi then keeps a file of the history, by default in the working directory.
                trainer.setdefault("log_save_dir", folder)
            if checkpoint_dir is not None:
                keep = KeepLast(Path(checkpoint_dir) / stage)
                trainer["callbacks"] = [*trainer.get("callbacks", ()), keep]
                if resume and keep.path.exists():
                    logger.info("going on from %s", keep.path)
                    trainer["ckpt_path"] = str(keep.path)
            runner = QuietRunner(
                self,
                training_plan=plan,
                data_splitter=data,
                max_epochs=max_epochs,
                accelerator=accelerator,
                devices=devices,
                benchmark=False,
                default_root_dir=folder,
                enable_progress_bar=bar,
                log_every_n_steps=1,
                **trainer,
            )
            try:
                runner()
            except SystemExit as stop:  # what Lightning makes of Ctrl-C
                raise KeyboardInterrupt from stop
            finally:
                self.module.eval()
                self.trainer = None
                fresh = {f"{stage}_{k}": v for k, v in (self.history_ or {}).items()}
                self.history_ = _appended(earlier, fresh)
        self.is_trained_ = True

    # -- saving -----------------------------------------------------------------------------

    def _arrays_to_save(self) -> dict[str, np.ndarray]:
        """Arrays that belong to the trained model beside the weights."""
        return {}

    def _restore_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        """Take back what `_arrays_to_save` gave."""

    def _weights_to_save(self) -> dict[str, np.ndarray]:
        """Weights of the network by name."""
        return {k: v.detach().cpu().numpy() for k, v in self.module.state_dict().items()}

    def _save_beside(self, folder: Path) -> None:
        """Write what a model keeps in further files of its folder."""

    def save(  # type: ignore[override]
        self, dir_path: str | Path, *, overwrite: bool = False
    ) -> None:
        """Save the model as ``model.safetensors`` (weights) and ``model.json`` (all else).

        Both are written under temporary names and then renamed, so that an interrupted save
        never leaves half a model in place of a good one; of a new folder nothing is left when
        saving fails. Of several training processes one writes and the others wait. A pretrained
        backbone of :class:`omicllm.model.OmicLM` lies in ``backbone/``.

        Parameters
        ----------
        dir_path
            Folder to make.
        overwrite
            Replace a model that is already there.

        Raises
        ------
        FileExistsError
            When the folder exists and `overwrite` is False.
        OSError
            When it cannot be written.
        """
        folder = Path(dir_path)
        if folder.exists() and not overwrite:
            msg = f"{folder} exists already. Choose another folder or pass overwrite=True."
            raise FileExistsError(msg)
        tensors = {f"module.{k}": v for k, v in self._weights_to_save().items()}
        tensors |= {f"array.{k}": v for k, v in self._arrays_to_save().items()}
        tensors = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
        registry = self.registry_
        description = {
            "class": type(self).__name__,
            "schema_version": self.schema_version,
            "version": __version__,
            "is_trained": bool(self.is_trained_),
            "var_names": [str(v) for v in self.var_names_],
            "init_params": _plain(self._saved_init_params()),
            "setup_args": _plain(registry.get("setup_args", {})),
            "attributes": _plain(self._attributes_to_save()),
            "history": {k: numbers(v) for k, v in (self.history_ or {}).items()},
        }
        together()
        if rank_and_size()[0] == 0:
            check_writable(folder, argument="dir_path", fresh=False)
            with made_folders(folder, keep=True):
                write(folder, tensors, description)
                self._save_beside(folder)
            logger.info("saved %s to %s", type(self).__name__, folder)
        together()

    def _saved_init_params(self) -> dict[str, Any]:
        params = dict(self.init_params_["non_kwargs"])
        for extra in self.init_params_["kwargs"].values():
            params |= extra
        params.pop("registry", None)
        return params

    def _attributes_to_save(self) -> dict[str, Any]:
        """Small attributes that are saved as JSON."""
        return {}

    @classmethod
    def load(  # type: ignore[override]
        cls,
        dir_path: str | Path,
        adata: AnnData | None = None,
        *,
        accelerator: str = "auto",
        device: int | str = "auto",
    ) -> Any:
        """Load a saved model.

        Parameters
        ----------
        dir_path
            Folder written by :meth:`save`.
        adata
            Data to attach. It must hold the genes the model was trained on, in any order (results
            follow the order of `adata`). Without it the model comes with its weights only.
        accelerator, device
            Where to put the model.

        Raises
        ------
        FileNotFoundError
            When there is no saved model.
        ValueError
            When the model is of another class or schema, a file of it is damaged, or `adata` holds
            other genes.
        """
        return cls._load(dir_path, adata, accelerator=accelerator, device=device)

    @classmethod
    def _load(
        cls, dir_path: str | Path, adata: AnnData | None, *, accelerator: str = "auto",
        device: int | str = "auto", **parts: Any,
    ) -> Any:  # fmt: skip
        """Load a saved model; `parts` are arguments of the class that are not saved."""
        folder = Path(dir_path)
        description, arrays = cls._read(folder)
        if adata is not None and adata is not False:
            check_same_genes(description["var_names"], adata.var_names)
            setup = {k: v for k, v in description["setup_args"].items() if v is not None}
            cls.setup_anndata(adata, **setup)
        else:
            adata = None
        own = {k[6:]: v for k, v in arrays.items() if k.startswith("array.")}
        size = sum(v.nbytes for v in arrays.values())
        limit = no_larger_than(size, folder / DESCRIPTION)
        with rngs.isolated(0), restoring(folder), limit:  # starting weights are overwritten below
            model = cls._rebuild(adata, description, **parts)
            model._restore_arrays(own)
        state = {k[7:]: torch.from_numpy(v) for k, v in arrays.items() if k.startswith("module.")}
        check_fit(model.module, state, folder)
        model.module.load_state_dict(state)
        model.module.to(torch_device(accelerator, device))
        model.module.eval()
        model.is_trained_ = description["is_trained"]
        model.history_ = {k: curve(v) for k, v in description["history"].items()}
        return model

    @classmethod
    def _read(cls, folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Description and arrays of a saved model of this class, as they were written."""
        description, arrays = read(folder)
        cls._check_description(description, folder)
        verify(description, arrays, folder)
        return description, arrays

    @classmethod
    def _rebuild(cls, adata: AnnData | None, description: Mapping[str, Any], **parts: Any) -> Any:
        """Make the untrained model that the saved weights belong to."""
        accepted = inspect.signature(cls.__init__).parameters
        params = {k: v for k, v in description["init_params"].items() if k in accepted}
        params |= {"description": description} | parts
        return cls(adata, **params)

    @classmethod
    def _check_description(cls, description: Mapping[str, Any], folder: Path) -> None:
        if description.get("class") != cls.__name__:
            msg = f"{folder} holds a {description.get('class')}, not a {cls.__name__}."
            raise ValueError(msg)
        if description.get("schema_version") != cls.schema_version:
            msg = (
                f"{folder} was written with schema {description.get('schema_version')} (omicllm "
                f"{description.get('version')}); this version reads schema {cls.schema_version}. "
                "Train it again, or load it with that version."
            )
            raise ValueError(msg)

    def __repr__(self) -> str:
        """Say what the model is, in one line."""
        state = "trained" if self.is_trained_ else "not trained"
        return f"{type(self).__name__}({len(self.var_names_)} genes, {state})"


def register_profiles(
    cls: type[OmicModel], data: Any, layers: Any, arguments: Any, **kwargs: Any
) -> None:
    """End the set-up of a model of profiles: of one layer, or of a layer of each modality.

    Rows may be missing from modalities.
    """
    from scvi.data.fields import LayerField, MuDataLayerField

    plain = {"is_count_data": False, "correct_data_format": False}
    if hasattr(data, "mod"):
        fields: list[Any] = [
            MuDataLayerField(f"X_{name}", layer, mod_key=name, **plain)
            for name, layer in layers.items()
        ]
    else:
        fields = [LayerField("X", layers, **plain)]
    cls.register_manager(unpaired_manager(fields, arguments, data, **kwargs))


def check_same_genes(trained: list[str], given: Any) -> None:
    """Raise ValueError unless `given` holds the genes of `trained`, in any order."""
    names = [str(v) for v in given]
    absent = sorted(set(trained) - set(names))
    new = sorted(set(names) - set(trained))
    if absent or new or len(names) != len(trained):
        msg = (
            f"The model was trained on {len(trained)} genes; {len(absent)} of them are not in "
            f"adata.var_names ({listed(absent, most=3)}) and {len(new)} genes there are new to it "
            f"({listed(new, most=3)}). Subset adata to the genes of the model; other genes can be "
            "embedded with model.embed(adata)."
        )
        raise ValueError(msg)


def _appended(earlier: dict[str, Any], fresh: dict[str, Any]) -> dict[str, Any]:
    """Join the histories of two runs; scvi keeps only the metrics of the first."""
    import pandas as pd

    out = dict(earlier)
    for key, frame in fresh.items():
        if key in out:
            frame = frame.copy()
            frame.index = np.arange(len(out[key]), len(out[key]) + len(frame))
            frame.index.name = out[key].index.name
            out[key] = pd.concat([out[key], frame])
        else:
            out[key] = frame
    return out


def _plain(value: Any) -> Any:
    """Turn a value into what JSON holds."""
    if hasattr(value, "items"):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.random.Generator):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's device banner and its tips for data loaders out of a verb's output."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    loggers = [logging.getLogger(n) for n in names]
    levels = [log.level for log in loggers]
    for log in loggers:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")  # noqa: TID251
            for message in (".*does not have many workers.*", "early_stopping was automatically"):
                warnings.filterwarnings("ignore", message=message)  # noqa: TID251
            yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)


@contextmanager
def shell(model_cls: type[OmicModel], adata: AnnData) -> Iterator[AnnData]:
    """Lend a throw-away AnnData to a verb, and forget it in scvi's class-wide stores after it.

    Those stores would keep the user's matrix alive, and setting up the user's own object would
    evict the manager of a model they may have on it.
    """
    try:
        yield adata
    finally:
        forget(model_cls, adata)
