"""`omicllm.model.SIGEL`: embeddings of genes from their images in tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from omicllm._core import checks
from omicllm._core import rng as rngs
from omicllm._core.log import logger
from omicllm.model import _sigel_parts as parts
from omicllm.model._sigel_clusters import GeneClusters
from omicllm.model._sigel_transfer import SIGELTransfer
from omicllm.nn.student_t import StudentTMixture
from omicllm.train._sigel import RefinePlan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from anndata import AnnData


class SIGEL(SIGELTransfer):
    """Embeddings of genes from their images in tissue.

    A gene is an image: its counts over the spots of a section. Genes with similar images get
    similar vectors, at cosine distance, and are grouped by a Student-t mixture.

    Parameters
    ----------
    adata
        Object that :meth:`setup_anndata` was called on; None for a model that is loaded.
    preset
        None: the recipe that measures best (Pearson residuals projected on axes weighted by
        held-out variance, then drawn together by the self-paced pull; no gradient step).
        ``"paper"``: architecture and schedule of the publication (masked transformer on
        log-normalised images, 500 components). Other arguments override a preset.
    encoder
        ``"projection"`` or ``"transformer"``.
    n_latent
        Width of the embedding; at most the number of axes the data can give.
    n_clusters
        Components of the mixture; by default one per 25 expressed genes, between 4 and 500.
    n_axes, gain_floor, gain_power
        Projection: number of axes, and the weight ``(snr + gain_floor) ** gain_power`` of each.
    clip
        Projection: largest absolute residual, so that a single spot cannot place a gene.
    pull, n_pull
        Strength of the self-paced pull of a gene towards its `n_pull` nearest trained genes.
    sharpness, contrast_weight, temperature
        Projection, where it is trained: sharpness of the neighbourhoods that are distilled;
        weight and temperature of InfoNCE between the two halves of a gene's counts.
    patch_size, dim, depth, n_heads, mlp_ratio, mask_ratio, decoder, standardize
        Transformer, see :class:`omicllm.nn.MaskedAutoencoder`.
    max_pixels
        Sections with more occupied pixels are pooled into square patches.
    min_count
        Genes with fewer counts are embedded, but not trained on.
    seed
        Seed of starting weights.

    Examples
    --------
    >>> import omicllm as ol
    >>> adata = ol.datasets.mouse_olfactory_bulb()
    >>> ol.model.SIGEL.setup_anndata(adata)
    >>> model = ol.model.SIGEL(adata)
    >>> model.train()
    >>> adata.varm["X_sigel"] = model.get_gene_embedding()

    Notes
    -----
    SIGEL: Genome Biology 26:287 (2025), doi 10.1186/s13059-025-03748-7. What differs from the
    paper, and why, is in the user guide.
    """

    def __init__(
        self,
        adata: AnnData | None = None,
        preset: str | None = None,
        *,
        encoder: str | None = None,
        n_latent: int | None = None,
        n_clusters: int | None = None,
        n_axes: int | None = None,
        gain_floor: float | None = None,
        gain_power: float | None = None,
        clip: float | None = None,
        pull: float | None = None,
        n_pull: int | None = None,
        sharpness: float | None = None,
        contrast_weight: float | None = None,
        temperature: float | None = None,
        patch_size: int | None = None,
        dim: int | None = None,
        depth: int | None = None,
        n_heads: int | None = None,
        mlp_ratio: float | None = None,
        mask_ratio: float | None = None,
        decoder: str | None = None,
        standardize: bool | None = None,
        max_pixels: int | None = None,
        min_count: int | None = None,
        seed: int = 0,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        given = {k: v for k, v in locals().items() if k in parts.DEFAULTS and v is not None}
        self._begin(adata, preset, given, description)
        self.init_params_ = {"kwargs": {}, "non_kwargs": {"preset": preset, **given}}

    # -- training ---------------------------------------------------------------------------

    def train(
        self,
        *,
        pretrain_epochs: int | None = None,
        refine_epochs: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        rng: int | np.random.Generator | None = 0,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        show_progress: bool | None = None,
        **trainer: Any,
    ) -> None:
        """Train the encoder, then fit the mixture. Called again, it goes on training.

        Parameters
        ----------
        pretrain_epochs
            Passes over the genes; default 0: the start, which the data determine, was not
            bettered by training (preset paper: 50).
        refine_epochs
            Rounds of mixture and self-paced pseudo-contrast after that (default 0; paper: 30).
        batch_size
            Genes in a batch (default 2,048; paper 320, and 64 in refinement).
        lr
            Learning rate, in refinement too (default 1e-3; 1e-4 in refinement without preset).
        rng
            Seed, Generator or None.
        accelerator, devices
            Passed to Lightning.
        show_progress
            Draw a progress bar.
        trainer
            Further arguments of :class:`lightning.pytorch.Trainer`.
        """
        images, schedule = self._require_images(), parts.SCHEDULES[self.preset_]
        seed = rngs.seed_of(rng)
        for name, value in (("pretrain_epochs", pretrain_epochs), ("refine_epochs", refine_epochs)):
            if value is not None:
                checks.whole_number(name, value, at_least=0)
        batch, refine_batch = schedule["batch_size"], schedule["refine_batch_size"]
        if batch_size is not None:
            batch = refine_batch = checks.whole_number("batch_size", batch_size)
        rate, refine_rate = schedule["lr"], schedule["refine_lr"]
        if lr is not None:
            rate = refine_rate = checks.positive("lr", lr)
        epochs = schedule["pretrain_epochs"] if pretrain_epochs is None else pretrain_epochs
        refine = schedule["refine_epochs"] if refine_epochs is None else refine_epochs
        run = {
            "seed": seed, "accelerator": accelerator, "devices": devices,
            "show_progress": show_progress, **trainer,
        }  # fmt: skip
        if epochs:
            data, plan = self.encoder.pretraining(
                images, self._trained, batch_size=batch, seed=seed, lr=rate, epochs=epochs
            )
            self._fit(plan, data, stage="pretrain", max_epochs=epochs, **run)
        if refine:
            data, _ = self.encoder.pretraining(
                images, self._trained, batch_size=refine_batch, seed=seed + 1, lr=refine_rate,
                epochs=refine,
            )  # fmt: skip
            row = torch.full((images.n_genes,), -1)
            row[self._trained] = torch.arange(len(self._trained))
            plan = RefinePlan(
                self.module,
                embed=lambda: self.encoder.embed(images)[self._trained],
                of_batch=self.encoder.of_batch,
                other_loss=self.encoder.other_loss,
                mixture=StudentTMixture(
                    min(self.n_clusters_, len(self._trained)), max_iter=5, rng=seed
                ),
                row_of_gene=row,
                lr=refine_rate,
                weight=schedule["refine_weight"],
            )
            self._fit(plan, data, stage="refine", max_epochs=refine, **run)
        raw = self.encoder.embed(images).numpy()
        raw[images.gene_total <= 0] = 0.0
        self._memory = np.where(self._in_training()[:, None], raw, 0.0)
        self._embedding = self._pulled(raw, np.arange(len(raw)))
        expressed = self._embedding[self._expressed]
        self._clusters = GeneClusters.fitted(expressed, self.n_clusters_, seed=seed)
        self.history_ = {**(self.history_ or {}), "mixture_objective": self._clusters.curve()}
        self.is_trained_ = True
        logger.info(
            "embedded %d genes in %d dimensions, %d clusters, mixture after %d iterations",
            len(self._expressed),
            self._embedding.shape[1],
            self.n_clusters_,
            self._clusters.mixture.n_iter_,
        )

    # -- results ----------------------------------------------------------------------------

    def get_gene_embedding(self, *, section: str | None = None) -> np.ndarray:
        """Return the gene embedding.

        Parameters
        ----------
        section
            Embedding from the image in one section, in the same space; all sections by default.

        Returns
        -------
        float32 (n_vars, n_latent), in the order of ``adata.var_names``. Genes that are zero
        everywhere are zero rows.
        """
        embedding = self._trained_embedding()
        if section is None:
            return embedding.copy()
        names = [s.name for s in self.sections_]
        if section not in names:
            raise checks.missing(section, "the sections", names)
        return self.get_section_embeddings()[names.index(section)]

    def get_section_embeddings(self) -> np.ndarray:
        """Return the embedding of each gene in each section, float32 (n_sections, n_vars, d)."""
        self._trained_embedding()
        own = np.arange(len(self.var_names_))
        sections = self.encoder.embed_sections(self._require_images()).numpy()
        return np.stack([self._pulled(raw, own) for raw in sections])

    def get_cluster_probabilities(self) -> pd.DataFrame:
        """Return mixture responsibilities (n_vars x n_clusters); NaN rows for empty genes."""
        import pandas as pd

        out = self.assign(self._trained_embedding())
        return pd.DataFrame(
            out, index=self.var_names_, columns=[str(i) for i in range(out.shape[1])]
        )

    def assign(self, Z: np.ndarray) -> np.ndarray:
        """Responsibilities of the mixture for embeddings (n, d): float64 (n, n_clusters).

        Zero rows (genes without counts) give NaN.
        """
        self._trained_embedding()
        assert self._clusters is not None
        return self._clusters.assign(Z)

    def get_reconstruction(
        self, genes: Sequence[str] | None = None, *, section: str | None = None
    ) -> np.ndarray:
        """Return what the encoder holds of gene images.

        Parameters
        ----------
        genes
            Names, all by default.
        section
            Section to draw; the first by default.

        Returns
        -------
        float32 (n_genes, height, width): expected counts from the trusted axes (projection), or
        decoded log-normalised images (transformer).
        """
        from omicllm._core.names import positions

        images = self._require_images()
        chosen = np.arange(images.n_genes) if genes is None else positions(genes, self.var_names_)
        names = [s.name for s in self.sections_]
        if section is not None and section not in names:
            raise checks.missing(section, "the sections", names)
        index = 0 if section is None else names.index(section)
        blocks = np.array_split(chosen, max(1, -(-len(chosen) // 1024)))
        return np.concatenate([self.encoder.reconstruct(images, b, index) for b in blocks])

    def get_agreement(self, *, rng: int | np.random.Generator | None = 0) -> dict[str, Any]:
        """Measure neighbour overlap between embeddings of two halves of the counts, and PCA's.

        Returns
        -------
        dict with ``sigel``, ``pca`` (PCA of Pearson residuals, same width), ``n_neighbors`` and
        ``n_genes``; at most 8,000 expressed genes are compared.
        """
        return self._agreement(self.encoder, self._require_images(), self._trained, rng)
