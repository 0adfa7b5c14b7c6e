"""Set-up, state and storage of `omicllm.model.SPAM`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, inputs
from omicllm._core.names import positions
from omicllm.model._base import OmicModel
from omicllm.model._spam_data import Tissue, read_counts, read_tissue
from omicllm.nn.tissue_fusion import TissueFusion
from omicllm.stats.conformal import Intervals
from omicllm.stats.histology import variable_genes
from omicllm.stats.program_regression import ProgramRegression
from omicllm.stats.tissue_context import TissueContext

import torch  # isort: skip  (after _base, which imports scvi quietly)
from scvi.data import AnnDataManager  # isort: skip
from scvi.data.fields import LayerField, MuDataLayerField  # isort: skip

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData

#: Fewest observations that can be trained on.
_FEWEST = 16
_INTERVAL = ("centres", "low", "high", "coverage")
_CONTEXT = ("length", "noise", "covariance", "residual")


class SPAMStore(OmicModel):
    """What every method of :class:`omicllm.model.SPAM` stands on.

    Attributes
    ----------
    genes_
        Names of the trained genes.
    regression_
        Closed-form prediction the network starts from.
    blend_
        Share of the network's addition that held-out groups asked for.
    reliability_
        (g,) correlation of each gene with its prediction in held-out groups.
    """

    params_: dict[str, Any]
    genes_: np.ndarray
    reliability_: np.ndarray
    regression_: ProgramRegression | None = None
    context_: TissueContext | None = None
    intervals_: Intervals | None = None
    blend_: float = 0.0
    gene_mean_: np.ndarray
    gene_sd_: np.ndarray
    n_features_: int = 0
    pretrained_: list[str]
    start_loss_: float = float("nan")

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        *,
        use_rep: str = "X_classical",
        layer: str | None = None,
        section_key: str | None = None,
        patient_key: str | None = None,
        spatial_key: str = "spatial",
        **kwargs: Any,
    ) -> None:
        """Say where image features, counts, places and sections are.

        Parameters
        ----------
        adata
            Sections with counts, one after the other.
        use_rep
            Entry of `obsm` with image features, see :func:`omicllm.pp.image_features`.
        layer
            Layer with raw counts; ``X`` by default.
        section_key, patient_key
            Columns of `obs`. By default ``section``, ``library_id`` or ``sample``, and ``patient``
            or ``donor``, where they are there; else all is one section, or of one patient.
        spatial_key
            Entry of `obsm` with coordinates; where it is missing ``obs["x_centroid"]`` and
            ``obs["y_centroid"]``.
        kwargs
            Passed to scvi's registry.

        Raises
        ------
        KeyError
            No such features, layer or column.
        ValueError
            Features that are not finite numbers.
        """
        arguments = cls._get_setup_method_args(
            use_rep=use_rep, layer=layer, section_key=section_key, patient_key=patient_key,
            spatial_key=spatial_key, rna=None, image=None, cls=cls,
        )  # fmt: skip
        for argument, key in (("section_key", section_key), ("patient_key", patient_key)):
            if key is not None:
                inputs.obs_column(adata, key, argument=argument)
        read_tissue(adata, arguments["setup_args"])
        inputs.matrix(adata, layer)
        fields = [LayerField("X", layer, is_count_data=False, correct_data_format=False)]
        manager = AnnDataManager(fields=fields, setup_method_args=arguments)
        manager.register_fields(adata, **kwargs)
        cls.register_manager(manager)

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        *,
        rna: str = "rna",
        image: str = "image",
        use_rep: str | None = None,
        layer: str | None = None,
        section_key: str | None = None,
        patient_key: str | None = None,
        spatial_key: str = "spatial",
        **kwargs: Any,
    ) -> None:
        """Say where counts and image features are in a MuData; observations go by name.

        Parameters
        ----------
        mdata
            Two modalities: counts, and image features.
        rna, image
            Their names.
        use_rep
            Entry of `obsm` of the image modality with features; its ``X`` by default.
        layer
            Layer of the counts.
        section_key, patient_key, spatial_key
            As in :meth:`setup_anndata`; looked for in the counts first, then in the images.
        kwargs
            Passed to scvi's registry.
        """
        arguments = cls._get_setup_method_args(
            use_rep=use_rep, layer=layer, section_key=section_key, patient_key=patient_key,
            spatial_key=spatial_key, rna=rna, image=image, cls=cls,
        )  # fmt: skip
        joined(mdata, rna=rna, image=image, use_rep=use_rep, layer=layer)
        fields = [
            MuDataLayerField(
                "X", layer, mod_key=rna, is_count_data=False, correct_data_format=False
            )
        ]
        manager = AnnDataManager(fields=fields, setup_method_args=arguments)
        manager.register_fields(mdata, **kwargs)
        cls.register_manager(manager)

    # -- reading ----------------------------------------------------------------------------

    def _begin(self, adata: Any, description: Mapping[str, Any] | None) -> None:
        self.pretrained_ = []
        if adata is not None:
            super().__init__(adata)
            self.var_names_ = inputs.gene_names(self._plain(adata))
        elif description is None:
            msg = "SPAM needs adata: call SPAM.setup_anndata(adata), then SPAM(adata)."
            raise ValueError(msg)
        else:
            self._adata = self._adata_manager = None
            self.registry_ = {"setup_args": description["setup_args"]}
            self.is_trained_, self.history_, self.trainer = False, None, None
            self.train_indices_ = self.test_indices_ = self.validation_indices_ = None
            self.var_names_ = np.array(description["var_names"], dtype=object)
        self.module = torch.nn.Module()  # made once the genes and their programs are known
        if description is not None:
            saved = description["attributes"]
            self.genes_ = np.array(saved["genes"], dtype=object)
            self.n_features_, self.blend_ = saved["n_features"], saved["blend"]
            self.pretrained_, self.start_loss_ = saved["pretrained"], saved["start_loss"]
            if saved["n_programs"]:
                axes = np.zeros((len(self.genes_), saved["n_programs"]))
                self.module = self._network(axes, saved["width_in"])
            self._level = saved["interval_level"]

    @property
    def _setup(self) -> dict[str, Any]:
        setup = dict(self.registry_["setup_args"])
        if setup.get("rna"):  # what `joined` makes of a MuData
            setup["use_rep"] = "X_image"
        return setup

    def _plain(self, data: Any) -> AnnData:
        """The AnnData that is worked on, made from two modalities where a MuData was given."""
        if not hasattr(data, "mod"):
            return data
        setup = self.registry_["setup_args"]
        return joined(
            data, rna=setup.get("rna") or "rna", image=setup.get("image") or "image",
            use_rep=setup["use_rep"] if setup.get("rna") else None, layer=setup["layer"],
        )  # fmt: skip

    def _own(self) -> AnnData:
        if self._adata is None:
            msg = "This model was loaded without data: pass adata to SPAM.load."
            raise ValueError(msg)
        return self._plain(self._adata)

    def _tissue(self, adata: Any) -> Tissue:
        """Everything of an object but expression."""
        data = self._own() if adata is None else self._plain(adata)
        return read_tissue(data, self._setup, self.n_features_ or None)

    def _choose_genes(self, adata: AnnData, tissue: Tissue, genes: Sequence[str] | None) -> None:
        """Set `genes_`: those named, or the most variable within sections, or all."""
        if len(tissue.features) < _FEWEST:
            msg = f"At least {_FEWEST} observations are needed; there are {adata.n_obs}."
            raise ValueError(msg)
        names, n = self.var_names_, self.params_["n_top_genes"]
        if genes is not None:
            self.genes_ = names[positions(list(genes), names)]
            return
        every = read_counts(adata, self._setup["layer"], names)
        used = np.flatnonzero(every.counts.sum(axis=0) > 0)
        if n is not None and n < len(used):
            values = every.values[:, used]
            used = used[variable_genes(values, tissue.sections, checks.whole_number("n", n))]
        if len(used) < 2:
            msg = f"At least two genes with counts are needed; there are {len(used)}."
            raise ValueError(msg)
        self.genes_ = names[used]

    def _network(self, axes: np.ndarray, width_in: int) -> TissueFusion:
        p = self.params_
        return TissueFusion(
            width_in, len(self.genes_), torch.from_numpy(np.asarray(axes, dtype=np.float32)),
            width=p["n_hidden"], n_heads=p["n_heads"], n_tokens=p["n_tokens"],
            tokens=p["tokens"], likelihood=p["likelihood"],
        )  # fmt: skip

    def _require_training(self) -> ProgramRegression:
        if not self.is_trained_ or self.regression_ is None:
            msg = "The model is not trained yet: call model.train()."
            raise RuntimeError(msg)
        return self.regression_

    # -- storage ----------------------------------------------------------------------------

    def _attributes_to_save(self) -> dict[str, Any]:
        made = isinstance(self.module, TissueFusion)
        return {
            "genes": list(getattr(self, "genes_", [])), "n_features": self.n_features_,
            "blend": self.blend_, "pretrained": self.pretrained_, "start_loss": self.start_loss_,
            "n_programs": int(self.module.axes.shape[1]) if made else 0,
            "width_in": int(self.module.adapter.in_features) if made else 0,
            "interval_level": self.intervals_.level if self.intervals_ is not None else 0.0,
        }  # fmt: skip

    def _arrays_to_save(self) -> dict[str, np.ndarray]:
        if self.regression_ is None:
            return {}
        out = {f"regression.{k}": v for k, v in self.regression_.arrays().items()}
        out |= {"gene_mean": self.gene_mean_, "gene_sd": self.gene_sd_}
        if self.context_ is not None and self.intervals_ is not None:
            out |= {f"context.{k}": getattr(self.context_, k) for k in _CONTEXT}
            out |= {f"intervals.{k}": getattr(self.intervals_, k) for k in _INTERVAL}
            out |= {"reliability": self.reliability_}
        return out

    def _restore_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        def under(prefix: str) -> dict[str, np.ndarray]:
            return {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}

        if "gene_mean" not in arrays:
            return
        self.regression_ = ProgramRegression.from_arrays(under("regression."))
        self.gene_mean_, self.gene_sd_ = arrays["gene_mean"], arrays["gene_sd"]
        if "reliability" in arrays:
            self.reliability_ = arrays["reliability"]
            context, interval = under("context."), under("intervals.")
            self.context_ = TissueContext(self.regression_.axes_, **context)
            self.intervals_ = Intervals(**interval, level=self._level)


def joined(
    mdata: Any, *, rna: str = "rna", image: str = "image", use_rep: str | None = None,
    layer: str | None = None,
) -> AnnData:  # fmt: skip
    """One AnnData of a MuData's counts and image features, joined by the names of observations.

    Raises
    ------
    KeyError
        A modality, or features, that are not there.
    ValueError
        No observation with an image. Observations without counts are kept out.
    """
    import anndata as ad

    for mod in (rna, image):
        if mod not in mdata.mod:
            raise checks.missing(mod, "mdata.mod", mdata.mod, hint="Name it with rna= or image=.")
    counts, pictures = mdata.mod[rna], mdata.mod[image]
    if use_rep is not None and use_rep not in pictures.obsm:
        raise checks.missing(use_rep, f"mdata[{image!r}].obsm", pictures.obsm)
    found = inputs.matrix(pictures) if use_rep is None else pictures.obsm[use_rep]
    features = np.asarray(found.toarray() if hasattr(found, "toarray") else found)
    both = counts.obs_names.intersection(pictures.obs_names, sort=False)
    if not len(both):
        msg = f"mdata[{rna!r}] and mdata[{image!r}] share no observation by name."
        raise ValueError(msg)
    mine = counts.obs_names.get_indexer(both)
    theirs = pictures.obs_names.get_indexer(both)
    X = inputs.gene_major(inputs.matrix(counts, layer)).tocsr()[mine]
    obs = counts.obs.iloc[mine].copy()
    for column in pictures.obs.columns.difference(obs.columns):
        obs[column] = np.asarray(pictures.obs[column])[theirs]
    out = ad.AnnData(X, obs=obs, var=counts.var[[]].copy())
    if layer is not None:
        out.layers[layer] = out.X
    for key in {*counts.obsm.keys(), *pictures.obsm.keys()}:
        source, rows = (counts, mine) if key in counts.obsm else (pictures, theirs)
        value = source.obsm[key]
        out.obsm[key] = np.asarray(value)[rows]
    out.obsm["X_image"] = features[theirs]
    return out
