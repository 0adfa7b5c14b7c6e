"""Student-t mixture fitted by maximum a posteriori EM (SIGEL, module II)."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, DensityMixin

from omicllm._core import checks
from omicllm.nn.student_t_start import Array, as_matrix, kmeans_start, like, nearest
from omicllm.nn.student_t_steps import (
    EMPTY,
    NU_BOUNDS,
    Parameters,
    Prior,
    Sums,
    component_log_density,
    expect,
    maximise,
    reseed,
)

__all__ = ["StudentTMixture"]


class StudentTMixture(DensityMixin, BaseEstimator):
    """Mixture of Student-t distributions with diagonal scale matrices.

    Heavy tails keep outlying genes from dragging a component along. Fitted by EM in log space on
    the posterior under a Dirichlet prior of the weights and a normal-inverse-Wishart prior of
    means and variances; no step lowers it. An estimator of scikit-learn that takes tensors too.

    Parameters
    ----------
    n_components
        Number of components K.
    max_iter
        Most EM iterations.
    tol
        Stop when the penalised log likelihood changes by less than this share of itself.
    rng
        Seed of the k-means++ start.
    nu_init
        Degrees of freedom at the start, between 2.1 and 200.
    shared_nu_below
        Components holding fewer genes than this share one value of nu.
    alpha0, kappa0
        Dirichlet concentration (>= 1) and weight of the prior mean (>= 0).
    rho0
        Degrees of freedom of the variance prior; None is D + 2.
    prior_scale
        Factor on the scatter matrix of the variance prior, S0 = K^(-1/D) diag(var z). The mode of
        the prior is S0 / (rho0 + D + 1): raise it for components wider from the start.

    Attributes
    ----------
    weights_, means_, variances_, dof_
        Shapes (K,), (K, D), (K, D), (K,); float64, of the kind (array or tensor) fitted on.
        ``variances_`` is the diagonal of the scale matrix; the covariance is nu / (nu - 2) of it.
    n_iter_, converged_, history_
        Iterations done, whether `tol` was met, and the penalised log likelihood (up to a constant)
        at the start and after every iteration.

    Notes
    -----
    E and M steps for the t distribution: Peel and McLachlan (2000), sections 3 and 4; priors:
    Fraley and Raftery (2007); S0 follows Murphy, "Machine learning" (2012), section 11.4.2.8.
    Cost of an iteration is O(N K D), memory O(N D + K D) and blocks of fixed size.
    """

    _as_tensor = False

    def __init__(
        self,
        n_components: int = 1,
        *,
        max_iter: int = 100,
        tol: float = 1e-5,
        rng: int | np.random.Generator | None = 0,
        nu_init: float = 3.0,
        shared_nu_below: float = 10.0,
        alpha0: float = 1.0,
        kappa0: float = 0.0,
        rho0: float | None = None,
        prior_scale: float = 1.0,
    ) -> None:
        self.n_components = n_components
        self.max_iter = max_iter
        self.tol = tol
        self.rng = rng
        self.nu_init = nu_init
        self.shared_nu_below = shared_nu_below
        self.alpha0 = alpha0
        self.kappa0 = kappa0
        self.rho0 = rho0
        self.prior_scale = prior_scale

    def _check_parameters(self) -> None:
        """Raise ValueError for a parameter out of range."""
        for name in ("n_components", "max_iter"):
            checks.whole_number(name, getattr(self, name))
        low, high = NU_BOUNDS
        limits = {
            "tol": (self.tol >= 0, "zero or more"),
            "nu_init": (low <= self.nu_init <= high, f"within {low} and {high:g}"),
            "alpha0": (self.alpha0 >= 1, "at least 1"),
            "kappa0": (self.kappa0 >= 0, "zero or more"),
            "rho0": (self.rho0 is None or self.rho0 > 0, "positive or None"),
            "prior_scale": (self.prior_scale > 0, "positive"),
        }
        for name, (valid, wanted) in limits.items():
            if not valid:
                msg = f"{name} must be {wanted}; got {getattr(self, name)}."
                raise ValueError(msg)

    def fit(
        self,
        Z: np.ndarray | torch.Tensor,
        y: None = None,
        *,
        init: StudentTMixture | np.ndarray | None = None,
    ) -> StudentTMixture:
        """Fit to the rows of `Z`.

        Parameters
        ----------
        Z
            Data of shape (N, D), finite, N >= n_components; array, table, or tensor on any device.
        y
            Not used; pipelines of scikit-learn pass it.
        init
            Where to start: a fitted mixture (also this one) of the same shape, or centres
            (n_components, D). None is k-means++.

        Returns
        -------
        The mixture itself.

        Raises
        ------
        ValueError
            If `Z` is not two-dimensional, has NaN or infinite entries, or fewer rows than there
            are components, if `init` has another shape, or a parameter is out of range.
        """
        self._check_parameters()
        z = self._matrix(Z, reset=True)
        if len(z) < self.n_components:
            msg = (
                f"{len(z)} rows cannot be fitted with n_components={self.n_components}; "
                "use at most as many components as rows."
            )
            raise ValueError(msg)
        centre = z.mean(0)
        z = z - centre
        prior = self._prior(z, centre)
        params = self._start(z, centre, prior, init)
        history = []
        sums = expect(z, params)
        history.append(float(sums.row_log_density.sum()) + prior.log_density(params))
        may_reseed, converged = True, False
        while len(history) <= self.max_iter and not converged:
            params = maximise(sums, params, prior, self.shared_nu_below)
            sums = expect(z, params)
            value = float(sums.row_log_density.sum()) + prior.log_density(params)
            if may_reseed and bool((sums.size < EMPTY).any()):
                other = reseed(z, params, sums, prior, self.nu_init)
                other_sums = expect(z, other)
                other_value = float(other_sums.row_log_density.sum()) + prior.log_density(other)
                # Components may well be superfluous: moved only where the posterior gains.
                may_reseed = other_value > value
                if may_reseed:
                    params, sums, value = other, other_sums, other_value
            converged = abs(value - history[-1]) < self.tol * max(abs(value), 1e-12)
            history.append(value)
        self._fitted = Parameters(
            params.weights, params.means + centre, params.variances, params.dof
        )
        self._as_tensor = isinstance(Z, torch.Tensor)
        self.history_ = history
        self.n_iter_ = len(history) - 1
        self.converged_ = converged
        return self

    def log_responsibilities(self, Z: torch.Tensor) -> torch.Tensor:
        """Log probability of each component given each row, (N, K).

        Differentiable in `Z`; the parameters of the mixture are constants. Computed in float64
        where the device has it, returned in the precision of `Z`.
        """
        params, z = self._prepare(Z)
        joint = params.weights.log() + component_log_density(z, params)
        return joint.log_softmax(1).to(Z.dtype)

    def log_prob(self, Z: Array) -> Array:
        """Log density of each row under each component, without weights, (N, K)."""
        params, z = self._prepare(Z)
        return like(component_log_density(z, params), Z)

    def score_samples(self, Z: Array) -> Array:
        """Log density of each row under the mixture, (N,)."""
        params, z = self._prepare(Z)
        return like((params.weights.log() + component_log_density(z, params)).logsumexp(1), Z)

    def score(self, Z: np.ndarray | torch.Tensor, y: None = None) -> float:
        """Mean log density of the rows, in nats."""
        return float(self.score_samples(Z).mean())

    def predict_proba(self, Z: Array) -> Array:
        """Probability of each component given each row, (N, K); rows sum to 1."""
        params, z = self._prepare(Z)
        joint = params.weights.log() + component_log_density(z, params)
        return like(joint.softmax(1), Z)

    def predict(self, Z: Array) -> Array:
        """Most probable component of each row, int64 (N,)."""
        params, z = self._prepare(Z)
        labels = (params.weights.log() + component_log_density(z, params)).argmax(1)
        return labels if isinstance(Z, torch.Tensor) else labels.cpu().numpy()

    def get_state(self) -> dict[str, np.ndarray]:
        """Fitted parameters as arrays: weights, means, variances, dof."""
        params = self._require()
        return {f.name: getattr(params, f.name).cpu().numpy() for f in fields(params)}

    @classmethod
    def from_state(cls, state: dict[str, Any], **parameters: Any) -> StudentTMixture:
        """Mixture from what :meth:`get_state` returned, ready to predict or to start a fit."""
        arrays = {f.name: torch.as_tensor(state[f.name]).double() for f in fields(Parameters)}
        mixture = cls(len(arrays["weights"]), **parameters)
        mixture._fitted = Parameters(**arrays)
        mixture.n_features_in_ = mixture._fitted.means.shape[1]
        mixture.n_iter_, mixture.converged_, mixture.history_ = 0, False, []
        return mixture

    def __getattr__(self, name: str) -> Any:
        # Fitted attributes appear with the fit, as in scikit-learn.
        if name in {"weights_", "means_", "variances_", "dof_"}:
            value = getattr(self._require(), name[:-1])
            return value if self._as_tensor else value.cpu().numpy()
        msg = f"{type(self).__name__!r} object has no attribute {name!r}"
        raise AttributeError(msg)

    def _require(self) -> Parameters:
        from sklearn.exceptions import NotFittedError

        fitted = self.__dict__.get("_fitted")
        if fitted is None:
            msg = "This StudentTMixture is not fitted yet; call fit(Z) first."
            raise NotFittedError(msg)
        return fitted

    def __sklearn_is_fitted__(self) -> bool:
        return "_fitted" in self.__dict__

    def _matrix(self, Z: Any, *, reset: bool) -> torch.Tensor:
        """Data checked as by scikit-learn, or a tensor checked here; finite float64."""
        from sklearn.utils.validation import validate_data

        if isinstance(Z, torch.Tensor):
            z = as_matrix(Z)
            if reset:
                self.n_features_in_ = z.shape[1]
                self.__dict__.pop("feature_names_in_", None)
            return z
        options = {"dtype": [np.float64, np.float32], "ensure_all_finite": False}
        array = validate_data(self, Z, reset=reset, **options)
        return as_matrix(np.require(array, requirements="W"))  # torch warns of read-only arrays

    def _prepare(self, Z: np.ndarray | torch.Tensor) -> tuple[Parameters, torch.Tensor]:
        """Parameters and data, both shifted to the mean of the components for accuracy."""
        params = self._require()
        z = self._matrix(Z, reset=False)
        if z.shape[1] != params.means.shape[1]:
            msg = f"Z has {z.shape[1]} columns; the mixture was fitted on {params.means.shape[1]}."
            raise ValueError(msg)
        params = params.to(z)
        centre = params.means.mean(0)
        shifted = Parameters(params.weights, params.means - centre, params.variances, params.dof)
        return shifted, z - centre

    def _prior(self, z: torch.Tensor, centre: torch.Tensor) -> Prior:
        n_rows, dim = z.shape
        variance = z.square().mean(0)
        # Constant columns would make the density infinite.
        scale = float(centre.square().max()) + float(variance.max())
        variance = variance.clamp_min(max(1e-6 * float(variance.mean()), 1e-12 * scale, 1e-30))
        s0 = self.prior_scale * self.n_components ** (-1.0 / dim) * variance
        rho0 = float(dim + 2 if self.rho0 is None else self.rho0)
        return Prior(self.alpha0, self.kappa0, rho0, torch.zeros_like(centre), s0)

    def _start(
        self,
        z: torch.Tensor,
        centre: torch.Tensor,
        prior: Prior,
        init: StudentTMixture | np.ndarray | None,
    ) -> Parameters:
        shape = (self.n_components, z.shape[1])
        first_means = init._require().means if isinstance(init, StudentTMixture) else init
        if first_means is not None and tuple(first_means.shape) != shape:
            msg = f"init has shape {tuple(first_means.shape)}; expected {shape}."
            raise ValueError(msg)
        if isinstance(init, StudentTMixture):
            p = init._require().to(z)
            return Parameters(p.weights, p.means - centre, p.variances, p.dof)
        if first_means is None:
            means = kmeans_start(z, self.n_components, np.random.default_rng(self.rng))
        else:
            means = as_matrix(first_means).to(z) - centre
        # One M step from hard labels with all scale weights at 1.
        labels = nearest(z, means)
        size = torch.bincount(labels, minlength=self.n_components).to(z)
        first = torch.zeros_like(means).index_add_(0, labels, z)
        second = torch.zeros_like(means).index_add_(0, labels, z.square())
        old = Parameters(size, means, means, torch.full_like(size, self.nu_init))
        sums = Sums(size, size, first, second, size, z[:, 0])
        return maximise(sums, old, prior, self.shared_nu_below, update_dof=False)
