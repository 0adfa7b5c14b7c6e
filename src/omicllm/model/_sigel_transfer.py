"""A trained SIGEL model on other genes and other sections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from omicllm._core import checks, inputs
from omicllm._core import rng as rngs
from omicllm._core.log import logger
from omicllm.model import _sigel_parts as parts
from omicllm.model._sigel_data import SIGELData
from omicllm.model._sigel_encoders import ProjectionEncoder, TransformerEncoder
from omicllm.stats.neighbors import neighbor_overlap, pulled, unit_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData

    from omicllm.spatial.image_set import ImageSet

_SHARED_GENES = 20


class SIGELTransfer(SIGELData):
    """From encoder outputs to embeddings, for the model's own and for other data."""

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
        k = parts.number_pulling(self.params_["n_pull"], int(known.sum()))
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
        n_pull = parts.number_pulling(self.params_["n_pull"], len(genes))
        # Each half has itself for a memory: one made from all counts would be shared by both.
        ours = [pulled(z, unit_rows(z), own, k=n_pull, weight=weight) for z in halves]
        return {
            "sigel": neighbor_overlap(*ours, k=k),
            "pca": neighbor_overlap(*scores, k=k),
            "n_neighbors": k,
            "n_genes": len(genes),
        }

    def embed(self, adata: AnnData) -> np.ndarray:
        """Embed the genes of another object in the space of this model.

        New genes over the same spots go through the encoder as they are. On another section the
        encoder first learns the new tissue from the genes both have.

        Parameters
        ----------
        adata
            Counts where :meth:`setup_anndata` said they are; any genes.

        Returns
        -------
        float32 (adata.n_vars, n_latent); zero rows for genes without counts.

        Raises
        ------
        ValueError
            When another section shares fewer than 20 expressed genes with the model
            (projection encoder).
        """
        return self._embed(adata, self.registry_["setup_args"])[0]

    def _embed(
        self, adata: AnnData, setup: Mapping[str, Any], *, agreement_rng: int | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Embed the genes of an object whose counts and sections are where `setup` says.

        With `agreement_rng` also the agreement between halves of its counts.
        """
        self._trained_embedding()
        images = parts.images_of(adata, setup, self.params_["max_pixels"])
        names, encoder = inputs.gene_names(adata), self.encoder
        if not parts.same_grids(images.sections, self.sections_):
            encoder = transferred(self, images, names)
        raw = encoder.embed(images).numpy()
        raw[images.gene_total <= 0] = 0.0
        index = {name: i for i, name in enumerate(self.var_names_)}
        Z = self._pulled(raw, np.array([index.get(n, -1) for n in names]))
        if agreement_rng is None:
            return Z, {}
        genes = np.flatnonzero(images.gene_total >= self.params_["min_count"])
        if len(genes) < 8:
            genes = np.flatnonzero(images.gene_total > 0)
        return Z, self._agreement(encoder, images, genes, agreement_rng)

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
        params = {k: v for k, v in reference_model.params_.items() if k in parts.DEFAULTS}
        if reference_model.params_.get("capped"):  # a preset's number of clusters, not the user's
            del params["n_clusters"]
        model = cls(adata, reference_model.preset_, **params)
        model.encoder = transferred(reference_model, model._require_images(), model.var_names_)
        model.module = model.encoder.trained_network()
        return model


def transferred(model: Any, images: ImageSet, names: np.ndarray) -> Any:
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
