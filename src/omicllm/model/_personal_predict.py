"""Predictions of `model.PersonalExpression`: people, single haplotypes, gradients by base."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from omicllm._core.log import progress
from omicllm.model._personal_data import PersonalSequences, check_lengths
from omicllm.nn.genome_embedding import autocast, device_of, evaluated
from omicllm.nn.genome_embedding import both_strands as over_strands
from omicllm.nn.genome_input import one_hot

if TYPE_CHECKING:
    import pandas as pd


class PersonalPredict:
    """What a trained model can be asked."""

    module: Any
    is_trained_: bool
    sequences: PersonalSequences | None

    def predict(
        self,
        haplotypes: Any | None = None,
        *,
        both_strands: bool = True,
        batch_size: int = 16,
        accelerator: str = "auto",
        precision: str = "32",
        show_progress: bool | None = None,
    ) -> pd.DataFrame:
        """Predicted expression of people at genes, on the scale of the strategy's target.

        Only differences between people at one gene mean something for ``"pair_regression"``.

        Parameters
        ----------
        haplotypes
            Other people or genes, from :func:`omicllm.pp.haplotypes`; those of the model's own
            data by default.
        both_strands
            Average the sequence and its reverse complement.
        batch_size
            Haplotypes in a batch.
        accelerator, precision
            Where and how to run (``"32"``, ``"bf16"``).
        show_progress
            Draw a progress bar.

        Returns
        -------
        DataFrame float32, people x genes.
        """
        import pandas as pd

        if haplotypes is None:
            sequences = self._own_sequences()
        else:
            sequences = PersonalSequences(haplotypes, None, [str(n) for n in haplotypes.names])
            check_lengths(sequences, self.module.trunk)
        genes = sequences.genes
        out = np.zeros((len(sequences.people), len(genes)), dtype=np.float32)
        steps = progress(
            range(len(genes)), what="Genes", total=len(genes), show_progress=show_progress
        )
        with evaluated(self.module, device_of(accelerator)):  # on the device for all genes
            for g in steps:
                tokens, index = sequences(g)
                values = self.predict_tokens(
                    tokens, both_strands=both_strands, batch_size=batch_size,
                    accelerator=accelerator, precision=precision,
                )  # fmt: skip
                out[:, g] = values[index].mean(axis=1)
        return pd.DataFrame(out, index=sequences.people, columns=genes)

    def predict_tokens(
        self, tokens: np.ndarray, *, both_strands: bool = True, batch_size: int = 16,
        accelerator: str = "auto", precision: str = "32",
    ) -> np.ndarray:  # fmt: skip
        """Predicted expression of single haplotypes.

        Parameters
        ----------
        tokens
            int8 (n, length): A 0, C 1, G 2, T 3, N 4, padding -1.
        both_strands, batch_size, accelerator, precision
            As for :meth:`predict`.

        Returns
        -------
        float32 (n,).
        """
        self._check_trained()
        out = np.zeros(len(tokens), dtype=np.float32)
        with (
            evaluated(self.module, device_of(accelerator)) as device,
            torch.no_grad(), autocast(device, precision),
        ):  # fmt: skip
            for start in range(0, len(tokens), batch_size):
                x = torch.from_numpy(np.ascontiguousarray(tokens[start : start + batch_size]))
                values = over_strands(self.module, x.to(device), both=both_strands)
                out[start : start + batch_size] = values.float().cpu().numpy()
        return out

    def input_gradients(
        self, tokens: np.ndarray, *, both_strands: bool = True, accelerator: str = "auto"
    ) -> np.ndarray:
        """Gradient of the prediction by the one-hot rows of each sequence.

        Parameters
        ----------
        tokens
            int8 (n, length).
        both_strands
            Of the mean over both strands.
        accelerator
            Where to run.

        Returns
        -------
        float32 (n, length, 4): A, C, G, T.
        """
        self._check_trained()
        out = np.zeros((*np.shape(tokens), 4), dtype=np.float32)
        with evaluated(self.module, device_of(accelerator)) as device, torch.enable_grad():
            for i, row in enumerate(tokens):
                x = one_hot(row[None]).to(device).requires_grad_()
                value = over_strands(self.module, x, both=both_strands).sum()
                out[i] = torch.autograd.grad(value, x)[0][0].cpu().numpy()
        return out

    def _check_trained(self) -> None:
        if not self.is_trained_:
            msg = "This model is not trained: call train() first."
            raise RuntimeError(msg)

    def _own_sequences(self) -> PersonalSequences:
        if self.sequences is None:
            msg = (
                "This model was loaded without data: pass haplotypes=, or load it with "
                "PersonalExpression.load(dir, rna, haplotypes=...)."
            )
            raise ValueError(msg)
        return self.sequences
