"""`omicllm.model.GeneMaskLM`: a masked language model of DNA, and a classifier on top of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks
from omicllm._core import rng as rngs
from omicllm._core.checks import listed
from omicllm._core.files import read_json
from omicllm._core.log import logger
from omicllm.genome.kmers import MAX_K, N_SPECIAL, KmerTokenizer
from omicllm.genome.masking import mask_tokens, token_ranks
from omicllm.model._base import OmicModel
from omicllm.model._compat import setup_arguments
from omicllm.model._saved import DESCRIPTION, WEIGHTS, description_of
from omicllm.nn.kmer_bert import KmerBert
from omicllm.nn.kmer_bert_scores import integrated_gradients, received_attention
from omicllm.nn.size_limit import no_larger_than
from omicllm.train._genemask import (
    BatchData,
    KmerBertPlan,
    corpus_ranks,
    labelled_batches,
    masked_batches,
    trimmed,
)

import torch  # isort: skip

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"d_model": 128, "n_layers": 2, "n_heads": 2, "d_ff": 512, "dropout": 0.1},
    "logo_genemask": {"d_model": 256, "n_layers": 2, "n_heads": 8, "d_ff": 3072, "dropout": 0.0},
    "dnabert": {"d_model": 768, "n_layers": 12, "n_heads": 12, "d_ff": 3072, "dropout": 0.1},
}

_PUBLISHED = {"batch_size": 10, "accumulate": 25, "max_tokens": 510, "weight_decay": 0.01}
#: Settings of `pretrain`. A step is one update, on batch_size x accumulate pieces.
PRETRAINING: dict[str, dict[str, Any]] = {
    "small": {
        "max_steps": 1000,
        "batch_size": 32,
        "accumulate": 1,
        "max_tokens": 126,
        "lr": 1e-3,
        "warmup": 0.05,
        "weight_decay": 0.01,
    },
    "genemask_pretrain": {"max_steps": 10_000, "lr": 8e-4, "warmup": 0.05, **_PUBLISHED},
    "dnabert_pretrain": {"max_steps": 200_000, "lr": 4e-4, "warmup": 0.05, **_PUBLISHED},
}

#: Settings of `train` and `fit`: those published for up to 100 examples per class, and for more.
FINE_TUNING: dict[str, dict[str, Any]] = {
    "few_shot": {
        "max_epochs": 20,
        "batch_size": 5,
        "lr": 1e-4,
        "warmup": 0.1,
        "weight_decay": 0.01,
    },
    "many_shot": {
        "max_epochs": 5,
        "batch_size": 15,
        "lr": 5e-5,
        "warmup": 0.1,
        "weight_decay": 0.01,
    },
}
#: Up to so many examples per class are few.
FEW = 100
#: Learning rate of fine-tuning in models with fewer layers than DNABERT.
SMALL_MODEL_LR = 1e-3
#: Longest row of tokens, without [CLS] and [SEP].
MAX_TOKENS = 510
#: Gradients are clipped to this norm.
_LIMITS = {"gradient_clip_val": 1.0}
#: Points of the loss curve that a pretraining run leaves.
_POINTS = 20
#: The weights that tell the number of tokens, in a folder of `save` and in DNABERT's.
_OF_SAVE = "module.lm.bert.embeddings.word_embeddings.weight"
_DNABERT = ("bert.embeddings.word_embeddings.weight", "embeddings.word_embeddings.weight")


class GeneMaskLM(OmicModel):
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

    module: KmerBert

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
                ("d_model", d_model),
                ("n_layers", n_layers),
                ("n_heads", n_heads),
                ("d_ff", d_ff),
                ("dropout", dropout),
            )
            if value is not None
        }
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
                "k": k,
                "preset": preset,
                "too_long": too_long,
                "seed": rngs.seed_of(seed),
                **given,
            },
        }

    @classmethod
    def setup_anndata(  # type: ignore[override]
        cls,
        adata: AnnData,
        *,
        sequence_key: str = "sequence",
        labels_key: str | None = None,
        **kwargs: Any,
    ) -> None:
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
        arguments = setup_arguments(cls, sequence_key=sequence_key, labels_key=labels_key)
        manager = AnnDataManager(fields=[], setup_method_args=arguments)
        manager.register_fields(adata, **kwargs)
        cls.register_manager(manager)

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
        config = read_json(folder / "config.json", again="Copy the checkpoint anew")
        sizes = {len(KmerTokenizer(n)): n for n in (3, 4, 5, 6)}
        found = sizes.get(config.get("vocab_size", 0))
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
            "d_model": config["hidden_size"],
            "n_layers": config["num_hidden_layers"],
            "n_heads": config["num_attention_heads"],
            "d_ff": config["intermediate_size"],
            "dropout": config.get("hidden_dropout_prob", 0.1),
        }
        files = (folder / n for n in ("model.safetensors", "pytorch_model.bin"))
        stored = max((f.stat().st_size for f in files if f.is_file()), default=0)
        again = "Copy the checkpoint anew"
        with no_larger_than(stored, folder / "config.json", again=again):
            model: Any = cls(adata, k=found, preset="dnabert", **{**size, **params})
        network = model.module.lm
        n_tokens = _n_tokens(folder / "model.safetensors", _DNABERT)
        if n_tokens not in (None, len(KmerTokenizer(found))):
            msg = (
                f"config.json in {folder} is that of {found}-mers, but the weights are for "
                f"{n_tokens} tokens{_as_k(n_tokens)}."
            )
            raise ValueError(msg)
        try:
            loaded, info = type(network).from_pretrained(
                folder, config=network.config, local_files_only=True, output_loading_info=True
            )
        except RuntimeError as error:  # pytorch_model.bin, whose shapes are known after reading
            msg = f"The weights in {folder} have other shapes than config.json says."
            raise ValueError(msg) from error
        absent = sorted(n for n in info["missing_keys"] if not n.endswith("position_ids"))
        if absent or info.get("mismatched_keys"):
            msg = f"The weights in {folder} do not fit: {listed(absent, most=3)} missing."
            raise ValueError(msg)
        network.load_state_dict(loaded.state_dict())
        model.module.eval()
        model.is_trained_ = True
        return model

    # -- training ---------------------------------------------------------------------------

    def pretrain(
        self,
        *,
        fasta: str | Path | None = None,
        sequences: Sequence[str] | None = None,
        masking: str = "genemask",
        ranks: Any = None,
        rank_by: str = "token",
        curriculum: bool = False,
        settings: str = "small",
        max_steps: int | None = None,
        batch_size: int | None = None,
        accumulate: int | None = None,
        max_tokens: int | None = None,
        lr: float | None = None,
        warmup: float | None = None,
        weight_decay: float | None = None,
        checkpoint_dir: str | Path | None = None,
        resume: bool = False,
        rng: int | np.random.Generator | None = 0,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        show_progress: bool | None = None,
        **trainer: Any,
    ) -> None:
        """Train on masked tokens. Called again, it goes on from the weights it has.

        Parameters
        ----------
        fasta
            FASTA that pieces are cut from, in every pass anew (see
            :func:`omicllm.genome.sample_corpus`).
        sequences
            Sequences instead; those of the object when neither is given. Pass no test sequences.
        masking, ranks, rank_by
            As for :func:`omicllm.genome.mask_tokens`. Without `ranks` they are made from the
            corpus itself, for ``"genemask"``.
        curriculum
            Move from words that do not hold together to those that do, over the steps.
        settings
            Named values of the following: ``"small"`` (1,000 steps of 32 pieces of 126 tokens),
            ``"genemask_pretrain"`` or ``"dnabert_pretrain"`` (as published: 10,000 or 200,000
            steps of 250 pieces of 510 tokens).
        max_steps
            Updates of the weights.
        batch_size, accumulate
            Pieces in a batch, and batches in an update.
        max_tokens
            Longest piece in tokens, at most 510.
        lr, warmup, weight_decay
            Peak learning rate of AdamW, share of the steps in which it rises, weight decay.
        checkpoint_dir
            Folder for the state of training, kept up to date twenty times in a run.
        resume
            Go on from the state in `checkpoint_dir`, if there is one, as if there had been no
            interruption: same data, seed and arguments.
        rng
            Seed, Generator or None.
        accelerator, devices
            Passed to Lightning.
        show_progress
            Draw a progress bar.
        trainer
            Further arguments of :class:`lightning.pytorch.Trainer`.

        Raises
        ------
        ValueError
            Both `fasta` and `sequences`, or none at all; an argument out of range.
        """
        given = {
            "max_steps": max_steps,
            "batch_size": batch_size,
            "accumulate": accumulate,
            "max_tokens": max_tokens,
            "lr": lr,
            "warmup": warmup,
            "weight_decay": weight_decay,
        }
        chosen = settings_of(PRETRAINING, settings, given)
        longest = checks.whole_number("max_tokens", chosen["max_tokens"], at_least=5)
        if longest > MAX_TOKENS:
            msg = f"max_tokens must be at most {MAX_TOKENS}, not {longest}."
            raise ValueError(msg)
        if fasta is not None and sequences is not None:
            msg = "Pass either fasta= or sequences=, not both."
            raise ValueError(msg)
        if fasta is None:
            sequences = self._sequences(None, sequences)
        if masking == "genemask":
            if ranks is None:
                ranks = corpus_ranks(fasta, sequences, self.k)
            else:
                ranks = token_ranks(ranks, self.k)
        masks: dict[str, Any] = {"masking": masking, "rank_by": rank_by, "ranks": ranks}
        mask_tokens(np.array([5]), k=self.k, **masks)  # says what is wrong
        seed = rngs.seed_of(rng)
        n_steps, accumulated = chosen["max_steps"], chosen["accumulate"]
        epochs = min(_POINTS, n_steps)
        steps = -(-n_steps // epochs) * accumulated
        batches = masked_batches(
            fasta,
            sequences,
            self.tokenizer,
            batch_size=chosen["batch_size"],
            max_tokens=longest,
            n_steps=n_steps * accumulated,
            curriculum=curriculum,
            seed=seed,
            masking=masks,
        )
        plan = KmerBertPlan(
            self.module,
            task="mask",
            lr=chosen["lr"],
            weight_decay=chosen["weight_decay"],
            n_steps=n_steps,
            warmup=chosen["warmup"],
        )
        limits = {**_LIMITS, "max_steps": n_steps, "accumulate_grad_batches": accumulated}
        self._fit(
            plan,
            BatchData(batches, steps),
            stage="pretrain",
            max_epochs=epochs,
            seed=seed,
            accelerator=accelerator,
            devices=devices,
            show_progress=show_progress,
            checkpoint_dir=checkpoint_dir,
            resume=resume,
            **{**_precise(accelerator), **limits, **trainer},
        )

    def train(
        self,
        *,
        settings: str | None = None,
        max_epochs: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        warmup: float | None = None,
        weight_decay: float | None = None,
        mask: np.ndarray | None = None,
        rng: int | np.random.Generator | None = 0,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        show_progress: bool | None = None,
        **trainer: Any,
    ) -> None:
        """Fine-tune the whole model to classify the labelled sequences of the object.

        Parameters
        ----------
        settings
            Named values of the following, as published: ``"few_shot"`` (20 epochs, batches of 5,
            learning rate 1e-4) or ``"many_shot"`` (5, 15, 5e-5). By default the first with up to
            100 sequences per class, else the second, and a learning rate of 1e-3 in presets other
            than ``"dnabert"``.
        max_epochs
            Passes over the sequences.
        batch_size
            Sequences in a batch.
        lr, warmup, weight_decay
            Peak learning rate of AdamW, share of the steps in which it rises, weight decay.
        mask
            Rows that may be trained on: bool, one per observation. All with a label when None;
            leave test rows out.
        rng
            Seed, Generator or None.
        accelerator, devices
            Passed to Lightning.
        show_progress
            Draw a progress bar.
        trainer
            Further arguments of :class:`lightning.pytorch.Trainer`.

        Raises
        ------
        ValueError
            Without labels, or under two classes.
        """
        import pandas as pd

        key = self._setup("labels_key")
        if self._adata is None or key is None:
            msg = "There are no labels: call setup_anndata(adata, labels_key=...), or fit(...)."
            raise ValueError(msg)
        labels = pd.Series(np.asarray(self._adata.obs[key]), dtype=object)
        usable = labels.notna().to_numpy()
        if mask is not None:
            if np.shape(mask) != (len(labels),):
                msg = f"mask must hold one value per observation ({len(labels)})."
                raise ValueError(msg)
            usable = usable & np.asarray(mask, dtype=bool)
        sequences = self._sequences(None, None)
        self.fit(
            [s for s, used in zip(sequences, usable, strict=True) if used],
            labels.to_numpy()[usable].tolist(),
            settings=settings,
            max_epochs=max_epochs,
            batch_size=batch_size,
            lr=lr,
            warmup=warmup,
            weight_decay=weight_decay,
            rng=rng,
            accelerator=accelerator,
            devices=devices,
            show_progress=show_progress,
            **trainer,
        )

    def fit(
        self,
        sequences: Sequence[str],
        labels: Any,
        *,
        settings: str | None = None,
        max_epochs: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        warmup: float | None = None,
        weight_decay: float | None = None,
        rng: int | np.random.Generator | None = 0,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        show_progress: bool | None = None,
        **trainer: Any,
    ) -> Any:
        """Fine-tune on sequences and labels, and return the model: the form few-shot takes.

        Parameters
        ----------
        sequences, labels
            One label for each sequence.
        settings, max_epochs, batch_size, lr, warmup, weight_decay
            As for :meth:`train`.
        rng, accelerator, devices, show_progress, trainer
            As for :meth:`train`.

        Raises
        ------
        ValueError
            Under two classes, or not one label per sequence.
        """
        labels = np.asarray(labels)
        if labels.shape != (len(sequences),):
            msg = f"There are {len(sequences)} sequences and labels of shape {labels.shape}."
            raise ValueError(msg)
        classes, codes = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            msg = f"Two classes are needed to train a classifier, not {len(classes)}."
            raise ValueError(msg)
        given = {
            "max_epochs": max_epochs,
            "batch_size": batch_size,
            "lr": lr,
            "warmup": warmup,
            "weight_decay": weight_decay,
        }
        if settings is None:
            settings = "few_shot" if len(codes) / len(classes) <= FEW else "many_shot"
            if lr is None and self.init_params_["non_kwargs"]["preset"] != "dnabert":
                given["lr"] = SMALL_MODEL_LR
        chosen = settings_of(FINE_TUNING, settings, given)
        epochs, size = chosen["max_epochs"], chosen["batch_size"]
        ids, owner = self._tokens(self._checked(sequences))
        steps = -(-len(ids) // size)
        seed = rngs.seed_of(rng)
        with rngs.isolated(seed):
            self.module.add_head(len(classes))
        self.classes_ = classes
        plan = KmerBertPlan(
            self.module,
            task="class",
            lr=chosen["lr"],
            weight_decay=chosen["weight_decay"],
            n_steps=epochs * steps,
            warmup=chosen["warmup"],
        )
        batches = labelled_batches(ids, codes[owner], size, seed)
        self._fit(
            plan,
            BatchData(batches, steps),
            stage="train",
            max_epochs=epochs,
            seed=seed,
            accelerator=accelerator,
            devices=devices,
            show_progress=show_progress,
            **{**_precise(accelerator), **_LIMITS, **trainer},
        )
        return self

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
        self,
        data: AnnData | Sequence[str] | None = None,
        *,
        masking: str = "dnabert",
        ranks: Any = None,
        batch_size: int = 64,
        rng: int | np.random.Generator | None = 0,
    ) -> float:
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
            ids.astype(np.int64),
            masking=masking,  # type: ignore[arg-type]
            ranks=ranks,
            k=self.k,
            rng=rng,
        )
        total, count = 0.0, 0
        with torch.inference_mode():
            for first in range(0, len(ids), batch_size):
                part = slice(first, first + batch_size)
                n = int((labels[part] >= 0).sum())
                if n:
                    loss = self.module.masked_loss(
                        torch.from_numpy(out[part]).to(self._device()),
                        torch.from_numpy(labels[part]).to(self._device()),
                    )
                    total, count = total + n * float(loss), count + n
        if not count:
            msg = "No token was masked: pass more or longer sequences."
            raise ValueError(msg)
        return total / count

    def get_base_scores(
        self,
        data: AnnData | Sequence[str] | None = None,
        *,
        method: str = "attribution",
        positive: Any = None,
        n_steps: int = 16,
        batch_size: int = 64,
    ) -> list[np.ndarray]:
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
            members = order[first : first + batch_size]
            batch = torch.from_numpy(trimmed(ids[members])).to(self._device())
            if method == "attention":
                out = received_attention(self.module, batch)
            else:
                out = integrated_gradients(self.module, batch, target, n_steps=n_steps)
            for row, score in zip(members.tolist(), out.float().cpu().numpy(), strict=True):
                by_row[row] = score[1 : length[row] - 1]
        parts: list[list[np.ndarray]] = [[] for _ in sequences]
        for i, score in zip(owner.tolist(), by_row, strict=True):
            parts[i].append(score)
        return [
            _by_base(np.concatenate(scores), self.k, len(sequence))
            for scores, sequence in zip(parts, sequences, strict=True)
        ]

    # -- saving -----------------------------------------------------------------------------

    def _attributes_to_save(self) -> dict[str, Any]:
        return {"classes": self.classes_.tolist()}

    @classmethod
    def _load(cls, dir_path: str | Path, adata: AnnData | None, **kwargs: Any) -> Any:
        folder = Path(dir_path)
        if (folder / DESCRIPTION).exists() and (folder / WEIGHTS).exists():
            stated = description_of(folder).get("init_params", {}).get("k")
            n_tokens = _n_tokens(folder / WEIGHTS, (_OF_SAVE,))
            possible = type(stated) is int and 1 <= stated <= MAX_K  # the class refuses others
            if possible and n_tokens is not None and n_tokens != N_SPECIAL + 4**stated:
                msg = (
                    f"{folder} says that it is a model of {stated}-mers ({N_SPECIAL + 4**stated} "
                    f"tokens), but its weights are for {n_tokens} tokens{_as_k(n_tokens)}: "
                    f"{DESCRIPTION} and {WEIGHTS} do not belong together."
                )
                raise ValueError(msg)
        return super()._load(dir_path, adata, **kwargs)

    # -- sequences --------------------------------------------------------------------------

    def _setup(self, name: str) -> Any:
        return self.registry_.get("setup_args", {}).get(name)

    def _device(self) -> torch.device:
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
            sequences,
            max_tokens=MAX_TOKENS,
            too_long=self.too_long,  # type: ignore[arg-type]
        )
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
                batch = trimmed(ids[order[first : first + batch_size]])
                parts.append(function(torch.from_numpy(batch).to(self._device())).float().cpu())
        out = torch.cat(parts).numpy()[np.argsort(order, kind="stable")]
        mean = np.zeros((len(sequences), out.shape[1]), dtype=np.float32)
        np.add.at(mean, owner, out)
        return mean / np.bincount(owner)[:, None].astype(np.float32)

    def __repr__(self) -> str:
        """Say what the model is, in one line."""
        state = "trained" if self.is_trained_ else "not trained"
        return f"GeneMaskLM({self.k}-mers, {self.init_params_['non_kwargs']['preset']}, {state})"


def _registry(registry: dict[str, Any]) -> dict[str, Any]:
    """A registry without fields, for a model without an object."""
    return {"field_registries": {}, **registry}


def settings_of(table: dict[str, dict[str, Any]], settings: str, given: dict[str, Any]) -> Any:
    """Named settings, with those that were given in place of theirs, checked.

    Raises
    ------
    ValueError
        An unknown name, or a value out of range.
    """
    checks.one_of("settings", settings, table)
    out = {**table[settings], **{k: v for k, v in given.items() if v is not None}}
    for name in ("max_steps", "max_epochs", "batch_size", "accumulate"):
        if name in out:
            out[name] = checks.whole_number(name, out[name])
    checks.share("warmup", out["warmup"])
    for name in ("lr", "weight_decay"):
        if not out[name] >= 0 or (name == "lr" and out[name] == 0):
            msg = f"{name} must be {'positive' if name == 'lr' else 'at least 0'}, not {out[name]}."
            raise ValueError(msg)
    return out


def _n_tokens(path: Path, names: tuple[str, ...]) -> int | None:
    """Rows of the word embeddings in a safetensors file, without reading them; None if absent."""
    from safetensors import safe_open

    if not path.exists():
        return None
    with safe_open(path, framework="numpy") as weights:
        name = next((n for n in names if n in weights.keys()), None)  # noqa: SIM118 - no mapping
        return int(weights.get_slice(name).get_shape()[0]) if name else None


def _as_k(n_tokens: int | None) -> str:
    k = next((k for k in (3, 4, 5, 6) if N_SPECIAL + 4**k == n_tokens), None)
    return "" if k is None else f", those of {k}-mers"


def _precise(accelerator: str) -> dict[str, Any]:
    """Half precision where the card is made for it."""
    wanted = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return {"precision": "bf16-mixed"} if wanted and torch.cuda.is_bf16_supported() else {}


def _by_base(score: np.ndarray, k: int, n_bases: int) -> np.ndarray:
    """Mean score of the k-mers that cover each base."""
    ones = np.ones(k)
    total, count = np.convolve(score, ones), np.convolve(np.ones(len(score)), ones)
    out = np.full(n_bases, np.nan, dtype=np.float32)
    out[: len(total)] = total / count
    return out
