"""`omicllm.model.SIGEL`: embeddings of genes from their images in tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch

from omicllm._core import checks, inputs
from omicllm._core import rng as rngs
from omicllm._core.log import logger
from omicllm.model._base import OmicModel
from omicllm.model._compat import setup_arguments
from omicllm.model._sigel_clusters import GeneClusters
from omicllm.model._sigel_encoders import ENCODERS, ProjectionEncoder, TransformerEncoder
from omicllm.model._sigel_images import empty_images, images_of, same_grids, sections_from
from omicllm.nn.student_t import StudentTMixture
from omicllm.stats.neighbors import neighbor_overlap, pulled, unit_rows
from omicllm.train._sigel import RefinePlan

from scvi.data import AnnDataManager  # isort: skip  (after _base, which imports scvi quietly)
from scvi.data.fields import CategoricalObsField, LayerField  # isort: skip

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from anndata import AnnData

    from omicllm.spatial.image_set import ImageSet, Section

#: Fewest expressed genes through which another section is embedded.
_SHARED_GENES = 20

#: Parameters of the model and their defaults, those that measure best.
DEFAULTS: dict[str, Any] = {
    "encoder": "projection",
    "n_latent": 128,
    "n_clusters": None,
    "n_axes": 512,
    "gain_floor": 0.2,
    "gain_power": 0.25,
    "clip": 5.0,
    "pull": 0.8,
    "n_pull": 20,
    "sharpness": 3.0,
    "contrast_weight": 0.0,
    "temperature": 0.1,
    "patch_size": 4,
    "dim": 16,
    "depth": 5,
    "n_heads": 4,
    "mlp_ratio": 5.0,
    "mask_ratio": 0.3,
    "decoder": "image",
    "standardize": True,
    "max_pixels": 16384,
    "min_count": 50,
    "seed": 0,
}
PRESETS: dict[str | None, dict[str, Any]] = {
    None: {},
    "paper": {
        "encoder": "transformer",
        "n_latent": 32,
        "n_clusters": 500,
        "standardize": False,
        "pull": 0.0,
    },
}
SCHEDULES: dict[str | None, dict[str, Any]] = {
    None: {
        "pretrain_epochs": 0, "refine_epochs": 0, "batch_size": 2048,
        "refine_batch_size": 2048, "lr": 1e-3, "refine_lr": 1e-4, "refine_weight": 0.1,
    },
    "paper": {
        "pretrain_epochs": 50, "refine_epochs": 30, "batch_size": 320,
        "refine_batch_size": 64, "lr": 1e-3, "refine_lr": 1e-3, "refine_weight": 1.0,
    },
}  # fmt: skip


def _resolved(preset: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Join defaults, preset and the arguments of a call, and check them."""
    checks.one_of("preset", preset, PRESETS)
    params = DEFAULTS | PRESETS[preset] | dict(given)
    checks.one_of("encoder", params["encoder"], ("projection", "transformer"))
    for name in ("n_latent", "n_axes", "max_pixels", "patch_size", "dim", "depth", "n_heads"):
        checks.whole_number(name, params[name])
    if params["n_clusters"] is not None:
        params["capped"] = "n_clusters" not in given
        checks.whole_number("n_clusters", params["n_clusters"])
    for name in ("gain_floor", "gain_power", "clip", "pull", "sharpness", "contrast_weight"):
        checks.share(name, params[name], high=float("inf"))
    return params


