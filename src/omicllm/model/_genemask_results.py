"""What `model.GeneMaskLM` gives: classes, vectors and the loss of masked tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks
from omicllm._core.log import logger
from omicllm.genome.masking import mask_tokens
from omicllm.model import _genemask_rows as rows

import torch  # isort: skip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from omicllm.genome.kmers import KmerTokenizer
    from omicllm.nn.kmer_bert import KmerBert

#: Longest row of tokens, without [CLS] and [SEP].
MAX_TOKENS = 510


class GeneMaskResults:
    """Reading sequences and applying the network to them."""

    module: KmerBert
    tokenizer: KmerTokenizer
    classes_: np.ndarray
    registry_: dict[str, Any]
    is_trained_: bool
    k: int
    too_long: str
    _adata: Any

    # -- results ----------------------------------------------------------------------------

    def predict_proba(
        self, data: AnnData | Sequence[str] | None = None, *, batch_size: int = 64
    ) -> np.ndarray:
        """Probability of each class: float32 (n, n_classes), columns as in `classes_`.

        Parameters
        ----------
        data
            Object with sequences, or sequences; the model's own object when None.
        batch_size
            Rows of tokens in a batch.

        Raises
        ------
        RuntimeError
            Before training.
        """
        if self.module.head is None:
            msg = "This model has no classifier yet: call train() or fit(sequences, labels)."
            raise RuntimeError(msg)
        scores = self._averaged(self.module.class_scores, data, batch_size)
        return torch.from_numpy(scores).softmax(dim=1).numpy()

    def predict(
        self, data: AnnData | Sequence[str] | None = None, *, batch_size: int = 64
    ) -> np.ndarray:
        """Most probable class of each sequence; parameters as for :meth:`predict_proba`."""
        return self.classes_[self.predict_proba(data, batch_size=batch_size).argmax(axis=1)]

    def get_latent_representation(
        self, data: AnnData | Sequence[str] | None = None, *, batch_size: int = 64
    ) -> np.ndarray:
        """Mean of the last hidden states of each sequence's k-mers: float32 (n, d_model).

        Parameters
        ----------
        data
            Object with sequences, or sequences; the model's own object when None.
        batch_size
            Rows of tokens in a batch.
        """
        if not self.is_trained_:
            logger.warning("the model is not trained: its vectors are those of random weights")
        return self._averaged(self.module.pooled, data, batch_size)

    def get_masked_loss(
        self, data: AnnData | Sequence[str] | None = None, *, masking: str = "dnabert",
        ranks: Any = None, batch_size: int = 64, rng: int | np.random.Generator | None = 0,
    ) -> float:  # fmt: skip
        """Mean negative log-likelihood of masked tokens, in nats: the pseudo-likelihood.

        Parameters
        ----------
        data
            Object with sequences, or sequences, that were not trained on.
        masking, ranks
            As for :func:`omicllm.genome.mask_tokens`; the same for all models that are compared.
        batch_size
            Rows of tokens in a batch.
        rng
            Seed of the masks.
        """
        ids, _ = self._tokens(self._sequences(data, None))
        out, labels = mask_tokens(
            ids.astype(np.int64), masking=masking, ranks=ranks, k=self.k, rng=rng  # type: ignore[arg-type]
        )  # fmt: skip
        total, count = 0.0, 0
        with torch.inference_mode():
            for first in range(0, len(ids), batch_size):
                part = slice(first, first + batch_size)
                n = int((labels[part] >= 0).sum())
                if n:
                    loss = self.module.masked_loss(
                        torch.from_numpy(out[part]).to(self._place()),
                        torch.from_numpy(labels[part]).to(self._place()),
                    )
                    total, count = total + n * float(loss), count + n
        if not count:
            msg = "No token was masked: pass more or longer sequences."
            raise ValueError(msg)
        return total / count

    # -- inside -----------------------------------------------------------------------------

    def _attributes_to_save(self) -> dict[str, Any]:
        return {"classes": self.classes_.tolist()}

    def _setup(self, name: str) -> Any:
        return self.registry_.get("setup_args", {}).get(name)

    def _place(self) -> torch.device:
        return next(self.module.parameters()).device

    def _sequences(self, data: Any, sequences: Sequence[str] | None) -> list[str]:
        """Sequences of an object, or as given; the model's own object by default."""
        source = sequences if sequences is not None else data
        if source is None:
            source = self._adata
        if source is None:
            msg = "There are no sequences: pass some, or an object with sequences."
            raise ValueError(msg)
        if hasattr(source, "obs"):
            key = self._setup("sequence_key") or "sequence"
            if key not in source.obs:
                raise checks.missing(
                    key, "adata.obs", source.obs, hint="Read them with ol.io.read_sequences(path)."
                )
            source = np.asarray(source.obs[key]).tolist()
        return self._checked(source)

    def _checked(self, sequences: Any) -> list[str]:
        out = list(sequences)
        bad = next((i for i, s in enumerate(out) if not isinstance(s, str)), None)
        if bad is not None:
            msg = f"Sequence {bad} is {out[bad]!r}, not a sequence."
            raise ValueError(msg)
        return [s.upper() for s in out]

    def _tokens(self, sequences: list[str]) -> tuple[np.ndarray, np.ndarray]:
        ids, _, owner = self.tokenizer.encode_batch(
            sequences, max_tokens=MAX_TOKENS, too_long=self.too_long  # type: ignore[arg-type]
        )  # fmt: skip
        return ids, owner

    def _averaged(self, function: Any, data: Any, batch_size: int) -> np.ndarray:
        """Outputs of the network by sequence: the mean over its rows of tokens."""
        sequences = self._sequences(data, None)
        ids, owner = self._tokens(sequences)
        length = (ids != 0).sum(axis=1)
        order = np.argsort(length, kind="stable")  # rows of like length share a batch
        parts = []
        with torch.inference_mode():
            for first in range(0, len(order), batch_size):
                batch = rows.trimmed(ids[order[first : first + batch_size]])
                parts.append(function(torch.from_numpy(batch).to(self._place())).float().cpu())
        out = torch.cat(parts).numpy()[np.argsort(order, kind="stable")]
        mean = np.zeros((len(sequences), out.shape[1]), dtype=np.float32)
        np.add.at(mean, owner, out)
        return mean / np.bincount(owner)[:, None].astype(np.float32)
