"""What a trained SPAM model gives: predictions, intervals, latent representations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from omicllm._core import checks, inputs
from omicllm._core.names import positions
from omicllm.model._spam_data import read_counts
from omicllm.model._spam_store import SPAMStore
from omicllm.spatial.measured_nearby import nearby_mean
from omicllm.stats.ridge import section_means

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

    from omicllm.model._spam_data import Tissue
    from omicllm.spatial.surroundings import Neighbors

#: Latent representations that can be asked for.
MODALITIES = ("programs", "fused", "image", "spatial", "gene")


class SPAMResults(SPAMStore):
    """Predictions of :class:`omicllm.model.SPAM`."""

    def _network_inputs(
        self, tissue: Tissue, blocks: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, Neighbors]:
        """Standardised features and places, their averages over neighbours, and the graph."""
        assert self.regression_ is not None
        design = self.regression_._design(blocks, tissue.sections)
        features = np.clip(np.hstack([design["own"], design["position"]]), -10, 10)
        graph = tissue.graph(self.params_["knn"])
        return features, graph.average(features), graph

    def predict(
        self,
        adata: AnnData | MuData | None = None,
        *,
        genes: Sequence[str] | None = None,
        context: str | np.ndarray | None = None,
        panel: Sequence[str] | None = None,
        layer: str | None = None,
        output: str = "log",
        library_size: float | np.ndarray = 1e4,
    ) -> pd.DataFrame:
        """Predict expression.

        Without `context` and `panel`, expression of `adata` is not looked at, and there need not
        be any.

        Parameters
        ----------
        adata
            Sections with image features, coordinates and, if there are several, section names
            under the keys of training; the training data by default.
        genes
            Genes to return; by default all trained ones.
        context
            Observations of `adata` that were measured: a mask, or a column of `obs` of bool.
            Their counts correct predictions of the others.
        panel
            Genes that were measured in all observations of `adata`. They are not returned.
        layer
            Layer of the counts of `context` and `panel`; by default that of training.
        output
            ``"log"``: log(1 + 10,000 x share of the profile), as such values are expected to be
            measured. ``"rate"``: share of the profile. ``"counts"``: expected counts.
        library_size
            Counts of a profile, for ``"counts"``: a number, or one per observation.

        Returns
        -------
        DataFrame (n_obs, n_genes), float32.

        Raises
        ------
        KeyError
            Features, genes or a column that are not there.
        ValueError
            Other features than those of training; nothing measured; context and panel at once.
        """
        import pandas as pd

        regression = self._require_training()
        checks.one_of("output", output, ("log", "rate", "counts"))
        if context is not None and panel is not None:
            msg = "Give context= (measured observations) or panel= (measured genes), not both."
            raise ValueError(msg)
        data = self._own() if adata is None else self._plain(adata)
        tissue = self._tissue(data)
        wanted = np.arange(len(self.genes_))
        if genes is not None:
            wanted = positions(list(genes), self.genes_, where="the genes of the model")
        measured = None if context is None else _mask(data, context)
        blocks = tissue.blocks(self.params_["knn"])
        deviation, depth = self._deviation(data, tissue, blocks, measured, layer)
        level, share, _ = self._levels(tissue)
        effect = regression.depth_effect(depth, tissue.sections)
        mean = level + deviation + effect
        if measured is not None:
            mean = self._with_context(data, tissue, mean, measured, layer)
        if panel is not None:
            mean, wanted = self._with_panel(data, tissue, mean, list(panel), layer, wanted)
        if output != "log":
            mean = self._rates(mean - level - effect, share)
            if output == "counts":
                zero = torch.sigmoid(self.module.zi_logits.detach()).cpu().numpy()
                extra = zero if self.params_["likelihood"] == "zinb" else 0.0
                size = np.broadcast_to(_depths(data, library_size), len(mean))
                mean = (1 - extra) * mean * size[:, None]
        mean = np.maximum(mean, 0.0)[:, wanted]
        return pd.DataFrame(
            mean.astype(np.float32), index=tissue.obs_names, columns=self.genes_[wanted]
        )

    def _deviation(
        self, data: AnnData, tissue: Tissue, blocks: dict[str, np.ndarray],
        measured: np.ndarray | None, layer: str | None,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Deviations (n, g) from the mean of the section, and relative log depth (n,)."""
        shown = None
        if self.blend_ > 0 and measured is not None and tissue.coords is not None:
            values = self._measured_values(data, layer)
            standard = (values - self.gene_mean_) / self.gene_sd_
            shown = nearby_mean(standard, measured, tissue.coords, tissue.sections)
        scores, depth = self._scores(tissue, blocks, shown)
        return self._require_training().deviations(scores), depth

    def _scores(
        self, tissue: Tissue, blocks: dict[str, np.ndarray],
        shown: tuple[np.ndarray, np.ndarray] | None,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Program scores (n, k), in closed form and by the network, and relative log depth."""
        scores, depth = self._require_training().scores(blocks, tissue.sections)
        if self.blend_ > 0:
            fused = torch.from_numpy(self._fused(tissue, blocks, shown)["fused"])
            with torch.no_grad():
                added = self.module.head(fused.to(self._where())).cpu().double().numpy()
            scores = scores + self.blend_ * (added - section_means(added, tissue.sections))
        return scores, depth

    def _where(self) -> Any:
        return next(self.module.parameters()).device

    def _levels(self, tissue: Tissue) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Levels and shares, (1, g) or (n, g), and rows of patients that were trained on.

        A section of such a patient has the level of that patient, others the mean of training.
        """
        regression = self._require_training()
        level, share = regression.level_[None], regression.share_[None]
        patients = [self.patients_.index(p) if p in self.patients_ else -1
                    for p in tissue.patient_names]  # fmt: skip
        if not patients or max(patients) < 0:
            return level, share, np.zeros(len(tissue.features), dtype=bool)
        of = np.array(patients)[tissue.patients]  # -1 takes the last row
        return (
            np.concatenate([self.patient_level_, level])[of],
            np.concatenate([self.patient_share_, share])[of],
            of >= 0,
        )

    def _rates(self, change: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Shares of the profile (n, g) from deviations of log-normalised values from `share`."""
        regression = self._require_training()
        rest = np.maximum(1.0 - share.sum(axis=1, keepdims=True), 1e-6)
        log_share = torch.from_numpy(np.log(np.hstack([share, rest])))
        slope = torch.from_numpy(regression.slopes())
        start = torch.from_numpy(change)
        return self.module.rates(start, torch.zeros_like(start), log_share, slope).numpy()

    def _measured_values(self, data: AnnData, layer: str | None) -> np.ndarray:
        counts = read_counts(data, layer or self._setup["layer"], self.genes_)
        return counts.values

    def _with_context(
        self, data: AnnData, tissue: Tissue, mean: np.ndarray, measured: np.ndarray,
        layer: str | None,
    ) -> np.ndarray:  # fmt: skip
        """Correct each section by the observations that were measured in it."""
        if tissue.coords is None:
            msg = "context= needs coordinates: measured observations inform those near them."
            raise ValueError(msg)
        assert self.context_ is not None
        values, out = self._measured_values(data, layer), mean.copy()
        for rows in tissue.rows():
            if measured[rows].any():
                out[rows] = self.context_.krige(
                    mean[rows], values[rows], measured[rows], tissue.coords[rows]
                )
        return out

    def _with_panel(
        self, data: AnnData, tissue: Tissue, mean: np.ndarray, panel: list[str],
        layer: str | None, wanted: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Correct predictions by a panel; what is left to return comes with them."""
        place = positions(panel, self.genes_, argument="panel", where="the genes of the model")
        assert self.context_ is not None
        names = self.genes_[place]
        X = read_counts(data, layer or self._setup["layer"], names)
        if set(self.genes_) - {str(v) for v in data.var_names}:
            # A panel alone has no library size: its share of the profile is that of training.
            assert self.regression_ is not None
            X.total = X.counts.sum(axis=1) / max(float(self.regression_.share_[place].sum()), 1e-9)
        out = mean.copy()
        for rows in tissue.rows():
            out[rows] = self.context_.condition(mean[rows], X.values[rows], place)
        return out, wanted[~np.isin(wanted, place)]

    def get_intervals(
        self,
        adata: AnnData | MuData | None = None,
        *,
        genes: Sequence[str] | None = None,
        library_size: float | np.ndarray | str | None = None,
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Bounds that hold about 90 % of measured log-normalised values.

        They were calibrated on sections (or regions of a single one) that were held out in
        training. How far measurements scatter depends on their depth. Where it is not known,
        bounds hold 90 % on average over sections as deep as those of training: less of a
        shallower section, more of a deeper one.

        Parameters
        ----------
        adata
            As in :meth:`predict`.
        genes
            Genes to return.
        library_size
            Counts of a profile as it would be measured: a number, one per observation, or a column
            of `obs`. Bounds are then those of a measurement of that depth.

        Returns
        -------
        Lower and upper bounds, two DataFrames as :meth:`predict` gives. Without `library_size`
        they hold the prediction itself.

        Raises
        ------
        ValueError
            Library sizes that are not positive, or not one per observation.
        """
        import pandas as pd

        data = self._own() if adata is None else self._plain(adata)
        output = "log" if library_size is None else "rate"
        mean = self.predict(data, genes=genes, output=output)
        known = self._levels(self._tissue(data))[2]
        bounds = np.zeros((2, *mean.shape), dtype=np.float32)
        chosen = [(~known, self.intervals_, self.count_intervals_)]
        if known.any():
            chosen.append((known, self.known_intervals_, self.known_count_intervals_))
        depth = None if library_size is None else _depths(data, library_size)
        for rows, plain, by_depth in chosen:
            assert plain is not None
            assert by_depth is not None
            if not rows.any():
                continue
            values = mean.to_numpy()[rows]
            if depth is None:
                bounds[:, rows] = plain.bounds(values)
            else:
                log_rate = np.log(np.maximum(values.astype(np.float64), 1e-12))
                bounds[:, rows] = by_depth.bounds(log_rate, depth[rows])
        low, high = (pd.DataFrame(b, index=mean.index, columns=mean.columns) for b in bounds)
        return low, high

    def get_reliability(self) -> pd.Series:
        """Correlation of each gene with its prediction in held-out groups of training data.

        Returns
        -------
        Series (n_genes,). Genes near 0 or below are better not read from predictions.
        """
        import pandas as pd

        self._require_training()
        return pd.Series(self.reliability_, index=self.genes_, name="reliability")

    def get_latent_representation(
        self, adata: AnnData | MuData | None = None, *, modality: str = "programs"
    ) -> np.ndarray:
        """Representation of observations.

        Parameters
        ----------
        adata
            As in :meth:`predict`.
        modality
            ``"programs"``: predicted scores of gene programs, which predictions are made of.
            ``"fused"``: state from which the network predicts its part of them. ``"image"``,
            ``"spatial"``, ``"gene"``: what the encoders give; the last reads the counts of
            `adata`, the others only images.

        Returns
        -------
        float32 (n_obs, d).
        """
        self._require_training()
        checks.one_of("modality", modality, MODALITIES)
        data = self._own() if adata is None else self._plain(adata)
        tissue = self._tissue(data)
        blocks = tissue.blocks(self.params_["knn"])
        if modality == "programs":
            return self._scores(tissue, blocks, None)[0].astype(np.float32)
        if modality == "gene":
            values = self._measured_values(data, None)
            standard = ((values - self.gene_mean_) / self.gene_sd_).astype(np.float32)
            with torch.no_grad():
                tokens = self.module.genes(torch.from_numpy(standard).to(self._where()))
            return tokens.mean(1).cpu().numpy()
        return self._fused(tissue, blocks, None)[modality]

    def _fused(
        self, tissue: Tissue, blocks: dict[str, np.ndarray],
        shown: tuple[np.ndarray, np.ndarray] | None, block: int = 2048,
    ) -> dict[str, np.ndarray]:  # fmt: skip
        """States of all observations, block by block."""
        features, around, graph = self._network_inputs(tissue, blocks)
        device, n = self._where(), len(features)
        x, a = (torch.from_numpy(v.astype(np.float32)) for v in (features, around))
        index, weight = torch.from_numpy(graph.index), torch.from_numpy(graph.weight)
        out: dict[str, list[np.ndarray]] = {"fused": [], "image": [], "spatial": []}
        with torch.no_grad():
            for start in range(0, n, block):
                rows = slice(start, min(start + block, n))
                own = (x[rows].to(device), a[index[rows]].to(device), weight[rows].to(device))
                size = rows.stop - rows.start
                genes = torch.zeros(size, len(self.genes_), device=device)
                known = torch.zeros(size, dtype=torch.bool, device=device)
                if shown is not None:
                    genes = torch.from_numpy(shown[0][rows]).to(device)
                    known = torch.from_numpy(shown[1][rows]).to(device)
                made = {
                    "fused": self.module.fuse(*own, genes, known),
                    "image": self.module.image(own[0]),
                    "spatial": self.module.space(own[1], own[2])[1],
                }
                for name, value in made.items():
                    out[name].append(value.float().cpu().numpy())
        return {name: np.concatenate(value) for name, value in out.items()}


def _mask(data: AnnData, context: str | np.ndarray) -> np.ndarray:
    """Observations that were measured."""
    if isinstance(context, str):
        context = inputs.obs_column(data, context, argument="context")
    mask = inputs.per_observation(context, data, argument="context")
    if mask.dtype != bool or mask.shape != (data.n_obs,):
        msg = f"context must be {data.n_obs} values of True or False, one per observation."
        raise ValueError(msg)
    if not mask.any():
        msg = "context names no measured observation: leave it out."
        raise ValueError(msg)
    return mask


def _depths(data: AnnData, library_size: float | np.ndarray | str) -> np.ndarray:
    """Library sizes (n,) from what the caller gave."""
    if isinstance(library_size, str):
        library_size = inputs.obs_column(data, library_size, argument="library_size")
    given = inputs.per_observation(library_size, data, argument="library_size").astype(np.float64)
    if given.ndim > 1 or (given.ndim == 1 and len(given) != data.n_obs):
        msg = f"library_size must be a number, or {data.n_obs}, one per observation."
        raise ValueError(msg)
    if not (np.isfinite(given).all() and (given > 0).all()):
        msg = "library_size must be positive: counts of a profile."
        raise ValueError(msg)
    return np.broadcast_to(given, data.n_obs)
