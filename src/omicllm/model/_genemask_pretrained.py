"""Weights of published DNABERT folders for `model.GeneMaskLM`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omicllm._core.checks import listed
from omicllm.genome.kmers import N_SPECIAL, KmerTokenizer
from omicllm.model._saved import DESCRIPTION, WEIGHTS, description_of

if TYPE_CHECKING:
    from anndata import AnnData


#: The weights that tell the number of tokens, in a folder of `save` and in DNABERT's.
_SAVED = "module.lm.bert.embeddings.word_embeddings.weight"
_PUBLISHED = ("bert.embeddings.word_embeddings.weight", "embeddings.word_embeddings.weight")


class GeneMaskPretrained:
    """Starting from weights that others trained."""

    @classmethod
    def _load(cls, dir_path: str | Path, adata: AnnData | None, **kwargs: Any) -> Any:
        folder = Path(dir_path)
        if (folder / DESCRIPTION).exists() and (folder / WEIGHTS).exists():
            said = description_of(folder).get("init_params", {}).get("k")
            found = _n_tokens(folder / WEIGHTS, (_SAVED,))
            if said is not None and found is not None and found != N_SPECIAL + 4**said:
                msg = (
                    f"{folder} says that it is a model of {said}-mers ({N_SPECIAL + 4**said} "
                    f"tokens), but its weights are for {found} tokens{_as_k(found)}: {DESCRIPTION} "
                    f"and {WEIGHTS} do not belong together."
                )
                raise ValueError(msg)
        return super()._load(dir_path, adata, **kwargs)  # type: ignore[misc]

    @classmethod
    def from_pretrained(
        cls, path: str | Path, adata: AnnData | None = None, *, k: int | None = None, **params: Any
    ) -> Any:
        """Make a model with the weights of a folder in DNABERT's layout.

        Nothing is downloaded, and no code of the folder is run: ``config.json`` gives the sizes,
        ``vocab.txt`` is checked where there is one, and the weights are read by transformers' own
        BERT class.

        Parameters
        ----------
        path
            Folder with ``config.json`` and ``model.safetensors`` or ``pytorch_model.bin``.
        adata
            Object that `setup_anndata` was called on.
        k
            Expected bases of a token; that of the folder when None.
        params
            Further arguments of the class (``too_long``, ``dropout``).

        Returns
        -------
        The model, without a classifier.

        Raises
        ------
        FileNotFoundError
            No such folder, or no ``config.json`` in it.
        ValueError
            A vocabulary that is not DNABERT's, another k, or weights that do not fit.
        """
        folder = Path(path)
        if not (folder / "config.json").exists():
            msg = f"There is no config.json in {folder}: pass the folder of a DNABERT checkpoint."
            raise FileNotFoundError(msg)
        config = json.loads((folder / "config.json").read_text())
        sizes = {len(KmerTokenizer(n)): n for n in (3, 4, 5, 6)}
        found = sizes.get(config.get("vocab_size"))
        if found is None:
            msg = (
                f"{folder} has a vocabulary of {config.get('vocab_size')} tokens; those of k-mers "
                f"(k = 3 to 6) have {listed(sizes)}."
            )
            raise ValueError(msg)
        if k is not None and k != found:
            msg = f"{folder} is a model of {found}-mers, not of {k}-mers."
            raise ValueError(msg)
        words = folder / "vocab.txt"
        if words.exists() and words.read_text().split() != KmerTokenizer(found).vocabulary:
            msg = f"{words} lists other tokens, or in another order, than DNABERT's vocabulary."
            raise ValueError(msg)
        if config.get("max_position_embeddings", 512) != 512:
            msg = f"{folder} has {config['max_position_embeddings']} positions; 512 are expected."
            raise ValueError(msg)
        size = {
            "d_model": config["hidden_size"], "n_layers": config["num_hidden_layers"],
            "n_heads": config["num_attention_heads"], "d_ff": config["intermediate_size"],
            "dropout": config.get("hidden_dropout_prob", 0.1),
        }  # fmt: skip
        model: Any = cls(adata, k=found, preset="dnabert", **{**size, **params})  # type: ignore[call-arg]
        own = model.module.lm
        n_tokens = _n_tokens(folder / "model.safetensors", _PUBLISHED)
        if n_tokens not in (None, len(KmerTokenizer(found))):
            msg = (
                f"config.json in {folder} is that of {found}-mers, but the weights are for "
                f"{n_tokens} tokens{_as_k(n_tokens)}."
            )
            raise ValueError(msg)
        try:
            loaded, info = type(own).from_pretrained(
                folder, config=own.config, local_files_only=True, output_loading_info=True
            )
        except RuntimeError as error:  # pytorch_model.bin, whose shapes are known after reading
            msg = f"The weights in {folder} have other shapes than config.json says."
            raise ValueError(msg) from error
        absent = sorted(n for n in info["missing_keys"] if not n.endswith("position_ids"))
        if absent or info.get("mismatched_keys"):
            msg = f"The weights in {folder} do not fit: {listed(absent, most=3)} missing."
            raise ValueError(msg)
        own.load_state_dict(loaded.state_dict())
        model.module.eval()
        model.is_trained_ = True
        return model


def _n_tokens(path: Path, names: tuple[str, ...]) -> int | None:
    """Rows of the word embeddings in a safetensors file, without reading them; None if absent."""
    from safetensors import safe_open

    if not path.exists():
        return None
    with safe_open(path, framework="numpy") as weights:
        held = next((n for n in names if n in weights.keys()), None)  # noqa: SIM118 - no mapping
        return int(weights.get_slice(held).get_shape()[0]) if held else None


def _as_k(n_tokens: int | None) -> str:
    k = next((k for k in (3, 4, 5, 6) if N_SPECIAL + 4**k == n_tokens), None)
    return "" if k is None else f", those of {k}-mers"
