"""Gene programs from image features in closed form: where the network of SPAM starts.

Expression of new sections is predicted in the space of a few gene programs by an average of ridge
and kernel ridge regressions, and a second regression predicts how deep an observation is sequenced.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from omicllm.stats.depth import depth_slope, expected_log_by_depth, unknown_depth
from omicllm.stats.ridge import mean_of_sections, section_means

#: Members of the average: kind, and the blocks of features it reads.
MEMBERS = (
    ("linear", ("own",)),
    ("linear", ("own", "position")),
    ("kernel", ("own", "position")),
    ("linear", ("own", "position", "around")),
    ("kernel", ("own", "position", "around")),
)
BLOCKS = ("own", "position", "around")
_PENALTIES = {"linear": np.logspace(-1, 6, 22), "kernel": np.logspace(-3, 3, 19)}
#: The largest penalty whose held-out gain is within this share of the best one is taken.
_SLACK = 0.05
#: How far the programs of a single patient are trusted in others.
_ONE_PATIENT = 2 / 3
#: Standard deviation of the log depth of sections, where counts of a section are not known.
DEPTH_SPREAD = 1.5
_MAX_COMPONENTS = 256
_MAX_CENTRES = 1000
#: Shuffles of the image features, rows they are done on, and standard deviations above their gain
#: from which features count as linked to expression.
_N_SHUFFLES, _MAX_TEST, _LINK_SD = 19, 1000, 4.0


def _centred(values: np.ndarray, sections: np.ndarray) -> np.ndarray:
    return values - section_means(values, sections)


def _ridge_path(X: np.ndarray, S: np.ndarray, w: np.ndarray, penalties: np.ndarray) -> np.ndarray:
    """Weighted ridge coefficients for each penalty (n_penalties, d, k)."""
    root = np.sqrt(w)[:, None]
    U, s, Vt = np.linalg.svd(root * X, full_matrices=False)
    projected = U.T @ (root * S)
    return np.stack([Vt.T @ ((s / (s**2 + a))[:, None] * projected) for a in penalties])


def _kernel_path(K: np.ndarray, S: np.ndarray, w: np.ndarray, penalties: np.ndarray) -> np.ndarray:
    """Weighted kernel ridge coefficients for each penalty (n_penalties, n, k)."""
    root = np.sqrt(w)[:, None]
    values, U = np.linalg.eigh(root * K * root.T)
    projected = U.T @ (root * S)
    values = np.maximum(values, 0)
    return np.stack([root * (U @ (projected / (values + a)[:, None])) for a in penalties])


def gaussian_kernel(X: np.ndarray, Z: np.ndarray) -> np.ndarray:
    """exp(-|x - z|^2 / (2 d)) of rows of d standardised features."""
    square = (X**2).sum(1)[:, None] + (Z**2).sum(1)[None] - 2 * X @ Z.T
    return np.exp(-np.maximum(square, 0) / (2 * max(1, X.shape[1])))


def _held_out_gain(X: np.ndarray, S: np.ndarray, w: np.ndarray, groups: np.ndarray) -> float:
    """Weighted cross-moment of held-out guesses and truths, in units of the size of the guesses.

    For one penalty, the mean square of a feature: what is compared are features and their shuffles.
    """
    cross, square = 0.0, 0.0
    for g in np.unique(groups):
        out = groups == g
        if out.all():
            return 0.0
        root = np.sqrt(w[~out])[:, None]
        A = (root * X[~out]).T
        B = np.linalg.solve(A @ A.T + len(X) * np.eye(len(A)), A @ (root * S[~out]))
        guess = X[out] @ B
        guess, truth = guess - guess.mean(axis=0), S[out] - S[out].mean(axis=0)
        cross += float((w[out, None] * guess * truth).sum())
        square += float((w[out, None] * guess**2).sum())
    return cross / np.sqrt(max(square, 1e-300))


@dataclass
class Member:
    """One regression of the average.

    Attributes
    ----------
    kind, blocks
        See :data:`MEMBERS`.
    coefficients
        (d, k), or (n_centres, k) of a kernel.
    centres
        (n_centres, d) of a kernel.
    """

    kind: str
    blocks: tuple[str, ...]
    coefficients: np.ndarray
    centres: np.ndarray | None = None

    def __call__(self, design: dict[str, np.ndarray]) -> np.ndarray:
        """Scores (m, k)."""
        X = np.hstack([design[b] for b in self.blocks])
        if self.centres is not None:
            X = gaussian_kernel(X, self.centres)
        return X @ self.coefficients


@dataclass
class ProgramRegression:
    """Average of regressions on gene programs, chosen on held-out groups.

    Targets are log-normalised values less what depth alone makes of them
    (:func:`~omicllm.stats.depth.expected_log`), centred by section and weighted by the inverse
    variance of the section, so that shallow sections, whose values are mostly noise, do not lead.
    Programs are their principal axes. Each member chooses a penalty and a shrinkage for each
    program on held-out groups: a program that does not carry over is left out.

    Attributes
    ----------
    level_, share_
        (g,) mean over sections of the log-normalised values and of the share in the profile.
    axes_
        (g, k) programs.
    gain_
        (k,) share of the variance of each program that is explained in held-out groups.
    linked_
        1, or 0 where image features explain held-out groups no better than shuffled ones do:
        predictions are then the means of training.
    out_of_fold_, depth_out_of_fold_
        Program scores (n, k) and relative log depth (n,) of training rows, from models that did
        not see their group.
    """

    n_programs: int = 20
    seed: int = 0
    state_: dict[str, Any] = field(default_factory=dict)
    scale_: dict[str, np.ndarray] = field(default_factory=dict)
    rotation_: dict[str, np.ndarray] = field(default_factory=dict)

    # -- fitting ----------------------------------------------------------------------------

    def fit(
        self,
        blocks: dict[str, np.ndarray],
        Y: np.ndarray,
        counts_share: np.ndarray,
        total: np.ndarray,
        sections: np.ndarray,
        groups: np.ndarray,
        *,
        one_patient: bool,
        like: ProgramRegression | None = None,
    ) -> ProgramRegression:
        """Fit on training rows.

        Parameters
        ----------
        blocks
            Features by name of block (n, d); a block without columns is allowed.
        Y
            (n, g) log-normalised values.
        counts_share
            (n_sections, g) share of each gene in each section, in the order of their numbers.
        total
            (n,) counts of each row.
        sections
            (n,) numbers from 0.
        groups
            (n,) what is held out in turn.
        one_patient
            Whether held-out groups are of the same patient, so that what carries over to them may
            not carry over to others.
        like
            Scale features, and reduce them, as this regression does.
        """
        n_sections = int(sections.max()) + 1
        log_depth = np.log(np.maximum(total, 1.0))
        depths = np.array([log_depth[sections == s].mean() for s in range(n_sections)])
        self.depth_level_ = float(depths.max())
        self.share_ = counts_share.mean(axis=0)
        self.level_ = mean_of_sections(Y, sections)
        self.carry_ = _ONE_PATIENT if one_patient else 1.0
        self.groups_ = np.unique(groups, return_inverse=True)[1].ravel()
        if like is None:
            self._fit_design(blocks, sections)
        else:
            self.scale_, self.rotation_ = like.scale_, like.rotation_
        design = self._design(blocks, sections)
        target = Y.astype(np.float64).copy()
        for s in range(n_sections):
            rows = sections == s
            target[rows] -= expected_log_by_depth(counts_share[s], total[rows])
        target = _centred(target, sections)
        w = _section_weights(target, sections)
        k = min(self.n_programs, *target.shape)
        axes = np.linalg.svd(np.sqrt(w)[:, None] * target, full_matrices=False)[2][:k].T
        sign = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(k)])
        self.axes_ = axes * sign
        scores = target @ self.axes_
        rng = np.random.default_rng(self.seed)
        self.members_, held = [], []
        for kind, used in MEMBERS:
            member, out = self._member(kind, used, design, scores, w, rng)
            self.members_.append(member)
            held.append(out)
        self.linked_ = self._linked(design["own"], scores, w, sections, rng)
        mean = np.mean(held, axis=0) * self.linked_
        cross, square, total_ss = self._moments(mean[None], scores, w)
        shrink = np.clip(cross[0] / np.maximum(square[0], 1e-12), 0, 1)
        for member in self.members_:
            member.coefficients = member.coefficients * shrink / len(self.members_)
        explained = 2 * shrink * cross[0] - shrink**2 * square[0]
        self.gain_ = explained / np.maximum(total_ss, 1e-12)
        self.out_of_fold_ = mean * shrink
        depth = _centred(log_depth[:, None], sections)
        self.depth_range_ = (float(depth.min()), float(depth.max()))
        wd = _section_weights(depth, sections)
        self.depth_member_, out = self._member(
            "linear", ("own", "position"), design, depth, wd, rng, shrink=False, slack=0.0
        )
        self.depth_member_.coefficients = self.depth_member_.coefficients * self.linked_
        self.depth_out_of_fold_ = out[:, 0] * self.linked_
        return self

    def _linked(
        self,
        X: np.ndarray,
        S: np.ndarray,
        w: np.ndarray,
        sections: np.ndarray,
        rng: np.random.Generator,
    ) -> float:
        """1 where image features explain held-out programs better than shuffled ones do, else 0.

        Without it, places alone would be read, and chance in smooth patterns would be predicted.
        """
        rows = np.arange(len(X))
        if len(rows) > _MAX_TEST:
            rows = np.sort(rng.choice(len(rows), _MAX_TEST, replace=False))
        X, S, w, sections = X[rows], S[rows], w[rows], sections[rows]
        groups = self.groups_[rows] % 3
        gain = _held_out_gain(X, S, w, groups)
        null = np.empty(_N_SHUFFLES)
        for i in range(_N_SHUFFLES):
            order = np.arange(len(X))
            for s in np.unique(sections):
                mine = np.flatnonzero(sections == s)
                order[mine] = rng.permutation(mine)
            null[i] = _held_out_gain(X[order], S, w, groups)
        return float(gain > null.mean() + _LINK_SD * null.std())

    def _member(
        self,
        kind: str,
        used: tuple[str, ...],
        design: dict[str, np.ndarray],
        S: np.ndarray,
        w: np.ndarray,
        rng: np.random.Generator,
        *,
        shrink: bool = True,
        slack: float = _SLACK,
    ) -> tuple[Member, np.ndarray]:
        """Fit one member; its scores of rows that were held out come with it."""
        X = np.hstack([design[b] for b in used])
        n, k = S.shape
        penalties, groups = _PENALTIES[kind], self.groups_
        held = np.zeros((len(penalties), n, k))
        chosen = np.arange(n)
        if kind == "kernel" and n > _MAX_CENTRES:
            chosen = np.sort(rng.choice(n, _MAX_CENTRES, replace=False))
        for g in range(groups.max() + 1):
            out = groups == g
            rows = chosen[~out[chosen]]
            fitted = self._path(kind, X[rows], S[rows], w[rows], penalties)
            basis = X[out] if kind == "linear" else gaussian_kernel(X[out], X[rows])
            held[:, out] = np.einsum("nd,adk->ank", basis, fitted)
        cross, square, _ = self._moments(held, S, w)
        slope = np.maximum(cross / np.maximum(square, 1e-12), 0)
        gain = 2 * slope * cross - slope**2 * square
        good = gain >= (1 - slack) * gain.max(axis=0)
        # Of the penalties that do about as well as the best, the largest: it transfers furthest.
        best = len(penalties) - 1 - good[::-1].argmax(axis=0)
        columns = np.arange(k)
        factor = slope[best, columns] if shrink else np.ones(k)
        path = self._path(kind, X[chosen], S[chosen], w[chosen], penalties)
        coefficients = path[best, :, columns].T * factor
        member = Member(kind, used, coefficients, X[chosen] if kind == "kernel" else None)
        return member, held[best, :, columns].T * factor

    @staticmethod
    def _path(
        kind: str, X: np.ndarray, S: np.ndarray, w: np.ndarray, penalties: np.ndarray
    ) -> np.ndarray:
        if kind == "linear":
            return _ridge_path(X, S, w, penalties)
        return _kernel_path(gaussian_kernel(X, X), S, w, penalties)

    def _moments(
        self, held: np.ndarray, S: np.ndarray, w: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weighted sums over held-out groups of guess x truth, guess^2 and truth^2, centred."""
        cross, square = (np.zeros((len(held), S.shape[1])) for _ in range(2))
        total = np.zeros(S.shape[1])
        for g in range(self.groups_.max() + 1):
            rows = self.groups_ == g
            truth = S[rows] - S[rows].mean(axis=0)
            guess = held[:, rows] - held[:, rows].mean(axis=1, keepdims=True)
            cross += np.einsum("n,ank,nk->ak", w[rows], guess, truth)
            square += np.einsum("n,ank->ak", w[rows], guess**2)
            total += w[rows] @ truth**2
        return cross, square, total

    def _fit_design(self, blocks: dict[str, np.ndarray], sections: np.ndarray) -> None:
        """Scales of the features, and their principal axes where there are very many."""
        self.scale_, self.rotation_ = {}, {}
        for name in BLOCKS:
            X = _centred(np.asarray(blocks[name], dtype=np.float64), sections)
            sd = X.std(axis=0)
            self.scale_[name] = np.where(sd > 1e-9, sd, 1.0)
            if X.shape[1] > _MAX_COMPONENTS:
                Vt = np.linalg.svd(X / self.scale_[name], full_matrices=False)[2]
                self.rotation_[name] = Vt[:_MAX_COMPONENTS].T

    def _design(self, blocks: dict[str, np.ndarray], sections: np.ndarray) -> dict[str, np.ndarray]:
        """Features less the mean of their section, scaled."""
        out = {}
        for name in BLOCKS:
            X = _centred(np.asarray(blocks[name], dtype=np.float64), sections) / self.scale_[name]
            out[name] = X @ self.rotation_[name] if name in self.rotation_ else X
        return out

    # -- predicting -------------------------------------------------------------------------

    def scores(
        self, blocks: dict[str, np.ndarray], sections: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Program scores (m, k) and relative log depth (m,) of rows, centred by section."""
        design = self._design(blocks, sections)
        T = np.sum([member(design) for member in self.members_], axis=0)
        depth = self.depth_member_(design)
        return _centred(T, sections), _centred(depth, sections)[:, 0]

    def deviations(self, scores: np.ndarray) -> np.ndarray:
        """Deviation (m, g) from the mean of the section that programs make."""
        return self.carry_ * (scores @ self.axes_.T)

    def depth_effect(self, depth: np.ndarray, sections: np.ndarray) -> np.ndarray:
        """Deviation (m, g) from the mean of the section that predicted depth makes.

        A depth beyond those of training is taken as the nearest of them.
        """
        depth = np.clip(depth, *self.depth_range_)
        effect = unknown_depth(self.share_, depth, self.depth_level_, DEPTH_SPREAD)
        return _centred(effect, sections)

    def predict(self, blocks: dict[str, np.ndarray], sections: np.ndarray) -> np.ndarray:
        """Log-normalised values (m, g) of new rows, from their features alone."""
        scores, depth = self.scores(blocks, sections)
        return self.level_ + self.deviations(scores) + self.depth_effect(depth, sections)

    def slopes(self) -> np.ndarray:
        """Change (g,) of a log-normalised value with the log share, at the depth of training."""
        return np.maximum(depth_slope(self.share_, np.exp(self.depth_level_)), 0.05)

    # -- storage ----------------------------------------------------------------------------

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that predictions need, as arrays."""
        out = {
            "level": self.level_,
            "share": self.share_,
            "axes": self.axes_,
            "gain": self.gain_,
            "numbers": np.array([self.depth_level_, self.carry_, *self.depth_range_]),
        }
        for name in BLOCKS:
            out[f"scale.{name}"] = self.scale_[name]
            if name in self.rotation_:
                out[f"rotation.{name}"] = self.rotation_[name]
        for i, member in enumerate([*self.members_, self.depth_member_]):
            out[f"member{i}.coefficients"] = member.coefficients
            if member.centres is not None:
                out[f"member{i}.centres"] = member.centres
        return out

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> ProgramRegression:
        """Take back what :meth:`arrays` gave."""
        out = cls(n_programs=arrays["axes"].shape[1])
        out.level_, out.share_ = arrays["level"], arrays["share"]
        out.axes_, out.gain_ = arrays["axes"], arrays["gain"]
        out.depth_level_, out.carry_, *limits = (float(v) for v in arrays["numbers"])
        out.depth_range_ = (limits[0], limits[1])
        out.scale_ = {b: arrays[f"scale.{b}"] for b in BLOCKS}
        out.rotation_ = {b: arrays[f"rotation.{b}"] for b in BLOCKS if f"rotation.{b}" in arrays}
        kinds = [*MEMBERS, ("linear", ("own", "position"))]
        members = [
            Member(*kind, arrays[f"member{i}.coefficients"], arrays.get(f"member{i}.centres"))
            for i, kind in enumerate(kinds)
        ]
        out.members_, out.depth_member_ = members[:-1], members[-1]
        return out


def _section_weights(values: np.ndarray, sections: np.ndarray) -> np.ndarray:
    """Inverse variance of each row's section, with mean 1.

    A section without variance, such as one of a single row, says nothing, however sure it seems.
    """
    code = np.unique(sections, return_inverse=True)[1].ravel()
    variance = np.array([(values[code == s] ** 2).mean() for s in range(int(code.max()) + 1)])
    known = variance > 1e-12 * variance.max()
    if not known.any():
        return np.ones(len(values))
    w = np.where(known, 1.0 / np.maximum(variance, 1e-12), 0.0)[code]
    return w / w.mean()
