"""What a SIGEL model knows of its data: images, sections, genes; and how it is saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, inputs
from omicllm.model import _sigel_parts as parts
from omicllm.model._base import OmicModel
from omicllm.model._compat import setup_arguments
from omicllm.model._sigel_clusters import GeneClusters
from omicllm.model._sigel_encoders import ENCODERS

from scvi.data import AnnDataManager  # isort: skip  (after _base, which imports scvi quietly)
from scvi.data.fields import CategoricalObsField, LayerField  # isort: skip

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData

    from omicllm.spatial.image_set import ImageSet, Section


class SIGELData(OmicModel):
    """Set-up, state and storage of :class:`omicllm.model.SIGEL`."""

    params_: dict[str, Any]
    sections_: tuple[Section, ...]
    var_names_: np.ndarray
    n_clusters_: int
    encoder: Any
    _clusters: GeneClusters | None = None
    _embedding: np.ndarray | None = None
    _images: ImageSet | None = None
    _memory: np.ndarray | None = None

    def _begin(
        self,
        adata: AnnData | None,
        preset: str | None,
        given: Mapping[str, Any],
        description: Mapping[str, Any] | None,
    ) -> None:
        """Fill in everything but the weights."""
        self.params_ = parts.resolved(preset, given)
        self.preset_ = preset
        if adata is not None:
            super().__init__(adata)
            self._set_up_images(adata)
        else:
            self._without_data(description)
        if description is not None:
            self._set_up_from(description)
        else:
            self.encoder = ENCODERS[self.params_["encoder"]].untrained(
                self._require_images(), self._trained, self.params_
            )
        self.module = self.encoder.trained_network()

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

    def _without_data(self, description: Mapping[str, Any] | None) -> None:
        if description is None:
            msg = "SIGEL needs adata: call SIGEL.setup_anndata(adata), then SIGEL(adata)."
            raise ValueError(msg)
        self._adata = self._adata_manager = None
        self.registry_ = {"setup_args": description["setup_args"]}
        self.is_trained_, self.history_, self.trainer = False, None, None
        self.train_indices_ = self.test_indices_ = self.validation_indices_ = None

    def _set_up_images(self, adata: AnnData) -> None:
        self.var_names_ = inputs.gene_names(adata)
        setup = self.registry_["setup_args"]
        self.params_["input"] = setup["input"]
        self._images = parts.images_of(adata, setup, self.params_["max_pixels"])
        self.sections_ = self._images.sections
        totals = self._images.gene_total
        expressed = np.flatnonzero(totals > 0)
        if len(expressed) < 2:
            msg = f"At least two genes with counts are needed; there are {len(expressed)}."
            raise ValueError(msg)
        trained = np.flatnonzero(totals >= self.params_["min_count"])
        self._expressed = expressed
        self._trained = trained if len(trained) >= 8 else expressed
        self.n_clusters_ = parts.number_of_clusters(
            self.params_["n_clusters"], len(expressed), capped=self.params_.get("capped", False)
        )

    def _set_up_from(self, description: Mapping[str, Any]) -> None:
        """Make the encoder of a saved model, with whatever weights."""
        attributes = description["attributes"]
        self.params_["input"] = attributes["input"]
        self._saved_var_names = np.array(description["var_names"], dtype=object)
        saved = parts.sections_from(attributes["sections"])
        if self._images is None:
            self.var_names_ = self._saved_var_names
            self.sections_ = saved
            self.n_clusters_ = attributes["n_clusters"]
        elif not parts.same_grids(self.sections_, saved):
            msg = (
                "adata lies on another grid than the section the model was trained on. Embed it "
                "with model.embed(adata), or go on training with SIGEL.load_query_data(adata, "
                "model)."
            )
            raise ValueError(msg)
        frame = parts.empty_images(saved, len(self.var_names_))
        self.encoder = ENCODERS[self.params_["encoder"]].blank(
            frame, attributes["shapes"], self.params_
        )

    def _require_images(self) -> ImageSet:
        if self._images is None:
            msg = "This model was loaded without data: pass adata to SIGEL.load."
            raise ValueError(msg)
        return self._images

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
            order = parts.order_of(self._saved_var_names, self.var_names_)
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
