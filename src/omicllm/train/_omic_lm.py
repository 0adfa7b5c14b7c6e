"""Training of the small language model of `model.OmicLM`: batches, augmentation, plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, IterableDataset

from omicllm.train._ranks import log_means, share_of_rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from omicllm.nn.language_model import ProfileLM


class _Batches(IterableDataset):
    """Batches in which every class is drawn as often, one per member of the ensemble."""

    def __init__(self, data: ProfileData) -> None:
        self.data, self.n_done = data, 0

    def __len__(self) -> int:
        return self.data.n_steps

    def __iter__(self) -> Iterator[list[tuple[torch.Tensor, ...]]]:
        rng = np.random.default_rng([self.data.seed, self.n_done])
        self.n_done += 1
        for _ in range(self.data.n_steps):
            yield [self.data.draw(rng) for _ in range(self.data.n_members)]


class ProfileData(pl.LightningDataModule):
    """Feeds texts of labelled rows, mixed within their class when asked.

    Parameters
    ----------
    z, present
        (n, n_genes) standardised values, and which of them are there.
    codes
        (n,) class of each row.
    tokens
        Turns values and presence into token numbers and positions to look at.
    mix
        Mix rows of a class: a text is that of ``w z_i + (1 - w) z_j`` with w uniform on [0, 1].
        Rows that lack a modality are mixed with rows that lack the same.
    gene_dropout
        Share of positions that are hidden in the texts of a batch.
    batch_size, n_members
        Texts in a batch, and batches per step.
    seed
        Of everything drawn.
    """

    def __init__(
        self,
        z: np.ndarray,
        present: np.ndarray,
        codes: np.ndarray,
        tokens: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
        *,
        mix: bool,
        gene_dropout: float,
        batch_size: int,
        n_members: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.z, self.present, self.tokens = z, present, tokens
        self.mix, self.gene_dropout, self.seed = mix, gene_dropout, seed
        self.batch_size, self.n_members = batch_size, n_members
        self.classes = np.unique(codes)
        pattern = np.unique(present, axis=0, return_inverse=True)[1].ravel()
        group = np.unique(np.stack([codes, pattern]), axis=1, return_inverse=True)[1].ravel()
        self.codes, self.group = codes, group
        self.rows = [np.flatnonzero(codes == c) for c in self.classes]
        self.partners = [np.flatnonzero(group == g) for g in range(group.max() + 1)]
        self.n_steps = max(1, round(len(codes) / batch_size))

    def draw(self, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """Tokens, which of them to look at, their positions, and classes of one batch."""
        kind = rng.integers(len(self.classes), size=self.batch_size)
        row = np.array([rng.choice(self.rows[k]) for k in kind])
        z = self.z[row]
        if self.mix:
            other = np.array([rng.choice(self.partners[g]) for g in self.group[row]])
            w = rng.random((len(row), 1), dtype=np.float32)
            z = w * z + (1 - w) * self.z[other]
        ids, keep = self.tokens(z, self.present[row])
        # The texts of a batch hide the same positions, so that hidden ones cost nothing.
        shown = max(1, round(ids.shape[1] * (1 - self.gene_dropout)))
        at = np.sort(rng.permutation(ids.shape[1])[:shown])
        mine = share_of_rank(np.arange(len(row)))
        out = (ids[mine][:, at], keep[mine][:, at], at, self.codes[row[mine]])
        return tuple(torch.from_numpy(np.ascontiguousarray(a)) for a in out)

    def train_dataloader(self) -> DataLoader:
        """One loader over ready-made steps."""
        return DataLoader(_Batches(self), batch_size=None)


class ProfilePlan(pl.LightningModule):
    """AdamW with a one-cycle rate on the class token, and on the characters when asked.

    Parameters
    ----------
    members
        Networks of the ensemble, trained side by side on batches of their own.
    lr, weight_decay
        Of AdamW; betas are 0.9 and 0.95.
    n_steps
        Steps in all.
    label_smoothing
        Share of the target that is spread over all classes.
    lm_loss_weight
        Weight of the next-character loss beside that of the class token.
    """

    def __init__(
        self,
        members: torch.nn.ModuleList,
        *,
        lr: float,
        weight_decay: float,
        n_steps: int,
        label_smoothing: float,
        lm_loss_weight: float,
    ) -> None:
        super().__init__()
        self.members = members
        self.lr, self.weight_decay, self.n_steps = lr, weight_decay, n_steps
        self.label_smoothing, self.lm_loss_weight = label_smoothing, lm_loss_weight

    def configure_optimizers(self) -> Any:
        """One optimiser for all members; each member's gradient is clipped on its own."""
        optimizer = torch.optim.AdamW(
            self.members.parameters(), lr=self.lr, weight_decay=self.weight_decay, betas=(0.9, 0.95)
        )
        total = max(2, self.n_steps + 1)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.lr, total_steps=total, pct_start=max(0.2, 2 / total)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """Clip to norm 1, member by member, so that none disturbs another."""
        for member in self.members:
            torch.nn.utils.clip_grad_norm_(member.parameters(), 1.0)

    def training_step(self, batch: list[tuple[torch.Tensor, ...]], _: int) -> torch.Tensor:
        """Batch: per member what `ProfileData.draw` gives."""
        label, text = [], []
        member: ProfileLM
        for member, (ids, keep, at, codes) in zip(self.members, batch, strict=True):
            hide = None if bool(keep.all()) else keep
            logits = member(ids, hide, at)
            label.append(F.cross_entropy(logits, codes, label_smoothing=self.label_smoothing))
            if self.lm_loss_weight:
                text.append(member.text_loss(ids, hide, at))
        loss = torch.stack(label).sum()
        size = len(batch[0][3])
        if text:
            extra = torch.stack(text)
            log_means(self, size, text_loss=extra.mean())
            loss = loss + self.lm_loss_weight * extra.sum()
        log_means(self, size, loss=torch.stack(label).mean())
        return loss
