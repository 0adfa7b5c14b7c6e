"""Scores of bases from `model.GeneMaskLM`: attention, and attributions to a class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks
from omicllm.model import _genemask_rows as rows
from omicllm.model._genemask_results import GeneMaskResults
from omicllm.nn.kmer_bert_scores import integrated_gradients, received_attention

import torch  # isort: skip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


class GeneMaskScores(GeneMaskResults):
    """Which bases a classifier looks at."""

    def get_base_scores(
        self, data: AnnData | Sequence[str] | None = None, *, method: str = "attribution",
        positive: Any = None, n_steps: int = 16, batch_size: int = 64,
    ) -> list[np.ndarray]:  # fmt: skip
        """Score every base of sequences by the model that was trained to classify them.

        The score of a base is the mean over the k-mers that cover it.

        Parameters
        ----------
        data
            Object with sequences, or sequences; the model's own object when None.
        method
            ``"attribution"``: integrated gradients of the score of a class, by embedding.
            ``"attention"``: attention received in the last layer, whatever the class.
        positive
            The class that attributions are for; the last of `classes_` when None.
        n_steps
            Points on the path of integration; 1 is gradient times input at half way.
        batch_size
            Rows of tokens in a batch.

        Returns
        -------
        One float32 array (bases,) per sequence; NaN where `too_long` cut a sequence off.

        Raises
        ------
        RuntimeError
            Before training.
        KeyError
            A class that the model does not know.
        """
        checks.one_of("method", method, ("attribution", "attention"))
        checks.whole_number("n_steps", n_steps)
        if self.module.head is None:
            msg = "This model has no classifier yet: call train() or fit(sequences, labels)."
            raise RuntimeError(msg)
        known = [str(c) for c in self.classes_]
        if positive is not None and str(positive) not in known:
            raise checks.missing(str(positive), "the classes of the model", known, hint="")
        target = known.index(str(positive)) if positive is not None else len(known) - 1
        sequences = self._sequences(data, None)
        ids, owner = self._tokens(sequences)
        length = (ids != 0).sum(axis=1)
        by_row: list[np.ndarray] = [np.empty(0, dtype=np.float32)] * len(ids)
        order = np.argsort(length, kind="stable")
        for first in range(0, len(order), batch_size):
            chosen = order[first : first + batch_size]
            batch = torch.from_numpy(rows.trimmed(ids[chosen])).to(self._place())
            if method == "attention":
                out = received_attention(self.module, batch)
            else:
                out = integrated_gradients(self.module, batch, target, n_steps=n_steps)
            for row, score in zip(chosen.tolist(), out.float().cpu().numpy(), strict=True):
                by_row[row] = score[1 : length[row] - 1]
        parts: list[list[np.ndarray]] = [[] for _ in sequences]
        for i, score in zip(owner.tolist(), by_row, strict=True):
            parts[i].append(score)
        return [
            _by_base(np.concatenate(own), self.k, len(sequence))
            for own, sequence in zip(parts, sequences, strict=True)
        ]


def _by_base(score: np.ndarray, k: int, n_bases: int) -> np.ndarray:
    """Mean score of the k-mers that cover each base."""
    ones = np.ones(k)
    total, count = np.convolve(score, ones), np.convolve(np.ones(len(score)), ones)
    out = np.full(n_bases, np.nan, dtype=np.float32)
    out[: len(total)] = total / count
    return out
