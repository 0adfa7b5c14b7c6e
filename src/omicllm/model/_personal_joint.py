"""Other data that `model.PersonalExpression` is trained together with: tracks, reporter assays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from omicllm._core import checks
from omicllm.nn.enformer import Enformer
from omicllm.nn.genome_embedding import evaluated
from omicllm.nn.joint_heads import heads_of
from omicllm.train._personal_joint import EffectRows, TrackRows

if TYPE_CHECKING:
    from anndata import AnnData

#: Strategies with other data -> the strategy for people, and what else is needed.
JOINT = {
    "pair_regression_tracks": ("pair_regression", "tracks"),
    "pair_classification_tracks": ("pair_classification", "tracks"),
    "pair_regression_mpra": ("pair_regression", "mpra"),
}
_BLOCK = 64


class JointData:
    """Other data, checked, and what the network has to know about it.

    Parameters
    ----------
    strategy
        Strategy of the model.
    trunk
        Genome model.
    tracks, mpra
        As the class takes them.
    track
        Track that predicts expression, of the trunk's own; None for a new one.

    Attributes
    ----------
    described
        ``tracks`` and ``effects`` for :class:`omicllm.nn.joint_heads.JointHeads`, as plain values;
        None for strategies without other data.

    Raises
    ------
    KeyError
        Data without sequences, tracks, or sequences of the alleles.
    ValueError
        Data that is missing or not wanted; sequences of several lengths or of one that the trunk
        does not take; values that are no tracks; more bins than sequences have.
    """

    def __init__(
        self, strategy: str, trunk: Any, *, tracks: Any, mpra: AnnData | None, track: int | None
    ) -> None:
        wanted = JOINT.get(strategy, (strategy, None))[1]
        for name, given in (("tracks", tracks), ("mpra", mpra)):
            if (given is not None) and name != wanted:
                msg = (
                    f"strategy={strategy!r} does not read {name}=; those that do are "
                    f"{checks.listed(s for s, (_, n) in JOINT.items() if n == name)}."
                )
                raise ValueError(msg)
        if wanted == "tracks" and not tracks:
            msg = f"strategy={strategy!r} needs tracks=, from ol.io.read_basenji."
            raise ValueError(msg)
        if wanted == "mpra" and mpra is None:
            msg = f"strategy={strategy!r} needs mpra=, from ol.io.read_mpra(..., genome=)."
            raise ValueError(msg)
        self.tracks: dict[str, AnnData] = {}
        self.mpra = mpra
        self.described: dict[str, Any] | None = None
        if wanted == "tracks":
            self.tracks = dict(tracks) if isinstance(tracks, Mapping) else {"human": tracks}
            found = {s: _check_tracks(a, s, trunk, track) for s, a in self.tracks.items()}
            self.described = {"tracks": found, "effects": None}
        elif mpra is not None:
            self.described = {"tracks": {}, "effects": _check_mpra(mpra, trunk)}

    def rows(self, part: str, *, shift: int, batch_size: Mapping[str, int]) -> dict[str, Any]:
        """Sources of one part: name -> (rows to tensors, numbers of the rows, batch size).

        Rows of ``obs["split"]``; without that column all of them train.
        """
        out: dict[str, Any] = {}
        for species, adata in self.tracks.items():
            sequences = adata.obs["sequence"].astype(str).to_numpy()
            out[species] = TrackRows(sequences, adata.obsm["tracks"], shift=shift)
        if self.mpra is not None and self.described is not None:
            ref, alt = (self.mpra.obs[f"{a}_sequence"].astype(str).to_numpy() for a in _ALLELES)
            width = self.described["effects"]["width"]
            out["mpra"] = EffectRows(ref, alt, _dense(self.mpra), width=width)
        found = {}
        for name, make in out.items():
            source: Any = self.tracks.get(name, self.mpra)
            rows = np.arange(source.n_obs) if part == "train" else np.arange(0)
            if "split" in source.obs:
                rows = np.flatnonzero(source.obs["split"].astype(str).to_numpy() == part)
            if part == "train" and not len(rows):
                msg = f"No row of {name!r} has obs['split'] == 'train'."
                raise ValueError(msg)
            if len(rows):
                found[name] = (make, rows, batch_size["mpra" if name == "mpra" else "tracks"])
        return found


_ALLELES = ("ref", "alt")


def _lengths(adata: AnnData, column: str, what: str, hint: str) -> int:
    """The length of the sequences of a column.

    Raises
    ------
    KeyError, ValueError
        No such column; several lengths.
    """
    if column not in adata.obs:
        raise checks.missing(column, f"obs of {what}", adata.obs, hint=hint)
    lengths = adata.obs[column].astype(str).str.len().unique()
    if len(lengths) != 1:
        msg = f"obs[{column!r}] of {what} holds sequences of {len(lengths)} lengths, not of one."
        raise ValueError(msg)
    return int(lengths[0])


def _check_tracks(adata: AnnData, species: str, trunk: Any, track: int | None) -> dict[str, Any]:
    """Description of one species for the network."""
    if species in ("pair", "track", "mpra", "loss"):
        msg = f"tracks= cannot be called {species!r}: name the species."
        raise ValueError(msg)
    what, hint = f"the tracks of {species!r}", "Read them with ol.io.read_basenji."
    length = _lengths(adata, "sequence", what, hint)
    if "tracks" not in adata.obsm:
        key, where = "tracks", f"obsm of {what}"
        raise checks.missing(key, where, adata.obsm, hint=hint)
    values = adata.obsm["tracks"]
    if values.ndim != 3 or values.shape[2] != adata.n_vars:
        msg = f"obsm['tracks'] of {what} must be (n_obs, n_bins, n_vars), not {values.shape}."
        raise ValueError(msg)
    for start in range(0, len(values), _BLOCK):
        block = np.asarray(values[start : start + _BLOCK])
        if not np.isfinite(block).all() or (block < 0).any():
            msg = f"obsm['tracks'] of {what} holds negative or infinite values or NaN."
            raise ValueError(msg)
    if length % trunk.length_multiple or (trunk.max_len and length > trunk.max_len):
        msg = (
            f"The sequences of {what} have {length} bases, but {trunk.name} takes multiples of "
            f"{trunk.length_multiple}" + (f" up to {trunk.max_len}." if trunk.max_len else ".")
        )
        raise ValueError(msg)
    own_bin = int(adata.obs["bin_size"].iloc[0]) if "bin_size" in adata.obs else trunk.bin_size
    if own_bin % trunk.bin_size:
        msg = f"Bins of {what} have {own_bin} bases, no multiple of {trunk.bin_size} of the trunk."
        raise ValueError(msg)
    n_bins, pool = values.shape[1], own_bin // trunk.bin_size
    n_made = getattr(trunk, "target_length", None) or length // trunk.bin_size
    if n_bins * pool > n_made:
        msg = (
            f"{what.capitalize()} have {n_bins} bins of {own_bin} bases, more than {trunk.name} "
            f"makes of {length} bases. Widen the sequences: ol.io.read_basenji(genome=, length=)."
        )
        raise ValueError(msg)
    own = _own_rows(adata, species, trunk)
    out = {"n": adata.n_vars, "own": own, "n_bins": n_bins, "pool": pool, "track": None}
    if species == "human" and track is not None and own is not None and track in own:
        out["track"] = own.index(track)
    return out


def _own_rows(adata: AnnData, species: str, trunk: Any) -> list[int] | None:
    """Rows of Enformer's head of a species that predict these tracks; None for a new head.

    Raises
    ------
    ValueError
        Tracks that cannot be matched to the head.
    """
    if not isinstance(trunk, Enformer) or species not in heads_of(trunk):
        return None
    n = trunk.hparams["output_heads"][species]
    if adata.n_vars == n:
        return list(range(n))
    names = [str(v) for v in adata.var_names]
    if not all(v.isdigit() and int(v) < n for v in names):
        msg = (
            f"The trunk's head {species!r} has {n} tracks and the data {adata.n_vars}: name those "
            "by their numbers (var_names, as ol.io.read_basenji does), or build the trunk without "
            "that head to have a new one."
        )
        raise ValueError(msg)
    return [int(v) for v in names]


def _check_mpra(adata: AnnData, trunk: Any) -> dict[str, Any]:
    """Description of a reporter assay for the network."""
    hint = "Read them with ol.io.read_mpra(..., genome=)."
    length = max(_lengths(adata, f"{a}_sequence", "mpra", hint) for a in _ALLELES)
    if not np.isfinite(_dense(adata)).any():
        msg = "mpra holds no measured effect."
        raise ValueError(msg)
    step = trunk.length_multiple
    width = -(-length // step) * step
    if trunk.max_len and width > trunk.max_len:
        msg = f"Reporter sequences have {length} bases; {trunk.name} takes {trunk.max_len}."
        raise ValueError(msg)
    with evaluated(trunk), torch.no_grad():
        n_bins = trunk.embed(torch.full((1, width), 4, dtype=torch.int8)).shape[1]
    return {
        "n": adata.n_vars, "n_bins": n_bins, "width": width,
        "cells": [str(v) for v in adata.var_names],
    }  # fmt: skip


def _dense(adata: AnnData) -> np.ndarray:
    X: Any = adata.X
    return np.asarray(X.toarray() if hasattr(X, "toarray") else X)
