"""How an imputing model is saved, and what is checked when it is loaded."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm.model._base import OmicModel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData


class ImputerStore(OmicModel):
    """State and storage of :class:`omicllm.model.SIGELImputer`.

    Attributes
    ----------
    shared_, genes_
        Genes in the memory, and those to impute.
    held_out_
        Bool: the shared gene was not trained on.
    """

    var_names_: np.ndarray
    shared_: np.ndarray
    genes_: np.ndarray
    held_out_: np.ndarray
    _embedding: np.ndarray
    _images: np.ndarray
    _mean: np.ndarray
    _sd: np.ndarray
    _obs_names: np.ndarray
    _floor: float

    def _set_up_from(self, adata: AnnData | None, description: Mapping[str, Any]) -> None:
        saved = description["attributes"]
        if adata is None:
            self._adata = self._adata_manager = None
            self.registry_ = {"setup_args": description["setup_args"]}
            self.is_trained_, self.history_, self.trainer = False, None, None
            self.train_indices_ = self.test_indices_ = self.validation_indices_ = None
            self.var_names_ = np.array(description["var_names"], dtype=object)
        elif _fingerprint(adata.obs_names) != saved["fingerprint"]:
            msg = (
                "adata holds other observations than the tissue the model was trained on, or "
                "another order of them. The generator draws in that tissue: train another model."
            )
            raise ValueError(msg)
        self.shared_ = np.array(saved["shared"], dtype=object)
        self.genes_ = np.array(saved["genes"], dtype=object)
        self._obs_names = np.array(saved["obs_names"], dtype=object)
        self._floor = saved["floor"]
        self._images = np.zeros((len(self.shared_), len(self._obs_names)), dtype=np.float32)
        n_genes = len(self.shared_) + len(self.genes_)
        self._embedding = np.zeros((n_genes, saved["n_features"]), dtype=np.float32)

    def _arrays_to_save(self) -> dict[str, np.ndarray]:
        arrays = {"embedding": self._embedding, "mean": self._mean, "sd": self._sd}
        if self.is_trained_:
            arrays["held_out"] = self.held_out_
        return arrays

    def _restore_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        self._embedding, self._mean, self._sd = (arrays[k] for k in ("embedding", "mean", "sd"))
        if "held_out" in arrays:
            self.held_out_ = arrays["held_out"]

    def _attributes_to_save(self) -> dict[str, Any]:
        return {
            "shared": list(self.shared_), "genes": list(self.genes_),
            "obs_names": list(self._obs_names), "fingerprint": _fingerprint(self._obs_names),
            "floor": self._floor, "n_features": self._embedding.shape[1],
        }  # fmt: skip


def _fingerprint(names: Any) -> str:
    return hashlib.sha256("\n".join(map(str, names)).encode()).hexdigest()
