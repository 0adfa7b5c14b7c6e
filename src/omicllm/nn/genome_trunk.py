"""One way to call every genome model: tokens in, embeddings of bins out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

from omicllm._core.files import read_json
from omicllm.genome import tokens as nucleotides
from omicllm.nn.borzoi import Borzoi
from omicllm.nn.enformer import Enformer
from omicllm.nn.genome_embedding import evaluated
from omicllm.nn.genome_input import as_one_hot

if TYPE_CHECKING:
    from collections.abc import Callable


@runtime_checkable
class GenomeTrunk(Protocol):
    """What a genome model must offer to be used by the verbs.

    Attributes
    ----------
    name
        Root of what verbs write, ``X_<name>``.
    dim
        Width of an embedding.
    bin_size
        Bases per bin.
    length_multiple
        Lengths must be multiples of this.
    max_len
        Longest sequence, or None.

    Notes
    -----
    A trunk may also have ``tracks(embedding=, index=)``, which maps bins (n, bins, dim) to
    predicted signals (n, bins, number of tracks); ``parts``, a dict of lists of modules that can
    be frozen by name; and ``min_len``, the shortest sequence.
    """

    name: str
    dim: int
    bin_size: int
    length_multiple: int
    max_len: int | None

    def embed(self, tokens: Any) -> torch.Tensor:
        """Map tokens (n, length), int with A 0, C 1, G 2, T 3, N 4, to (n, bins, dim)."""
        ...


class ModuleTrunk(nn.Module):
    """Any network of yours as a trunk.

    Parameters
    ----------
    module
        Maps one-hot float (n, 4, length), or what `takes` says, to embeddings (n, bins, dim), or
        to one vector per sequence (n, dim).
    dim
        Width of an embedding.
    bin_size
        Bases per bin.
    length_multiple
        Lengths must be multiples of this; `bin_size` when None.
    max_len
        Longest sequence.
    min_len
        Shortest sequence of a network that crops (convolutions without padding). Where it is not
        given, a sequence that is too short is an error that names it.
    takes
        ``"channels"`` (n, 4, length), ``"one_hot"`` (n, length, 4), or ``"tokens"`` int64
        (n, length).
    gives
        ``"bins"`` (n, bins, dim), or ``"channels"`` (n, dim, bins).
    name
        Root of what verbs write.

    Raises
    ------
    ValueError
        Unknown `takes` or `gives`; a result of another shape; a sequence that is too short.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        dim: int,
        bin_size: int,
        length_multiple: int | None = None,
        max_len: int | None = None,
        min_len: int | None = None,
        takes: str = "channels",
        gives: str = "bins",
        name: str = "trunk",
    ) -> None:
        super().__init__()
        if takes not in ("channels", "one_hot", "tokens") or gives not in ("bins", "channels"):
            msg = "takes= is 'channels', 'one_hot' or 'tokens', and gives= 'bins' or 'channels'."
            raise ValueError(msg)
        self.module = module
        self.name, self.dim, self.bin_size, self.max_len = name, dim, bin_size, max_len
        self.length_multiple, self.min_len = length_multiple or bin_size, min_len
        self.takes, self.gives = takes, gives

    def embed(self, tokens: Any) -> torch.Tensor:
        """Map tokens or one-hot rows to (n, bins, dim)."""
        like = next(self.module.parameters(), torch.zeros(1))
        if self.takes == "tokens":
            x = torch.as_tensor(tokens).to(like.device).long()
            if x.shape[-1] % self.length_multiple:
                as_one_hot(x, like=like, length_multiple=self.length_multiple)
        else:
            x = as_one_hot(tokens, like=like, length_multiple=self.length_multiple)
            x = x.transpose(1, 2) if self.takes == "channels" else x
        out = self._bins(x)
        if out.ndim != 3 or out.shape[-1] != self.dim:
            msg = f"The module gives {tuple(out.shape)}; (n, bins, {self.dim}) was announced."
            raise ValueError(msg)
        return out

    def _bins(self, x: torch.Tensor) -> torch.Tensor:
        """What the module makes of its input, bins second."""
        try:
            out = self._called(x)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if (n := self._shortest(x)) is not None:
                raise self._too_short(x, n) from error
            raise
        if out.ndim == 3 and out.shape[1] == 0:
            raise self._too_short(x, self._shortest(x))
        return out

    def _called(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.module(x)
        if out.ndim == 2:
            return out[:, None]
        return out.transpose(1, 2) if self.gives == "channels" and out.ndim == 3 else out

    def _length(self, x: torch.Tensor) -> int:
        return int(x.shape[-1 if self.takes in ("channels", "tokens") else 1])

    def _shortest(self, x: torch.Tensor) -> int | None:
        """Least length of which the module makes a bin; None when none is found."""
        along = x.ndim - 1 if self.takes in ("channels", "tokens") else 1
        most = self.max_len or _LONGEST_TRIED

        def makes_bins(steps: int) -> bool:
            # One sequence, its bases over and over.
            at = torch.arange(steps * self.length_multiple, device=x.device) % x.shape[along]
            try:
                return self._called(x[:1].index_select(along, at)).shape[1] > 0
            except RuntimeError:
                return False

        with evaluated(self.module), torch.no_grad():
            low = self._length(x) // self.length_multiple
            high = 2 * low
            while not makes_bins(high):
                low, high = high, 2 * high
                if high * self.length_multiple > most:
                    return None
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if makes_bins(middle) else (middle, high)
        return high * self.length_multiple

    def _too_short(self, x: torch.Tensor, shortest: int | None) -> ValueError:
        least = "" if shortest is None else f": it takes at least {shortest}"
        return ValueError(
            f"{self.name} makes no bin of sequences of {self._length(x)} bases, because it crops "
            f"them{least}. Pass longer windows, or length=."
        )


#: Longest sequence that a network which crops is tried with.
_LONGEST_TRIED = 1 << 18

#: Tokens that tokenisers put around a text.
_ADDED = ("cls", "sep", "bos", "eos", "pad")


class TransformersTrunk(nn.Module):
    """A model of the package transformers as a trunk: Nucleotide Transformer, DNABERT, GROVER.

    Tokenisers cut sequences in their own ways, so a bin is a piece of `piece` bases, and its
    embedding the mean of the last hidden states of its tokens, without special tokens. Pieces do
    not see each other.

    Parameters
    ----------
    model
        Encoder whose output has ``last_hidden_state``. No code from a hub is run: build models
        that need it yourself and pass them.
    tokenizer
        Its tokeniser: a list of str in, ``input_ids`` and ``attention_mask`` out.
    piece
        Bases per bin; must fit the positions of the model.
    words
        Give the tokeniser overlapping words of this many bases, apart by spaces (DNABERT).
    max_len
        Longest sequence.
    name
        Root of what verbs write; the model's type by default.
    """

    length_multiple = 1

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Callable[..., Any],
        *,
        piece: int = 512,
        words: int | None = None,
        max_len: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__()
        if piece < 1 or (words is not None and not 1 <= words <= piece):
            msg = "piece must be at least 1, and words between 1 and piece."
            raise ValueError(msg)
        config: Any = model.config
        self.model, self.tokenizer, self.words = model, tokenizer, words
        self.dim, self.bin_size, self.max_len = int(config.hidden_size), piece, max_len
        self.name = name or str(config.model_type)
        self.training = model.training  # the caller's model keeps its mode

    @classmethod
    def from_pretrained(
        cls, path: str | Path, *, allow_download: bool = False, **arguments: Any
    ) -> TransformersTrunk:
        """Load a model and its tokeniser from a folder (or, if allowed, from the hub).

        Parameters
        ----------
        path
            Folder, or name on the hub.
        allow_download
            Fetch it from the hub.
        arguments
            Arguments of the class.

        Raises
        ------
        FileNotFoundError
            No such folder.
        """
        if not allow_download and not Path(path).is_dir():
            msg = (
                f"There is no folder {path}. Pass the folder of a checkpoint, or "
                "allow_download=True to fetch a name from the Hugging Face hub."
            )
            raise FileNotFoundError(msg)
        from transformers import AutoModel, AutoTokenizer

        options: Any = {"local_files_only": not allow_download, "trust_remote_code": False}
        tokenizer = AutoTokenizer.from_pretrained(str(path), **options)
        return cls(AutoModel.from_pretrained(str(path), **options), tokenizer, **arguments)

    def embed(self, tokens: Any) -> torch.Tensor:
        """Map tokens int (n, length) to (n, ceil(length / piece), dim)."""
        rows = np.asarray(torch.as_tensor(tokens).cpu())
        if rows.dtype.kind == "f":
            msg = "A model of transformers reads tokens, not one-hot rows: no gradient by base."
            raise TypeError(msg)
        rows = rows[None] if rows.ndim == 1 else rows
        texts = []
        for row in rows:
            text = nucleotides.decode(np.where(row == nucleotides.PAD, nucleotides.N, row))
            texts += [text[i : i + self.bin_size] for i in range(0, len(text), self.bin_size)]
        if self.words is not None:
            k = self.words
            texts = [" ".join(t[i : i + k] for i in range(max(1, len(t) - k + 1))) for t in texts]
        coded = self.tokenizer(texts, return_tensors="pt", padding=True)
        device = next(self.model.parameters()).device
        ids, mask = coded["input_ids"].to(device), coded["attention_mask"].to(device)
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        # By id: the mask of special tokens that a tokeniser returns is a place off where it adds
        # no end token (Nucleotide Transformer). Unknown words stay in the mean.
        added = [getattr(self.tokenizer, f"{t}_token_id", None) for t in _ADDED]
        special = torch.tensor([i for i in added if i is not None], device=device)
        is_base = mask.bool() & ~torch.isin(ids, special)
        weight = is_base.unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
        return pooled.view(len(rows), -1, self.dim)


def load_trunk(model: Any, *, allow_download: bool = False) -> Any:
    """Return a trunk from what a verb's ``model=`` may be.

    Parameters
    ----------
    model
        A :class:`GenomeTrunk`; or the folder of a checkpoint (its ``config.json`` says whether it
        is an Enformer, a Borzoi or a model of transformers); or, with `allow_download`, a name on
        the hub.
    allow_download
        Fetch from the Hugging Face hub.

    Returns
    -------
    The trunk.

    Raises
    ------
    TypeError
        Something else, with what is missing.
    FileNotFoundError
        No such folder.
    """
    if isinstance(model, (str, Path)):
        folder = Path(model)
        if folder.is_dir():
            config = folder / "config.json"
            if not config.is_file():
                msg = f"There is no config.json in {folder}: pass the folder of a checkpoint."
                raise FileNotFoundError(msg)
            named = str(read_json(config, again="Copy the checkpoint anew").get("model_type"))
        else:
            named = str(model).lower()
        kind: Any = TransformersTrunk
        if "enformer" in named:
            kind = Enformer
        elif "borzoi" in named:
            kind = Borzoi
        return kind.from_pretrained(model, allow_download=allow_download)
    needed = ("name", "dim", "bin_size", "length_multiple", "max_len", "embed")
    absent = [n for n in needed if not hasattr(model, n)]
    if absent:
        msg = (
            f"model= must be a genome model with {', '.join(needed)} (missing: "
            f"{', '.join(absent)}), or the folder of a checkpoint. Wrap a network with "
            "ol.nn.ModuleTrunk, a model of transformers with ol.nn.TransformersTrunk."
        )
        raise TypeError(msg)
    return model