def number_of_clusters(asked: int | None, n_expressed: int, *, capped: bool = False) -> int:
    """Components of the mixture: as asked, or one per 25 expressed genes, from 4 to 500.

    Under eight expressed genes it is half their number.

    Raises
    ------
    ValueError
        When more are asked for than there are genes with counts.
    """
    if asked is None:
        return int(min(max(round(n_expressed / 25), min(4, n_expressed // 2), 1), 500))
    if asked > n_expressed:
        if capped:  # a preset's number, not the user's
            return number_of_clusters(None, n_expressed)
        msg = (
            f"n_clusters={asked} is more than the {n_expressed} genes with counts. Ask for fewer, "
            "or leave it out: it then follows the number of genes."
        )
        raise ValueError(msg)
    return int(asked)


def _number_pulling(asked: int, n_genes: int) -> int:
    """Neighbours a gene is drawn to: as asked, but at most a tenth of the genes there are."""
    return max(1, min(asked, n_genes // 10))


class _Encoded(NamedTuple):
    """Genes of an object as the encoder gives them, before they are pulled."""

    encoder: Any
    images: ImageSet
    raw: np.ndarray
    #: Number of each gene among the model's, -1 for a new one.
    place: np.ndarray


class SIGEL(OmicModel):
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

    params_: dict[str, Any]
    sections_: tuple[Section, ...]
    var_names_: np.ndarray
    n_clusters_: int
    encoder: Any
    _clusters: GeneClusters | None = None
    _embedding: np.ndarray | None = None
    _images: ImageSet | None = None
    _memory: np.ndarray | None = None

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
        given = {k: v for k, v in locals().items() if k in DEFAULTS and v is not None}
        self._begin(adata, preset, given, description)
        self.init_params_ = {"kwargs": {}, "non_kwargs": {"preset": preset, **given}}

    def _begin(
        self,
        adata: AnnData | None,
        preset: str | None,
        given: Mapping[str, Any],
        description: Mapping[str, Any] | None,
    ) -> None:
        """Fill in everything but the weights."""
        self.params_ = _resolved(preset, given)
        self.preset_ = preset
        if adata is not None:
            super().__init__(adata)
            self._set_up_images(adata)
        elif description is None:
            msg = "SIGEL needs adata: call SIGEL.setup_anndata(adata), then SIGEL(adata)."
            raise ValueError(msg)
        else:
            self._without_data(description)
        if description is not None:
            self._set_up_from(description)
        else:
            self.encoder = ENCODERS[self.params_["encoder"]].untrained(
                self._require_images(), self._trained, self.params_
            )
        self.module = self.encoder.trained_network()

    # -- set-up ----------------------------------------------------------------------------

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        *,
        layer: str | None = None,
        spatial_key: str = "spatial",
        batch_key: str | None = None,
        grid_key: str = "spatial_grid",
        input: str = "counts",
        **kwargs: Any,
    ) -> None:
        """Say where counts, coordinates and sections are.

        A grid made by :func:`omicllm.pp.spatial_grid` is used when it is there and fits, else one
        is made in memory with the defaults; the object gets no slot but scvi's own.

        Parameters
        ----------
        adata
            Observations x genes.
        layer
            Layer with the counts; ``X`` by default.
        spatial_key
            Entry of `obsm` with coordinates.
        batch_key
            Column of `obs` that tells sections apart.
        grid_key
            Grid to use when it is there.
        input
            ``"counts"``, or ``"values"`` for non-negative normalised data.
        kwargs
            Passed to scvi's registry.
        """
        checks.one_of("input", input, ("counts", "values"))
        arguments = setup_arguments(
            cls, layer=layer, spatial_key=spatial_key, batch_key=batch_key, grid_key=grid_key,
            input=input,
        )  # fmt: skip
        inputs.stored(adata, layer)
        fields: list[Any] = [LayerField("X", layer, is_count_data=False, correct_data_format=False)]
        if batch_key is not None:
            inputs.sections(adata, batch_key)
            fields.append(CategoricalObsField("batch", batch_key))
        manager = AnnDataManager(fields=fields, setup_method_args=arguments)
        manager.register_fields(adata, **kwargs)
        cls.register_manager(manager)

    def _set_up_images(self, adata: AnnData) -> None:
        self.var_names_ = inputs.gene_names(adata)
        setup = self.registry_["setup_args"]
        self.params_["input"] = setup["input"]
        self._images = images_of(adata, setup, self.params_["max_pixels"])
        self.sections_ = self._images.sections
        totals = self._images.gene_total
        expressed = np.flatnonzero(totals > 0)
        if len(expressed) < 2:
            msg = f"At least two genes with counts are needed; there are {len(expressed)}."
            raise ValueError(msg)
        trained = np.flatnonzero(totals >= self.params_["min_count"])
        self._expressed = expressed
        self._trained = trained if len(trained) >= 8 else expressed
        self.n_clusters_ = number_of_clusters(
            self.params_["n_clusters"], len(expressed), capped=self.params_.get("capped", False)
        )

    def _set_up_from(self, description: Mapping[str, Any]) -> None:
        """Make the encoder of a saved model, with whatever weights."""
        attributes = description["attributes"]
        self.params_["input"] = attributes["input"]
        self._saved_var_names = np.array(description["var_names"], dtype=object)
        saved = sections_from(attributes["sections"])
        if self._images is None:
            self.var_names_ = self._saved_var_names
            self.sections_ = saved
            self.n_clusters_ = attributes["n_clusters"]
        elif not same_grids(self.sections_, saved):
            msg = (
                "adata lies on another grid than the section the model was trained on. Embed it "
                "with model.embed(adata), or go on training with SIGEL.load_query_data(adata, "
                "model)."
            )
            raise ValueError(msg)
        frame = empty_images(saved, len(self.var_names_))
        self.encoder = ENCODERS[self.params_["encoder"]].blank(
            frame, attributes["shapes"], self.params_
        )

    def _require_images(self) -> ImageSet:
        if self._images is None:
            msg = "This model was loaded without data: pass adata to SIGEL.load."
            raise ValueError(msg)
        return self._images

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
        images, schedule = self._require_images(), SCHEDULES[self.preset_]
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

    def _trained_embedding(self) -> np.ndarray:
        if self._embedding is None or self._clusters is None:
            msg = "The model is not trained yet: call model.train()."
            raise RuntimeError(msg)
        return self._embedding

    def _in_training(self) -> np.ndarray:
        """Bool (n_vars,): the gene was trained on and serves as memory."""
        mask = np.zeros(self._require_images().n_genes, dtype=bool)
        mask[self._trained] = True
        return mask

    def _pulled(self, raw: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Final embedding of encoder outputs; `own` is each row's place among the model's genes."""
        assert self._memory is not None
        known = np.abs(self._memory).sum(axis=1) > 0
        place = np.where(known, np.cumsum(known) - 1, -1)
        own = np.where(own >= 0, place[own], -1)
        k = _number_pulling(self.params_["n_pull"], int(known.sum()))
        weight = self.params_["pull"]
        return pulled(raw, unit_rows(self._memory[known]), own, k=k, weight=weight)

    def _agreement(
        self,
        encoder: Any,
        images: ImageSet,
        genes: np.ndarray,
        rng: int | np.random.Generator | None,
    ) -> dict[str, Any]:
        """Neighbour overlap between embeddings of two halves of the counts of `genes`."""
        generator = rngs.generator(rng)
        if len(genes) > 8000:
            genes = np.sort(generator.choice(genes, 8000, replace=False))
        k = min(20, max(1, (len(genes) - 1) // 4))
        halves, scores = encoder.halves(images.take(genes), generator)
        own, weight = np.arange(len(genes)), self.params_["pull"]
        n_pull = _number_pulling(self.params_["n_pull"], len(genes))
        # Each half has itself for a memory: one made from all counts would be shared by both.
        ours = [pulled(z, unit_rows(z), own, k=n_pull, weight=weight) for z in halves]
        return {
            "sigel": neighbor_overlap(*ours, k=k),
            "pca": neighbor_overlap(*scores, k=k),
            "n_neighbors": k,
            "n_genes": len(genes),
        }

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

    # -- other genes and sections -----------------------------------------------------------

    def embed(
        self, adata: AnnData, *, setup: Mapping[str, Any] | None = None, pull: bool = True
    ) -> np.ndarray:
        """Embed the genes of another object in the space of this model.

        New genes over the same spots go through the encoder as they are. On another section the
        encoder first learns the new tissue from the genes both have.

        Parameters
        ----------
        adata
            Counts where :meth:`setup_anndata` said they are; any genes.
        setup
            Arguments of :meth:`setup_anndata` that differ for this object.
        pull
            Draw genes towards their nearest trained genes, as in training. Without it encoder
            outputs are scaled to unit length and left where they are.

        Returns
        -------
        float32 (adata.n_vars, n_latent); zero rows for genes without counts.

        Raises
        ------
        RuntimeError
            When the model is not trained.
        ValueError
            When another section shares fewer than 20 expressed genes with the model
            (projection encoder).
        """
        encoded = self._encoded(adata, setup)
        return self._pulled(encoded.raw, encoded.place) if pull else unit_rows(encoded.raw)

    def embed_with_agreement(
        self,
        adata: AnnData,
        *,
        setup: Mapping[str, Any] | None = None,
        rng: int | np.random.Generator | None = 0,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Embed the genes of another object, and measure how well two halves of it agree.

        Parameters
        ----------
        adata, setup
            As of :meth:`embed`.
        rng
            Seed, Generator or None: of the halves.

        Returns
        -------
        What :meth:`embed` gives, and what :meth:`get_agreement` would give of that object.
        """
        encoded = self._encoded(adata, setup)
        totals = encoded.images.gene_total
        genes = np.flatnonzero(totals >= self.params_["min_count"])
        if len(genes) < 8:
            genes = np.flatnonzero(totals > 0)
        Z = self._pulled(encoded.raw, encoded.place)
        return Z, self._agreement(encoded.encoder, encoded.images, genes, rng)

    def _encoded(self, adata: AnnData, setup: Mapping[str, Any] | None) -> _Encoded:
        """Send the genes of an object through the encoder."""
        self._trained_embedding()
        where = {**self.registry_["setup_args"], **(setup or {})}
        images = images_of(adata, where, self.params_["max_pixels"])
        names, encoder = inputs.gene_names(adata), self.encoder
        if not same_grids(images.sections, self.sections_):
            encoder = _transferred(self, images, names)
        raw = encoder.embed(images).numpy()
        raw[images.gene_total <= 0] = 0.0
        index = {name: i for i, name in enumerate(self.var_names_)}
        place = np.array([index.get(n, -1) for n in names])
        return _Encoded(encoder, images, raw, place)

    @classmethod
    def from_pretrained(cls, name: str = "mouse_olfactory_bulb") -> Self:
        """Load a model that comes with the package.

        Parameters
        ----------
        name
            ``"mouse_olfactory_bulb"``: trained with the defaults on section 1 of
            :func:`omicllm.datasets.mouse_olfactory_bulb` (1,000 genes).

        Returns
        -------
        A trained model without data: use :meth:`embed` or :meth:`load_query_data`.
        """
        from importlib.resources import as_file, files

        checks.one_of("name", name, ("mouse_olfactory_bulb",))
        with as_file(files("omicllm.model") / "weights" / f"sigel_{name}") as folder:
            return cls.load(folder)

    @classmethod
    def load_query_data(cls, adata: AnnData, reference_model: Self) -> Self:
        """Start a model on another section from a trained one; ``train`` then goes on from there.

        Parameters
        ----------
        adata
            Another section; it is set up with the arguments of the reference.
        reference_model
            Trained model.

        Returns
        -------
        A model on `adata` with the encoder of the reference carried over.
        """
        reference_model._trained_embedding()
        setup = {k: v for k, v in reference_model.registry_["setup_args"].items() if v is not None}
        cls.setup_anndata(adata, **setup)
        params = {k: v for k, v in reference_model.params_.items() if k in DEFAULTS}
        if reference_model.params_.get("capped"):  # a preset's number of clusters, not the user's
            del params["n_clusters"]
        model = cls(adata, reference_model.preset_, **params)
        model.encoder = _transferred(reference_model, model._require_images(), model.var_names_)
        model.module = model.encoder.trained_network()
        return model

    # -- saving -----------------------------------------------------------------------------

    def _arrays_to_save(self) -> dict[str, np.ndarray]:
        arrays: dict[str, Any] = {}
        if self._embedding is not None and self._clusters is not None:
            arrays["embedding"], arrays["memory"] = self._embedding, self._memory
            arrays |= {f"clusters.{k}": v for k, v in self._clusters.get_state().items()}
        return arrays

    def _restore_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        state = {k[9:]: v for k, v in arrays.items() if k.startswith("clusters.")}
        if state:
            self._clusters = GeneClusters.from_state(state)
            order = _order_of(self._saved_var_names, self.var_names_)
            self._embedding, self._memory = arrays["embedding"][order], arrays["memory"][order]

    def _attributes_to_save(self) -> dict[str, Any]:
        return {
            "input": self.params_["input"],
            "shapes": self.encoder.shapes,
            "n_clusters": self.n_clusters_,
            "sections": [
                {"name": s.name, "start": s.start, "stop": s.stop, "shape": list(s.shape),
                 "pixel": s.pixel.tolist()}
                for s in self.sections_
            ],
        }  # fmt: skip


def _transferred(model: SIGEL, images: ImageSet, names: np.ndarray) -> Any:
    """Encoder of a trained model for another section.

    A transformer keeps its weights on the new patch grid. A projection has weights per pixel: the
    new section gets axes of its own, and the rotation that brings the genes both have closest to
    where the model put them (orthogonal Procrustes). Neighbourhoods within the section are those
    its own axes give.
    """
    if isinstance(model.encoder, TransformerEncoder):
        first = model.encoder.networks[0]
        networks = [
            first.for_grid(s.shape, s.occupancy, share=bool(i))
            for i, s in enumerate(images.sections)
        ]
        return TransformerEncoder.on_tissue(networks, images, model.params_)
    Z = np.asarray(model._memory)
    index = {name: i for i, name in enumerate(model.var_names_)}
    totals = images.gene_total
    known = np.abs(Z).sum(axis=1) > 0
    pairs = [
        (i, index[n]) for i, n in enumerate(names)
        if n in index and totals[i] >= model.params_["min_count"] and known[index[n]]
    ]  # fmt: skip
    if len(pairs) < _SHARED_GENES:
        msg = (
            f"Another section is embedded through the genes it shares with the model; "
            f"{len(pairs)} expressed genes are shared, at least {_SHARED_GENES} are needed."
        )
        raise ValueError(msg)
    here, there = np.array(pairs).T
    genes = np.flatnonzero(totals >= model.params_["min_count"])
    params = dict(model.params_)
    encoder = ProjectionEncoder.untrained(images, genes, params)
    network = encoder.network
    if network.n_latent != Z.shape[1]:
        msg = (
            f"The section gives {network.n_latent} axes, the model has {Z.shape[1]} dimensions: "
            "it is too small to be embedded in the space of the model."
        )
        raise ValueError(msg)
    own = encoder.embed(images).numpy()[here].astype(np.float64)
    u, _, vt = np.linalg.svd(own.T @ Z[there].astype(np.float64))
    with torch.no_grad():
        weight = network.map.weight
        weight.copy_(torch.from_numpy((u @ vt).T).to(weight.dtype) @ weight)
    logger.info("learned a new section from %d shared genes", len(pairs))
    device = next(model.module.parameters()).device
    return ProjectionEncoder(network.to(device), params)


def _order_of(saved: np.ndarray, wanted: np.ndarray) -> list[int]:
    """Where each of the `wanted` names stands among those saved."""
    index = {name: i for i, name in enumerate(saved)}
    return [index[name] for name in wanted]
