"""Train the small variational autoencoder on a cohort, and draw rows of each class from it.

Cohorts have tens to thousands of rows and the network two small layers, so a plain loop is used:
a Lightning trainer takes longer to start than this takes to finish.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse

from omicllm._core.checks import whole_number
from omicllm._core.log import logger
from omicllm._core.rng import isolated
from omicllm.nn.vae import GaussianVAE

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Rows from which a tenth is set aside to stop training early.
_ENOUGH_TO_STOP = 200
#: Principal axes that the network sees, at most.
_MOST_AXES = 128


class _Scale:
    """Profiles to principal scores of their z-scores, and back; counts go through log(1 + x).

    Rotation keeps the squared error, and n rows span n axes at most, so nothing is lost up to
    `_MOST_AXES`; a network on all genes would have thousands of weights per row, and a step size
    that suits 40 genes would throw it off its feet.
    """

    def __init__(self, X: np.ndarray) -> None:
        self.counts = bool((X >= 0).all() and (np.rint(X) == X).all())
        Y = np.log1p(X) if self.counts else X
        self.low, self.high = Y.min(axis=0), Y.max(axis=0)
        self.mean, self.sd = Y.mean(axis=0), Y.std(axis=0)
        self.sd[self.sd == 0] = 1.0
        self.z = (Y - self.mean) / self.sd
        width = min(*X.shape, _MOST_AXES)
        _, size, axes = torch.svd_lowrank(torch.from_numpy(self.z), q=width, niter=4)
        self.axes = axes.numpy()
        #: Standard deviation of the first score; one number, so that the error keeps its shape.
        self.unit = max(float(size[0]) / np.sqrt(len(X)), 1e-12)
        self.scores = self.z @ self.axes / self.unit

    def genes(self, scores: np.ndarray) -> np.ndarray:
        """z-scores of genes."""
        return scores @ self.axes.T * self.unit

    def back(self, z: np.ndarray) -> np.ndarray:
        """Values as given, within the range each gene has in the real rows."""
        Y = np.clip(z * self.sd + self.mean, self.low, self.high)
        return np.rint(np.maximum(np.expm1(Y), 0.0)) if self.counts else Y


def fit_vae(
    scores: np.ndarray,
    *,
    unit: float,
    n_hidden: int,
    n_latent: int,
    max_epochs: int,
    patience: int,
    lr: float,
    weight_decay: float,
    batch_size: int,
    rng: np.random.Generator,
) -> GaussianVAE:
    """Train on scores (n, width) whose error counts `unit` squared; the caller seeds torch.

    A tenth of the rows is set aside where there are at least 200, and the weights with the least
    loss on them are kept once it has not fallen for `patience` epochs.
    """
    data = torch.from_numpy(scores.astype(np.float32))
    order = rng.permutation(len(data))
    n_held = len(data) // 10 if len(data) >= _ENOUGH_TO_STOP else 0
    held, kept = data[order[:n_held]], data[order[n_held:]]
    model = GaussianVAE(data.shape[1], n_hidden, n_latent)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=weight_decay)
    best, weights, since = np.inf, None, 0
    for epoch in range(max_epochs):
        for rows in torch.randperm(len(kept)).split(batch_size):
            optimizer.zero_grad()
            loss = model.loss(kept[rows], unit)
            loss.backward()
            optimizer.step()
        if not n_held:
            continue
        with torch.no_grad():
            error = (model.decode(model.encode(held)[0]) - held).square().sum(dim=1).mean().item()
        if error < best:
            best, weights, since = error, copy.deepcopy(model.state_dict()), 0
        else:
            since += 1
        if since >= patience:
            logger.info("the autoencoder stopped after %d epochs", epoch + 1)
            break
    if weights is not None:
        model.load_state_dict(weights)
    return model.eval()


def sample_vae(
    X: Any,
    codes: np.ndarray,
    n_new: Sequence[int] | np.ndarray,
    *,
    entropy: int,
    residual: bool = False,
    n_hidden: int | None = None,
    n_latent: int = 4,
    max_epochs: int = 300,
    patience: int = 20,
    lr: float = 5e-3,
    weight_decay: float = 1e-4,
    batch_size: int = 128,
) -> Any:
    """Fit a variational autoencoder to rows and draw new ones per class.

    The latent vectors of a class's rows give a Gaussian (mean and standard deviation of each
    coordinate); draws from it are decoded.

    Parameters
    ----------
    X
        Real rows (n, n_genes), ndarray or csr_matrix; counts are recognised and come out as counts.
    codes
        Class of each row, 0 to ``len(n_new) - 1``.
    n_new
        Rows to draw for each class.
    entropy
        Seed.
    residual
        Add what the decoder leaves out: Gaussian noise with each gene's residual variance.
    n_hidden
        Width of the hidden layers; by default half the principal axes, 20 to 128.
    n_latent, max_epochs, weight_decay, batch_size
        As published.
    patience, lr
        Published: 8 and 1e-3. A small cohort is one batch, so 300 epochs are 300 steps; at the
        published rate the decoder then still gives little but the mean.

    Returns
    -------
    Rows in the order of classes, stored as `X` is.
    """
    for name, value in (
        ("n_latent", n_latent), ("max_epochs", max_epochs), ("patience", patience),
        ("batch_size", batch_size),
    ):  # fmt: skip
        whole_number(name, value)
    dense = np.asarray(X.toarray() if sparse.issparse(X) else X, dtype=np.float64)
    rng = np.random.default_rng(entropy)
    with isolated(int(rng.integers(2**31))):
        scale = _Scale(dense)
        hidden = int(np.clip(scale.scores.shape[1] // 2, 20, 128))
        if n_hidden is not None:
            hidden = whole_number("n_hidden", n_hidden)
        model = fit_vae(
            scale.scores, unit=scale.unit, n_hidden=hidden, n_latent=n_latent,
            max_epochs=max_epochs, patience=patience, lr=lr, weight_decay=weight_decay,
            batch_size=batch_size, rng=rng,
        )  # fmt: skip
    with torch.no_grad():
        latent = model.encode(torch.from_numpy(scale.scores.astype(np.float32)))[0]
        left = scale.z - scale.genes(model.decode(latent).double().numpy())
        z = latent.numpy()
        parts = [
            rng.normal(z[codes == c].mean(axis=0), z[codes == c].std(axis=0), (n, n_latent))
            for c, n in enumerate(n_new)
            if n
        ]
        drawn = np.concatenate([*parts, np.empty((0, n_latent))]).astype(np.float32)
        out = scale.genes(model.decode(torch.from_numpy(drawn)).double().numpy())
    if residual:
        out += rng.normal(size=out.shape) * np.sqrt((left**2).mean(axis=0))
    rows = scale.back(out).astype(np.result_type(X.dtype, np.float32))
    return sparse.csr_matrix(rows) if sparse.issparse(X) else rows
