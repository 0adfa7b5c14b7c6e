"""`omicllm.model.OmicLM`: a language model that reads a profile as text and names its class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks
from omicllm._core import rng as rngs
from omicllm.model import _omic_lm_parts as parts
from omicllm.model._base import OmicModel
from omicllm.model._omic_lm_store import OmicLMStore
from omicllm.model._omic_lm_text import SCALES, OmicText

import torch  # isort: skip  (after _base, which imports scvi quietly)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData


class OmicLM(OmicLMStore, OmicModel):
    """Classify profiles with a causal language model that reads them as text.

    A profile becomes a string with one character per gene (see :class:`omicllm.model.ULT`), the
    model reads it and the token after ``<LABEL>`` is its class. Probabilities come from the logits
    of the class tokens in one forward pass.

    Parameters
    ----------
    adata
        Object that :meth:`setup_anndata` or :meth:`setup_mudata` was called on.
    backbone
        ``"tiny"``: a small Llama made from a configuration, nothing is downloaded, one token per
        character. ``"hf:<name>"`` or the path of a folder: a pretrained causal language model.
    preset
        ``"ieee_icdh"``: all settings of the published experiment (SmolLM-1.7B, 40 genes, a table
        for z-scores that saturates at 1, full fine-tuning). Other arguments override it.
    n_top
        Genes in the text, of all modalities together; 400 by default, or all genes of the largest
        modality if these are fewer. They are chosen on the labelled rows of training, for each
        class in turn those that set it apart most.
    scale
        What is standardised: ``"rank"`` (normal scores of ranks within the sample), ``"log"``
        (library-normalised counts), ``"values"``, or ``"auto"``: ranks from 1,000 genes on, else
        ``"log"`` for counts and ``"values"`` for other data.
    bits, mu, max_value
        Of the lookup table, see :class:`omicllm.codec.LookupTable`; `max_value` is in standard
        deviations.
    patch_size
        Characters in a word of the text (pretrained backbones).
    codepoints
        Characters of the table, ``"safe"`` or ``"reference"``.
    context
        Longest text in tokens; 4,096 for the tiny backbone, else what the pretrained model has.
    d_model, n_layers, n_heads
        Size of the tiny backbone.
    n_members
        Tiny backbones that are trained side by side; their probabilities are averaged.
    tokenizer
        ``"aligned"`` (one token per character) or ``"pretrained"`` (the backbone's own, as
        published). By default aligned for the tiny backbone and pretrained for others.
    lora
        Train low-rank adapters instead of all weights (pretrained backbones); True or a dict with
        arguments of :class:`peft.LoraConfig`.
    seed
        Seed of starting weights.

    Examples
    --------
    >>> import omicllm as ol
    >>> ol.model.OmicLM.setup_anndata(adata, labels_key="subtype")
    >>> model = ol.model.OmicLM(adata)
    >>> model.train()
    >>> model.predict()

    References
    ----------
    Aligning foundation models on encoded synthetic omic data for patient stratification, IEEE ICDH
    2025. Unified lookup tables: doi 10.1088/2632-2153/ae143c. Llama: Touvron et al. 2023.
    """

    text_: OmicText | None = None
    params_: dict[str, Any]

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        *,
        backbone: str | None = None,
        preset: str | None = None,
        n_top: int | None = None,
        scale: str | None = None,
        bits: int | None = None,
        mu: float | None = None,
        max_value: float | None = None,
        patch_size: int | None = None,
        codepoints: str | None = None,
        context: int | None = None,
        d_model: int | None = None,
        n_layers: int | None = None,
        n_heads: int | None = None,
        n_members: int | None = None,
        tokenizer: str | None = None,
        lora: bool | Mapping[str, Any] | None = None,
        seed: int = 0,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        given = {k: v for k, v in locals().items() if k in parts.DEFAULTS and v is not None}
        self.params_ = parts.settled(preset, given)
        self.preset_ = preset
        checks.one_of("scale", self.params_["scale"], SCALES)
        for name in ("n_top", "d_model", "n_layers", "n_heads", "n_members", "patch_size"):
            if self.params_[name] is not None:
                checks.whole_number(name, self.params_[name])
        if self.params_["d_model"] % (2 * self.params_["n_heads"]):
            msg = "d_model must be a multiple of twice n_heads."
            raise ValueError(msg)
        self._begin(adata, description)
        self.seed_ = seed
        self.backbone: Any = None
        self.init_params_ = {
            "kwargs": {}, "non_kwargs": {"preset": preset, "seed": seed, **given},
        }  # fmt: skip

    @property
    def is_tiny(self) -> bool:
        """Whether the backbone is the small one."""
        return self.params_["backbone"] == "tiny"

    # -- training ---------------------------------------------------------------------------

    def train(
        self,
        *,
        max_epochs: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        augment: str | None = "mix",
        gene_dropout: float = 0.6,
        label_smoothing: float = 0.0,
        weight_decay: float = 0.1,
        lm_loss_weight: float = 0.0,
        rows: np.ndarray | None = None,
        training_args: Mapping[str, Any] | str | Path | None = None,
        checkpoint_dir: str | Path | None = None,
        resume: bool | str | Path = False,
        rng: int | np.random.Generator | None = 0,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        show_progress: bool | None = None,
        **trainer: Any,
    ) -> None:
        """Choose genes, fit the table, and train on the rows that have a label.

        Called again, the tiny backbone goes on from its weights with the same genes and table.

        Parameters
        ----------
        max_epochs
            Passes over the labelled rows. Tiny: by default as many as make 40 steps, at least 3.
        batch_size
            Texts in a batch; 32.
        lr
            Learning rate; 1e-3 for the tiny backbone, 1e-4 for others.
        augment
            ``"mix"``: every text shown is a mixture of two rows of one class. None: rows as they
            are. (Synthetic rows of :func:`omicllm.pp.augment` are rows of `adata`.)
        gene_dropout
            Share of the genes hidden in each text (tiny backbone, in training only).
        label_smoothing, weight_decay
            Of the loss and of AdamW.
        lm_loss_weight
            Tiny backbone: weight of the next-character loss. A pretrained backbone always has the
            loss of all tokens, as published.
        rows
            Numbers or a mask of the rows that may be trained on; all that have a label by default.
        training_args
            Pretrained backbones: arguments of :class:`transformers.TrainingArguments`, a dict or a
            YAML file.
        checkpoint_dir
            Pretrained backbones: where checkpoints are kept; a temporary folder by default.
        resume
            Pretrained backbones: go on from the last checkpoint there, or from the one named.
        rng
            Seed, Generator or None.
        accelerator, devices
            Passed to Lightning (tiny backbone).
        show_progress
            Draw a progress bar.
        trainer
            Further arguments of :class:`lightning.pytorch.Trainer`.

        Raises
        ------
        ValueError
            Fewer than two classes; NaN or infinite values; a text longer than the context.
        """
        checks.one_of("augment", augment, ("mix", None))
        checks.share("gene_dropout", gene_dropout, high=0.99)
        checks.share("label_smoothing", label_smoothing, high=0.99)
        batch = 32 if batch_size is None else checks.whole_number("batch_size", batch_size)
        rate = 1e-3 if lr is None else checks.positive("lr", lr)
        if max_epochs is not None:
            checks.whole_number("max_epochs", max_epochs)
        idle = ("gene_dropout", "label_smoothing", "lm_loss_weight")
        if self.is_tiny:
            idle = ("training_args", "checkpoint_dir", "resume")
        elif trainer:
            msg = f"{', '.join(trainer)}: Lightning's arguments are for the tiny backbone."
            raise ValueError(msg)
        why = f"with backbone={self.params_['backbone']!r}"
        checks.no_effect(OmicLM.train, locals(), idle, because=why)
        seed = rngs.seed_of(rng)
        data = self._sources()
        codes, names = self._codes()
        codes = parts.limited(codes, rows)
        used = parts.trainable(codes, names)
        if self.text_ is None or not self.is_trained_:
            self.classes_ = [names[i] for i in used]
            codes = parts.in_classes(codes, names, self.classes_)
            # Drawn rows are trained on; what is chosen and scaled follows the real ones.
            real = parts.real_rows(self._data(), codes)
            self._prepare(data, np.where(real, codes, -1))
        else:
            codes = parts.in_classes(codes, names, self.classes_)
        text = self._text()
        z, present = self._standardised()
        mine = np.flatnonzero(codes >= 0)
        if not self.is_tiny:
            self._train_pretrained(
                z[mine], present[mine], codes[mine], max_epochs=max_epochs, batch_size=batch_size,
                lr=lr, augment=augment, training_args=training_args, resume=resume,
                checkpoint_dir=checkpoint_dir, weight_decay=weight_decay, seed=seed,
                show_progress=show_progress,
            )  # fmt: skip
            return
        from omicllm.train._omic_lm import ProfileData, ProfilePlan

        feed = ProfileData(
            z[mine], present[mine], codes[mine],
            lambda z, here: (text.ids(z), text.keep(here)),
            mix=augment == "mix", gene_dropout=gene_dropout, batch_size=batch,
            n_members=len(self.module), seed=seed,
        )  # fmt: skip
        epochs = max(3, -(-parts.STEPS // feed.n_steps)) if max_epochs is None else max_epochs
        plan = ProfilePlan(
            self.module, lr=rate, weight_decay=weight_decay,
            n_steps=epochs * feed.n_steps, label_smoothing=label_smoothing,
            lm_loss_weight=lm_loss_weight,
        )  # fmt: skip
        self._fit(
            plan, feed, stage="train", max_epochs=epochs, accelerator=accelerator,
            devices=devices, seed=seed, show_progress=show_progress, **trainer,
        )  # fmt: skip

    def _prepare(self, data: Mapping[str, Any], codes: np.ndarray) -> None:
        """Choose genes, fit scales and table, and make the networks."""
        p = self.params_
        if not self.is_tiny:
            from omicllm.model._omic_lm_pretrained import PretrainedLM

            self.backbone = PretrainedLM(p, len(self.classes_), seed=self.seed_)
        context = p["context"] or (parts.CONTEXT if self.is_tiny else self.backbone.context)
        # The tokens of a pretrained tokenizer are counted once the texts are there.
        room = context if p["tokenizer"] == "aligned" else 10**9
        text, z, present = OmicText.fit(
            data, codes, len(self.classes_), n_top=p["n_top"], scale=p["scale"],
            context=room, bits=p["bits"], mu=p["mu"], max_value=p["max_value"],
            codepoints=p["codepoints"],
        )  # fmt: skip
        self._z = (z, present)
        mine = codes >= 0
        if self.is_tiny:
            ids, keep = text.ids(z[mine]), text.keep(present[mine])
            with rngs.isolated(self.seed_):
                self.module = parts.networks(p, text, len(self.classes_))
                first = torch.from_numpy(ids[: parts.START_ROWS])
                own = parts.contrasts(text, z[mine], codes[mine], len(self.classes_))
                for i, member in enumerate(self.module):
                    weights = own[i % len(own)]
                    member.start(weights, first, torch.from_numpy(keep[: parts.START_ROWS]))
        else:
            self.backbone.build(text, context)
            self.module = self.backbone.model
        self.text_ = text

    def _train_pretrained(
        self, z: np.ndarray, present: np.ndarray, codes: np.ndarray, **options: Any
    ) -> None:
        text = self._text()
        self.is_trained_ = False
        history = self.backbone.train(text, z, present, codes, preset=self.preset_, **options)
        self.module = self.backbone.model
        self.history_ = parts.appended(self.history_, history)
        self.is_trained_ = True

    # -- results ----------------------------------------------------------------------------

    def _text(self) -> OmicText:
        if self.text_ is None:
            msg = "The model is not trained yet: call model.train()."
            raise RuntimeError(msg)
        return self.text_

    def _standardised(self, adata: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """What the text makes of an object; that of the training data is kept."""
        if adata is not None and adata is not self._adata:
            return self._text().standardised(self._sources(adata))
        if self._z is None:
            self._z = self._text().standardised(self._sources())
        return self._z

    def _ready(self) -> OmicText:
        if not self.is_trained_:
            msg = "The model is not trained yet: call model.train()."
            raise RuntimeError(msg)
        return self._text()

    def _logits(self, ranks: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Class logits of each member, (n_members, n, n_classes), from token numbers of genes."""
        if not self.is_tiny:
            return self.backbone.logits(self._text(), ranks, present)[None]
        return parts.through(self, ranks, present, "forward")

    def predict(
        self, adata: AnnData | MuData | None = None, *, soft: bool = False
    ) -> np.ndarray | pd.DataFrame:
        """Classes of observations, from the logits of the class tokens in one forward pass.

        Parameters
        ----------
        adata
            Data to predict, set up or not, with or without labels; the training data by default.
        soft
            Return probabilities.

        Returns
        -------
        Array of class names, or with `soft` a DataFrame (n_obs, n_classes) of probabilities.
        """
        import pandas as pd

        text, data = self._ready(), self._data(adata)
        z, present = self._standardised(adata)
        logits = self._logits(text.ranks(z), present)
        logits = logits - logits.max(axis=2, keepdims=True)
        P = np.exp(logits)
        P = (P / P.sum(axis=2, keepdims=True)).mean(axis=0)
        if soft:
            return pd.DataFrame(P, index=data.obs_names, columns=list(self.classes_))
        return np.array(self.classes_, dtype=object)[P.argmax(axis=1)]

    def get_latent_representation(self, adata: AnnData | MuData | None = None) -> np.ndarray:
        """State of the network at ``<LABEL>``.

        Parameters
        ----------
        adata
            Data to embed; the training data by default.

        Returns
        -------
        float32 (n_obs, d); the members of the ensemble stand side by side.
        """
        text = self._ready()
        z, present = self._standardised(adata)
        if not self.is_tiny:
            return self.backbone.logits(text, text.ranks(z), present, latent=True)
        states = parts.through(self, text.ranks(z), present, "latent")
        return np.concatenate(list(states), axis=1).astype(np.float32)

    def encode(self, adata: AnnData | MuData | None = None) -> list[str]:
        """Texts of observations: one character per gene in :attr:`genes`.

        Parameters
        ----------
        adata
            Data to encode; the training data by default.
        """
        text = self._text()
        z, present = self._standardised(adata)
        patch = None if self.params_["tokenizer"] == "aligned" else self.params_["patch_size"]
        return text.strings(text.ranks(z), present, patch)

    @property
    def genes(self) -> np.ndarray:
        """Names of the genes in the text, in text order."""
        return self._text().gene_names
