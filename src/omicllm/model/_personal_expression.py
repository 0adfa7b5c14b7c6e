"""`omicllm.model.PersonalExpression`: expression of people from their own sequences."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, inputs, parts
from omicllm._core import rng as rngs
from omicllm.model._base import OmicModel
from omicllm.model._personal_data import PersonalSequences, check_lengths
from omicllm.model._personal_joint import JOINT, JointData
from omicllm.model._personal_predict import PersonalPredict
from omicllm.model._personal_train import PersonalTrain
from omicllm.nn.borzoi import Borzoi
from omicllm.nn.enformer import Enformer
from omicllm.nn.genome_trunk import load_trunk
from omicllm.nn.joint_heads import random_start as restarted
from omicllm.nn.personal_network import PersonalNetwork

from scvi.data import AnnDataManager  # isort: skip  (after ours, which import scvi quietly)
from scvi.data.fields import LayerField  # isort: skip

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from anndata import AnnData

STRATEGIES = (
    "baseline", "single_counts", "single_z", "pair_regression", "pair_counts",
    "pair_classification", *JOINT,
)  # fmt: skip
#: CAGE of the cell line GM12878, the published track of lymphoblastoid cells.
GM12878 = 5110


class PersonalExpression(PersonalTrain, PersonalPredict, OmicModel):
    """Predict the expression of people from the two haplotypes they carry at a gene.

    A haplotype is a number f; a person is the mean of two. How f learns is the strategy:

    =========================== =============== ==========================================
    strategy                    f               loss
    =========================== =============== ==========================================
    baseline                    track of trunk  none
    single_counts               attention head  SMAPE with expression
    single_z                    attention head  squared error of the z-score
    pair_regression             attention head  squared error of the difference of z
    pair_counts                 attention head  SMAPE of both and of the difference
    pair_classification         track           cross-entropy of who has more
    pair_regression_tracks      attention head  that of pairs, and Poisson of a genome's tracks
    pair_classification_tracks  track           the same, with the track itself once more
    pair_regression_mpra        attention head  that of pairs, and squared error of effects of
                                                alleles on a reporter
    =========================== =============== ==========================================

    **Held-out genes are not predicted** by any strategy beyond what the trunk knew (published
    mean correlation .05, against .28 for genes of the training), and linear models reach as much
    on genes that were trained. Compare with :func:`omicllm.tl.twas`, as
    :func:`omicllm.tl.personal_expression` does.

    Parameters
    ----------
    adata
        People x genes that :meth:`setup_anndata` was called on; None for a model that is loaded.
    haplotypes
        From :func:`omicllm.pp.haplotypes` with ``length=``; its windows are the genes modelled.
    trunk
        :class:`omicllm.nn.GenomeTrunk` or folder of a checkpoint. A copy of it is trained.
    strategy
        See above. ``"pair_regression"`` is the publication's.
    n_centre_bins
        Bins about the start site that count.
    track
        Track of ``"baseline"`` and ``"pair_classification"``: by default 5,110 of Enformer's
        published human head (CAGE, GM12878), the first of a smaller head, and for other trunks a
        new one (``"baseline"`` wants to be told).
    tracks
        For ``*_tracks``: result of :func:`omicllm.io.read_basenji`, or several by species,
        ``{"human": ..., "mouse": ...}``. Rows train or validate as ``obs["split"]`` says. The head
        of an Enformer for that species predicts them (all its tracks, or those whose numbers are
        the ``var_names``); other trunks get a new head.
    mpra
        For ``*_mpra``: result of :func:`omicllm.io.read_mpra` with ``genome=``; all rows train
        where there is no ``obs["split"]``.
    random_start
        Begin with random weights of the trunk instead of those it has.
    min_af
        Leave out rare variants: alleles of a smaller share of the haplotypes of a gene's training
        people are replaced by the most frequent one, mostly the reference, in everybody. What is
        passed to :meth:`predict` stays as it is.
    freeze
        None, ``"trunk"``, or one or several of ``trunk.parts`` (Enformer and Borzoi: ``"cnn"``,
        ``"transformer"``). Heads always train.
    batch_norm
        ``"frozen"`` keeps the statistics of batch norm, as published; ``"train"`` does not.
    dropout
        Use the trunk's dropout while training.
    seed
        Seed of starting weights.

    Raises
    ------
    ValueError
        Unknown strategy; haplotypes of a length that the trunk does not take; a trunk without
        tracks where one is needed; a joint strategy without its data, or data that do not fit.

    Examples
    --------
    >>> personal = ol.pp.haplotypes(geno, genome=fasta, windows=rna, length=8192)  # doctest: +SKIP
    >>> ol.model.PersonalExpression.setup_anndata(rna, layer="corrected")  # doctest: +SKIP
    >>> model = ol.model.PersonalExpression(rna, personal, trunk=trunk)  # doctest: +SKIP
    >>> model.train()  # doctest: +SKIP
    >>> predicted = model.predict()  # doctest: +SKIP
    """

    def __init__(
        self,
        adata: AnnData | None = None,
        haplotypes: Any | None = None,
        *,
        trunk: Any = None,
        strategy: str = "pair_regression",
        n_centre_bins: int = 10,
        track: int | None = None,
        tracks: AnnData | Mapping[str, AnnData] | None = None,
        mpra: AnnData | None = None,
        random_start: bool = False,
        min_af: float = 0.0,
        freeze: str | Sequence[str] | None = None,
        batch_norm: str = "frozen",
        dropout: bool = False,
        seed: int = 0,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        checks.one_of("strategy", strategy, STRATEGIES)
        checks.one_of("batch_norm", batch_norm, ("frozen", "train"))
        checks.whole_number("n_centre_bins", n_centre_bins)
        checks.share("min_af", min_af, high=0.5)
        if adata is not None:
            super().__init__(adata)
            self.var_names_ = inputs.gene_names(adata)
        if description is not None:
            self.genes_ = list(description["attributes"]["genes"])
            self.var_names_ = np.asarray(description["var_names"], dtype=object)
            trunk = _rebuilt(description["attributes"]["trunk"], trunk)
            if adata is None:
                self._adata = self._adata_manager = None
                self.registry_ = {"setup_args": description["setup_args"]}
                self.is_trained_, self.history_, self.trainer = False, None, None
        elif adata is None or haplotypes is None or trunk is None:
            msg = (
                "PersonalExpression needs expression, haplotypes and a trunk: call "
                "PersonalExpression.setup_anndata(rna), then PersonalExpression(rna, "
                "ol.pp.haplotypes(geno, ..., length=), trunk=...)."
            )
            raise ValueError(msg)
        else:
            with rngs.isolated(seed):
                trunk = (restarted if random_start else deepcopy)(load_trunk(trunk))
            known = set(haplotypes.names)
            self.genes_ = [str(g) for g in self.var_names_ if str(g) in known]
            if not self.genes_:
                raise checks.missing(
                    str(haplotypes.names[0]), "adata.var_names", self.var_names_,
                    hint="The windows of haplotypes must bear the names of genes.",
                )  # fmt: skip
        self.strategy, self.seed = strategy, seed
        self.sequences: PersonalSequences | None = None
        if adata is not None and haplotypes is not None:
            people, train = adata.obs_names, None
            if min_af > 0:
                at = {str(g): i for i, g in enumerate(adata.var_names)}
                part = parts.by_gene(adata, self.registry_["setup_args"]["split_key"])
                train = part[:, [at[g] for g in self.genes_]] == parts.TRAIN
            self.sequences = PersonalSequences(
                haplotypes, people, self.genes_, min_af=min_af, train=train
            )
            self.length_ = check_lengths(self.sequences, trunk)
        elif description is not None:
            self.length_ = int(description["attributes"]["length"])
        signal = JOINT.get(strategy, (strategy,))[0] in ("baseline", "pair_classification")
        chosen = _track(trunk, track, strategy) if signal else None
        self.others_: JointData | None = None
        self.joint_ = None if description is None else description["attributes"].get("joint")
        if description is None or tracks is not None or mpra is not None:
            self.others_ = JointData(strategy, trunk, tracks=tracks, mpra=mpra, track=chosen)
            if description is not None and self.others_.described != self.joint_:
                msg = "The model was trained together with other tracks, bins or cell types."
                raise ValueError(msg)
            self.joint_ = self.others_.described
        with rngs.isolated(seed):
            self.module = PersonalNetwork(
                trunk, signal=signal, track=chosen, n_centre_bins=n_centre_bins, freeze=freeze,
                frozen_batch_norm=batch_norm == "frozen", dropout=dropout, joint=self.joint_,
            )  # fmt: skip
        self.module.eval()
        self.is_trained_ = strategy == "baseline"
        self.init_params_ = {
            "kwargs": {},
            "non_kwargs": {
                "strategy": strategy, "n_centre_bins": n_centre_bins, "track": track,
                "freeze": freeze, "batch_norm": batch_norm, "dropout": dropout, "seed": seed,
                "random_start": random_start, "min_af": min_af,
            },
        }  # fmt: skip

    @classmethod
    def setup_anndata(
        cls, adata: AnnData, *, layer: str | None = None, split_key: str = "split", **kwargs: Any
    ) -> None:
        """Say where expression and split are.

        Parameters
        ----------
        adata
            People x genes (the expression modality of a MuData).
        layer
            Layer with corrected expression; ``X`` by default.
        split_key
            Column of `obs` with train, val and test, or layer (0, 1, 2) where the split depends
            on the gene.
        kwargs
            Passed to scvi's registry.
        """
        arguments = cls._get_setup_method_args(layer=layer, split_key=split_key, cls=cls)
        inputs.stored(adata, layer)
        parts.by_gene(adata, split_key)
        fields = [LayerField("X", layer, is_count_data=False, correct_data_format=False)]
        manager = AnnDataManager(fields=fields, setup_method_args=arguments)
        manager.register_fields(adata, **kwargs)
        cls.register_manager(manager)

    @classmethod
    def load(  # type: ignore[override]
        cls, dir_path: str | Path, adata: AnnData | None = None, *, haplotypes: Any = None,
        trunk: Any = None, tracks: Any = None, mpra: AnnData | None = None,
        accelerator: str = "auto", device: int | str = "auto",
    ) -> Any:  # fmt: skip
        """Load a saved model.

        Parameters
        ----------
        dir_path
            Folder written by :meth:`save`.
        adata
            Expression to attach, with the genes of the model.
        haplotypes
            Haplotypes to attach; without them pass some to :meth:`predict`.
        trunk
            A trunk of the same kind and size, where it is no :class:`omicllm.nn.Enformer` or
            :class:`omicllm.nn.Borzoi`; its weights are replaced.
        tracks, mpra
            Data of a joint strategy, needed only to train it further.
        accelerator, device
            Where to put the model.

        Raises
        ------
        FileNotFoundError
            When there is no saved model.
        ValueError
            When the model is of another class or schema, `adata` holds other genes, or the trunk
            is missing.
        """
        given = {"haplotypes": haplotypes, "trunk": trunk, "tracks": tracks, "mpra": mpra}
        return cls._load(dir_path, adata, accelerator=accelerator, device=device, **given)

    def _attributes_to_save(self) -> dict[str, Any]:
        trunk = self.module.trunk
        own = isinstance(trunk, (Enformer, Borzoi))
        known = {trunk.name: trunk.hparams} if own else {"other": trunk.name}
        return {
            "genes": self.genes_, "trunk": known, "length": self.length_, "joint": self.joint_,
        }  # fmt: skip


def _track(trunk: Any, track: int | None, strategy: str) -> int | None:
    """The track that a strategy reads; None for a new one."""
    heads = getattr(trunk, "hparams", {}).get("output_heads", {})
    n = heads.get("human", 0) if isinstance(trunk, (Enformer, Borzoi)) else None
    if track is None and n and isinstance(trunk, Enformer):
        return GM12878 if n > GM12878 else 0
    if track is None and strategy == "baseline":
        has = hasattr(trunk, "tracks") and n != 0
        msg = (
            f"strategy='baseline' reads a track, but {trunk.name} has none. Give it a method "
            "tracks(embedding=, index=) that maps bins (n, bins, dim) to (n, bins, number of "
            "tracks), for example in a subclass of ol.nn.ModuleTrunk."
        )
        if has:
            msg = f"strategy='baseline' reads a track of {trunk.name}: say which with track=."
        raise ValueError(msg)
    if track is not None and n is not None and not 0 <= track < n:
        msg = f"track must lie below {n}, the number of human tracks, not {track}."
        raise ValueError(msg)
    return track


def _rebuilt(described: Mapping[str, Any], trunk: Any) -> Any:
    """The trunk of a saved model: one of ours of the same sizes, or the one that was passed."""
    for kind in (Enformer, Borzoi):
        if kind.name in described:
            return kind(**described[kind.name])
    if trunk is None:
        msg = f"The model was trained on the trunk {described['other']!r}: pass it with trunk=."
        raise ValueError(msg)
    return deepcopy(load_trunk(trunk))
