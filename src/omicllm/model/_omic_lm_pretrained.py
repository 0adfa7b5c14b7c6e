"""Pretrained causal language models as backbones of `model.OmicLM` (Hugging Face)."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from omicllm._core import optional
from omicllm._core import rng as rngs
from omicllm._core.files import check_writable, damaged, read_json, whole_folder
from omicllm.model._omic_lm_text import CONTEXT
from omicllm.nn.size_limit import no_larger_than

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from omicllm.model._omic_lm_text import OmicText

#: Names of the tokens of the published layout.
PAD, EOS, LABEL = "<PAD>", "<EOS>", "<LABEL>"
_PREFIX = "hf:"

#: What `TrainingArguments` gets in the published experiment.
TRAINING: dict[str, dict[str, Any]] = {
    "ieee_icdh": {
        "num_train_epochs": 20,
        "learning_rate": 1e-4,
        "lr_scheduler_type": "cosine",
        "per_device_train_batch_size": 32,
        "per_device_eval_batch_size": 32,
        "auto_find_batch_size": True,
        "gradient_accumulation_steps": 1,
        "weight_decay": 0.1,
        "adam_beta1": 0.9,
        "adam_beta2": 0.95,
        "bf16": True,
        "max_grad_norm": 1.0,
        "eval_strategy": "steps",
        "eval_steps": 500,
        "save_strategy": "steps",
        "save_steps": 500,
        "logging_steps": 500,
        "save_total_limit": 3,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
        "seed": 42,
    },
}
#: Evaluations without improvement after which the published experiment stops; share held out.
PATIENCE, VALIDATION = 8, 0.1


class PretrainedLM:
    """A causal language model from a name or folder, with the tokens of labels added.

    A training text is ``<encoded profile><LABEL><Ci><EOS>``, a prompt ends with ``<LABEL>``.

    Parameters
    ----------
    settings
        Settings of :class:`omicllm.model.OmicLM`.
    n_classes
        Classes ``<C0>``, ``<C1>``, ... in sorted order of their names.
    seed
        Of the embeddings of new tokens.

    Attributes
    ----------
    model
        The network; with `lora` wrapped by peft.
    context
        Longest text in tokens.
    """

    model: Any
    tokenizer: Any

    def __init__(self, settings: Mapping[str, Any], n_classes: int, *, seed: int = 0) -> None:
        from transformers import AutoConfig

        self.settings, self.n_classes, self.seed = settings, n_classes, seed
        self.source = str(settings["backbone"]).removeprefix(_PREFIX)
        local = not str(settings["backbone"]).startswith(_PREFIX)
        if local and not Path(self.source).is_dir():
            msg = (
                f"backbone={self.source!r} is neither 'tiny' nor a folder. For a model of the "
                f"Hugging Face hub write 'hf:{self.source}'."
            )
            raise ValueError(msg)
        with _fetching(self.source, local=local):
            config = AutoConfig.from_pretrained(self.source, local_files_only=local)
        self.context = int(getattr(config, "max_position_embeddings", 0) or CONTEXT)

    @property
    def aligned(self) -> bool:
        """Whether every character of the table is a token of its own."""
        return self.settings["tokenizer"] == "aligned"

    # -- making -----------------------------------------------------------------------------

    def build(self, text: OmicText, context: int) -> None:
        """Load tokenizer and weights and add tokens: those of labels, and of characters."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.context = context
        local = not str(self.settings["backbone"]).startswith(_PREFIX)
        with _fetching(self.source, local=local), rngs.isolated(self.seed):
            self.tokenizer = AutoTokenizer.from_pretrained(self.source, local_files_only=local)
            self.model = AutoModelForCausalLM.from_pretrained(
                self.source, dtype=torch.float32, local_files_only=local
            )
        self._add_tokens(text)
        if self.settings["lora"]:
            self._add_adapters()

    def _add_tokens(self, text: OmicText) -> None:
        self.tokenizer.add_special_tokens({"pad_token": PAD, "eos_token": EOS})
        classes = [f"<C{i}>" for i in range(self.n_classes)]
        markers = [f"<{s.name}>" for s in text.segments] if text.n_markers else []
        self.tokenizer.add_tokens([LABEL, *classes, *markers])
        self._number(text)
        old = self.model.get_input_embeddings().weight
        mean, sd = old.detach().mean(dim=0), float(old.detach().std())
        n_old, n_new = len(old), self.first_character
        n_new += len(text.table.levels) if self.aligned else 0
        with rngs.isolated(self.seed), torch.no_grad():
            self.model.resize_token_embeddings(n_new, mean_resizing=False)
            direction = torch.randn_like(mean)
            for layer in (self.model.get_input_embeddings(), self.model.get_output_embeddings()):
                weight = layer.weight
                fresh = n_new - n_old
                if fresh > 0:
                    weight[n_old:] = mean + sd * torch.randn(fresh, len(mean))
                if self.aligned:
                    # Characters start ordered by the value they stand for.
                    value = torch.as_tensor(text.values, dtype=torch.float32)[:, None]
                    weight[self.first_character :] = mean + sd * value * direction
                if self.model.config.tie_word_embeddings:
                    break
        self.model.config.pad_token_id = self.pad
        self.model.config.eos_token_id = self.eos
        self.model.generation_config.pad_token_id = self.pad
        self.model.generation_config.eos_token_id = self.eos

    def _number(self, text: OmicText) -> None:
        """Look up the numbers of the added tokens; characters come after the whole vocabulary."""
        number = self.tokenizer.convert_tokens_to_ids
        self.pad, self.eos, self.label = number(PAD), number(EOS), number(LABEL)
        self.classes = np.array([number(f"<C{i}>") for i in range(self.n_classes)])
        self.markers = [number(f"<{s.name}>") for s in text.segments] if text.n_markers else []
        self.first_character = len(self.tokenizer)

    def _add_adapters(self) -> None:
        peft = optional.require("peft", extra="llm", why="Training adapters (lora=)")
        options: dict[str, Any] = {
            "r": 16,
            "lora_alpha": 32,
            "lora_dropout": 0.05,
            "target_modules": "all-linear",
        }
        if isinstance(self.settings["lora"], dict):
            options |= self.settings["lora"]
        # New tokens have no meaning yet: their embeddings are trained with the adapters.
        names = {id(m): n.rsplit(".", 1)[-1] for n, m in self.model.named_modules()}
        ends = (self.model.get_input_embeddings(), self.model.get_output_embeddings())
        tied = ends[0].weight is ends[1].weight
        save = [names[id(m)] for m in (ends[:1] if tied else ends)]
        config = peft.LoraConfig(task_type="CAUSAL_LM", modules_to_save=save, **options)
        with rngs.isolated(self.seed):
            self.model = peft.get_peft_model(self.model, config)
        self._tie(tied=tied)

    def _tie(self, *, tied: bool) -> None:
        """Let the output head score with the embedding that is trained, and save that once.

        peft trains a copy of the embedding. In some layouts (GPT-2) the head of a tied model stays
        with the original, and class tokens would be scored by the rows they started with.
        """
        embedding = _in_training(self.model.get_input_embeddings())
        if tied:
            # Not the wrapper: peft leaves the layer alone, as it is no module to save.
            self.model.get_output_embeddings().weight = embedding.weight
        head = _in_training(self.model.get_output_embeddings())
        shared = head.weight is embedding.weight
        if shared != tied or not head.weight.requires_grad or not embedding.weight.requires_grad:
            msg = "The head of this model would not be trained with its embedding: use lora=False."
            raise RuntimeError(msg)
        # By default peft adds embeddings of a resized vocabulary once more, original and trained.
        self.model.save_pretrained = functools.partial(
            self.model.save_pretrained, save_embedding_layers=False
        )

    # -- tokens -----------------------------------------------------------------------------

    def prompts(self, text: OmicText, ranks: np.ndarray, present: np.ndarray) -> list[list[int]]:
        """Token numbers of texts, up to and with ``<LABEL>``.

        Raises
        ------
        ValueError
            When a text is longer than the context.
        """
        if self.aligned:
            out = []
            for row, here in zip(ranks + self.first_character, present, strict=True):
                one: list[int] = []
                for i in range(len(text.segments)):
                    mine = np.flatnonzero(text.segment_of == i)
                    one += self.markers[i : i + 1] + row[mine][here[mine]].tolist()
                out.append([*one, self.label])
        else:
            strings = text.strings(ranks, present, self.settings["patch_size"])
            told = self.tokenizer(strings, add_special_tokens=False, padding=False)
            out = [[*ids, self.label] for ids in told["input_ids"]]
        longest = max(map(len, out), default=0)
        if longest + 2 > self.context:
            genes = len(text.segment_of)
            fits = max(0, int(genes * (self.context - 3) / max(1, longest - 1)))
            msg = (
                f"A text of {genes} genes takes {longest + 2} tokens, more than the model's "
                f"context of {self.context}: about {fits} genes fit. Pass n_top={fits}."
            )
            raise ValueError(msg)
        return out

    # -- training ---------------------------------------------------------------------------

    def train(
        self,
        text: OmicText,
        z: np.ndarray,
        present: np.ndarray,
        codes: np.ndarray,
        *,
        preset: str | None,
        max_epochs: int | None,
        batch_size: int | None,
        lr: float | None,
        weight_decay: float,
        augment: str | None,
        training_args: Mapping[str, Any] | str | Path | None,
        checkpoint_dir: str | Path | None,
        resume: bool | str | Path,
        seed: int,
        show_progress: bool | None,
    ) -> dict[str, list[float]]:
        """Fine-tune on all tokens of the training texts; returns losses by name."""
        import tempfile

        generator = np.random.default_rng(seed)
        held = _held_out(codes, generator) if preset else np.zeros(len(codes), dtype=bool)
        prompts = self.prompts(text, text.ranks(z), present)
        ends = [[int(self.classes[c]), self.eos] for c in codes]
        # Texts that are mixed anew at each epoch would make a resumed run another one.
        if augment == "mix":
            mixed, kinds = _mixed(z, present, codes, ~held, generator)
            prompts += self.prompts(text, text.ranks(mixed), present[kinds])
            ends += [ends[k] for k in kinds]
            held = np.concatenate([held, np.zeros(len(kinds), dtype=bool)])
        examples = [{"input_ids": p + e} for p, e in zip(prompts, ends, strict=True)]
        given = arguments(training_args)
        with tempfile.TemporaryDirectory() as folder:
            where = str(checkpoint_dir or given.pop("output_dir", None) or folder)
            check_writable(where, argument="checkpoint_dir", fresh=False)
            settings: dict[str, Any] = {
                "num_train_epochs": 3,
                "learning_rate": 1e-4,
                "weight_decay": weight_decay,
                "save_strategy": "epoch",
                "save_total_limit": 3,
                "logging_strategy": "epoch",
                "bf16": _bf16(),
                "seed": seed,
                "data_seed": seed,
                **TRAINING.get(preset or "", {}),
            }
            # A batch is that of all processes; the launcher says how many there are.
            n = int(os.environ.get("WORLD_SIZE", "1"))
            own = {
                "num_train_epochs": max_epochs,
                "learning_rate": lr,
                "per_device_train_batch_size": max(1, (batch_size or 32) // n),
            }
            settings |= {k: v for k, v in own.items() if v is not None} | given
            if settings["bf16"] and not _bf16():
                settings["bf16"] = False  # asked for by the preset; this machine has none
            return self._run(
                examples,
                held,
                settings,
                where,
                resume=resume,
                show_progress=show_progress,
                seed=seed,
            )

    def _run(
        self,
        examples: list[dict[str, list[int]]],
        held: np.ndarray,
        settings: dict[str, Any],
        folder: str,
        *,
        resume: bool | str | Path,
        show_progress: bool | None,
        seed: int,
    ) -> dict[str, list[float]]:
        """Run the Trainer of transformers; returns losses by name."""
        optional.require("accelerate", extra="llm", why="Fine-tuning a pretrained model")
        from transformers import (
            EarlyStoppingCallback,
            PrinterCallback,
            Trainer,
            TrainingArguments,
        )

        from omicllm._core.log import progress_wanted

        old, new = "gradient_checkpointing", "activation_checkpointing"
        if old in settings and hasattr(TrainingArguments, new):
            settings[new] = settings.pop(old)  # renamed in transformers 5
        settings = {
            "report_to": "none",
            "disable_tqdm": not progress_wanted(show_progress=show_progress),
            "remove_unused_columns": False,
            "dataloader_pin_memory": torch.cuda.is_available(),
            "output_dir": folder,
            **settings,
        }
        callbacks = []
        if held.any() and settings.get("load_best_model_at_end"):
            callbacks.append(EarlyStoppingCallback(PATIENCE))
        if not held.any():
            settings |= {"eval_strategy": "no", "load_best_model_at_end": False}
        with rngs.isolated(seed):
            trainer = Trainer(
                model=self.model,
                args=TrainingArguments(**settings),
                train_dataset=[e for e, h in zip(examples, held, strict=True) if not h],
                eval_dataset=[e for e, h in zip(examples, held, strict=True) if h] or None,
                data_collator=self._collate,
                callbacks=callbacks,
            )
            trainer.remove_callback(PrinterCallback)  # it prints every log line
            again: Any = str(resume) if isinstance(resume, (str, Path)) else bool(resume)
            trainer.train(resume_from_checkpoint=again or None)
        self.model.eval()
        log = trainer.state.log_history
        out = {"train_loss": [e["loss"] for e in log if "loss" in e]}
        if held.any():
            out["validation_loss"] = [e["eval_loss"] for e in log if "eval_loss" in e]
        return {k: v for k, v in out.items() if v}

    def _collate(self, examples: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        """Pad to the longest text; padding has no loss."""
        longest = max(len(e["input_ids"]) for e in examples)
        ids = torch.full((len(examples), longest), self.pad)
        seen = torch.zeros(len(examples), longest, dtype=torch.long)
        for i, e in enumerate(examples):
            ids[i, : len(e["input_ids"])] = torch.tensor(e["input_ids"])
            seen[i, : len(e["input_ids"])] = 1
        return {
            "input_ids": ids,
            "attention_mask": seen,
            "labels": ids.masked_fill(seen == 0, -100),
        }

    # -- reading ----------------------------------------------------------------------------

    def logits(
        self,
        text: OmicText,
        ranks: np.ndarray,
        present: np.ndarray,
        *,
        latent: bool = False,
        batch_size: int = 16,
    ) -> np.ndarray:
        """Logits of the class tokens after ``<LABEL>``, or the last hidden state there."""
        prompts = self.prompts(text, ranks, present)
        out = []
        at = next(self.model.parameters()).device
        with torch.no_grad():
            for start in range(0, len(prompts), batch_size):
                some = [{"input_ids": p} for p in prompts[start : start + batch_size]]
                batch = {k: v.to(at) for k, v in self._collate(some).items() if k != "labels"}
                last = batch["attention_mask"].sum(dim=1) - 1
                told = self.model(**batch, output_hidden_states=latent)
                value = told.hidden_states[-1] if latent else told.logits
                value = value[torch.arange(len(last), device=at), last]
                out.append((value if latent else value[:, self.classes]).float().cpu().numpy())
        return np.concatenate(out) if out else np.zeros((0, self.n_classes), dtype=np.float32)

    # -- saving -----------------------------------------------------------------------------

    def save(self, folder: Path, *, mark: str = "") -> None:
        """Write weights (of adapters, with `lora`), tokenizer, and the mark of the other files."""
        more = {"context": self.context, "first_character": self.first_character, "mark": mark}
        with whole_folder(folder) as fresh:
            self.model.save_pretrained(fresh)
            self.tokenizer.save_pretrained(fresh)
            more["files"] = _hashes(fresh)
            (fresh / _MORE).write_text(json.dumps(more))

    @classmethod
    def load(
        cls,
        folder: Path,
        settings: Mapping[str, Any],
        text: OmicText,
        n_classes: int,
        *,
        mark: str = "",
        base: str | Path | None = None,
        allow_download: bool = False,
    ) -> PretrainedLM:
        """Read what `save` wrote; with `lora` the base model is loaded from where it was.

        Raises
        ------
        FileNotFoundError
            The base model of adapters is not on this machine.
        ValueError
            When the backbone was saved with another mark: saving was cut short; or it is damaged.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        out = cls.__new__(cls)
        out.settings, out.n_classes, out.seed = settings, n_classes, 0
        out.source = str(base or settings["backbone"]).removeprefix(_PREFIX)
        if not (folder / _MORE).is_file():
            raise damaged(folder, f"{_MORE} is missing")
        more = read_json(folder / _MORE)
        if more.get("mark", mark) != mark:
            msg = f"{folder} belongs to another model: saving was cut short. Save the model anew."
            raise ValueError(msg)
        _check_hashes(folder, more.get("files", {}))
        try:
            out.context, first = int(more["context"]), int(more["first_character"])
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(folder / _MORE, f"{error} is missing or no number") from error
        with _whole(folder):
            out.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            out._number(text)
        if not settings["lora"]:
            size = sum(p.stat().st_size for p in folder.iterdir())
            with _whole(folder), no_larger_than(size, folder / "config.json"):
                out.model = AutoModelForCausalLM.from_pretrained(
                    folder, dtype=torch.float32, local_files_only=True
                )
            return out
        peft = optional.require("peft", extra="llm", why="Loading adapters")
        with _fetching(out.source, local=not allow_download, adapters=True):
            at = out.source if allow_download else _on_this_machine(out.source)
            loaded = AutoModelForCausalLM.from_pretrained(
                at, dtype=torch.float32, local_files_only=not allow_download
            )
        size = first + (len(text.table.levels) if out.aligned else 0)
        loaded.resize_token_embeddings(size, mean_resizing=False)
        tied = loaded.get_input_embeddings().weight is loaded.get_output_embeddings().weight
        with _whole(folder):
            out.model = peft.PeftModel.from_pretrained(
                loaded, str(folder), is_trainable=True, local_files_only=True
            )
        out._tie(tied=tied)
        return out


#: File of a saved backbone beside those of transformers and peft.
_MORE = "omicllm.json"


def _in_training(layer: Any) -> Any:
    """The copy of a layer that peft trains; the layer itself where it is not wrapped."""
    copies = getattr(layer, "modules_to_save", None)
    return layer if copies is None else copies["default"]


def _on_this_machine(source: str) -> str:
    """Folder of a model: itself, or its place in the cache of the hub; OSError where neither is.

    With the name alone, transformers asks the hub for adapters even when told to stay local.
    """
    from transformers.utils.hub import cached_file

    if Path(source).is_dir():
        return source
    config = cached_file(source, "config.json", local_files_only=True)
    return str(Path(str(config)).parent)


@contextmanager
def _fetching(source: str, *, local: bool, adapters: bool = False) -> Iterator[None]:
    """Say what to do when a pretrained model is not at hand.

    Raises
    ------
    FileNotFoundError
        Files are missing, or the hub cannot be reached.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        if adapters:
            fix = "Pass its folder as OmicLM.load(..., backbone=<folder>)"
            fix += ", or allow_download=True to fetch it." if local else "."
            msg = f"The model of the adapters, {source!r}, is not at hand: {reason} {fix}"
        elif local:
            msg = f"backbone={source!r} holds no model of transformers: {reason}"
        else:
            msg = (
                f"The model {source!r} can neither be found on this machine nor fetched from the "
                f"Hugging Face hub: {reason} Offline, pass backbone=<folder> with a copy of it; "
                "this also replaces the backbone of a preset."
            )
        raise FileNotFoundError(msg) from error


def _hashes(folder: Path) -> dict[str, str]:
    """Hash of each file of a folder, by name."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            found[path.relative_to(folder).as_posix()] = hashlib.file_digest(
                file, "sha256"
            ).hexdigest()
    return found


def _check_hashes(folder: Path, told: Mapping[str, str]) -> None:
    """Raise DamagedFileError when a file is not what was saved; older models tell no hashes."""
    found = _hashes(folder) if told else {}
    for name, value in told.items():
        if name not in found:
            raise damaged(folder, f"{name} is missing")
        if found[name] != value:
            raise damaged(folder / name, "it was changed after the model was saved")


@contextmanager
def _whole(folder: Path) -> Iterator[None]:
    """Name the folder when files of a saved backbone cannot be read."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        told = (str(error).splitlines() or [type(error).__name__])[0]
        raise damaged(folder, f"its files cannot be read ({told})") from error


def _bf16() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported()


def arguments(given: Mapping[str, Any] | str | Path | None) -> dict[str, Any]:
    """Training arguments from a dict or a YAML file.

    Raises
    ------
    ValueError
        When the file holds no mapping.
    """
    if given is None:
        return {}
    if isinstance(given, (str, Path)):
        yaml = optional.require("yaml", extra="llm", why="Reading training arguments from a file")
        told = yaml.safe_load(Path(given).read_text())
        if not isinstance(told, dict):
            msg = f"{given} must hold training arguments by name, not {type(told).__name__}."
            raise ValueError(msg)
        return told
    return dict(given)


def _held_out(codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A tenth of each class for validation: bool (n,)."""
    out = np.zeros(len(codes), dtype=bool)
    for c in np.unique(codes):
        rows = np.flatnonzero(codes == c)
        n = min(round(VALIDATION * len(rows)) or 1, len(rows) - 1)
        out[rng.permutation(rows)[:n]] = True
    return out


def _mixed(
    z: np.ndarray, present: np.ndarray, codes: np.ndarray, use: np.ndarray, rng: Any
) -> tuple[np.ndarray, np.ndarray]:
    """As many mixtures of two rows of a class as there are training rows; their first rows."""
    first = rng.permutation(np.flatnonzero(use))
    second = np.empty_like(first)
    for k, i in enumerate(first):
        alike = use & (codes == codes[i]) & (present == present[i]).all(axis=1)
        second[k] = rng.choice(np.flatnonzero(alike))
    w = rng.random((len(first), 1)).astype(np.float32)
    return w * z[first] + (1 - w) * z[second], first
