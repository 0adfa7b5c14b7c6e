"""`omicllm.model.ULT`: profiles as strings, by a fitted lookup table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm.codec.lookup_table import LookupTable
from omicllm.model._base import OmicModel, register_profiles
from omicllm.model._compat import setup_arguments
from omicllm.model._saved import restoring
from omicllm.model._ult_codec import ProfileCodec
from omicllm.model._ult_sources import sources

import torch  # isort: skip  (after _base, which imports scvi quietly)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData


class ULT(OmicModel):
    """Profiles as strings: one character per gene, from a frequency-ranked lookup table.

    Values are companded to integer levels, levels are counted and ranked, and each gets a
    character. There is no network: training is counting, in one pass over blocks of rows.

    Parameters
    ----------
    adata
        Object that :meth:`setup_anndata` or :meth:`setup_mudata` was called on.
    bits
        Levels on each side of zero: 2^bits.
    mu
        Compression of the companding.
    max_value
        Value that saturates (the published table for z-scores has 1.0); ``"auto"`` for the largest
        absolute value of the training data; for a MuData also a dict by modality.
    patch_size
        Genes in a word; None for one word.
    codepoints
        ``"safe"`` or ``"reference"``, see :class:`omicllm.codec.Parameters`.
    tie_break, offset, separator, rounding, unseen, unknown
        See :class:`omicllm.codec.Parameters`.
    joint
        MuData: one table for all modalities, each scaled to its own `max_value`.
    table
        A table to use instead of training, for example from :func:`omicllm.io.read_lut`.

    Examples
    --------
    >>> import omicllm as ol
    >>> adata = ol.datasets.mouse_olfactory_bulb()
    >>> ol.model.ULT.setup_anndata(adata)
    >>> model = ol.model.ULT(adata)
    >>> model.train()
    >>> texts = model.encode()
    >>> values = model.decode(texts)

    References
    ----------
    Unified lookup tables: Mach. Learn.: Sci. Technol. (2025), doi 10.1088/2632-2153/ae143c.
    """

    codec_: ProfileCodec | None = None
    params_: dict[str, Any]

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        *,
        bits: int = 8,
        mu: float = 255.0,
        max_value: float | str | Mapping[str, float] = "auto",
        patch_size: int | None = 8,
        codepoints: str = "safe",
        tie_break: str = "value",
        offset: int = 33,
        separator: str = " ",
        rounding: str = "trunc",
        unseen: str | None = None,
        unknown: str = "raise",
        joint: bool = False,
        table: LookupTable | None = None,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        self.params_ = {
            "bits": bits, "mu": mu, "patch_size": patch_size, "codepoints": codepoints,
            "tie_break": tie_break, "offset": offset, "separator": separator,
            "rounding": rounding, "unseen": unseen or "", "unknown": unknown,
        }  # fmt: skip
        self._max_value, self._joint = max_value, bool(joint)
        LookupTable([], [], **self.params_)  # refuses bad parameters
        if adata is not None:
            super().__init__(adata)
        elif description is None:
            msg = "ULT needs adata: call ULT.setup_anndata(adata), then ULT(adata)."
            raise ValueError(msg)
        else:
            self._adata = self._adata_manager = None
            self.registry_ = {"setup_args": description["setup_args"]}
            self.is_trained_, self.history_, self.trainer = False, None, None
        self.module = torch.nn.Module()  # there are no weights
        self.var_names_ = np.array([])
        if adata is not None:
            data = self._sources(adata)
            self.var_names_ = np.concatenate([s.var_names for s in data.values()])
        if table is not None:
            self._use(table)
        # What _base saves; the table itself is saved as arrays.
        own = {**self.params_, "joint": self._joint, "max_value": max_value}
        self.init_params_ = {"kwargs": {}, "non_kwargs": own}

    def _use(self, table: LookupTable) -> None:
        if table.parameters.method != "series":
            msg = f"ULT encodes profiles; the table is one for {table.parameters.method}."
            raise ValueError(msg)
        data = self._sources(self.adata)
        if set(data) != {""}:
            msg = "table= is for an AnnData; for a MuData train with joint=True."
            raise ValueError(msg)
        self.codec_ = ProfileCodec({"": table}, {"": data[""].var_names})
        taken = table.parameters.as_dict()
        self.params_ = {name: taken[name] for name in self.params_}
        self._max_value, self.is_trained_ = table.parameters.max_value, True

    # -- set-up -----------------------------------------------------------------------------

    @classmethod
    def setup_anndata(cls, adata: AnnData, *, layer: str | None = None, **kwargs: Any) -> None:
        """Say where the profiles are.

        Parameters
        ----------
        adata
            Observations x genes.
        layer
            Layer with the values; ``X`` by default.
        kwargs
            Passed to scvi's registry.
        """
        arguments = setup_arguments(cls, layer=layer)
        sources(adata, layer=layer)
        register_profiles(cls, adata, layer, arguments, **kwargs)

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        *,
        modalities: Sequence[str] | None = None,
        layer: str | Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Say which modalities make the text, in which order, and where their profiles are.

        Parameters
        ----------
        mdata
            Observations may be missing from some modalities.
        modalities
            Names in the order of the text; all by default.
        layer
            Layer with the values, one name or a dict by modality; ``X`` by default.
        kwargs
            Passed to scvi's registry.
        """
        chosen = list(mdata.mod) if modalities is None else list(modalities)
        by_name = {} if layer is None or isinstance(layer, str) else layer
        own = {m: by_name.get(m) if by_name else layer for m in chosen}
        sources(mdata, layer=own, modalities=chosen)
        arguments = setup_arguments(cls, modalities=chosen, layer=own)
        register_profiles(cls, mdata, own, arguments, **kwargs)

    def _sources(self, adata: Any) -> Any:
        setup = self.registry_["setup_args"]
        if hasattr(adata, "mod") and setup.get("modalities") is None:
            msg = "The model was set up with an AnnData; it cannot read a MuData."
            raise ValueError(msg)
        return sources(adata, layer=setup.get("layer"), modalities=setup.get("modalities"))

    # -- training ---------------------------------------------------------------------------

    def train(self) -> None:
        """Fit the table: count the levels of the data in blocks of rows, and rank them."""
        data = self._sources(self._data())
        self.codec_ = ProfileCodec.fit(
            data, max_value=self._max_value, joint=self._joint, **self.params_
        )
        self.is_trained_, self.history_ = True, {}

    def _data(self, adata: Any = None) -> Any:
        if adata is None and self._adata is None:
            msg = "This model was loaded without data: pass adata."
            raise ValueError(msg)
        return self._adata if adata is None else adata

    @property
    def codec(self) -> ProfileCodec:
        """The fitted tables and the genes they encode, of one object or several modalities."""
        if self.codec_ is None:
            msg = "The model is not trained yet: call model.train()."
            raise RuntimeError(msg)
        return self.codec_

    @property
    def table(self) -> LookupTable | dict[str, LookupTable]:
        """The fitted :class:`omicllm.codec.LookupTable`; one per modality without `joint`."""
        codec = self.codec
        single = codec.joint or len(codec.tables) == 1
        return next(iter(codec.tables.values())) if single else dict(codec.tables)

    # -- strings ----------------------------------------------------------------------------

    def encode(self, adata: AnnData | MuData | None = None, *, reindex: bool = False) -> list[str]:
        """One string per observation.

        Parameters
        ----------
        adata
            Data to encode, set up or not; the training data by default.
        reindex
            Take genes by name when they are in another order, or more.

        Returns
        -------
        List of str. A MuData gives ``<rna>...<protein>...``, with nothing after the marker of a
        modality that lacks the observation.

        Raises
        ------
        ValueError
            Other genes; NaN or infinite values.
        """
        return [s for block in self.encode_blocks(adata, reindex=reindex) for s in block]

    def encode_blocks(
        self, adata: AnnData | MuData | None = None, *, reindex: bool = False
    ) -> Iterator[list[str]]:
        """Strings in blocks of observations, for data whose strings do not fit into memory.

        Parameters
        ----------
        adata, reindex
            As for :meth:`encode`.

        Yields
        ------
        List of str, in the order of the observations.
        """
        codec = self.codec
        yield from codec.encode_blocks(self._sources(self._data(adata)), reindex=reindex)

    def decode(
        self, strings: Sequence[str], *, dtype: Any = np.float64
    ) -> np.ndarray | dict[str, np.ndarray]:
        """Values that strings stand for.

        Parameters
        ----------
        strings
            Made by this model.
        dtype
            Of the result.

        Returns
        -------
        Array (n, n_vars) in the order of the trained genes. For a MuData a dict of such arrays by
        modality, NaN where the modality was missing.

        Raises
        ------
        ValueError
            A string of another length, or with characters that are not in the table.
        """
        strings = [strings] if isinstance(strings, str) else list(strings)
        out = self.codec.decode(strings, dtype)
        return out[""] if set(out) == {""} else out

    # -- saving -----------------------------------------------------------------------------

    def _arrays_to_save(self) -> dict[str, np.ndarray]:
        if self.codec_ is None:
            return {}
        stored = self.codec_.as_dict()
        kept = ("levels", "counts", "codepoints")
        return {f"{i}.{k}": a[k] for i, a in enumerate(stored.values()) for k in kept}

    def _attributes_to_save(self) -> dict[str, Any]:
        if self.codec_ is None:
            return {}
        stored = self.codec_.as_dict()
        numbers = ("var_names", "max_value", "scale")
        return {
            "modalities": [{"name": n, **{k: a[k] for k in numbers}} for n, a in stored.items()]
        }

    @classmethod
    def load(  # type: ignore[override]
        cls,
        dir_path: str | Path,
        adata: AnnData | MuData | None = None,
        **_: Any,
    ) -> ULT:
        """Load a saved model.

        Parameters
        ----------
        dir_path
            Folder written by :meth:`save`.
        adata
            Data to attach; its genes are compared when it is encoded.

        Raises
        ------
        FileNotFoundError
            When there is no saved model.
        ValueError
            When the model is of another class or schema, or `adata` lacks genes of the table.
        """
        folder = Path(dir_path)
        description, arrays = cls._read(folder)
        with restoring(folder):
            parameters = dict(description["init_params"])
            model = cls(None, **parameters, description=description)
            model.var_names_ = np.asarray(description["var_names"], dtype=str)
            stored = {
                entry["name"]: {
                    **entry,
                    **{k: arrays[f"array.{i}.{k}"] for k in ("levels", "counts", "codepoints")},
                }
                for i, entry in enumerate(description["attributes"].get("modalities", ()))
            }
            if stored:
                model.codec_ = ProfileCodec.from_dict(stored, model.params_, joint=model._joint)
                model.is_trained_, model.history_ = True, {}
        if adata is not None:
            setup = {k: v for k, v in description["setup_args"].items() if v is not None}
            data = model._sources(adata)
            if model.codec_ is not None:
                model.codec_.aligned(data, reindex=True)
            register = cls.setup_mudata if hasattr(adata, "mod") else cls.setup_anndata
            register(adata, **setup)
            trained, codec = model.is_trained_, model.codec_
            model = cls(adata, **parameters)
            model.codec_, model.is_trained_ = codec, trained
            model.history_ = {} if trained else None
        return model
