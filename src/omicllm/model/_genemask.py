"""`omicllm.model.GeneMaskLM`: a masked language model of DNA, and a classifier on top of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks
from omicllm._core import rng as rngs
from omicllm.genome.kmers import KmerTokenizer
from omicllm.model._base import OmicModel
from omicllm.model._genemask_pretrained import GeneMaskPretrained
from omicllm.model._genemask_scores import GeneMaskScores
from omicllm.model._genemask_settings import PRESETS
from omicllm.model._genemask_training import GeneMaskTraining
from omicllm.nn.kmer_bert import KmerBert

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData


class GeneMaskLM(GeneMaskTraining, GeneMaskScores, GeneMaskPretrained, OmicModel):
    """A BERT on k-mers, pretrained by span masking and fine-tuned to classify sequences.

    Parameters
    ----------
    adata
        Object that :meth:`setup_anndata` was called on. It may be left out: every method takes
        sequences too.
    k
        Bases of a token, 3 to 6.
    preset
        ``"tiny"`` (2 layers of 128), ``"logo_genemask"`` (2 of 256) or ``"dnabert"`` (12 of 768).
    d_model, n_layers, n_heads, d_ff, dropout
        Override the preset.
    too_long
        Sequences of more than 510 tokens: ``"refuse"``, ``"split"`` (parts are classified apart
        and their scores averaged) or ``"truncate"``.
    seed
        Seed of starting weights.

    Examples
    --------
    >>> import omicllm as ol
    >>> ol.model.GeneMaskLM.setup_anndata(adata, labels_key="label")
    >>> model = ol.model.GeneMaskLM(adata)
    >>> model.pretrain(fasta="genome.fa.gz")
    >>> model.train()
    >>> model.predict()

    Notes
    -----
    The classifier is linear, on the mean of the last hidden states of a sequence's k-mers. Roy et
    al. 2023, GeneMask, arXiv:2307.15933; Ji et al. 2021, DNABERT,
    doi:10.1093/bioinformatics/btab083.
    """

    def __init__(
        self,
        adata: AnnData | None = None,
        *,
        k: int = 6,
        preset: str = "tiny",
        d_model: int | None = None,
        n_layers: int | None = None,
        n_heads: int | None = None,
        d_ff: int | None = None,
        dropout: float | None = None,
        too_long: str = "refuse",
        seed: int = 0,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        checks.one_of("preset", preset, PRESETS)
        checks.one_of("too_long", too_long, ("refuse", "split", "truncate"))
        checks.one_of("k", k, (3, 4, 5, 6))
        given = {
            name: value
            for name, value in (
                ("d_model", d_model), ("n_layers", n_layers), ("n_heads", n_heads),
                ("d_ff", d_ff), ("dropout", dropout),
            )
            if value is not None
        }  # fmt: skip
        size = {**PRESETS[preset], **given}
        for name in ("d_model", "n_layers", "n_heads", "d_ff"):
            checks.whole_number(name, size[name])
        if size["d_model"] % size["n_heads"]:
            msg = f"d_model ({size['d_model']}) must be a multiple of n_heads ({size['n_heads']})."
            raise ValueError(msg)
        registry = {"setup_args": dict((description or {}).get("setup_args", {}))}
        super().__init__(adata, registry=None if adata is not None else _registry(registry))
        self.var_names_ = np.array([], dtype=str)
        self.k, self.too_long = k, too_long
        self.tokenizer = KmerTokenizer(k, other="unknown")
        self.classes_ = np.array((description or {}).get("attributes", {}).get("classes", []))
        with rngs.isolated(rngs.seed_of(seed)):
            self.module = KmerBert(len(self.tokenizer), n_classes=len(self.classes_), **size)
        self.module.eval()
        self.init_params_ = {
            "kwargs": {},
            "non_kwargs": {
                "k": k, "preset": preset, "too_long": too_long, "seed": rngs.seed_of(seed), **given,
            },
        }  # fmt: skip

    @classmethod
    def setup_anndata(  # type: ignore[override]
        cls, adata: AnnData, *, sequence_key: str = "sequence", labels_key: str | None = None,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        """Say where sequences and labels are.

        Parameters
        ----------
        adata
            One sequence per observation.
        sequence_key, labels_key
            Columns of `obs`; rows may lack a label.
        kwargs
            Passed to scvi's registry.
        """
        from scvi.data import AnnDataManager

        for name, key in (("sequence_key", sequence_key), ("labels_key", labels_key)):
            if key is not None and key not in adata.obs:
                raise checks.missing(
                    key, "adata.obs", adata.obs, hint=f"Name a column with {name}=."
                )
        arguments = cls._get_setup_method_args(
            sequence_key=sequence_key, labels_key=labels_key, cls=cls
        )
        manager = AnnDataManager(fields=[], setup_method_args=arguments)
        manager.register_fields(adata, **kwargs)
        cls.register_manager(manager)

    def __repr__(self) -> str:
        """Say what the model is, in one line."""
        state = "trained" if self.is_trained_ else "not trained"
        return f"GeneMaskLM({self.k}-mers, {self.init_params_['non_kwargs']['preset']}, {state})"


def _registry(registry: dict[str, Any]) -> dict[str, Any]:
    """A registry without fields, for a model without an object."""
    return {"field_registries": {}, **registry}
