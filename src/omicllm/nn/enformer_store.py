"""Published checkpoints of Enformer and Borzoi."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omicllm._core.checks import listed
from omicllm._core.files import read_json
from omicllm.nn.size_limit import no_larger_than

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

#: Buffers of that package that are not weights of ours.
_IGNORED = ("_trunk.", "dummy", "tf_gammas")


class EnformerStore:
    """Loading weights in the layout of enformer-pytorch and borzoi-pytorch."""

    #: What a ``config.json`` may say about the network.
    sizes: tuple[str, ...] = (
        "dim",
        "depth",
        "heads",
        "attn_dim_key",
        "num_downsamples",
        "dim_divisible_by",
        "output_heads",
        "dropout_rate",
        "attn_dropout",
        "pos_dropout",
    )

    @classmethod
    def from_pretrained(
        cls, path: str | Path, *, allow_download: bool = False, **arguments: Any
    ) -> Any:
        """Make a trunk with published weights.

        Parameters
        ----------
        path
            Folder with ``config.json`` and ``model.safetensors`` or ``pytorch_model.bin``; with
            `allow_download`, also a name on the Hugging Face hub, such as
            ``"EleutherAI/enformer-official-rough"`` (CC BY 4.0).
        allow_download
            Fetch the folder from the hub.
        arguments
            Arguments that replace those of ``config.json``.

        Raises
        ------
        FileNotFoundError
            No such folder or files.
        ValueError
            Weights that do not fit.
        """
        config, weights = pretrained_files(path, allow_download=allow_download)
        again = "Copy the checkpoint anew"
        described = read_json(config, again=again)
        sizes = {k: described[k] for k in cls.sizes if k in described}
        with no_larger_than(weights.stat().st_size, config, again=again):
            model: Any = cls(**{**sizes, **arguments})
        model.load_weights(read_weights(weights))
        return model

    def load_weights(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take weights by name; those of absent heads and duplicates under ``_trunk`` are left.

        Parameters
        ----------
        state
            A state dict of the published package, or of this class.

        Raises
        ------
        ValueError
            Weights that are missing or have another shape.
        """
        module: Any = self
        mine = module.state_dict()
        weights = {k: v for k, v in state.items() if not k.startswith(_IGNORED)}
        absent = sorted(set(mine) - set(weights))
        other = sorted(k for k in set(mine) & set(weights) if mine[k].shape != weights[k].shape)
        if absent or other:
            msg = (
                f"The weights do not fit: {len(absent)} are missing ({listed(absent, most=3)}), "
                f"{len(other)} have another shape ({listed(other, most=3)})."
            )
            raise ValueError(msg)
        module.load_state_dict({k: weights[k] for k in mine})


def pretrained_files(path: str | Path, *, allow_download: bool) -> tuple[Path, Path]:
    """``config.json`` and the file of weights of a folder, or of a name on the hub.

    Raises
    ------
    FileNotFoundError
        When they are not there.
    """
    names = ("model.safetensors", "pytorch_model.bin")
    folder = Path(path)
    if folder.is_dir():
        weight_files = [folder / n for n in names if (folder / n).is_file()]
        if not weight_files or not (folder / "config.json").is_file():
            msg = f"{folder} must hold config.json and {names[0]} or {names[1]}."
            raise FileNotFoundError(msg)
        return folder / "config.json", weight_files[0]
    if not allow_download:
        msg = (
            f"There is no folder {folder}. Pass the folder of a checkpoint, or allow_download=True "
            "to fetch a name from the Hugging Face hub."
        )
        raise FileNotFoundError(msg)
    from transformers.utils.hub import cached_file

    for name in names:
        weights = cached_file(str(path), name, _raise_exceptions_for_missing_entries=False)
        if weights is not None:
            return Path(str(cached_file(str(path), "config.json"))), Path(weights)
    msg = f"{path} holds neither {names[0]} nor {names[1]}."
    raise FileNotFoundError(msg)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Weights of a file; nothing in it is run."""
    from transformers.modeling_utils import load_state_dict

    return dict(load_state_dict(str(path), weights_only=True))
