"""`omicllm.model.OmicLM`: a language model that reads a profile as text and names its class."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from omicllm._core import checks
from omicllm._core import rng as rngs
from omicllm._core.class_labels import (
    class_codes,
    in_classes,
    label_column,
    limited,
    real_rows,
    trainable,
)
from omicllm.model._base import OmicModel, register_profiles
from omicllm.model._compat import setup_arguments, torch_device
from omicllm.model._omic_lm_text import CONTEXT, SCALES, OmicText, by_modality
from omicllm.model._saved import DESCRIPTION, check_fit, curve, description_of, mark_of, restoring
from omicllm.model._ult_sources import sources
from omicllm.nn.size_limit import no_larger_than
from omicllm.stats.class_genes import ridge_weights

import torch  # isort: skip  (after _base, which imports scvi quietly)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

#: Least number of training steps.
STEPS = 40
#: Strengths of the regularised least squares that the members of a tiny backbone start from, in
#: turn. The strongest gives differences of class means; weaker ones heed correlations of genes.
RIDGE = (100.0, 10.0, 30.0)
#: Rows that the scale of the first logits is taken from.
START_ROWS = 256
#: Tokens through a network at once.
_TOKENS = 1 << 16

DEFAULTS: dict[str, Any] = {
    "backbone": "tiny",
    "n_top": None,
    "scale": "auto",
    "bits": 8,
    "mu": 255.0,
    "max_value": 4.0,
    "patch_size": 10,
    "codepoints": "safe",
    "context": None,
    "d_model": 32,
    "n_layers": 1,
    "n_heads": 4,
    "n_members": 3,
    "tokenizer": None,
    "lora": False,
}

#: Settings of the published experiment.
PRESETS: dict[str, dict[str, Any]] = {
    "ieee_icdh": {
        "backbone": "hf:HuggingFaceTB/SmolLM-1.7B",
        "n_top": 40,
        "scale": "values",
        "bits": 8,
        "mu": 256.0,
        "max_value": 1.0,
        "patch_size": 10,
        "codepoints": "reference",
        "tokenizer": "pretrained",
        "lora": False,
    },
}
#: Folder of a pretrained backbone inside a saved model.
_BACKBONE = "backbone"


class StandardProfiles(NamedTuple):
    """Values of the genes in the text, as the table encodes them."""

    #: float32 (n_obs, n_genes), in standard deviations.
    z: np.ndarray
    #: bool (n_obs, n_genes): False where a row lacks the modality of a gene.
    present: np.ndarray


class OmicLM(OmicModel):
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
    classes_: list[str]

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
        given = {k: v for k, v in locals().items() if k in DEFAULTS and v is not None}
        self.params_ = settled(preset, given)
        self.preset_ = preset
        checks.one_of("scale", self.params_["scale"], SCALES)
        for name in ("n_top", "d_model", "n_layers", "n_heads", "n_members", "patch_size"):
            if self.params_[name] is not None:
                checks.whole_number(name, self.params_[name])
        if self.params_["d_model"] % (2 * self.params_["n_heads"]):
            msg = "d_model must be a multiple of twice n_heads."
            raise ValueError(msg)
        if adata is not None:
            super().__init__(adata)
        elif description is None:
            msg = "OmicLM needs adata: call OmicLM.setup_anndata(adata, labels_key=...) first."
            raise ValueError(msg)
        else:
            self._without_data(description)
        self.module = torch.nn.Module()
        self.text_, self.classes_ = None, []
        self._column: Any = None
        self._z: StandardProfiles | None = None
        self.var_names_ = np.array([])
        if adata is not None:
            self.var_names_ = np.concatenate([s.var_names for s in self._sources().values()])
        self.seed_ = seed
        self.backbone: Any = None
        self.init_params_ = {
            "kwargs": {},
            "non_kwargs": {"preset": preset, "seed": seed, **given},
        }

    @property
    def is_tiny(self) -> bool:
        """Whether the backbone is the small one."""
        return self.params_["backbone"] == "tiny"

    # -- objects ----------------------------------------------------------------------------

    @classmethod
    def setup_anndata(
        cls, adata: AnnData, labels_key: str, *, layer: str | None = None, **kwargs: Any
    ) -> None:
        """Say where profiles and labels are.

        Parameters
        ----------
        adata
            Observations x genes.
        labels_key
            Column of `obs` with the class of each row; rows may lack one.
        layer
            Layer with the values; ``X`` by default.
        kwargs
            Passed to scvi's registry.
        """
        arguments = setup_arguments(cls, labels_key=labels_key, layer=layer)
        class_codes(label_column(adata, labels_key), labels_key)
        sources(adata, layer=layer)
        register_profiles(cls, adata, layer, arguments, **kwargs)

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        labels_key: str,
        *,
        modalities: Sequence[str] | None = None,
        layer: str | Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Say which modalities make the text, and where profiles and labels are.

        Parameters
        ----------
        mdata
            Observations may be missing from some modalities.
        labels_key
            Column of ``mdata.obs``, or of the `obs` of modalities.
        modalities
            Names in the order of the text; all by default.
        layer
            Layer with the values, one name or a dict by modality; ``X`` by default.
        kwargs
            Passed to scvi's registry.
        """
        chosen = list(mdata.mod) if modalities is None else list(modalities)
        layers = by_modality(layer, chosen)
        class_codes(label_column(mdata, labels_key), labels_key)
        sources(mdata, layer=layers, modalities=chosen)
        arguments = setup_arguments(cls, labels_key=labels_key, modalities=chosen, layer=layers)
        register_profiles(cls, mdata, layers, arguments, **kwargs)

    @classmethod
    def over(cls, data: Any, labels: Any, setup: Mapping[str, Any], **params: Any) -> Any:
        """Make a model on an object that is only read: nothing is registered or written.

        For verbs: whatever the storage of `data`, it is read in blocks.

        Parameters
        ----------
        data
            AnnData or MuData.
        labels
            Column of labels, one per observation.
        setup
            Arguments as of `setup_anndata` or `setup_mudata`.
        params
            Arguments of the class.
        """
        model = cls(None, description={"setup_args": dict(setup)}, **params)
        model._adata, model._column = data, labels
        model.var_names_ = np.concatenate([s.var_names for s in model._sources().values()])
        return model

    def reading(self, **setup: Any) -> OmicLM:
        """The same trained model, reading objects in another way; this one stays as it is.

        Parameters
        ----------
        setup
            Arguments of :meth:`setup_anndata` or :meth:`setup_mudata` that change (``layer``,
            ``modalities``).
        """
        view = copy(self)
        before = self.registry_["setup_args"]
        view.registry_ = {**self.registry_, "setup_args": {**before, **setup}}
        if view.registry_["setup_args"] != before:
            view._z = None  # values of the training data, read in the other way
        return view

    def _codes(self) -> tuple[np.ndarray, list[str]]:
        """Class numbers and names of the rows of the model's data."""
        data, key = self._data(), self.registry_["setup_args"]["labels_key"]
        column = label_column(data, key) if self._column is None else self._column
        return class_codes(column, key)

    def _data(self, adata: Any = None) -> Any:
        if adata is None and self._adata is None:
            msg = "This model was loaded without data: pass adata, or pass adata to OmicLM.load."
            raise ValueError(msg)
        return self._adata if adata is None else adata

    def _sources(self, adata: Any = None) -> Any:
        data, setup = self._data(adata), self.registry_["setup_args"]
        if hasattr(data, "mod") and setup.get("modalities") is None:
            msg = "The model was set up with an AnnData; it cannot read a MuData."
            raise ValueError(msg)
        return sources(data, layer=setup.get("layer"), modalities=setup.get("modalities"))

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
        codes = self._prepared_codes(rows)
        text = self._text()
        z, present = self.standardized()
        labelled = np.flatnonzero(codes >= 0)
        if not self.is_tiny:
            self._train_pretrained(
                z[labelled],
                present[labelled],
                codes[labelled],
                max_epochs=max_epochs,
                batch_size=batch_size,
                lr=lr,
                augment=augment,
                training_args=training_args,
                resume=resume,
                checkpoint_dir=checkpoint_dir,
                weight_decay=weight_decay,
                seed=seed,
                show_progress=show_progress,
            )
            return
        from omicllm.train._omic_lm import ProfileData, ProfilePlan

        feed = ProfileData(
            z[labelled],
            present[labelled],
            codes[labelled],
            lambda z, here: (text.ids(z), text.keep(here)),
            mix=augment == "mix",
            gene_dropout=gene_dropout,
            batch_size=batch,
            n_members=len(self.module),
            seed=seed,
        )
        epochs = max(3, -(-STEPS // feed.n_steps)) if max_epochs is None else max_epochs
        plan = ProfilePlan(
            self.module,
            lr=rate,
            weight_decay=weight_decay,
            n_steps=epochs * feed.n_steps,
            label_smoothing=label_smoothing,
            lm_loss_weight=lm_loss_weight,
        )
        self._fit(
            plan,
            feed,
            stage="train",
            max_epochs=epochs,
            accelerator=accelerator,
            devices=devices,
            seed=seed,
            show_progress=show_progress,
            **trainer,
        )

    def _prepared_codes(self, rows: np.ndarray | None) -> np.ndarray:
        """Class of each row to train on, else -1; a new model gets its text and networks."""
        data = self._sources()
        codes, names = self._codes()
        codes = limited(codes, rows)
        used = trainable(codes, names)
        if self.text_ is not None and self.is_trained_:
            return in_classes(codes, names, self.classes_)
        self.classes_ = [names[i] for i in used]
        codes = in_classes(codes, names, self.classes_)
        # Drawn rows are trained on; what is chosen and scaled follows the real ones.
        real = real_rows(self._data(), codes)
        self._prepare(data, np.where(real, codes, -1))
        return codes

    def _prepare(self, data: Mapping[str, Any], codes: np.ndarray) -> None:
        """Choose genes, fit scales and table, and make the networks."""
        p = self.params_
        if not self.is_tiny:
            from omicllm.model._omic_lm_pretrained import PretrainedLM

            self.backbone = PretrainedLM(p, len(self.classes_), seed=self.seed_)
        context = p["context"] or (CONTEXT if self.is_tiny else self.backbone.context)
        # The tokens of a pretrained tokenizer are counted once the texts are there.
        room = context if p["tokenizer"] == "aligned" else 10**9
        text, z, present = OmicText.fit(
            data,
            codes,
            len(self.classes_),
            n_top=p["n_top"],
            scale=p["scale"],
            context=room,
            bits=p["bits"],
            mu=p["mu"],
            max_value=p["max_value"],
            codepoints=p["codepoints"],
        )
        self._z = StandardProfiles(z, present)
        labelled = codes >= 0
        if self.is_tiny:
            ids, keep = text.ids(z[labelled]), text.keep(present[labelled])
            with rngs.isolated(self.seed_):
                self.module = _networks(p, text, len(self.classes_))
                first = torch.from_numpy(ids[:START_ROWS])
                starts = _contrasts(text, z[labelled], codes[labelled], len(self.classes_))
                for i, member in enumerate(self.module):
                    weights = starts[i % len(starts)]
                    member.start(weights, first, torch.from_numpy(keep[:START_ROWS]))
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
        self.history_ = _appended(self.history_, history)
        self.is_trained_ = True

    # -- results ----------------------------------------------------------------------------

    @property
    def codec(self) -> OmicText:
        """How profiles become text: the genes, their scales and the table of characters."""
        if not self.is_trained_:
            msg = "The model is not trained yet: call model.train()."
            raise RuntimeError(msg)
        return self._text()

    def _text(self) -> OmicText:
        if self.text_ is None:
            msg = "The model is not trained yet: call model.train()."
            raise RuntimeError(msg)
        return self.text_

    def standardized(self, adata: AnnData | MuData | None = None) -> StandardProfiles:
        """Values of the genes in the text, before they are rounded to characters.

        Parameters
        ----------
        adata
            Data to read; the training data by default.

        Returns
        -------
        ``z`` float32 (n_obs, n_genes), in standard deviations, and ``present``, whether the row
        has the modality of the gene.
        """
        if adata is not None and adata is not self._adata:
            return StandardProfiles(*self._text().standardised(self._sources(adata)))
        if self._z is None:
            self._z = StandardProfiles(*self._text().standardised(self._sources()))
        return self._z

    def logits(self, ranks: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Logits of the classes, from characters.

        Parameters
        ----------
        ranks
            Numbers of the characters of genes (n, n_genes): ``model.codec.ranks(z)``.
        present
            Whether a gene was measured, bool (n, n_genes).

        Returns
        -------
        float32 (n_members, n, n_classes); one member for a pretrained backbone.
        """
        if not self.is_tiny:
            return self.backbone.logits(self._text(), ranks, present)[None]
        return _through(self, ranks, present, "forward")

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

        text, data = self.codec, self._data(adata)
        z, present = self.standardized(adata)
        logits = self.logits(text.ranks(z), present)
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
        text = self.codec
        z, present = self.standardized(adata)
        if not self.is_tiny:
            return self.backbone.logits(text, text.ranks(z), present, latent=True)
        states = _through(self, text.ranks(z), present, "latent")
        return np.concatenate(list(states), axis=1).astype(np.float32)

    def encode(self, adata: AnnData | MuData | None = None) -> list[str]:
        """Texts of observations: one character per gene in :attr:`genes`.

        Parameters
        ----------
        adata
            Data to encode; the training data by default.
        """
        text = self._text()
        z, present = self.standardized(adata)
        patch = None if self.params_["tokenizer"] == "aligned" else self.params_["patch_size"]
        return text.strings(text.ranks(z), present, patch)

    @property
    def genes(self) -> np.ndarray:
        """Names of the genes in the text, in text order."""
        return self._text().gene_names

    # -- saving -----------------------------------------------------------------------------

    def _arrays_to_save(self) -> dict[str, np.ndarray]:
        return {} if self.text_ is None else self.text_.arrays()

    def _attributes_to_save(self) -> dict[str, Any]:
        if self.text_ is None:
            return {}
        return {"text": self.text_.attributes(), "classes": list(self.classes_)}

    def _weights_to_save(self) -> dict[str, np.ndarray]:
        # Those of a pretrained backbone lie in their own folder.
        return {} if self.backbone is not None else super()._weights_to_save()

    def _save_beside(self, folder: Path) -> None:
        if self.backbone is not None and self.text_ is not None:
            self.backbone.save(folder / _BACKBONE, mark=mark_of(description_of(folder)))

    @classmethod
    def load(  # type: ignore[override]
        cls,
        dir_path: str | Path,
        adata: AnnData | MuData | None = None,
        *,
        backbone: str | Path | None = None,
        allow_download: bool = False,
        accelerator: str = "auto",
        device: int | str = "auto",
    ) -> Any:
        """Load a saved model.

        Parameters
        ----------
        dir_path
            Folder written by :meth:`save`.
        adata
            Data to attach. It must hold the genes of training, in any order.
        backbone
            Folder of the pretrained model that adapters (`lora`) were trained on, where it is not
            where it was then.
        allow_download
            Fetch that model from the Hugging Face hub, if it came from there. Without it no
            connection is opened.
        accelerator, device
            Where to put the model.

        Raises
        ------
        FileNotFoundError
            When there is no saved model, or the model of its adapters is not at hand.
        ValueError
            When the model is of another class or schema, its backbone of another model (saving was
            cut short), a file is damaged, or `adata` lacks genes.
        """
        folder = Path(dir_path)
        description, arrays = cls._read(folder)
        kept_arrays = {k[6:]: v for k, v in arrays.items() if k.startswith("array.")}
        attributes = description["attributes"]
        with restoring(folder):
            text = OmicText.restored(kept_arrays, attributes["text"]) if attributes else None
        if adata is not None:
            setup = {k: v for k, v in description["setup_args"].items() if v is not None}
            if text is not None:
                _has_genes(text, adata, setup)
            if hasattr(adata, "mod"):
                cls.setup_mudata(adata, **setup)
            else:
                cls.setup_anndata(adata, **setup)
        model = cls(adata, **description["init_params"], description=description)
        target = torch_device(accelerator, device)
        if text is not None:
            model._restore(
                text,
                description,
                arrays,
                folder,
                target,
                base=backbone,
                allow_download=allow_download,
            )
        model.var_names_ = np.asarray(description["var_names"], dtype=str)
        model.is_trained_ = description["is_trained"]
        model.history_ = {k: curve(v) for k, v in description["history"].items()}
        return model

    def _restore(
        self,
        text: OmicText,
        description: Mapping[str, Any],
        arrays: Any,
        folder: Path,
        target: Any,
        **base: Any,
    ) -> None:
        classes = description["attributes"]["classes"]
        self.text_, self.classes_ = text, list(classes)
        if self.params_["backbone"] == "tiny":
            state = {
                k[7:]: torch.from_numpy(v) for k, v in arrays.items() if k.startswith("module.")
            }
            limit = no_larger_than(sum(v.nbytes for v in arrays.values()), folder / DESCRIPTION)
            with torch.device("meta"), limit:  # shapes are compared before memory is asked for
                check_fit(_networks(self.params_, text, len(classes)), state, folder)
            with rngs.isolated(0):  # starting weights, which are overwritten below
                self.module = _networks(self.params_, text, len(classes))
            self.module.load_state_dict(state)
        else:
            from omicllm.model._omic_lm_pretrained import PretrainedLM

            with rngs.isolated(0):
                self.backbone = PretrainedLM.load(
                    folder / _BACKBONE,
                    self.params_,
                    text,
                    len(classes),
                    mark=mark_of(description),
                    **base,
                )
            self.module = self.backbone.model
        self.module.to(target)
        self.module.eval()


def _has_genes(text: OmicText, adata: Any, setup: Mapping[str, Any]) -> None:
    """Raise ValueError when genes of training are missing; nothing is written before."""
    from omicllm.model._omic_lm_text import _by_name

    data = sources(adata, layer=setup.get("layer"), modalities=setup.get("modalities"))
    for segment in text.segments:
        _by_name(data[segment.name], segment.universe)


def settled(preset: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings: the defaults, the preset's, and those given."""
    checks.one_of("preset", preset, (None, *PRESETS))
    out = {**DEFAULTS, **PRESETS.get(preset or "", {}), **given}
    if out["tokenizer"] is None:
        out["tokenizer"] = "aligned" if out["backbone"] == "tiny" else "pretrained"
    checks.one_of("tokenizer", out["tokenizer"], ("aligned", "pretrained"))
    if out["backbone"] == "tiny":
        for name, wrong in (("tokenizer", out["tokenizer"] != "aligned"), ("lora", out["lora"])):
            if wrong:
                msg = f"{name}={out[name]!r} is for pretrained backbones; the tiny one has none."
                raise ValueError(msg)
    return out


def _networks(p: Mapping[str, Any], text: OmicText, n_classes: int) -> Any:
    """Untrained members of the ensemble."""
    from omicllm.nn.language_model import ProfileLM

    return torch.nn.ModuleList(
        ProfileLM(
            text.values,
            text.n_positions,
            n_classes,
            n_markers=text.n_markers,
            d_model=p["d_model"],
            n_layers=p["n_layers"],
            n_heads=p["n_heads"],
        )
        for _ in range(p["n_members"])
    )


def _contrasts(
    text: OmicText, z: np.ndarray, codes: np.ndarray, n_classes: int
) -> list[np.ndarray]:
    """Weights of positions for classes (n_positions, n_classes), one array per strength."""
    out = []
    for strength in RIDGE:
        weights = np.zeros((text.n_positions, n_classes))
        weights[text.columns] = ridge_weights(z.astype(np.float64), codes, n_classes, strength)
        out.append(weights)
    return out


def _through(model: OmicLM, ranks: np.ndarray, present: np.ndarray, what: str) -> np.ndarray:
    """What each member of a tiny backbone makes of texts, (n_members, n, width), in blocks."""
    text = model._text()
    step = max(1, _TOKENS // text.n_positions)
    out = []
    with torch.no_grad():
        for start in range(0, len(ranks), step):
            ids = torch.from_numpy(text.with_markers(ranks[start : start + step]))
            keep = torch.from_numpy(text.keep(present[start : start + step]))
            device = next(model.module.parameters()).device
            hide = None if bool(keep.all()) else keep.to(device)
            states = [getattr(m, what)(ids.to(device), hide).float().cpu() for m in model.module]
            out.append(torch.stack(states))
    if not out:
        width = len(model.classes_) if what == "forward" else model.params_["d_model"]
        return np.zeros((len(model.module), 0, width), dtype=np.float32)
    return torch.cat(out, dim=1).numpy()


def _appended(
    earlier: Mapping[str, Any] | None, fresh: Mapping[str, list[float]]
) -> dict[str, Any]:
    """History with further values at its end."""
    import pandas as pd

    out = dict(earlier or {})
    for key, values in fresh.items():
        before = [] if key not in out else np.asarray(out[key], dtype=float).ravel().tolist()
        out[key] = pd.DataFrame({"value": [*before, *values]})
    return out
