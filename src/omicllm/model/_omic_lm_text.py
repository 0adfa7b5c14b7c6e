"""What `model.OmicLM` reads: genes chosen, values standardised, one character per gene."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse, stats

from omicllm._core import names
from omicllm._core.checks import listed
from omicllm.codec import series
from omicllm.codec.lookup_table import LookupTable
from omicllm.stats.class_genes import ClassMoments, class_genes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from omicllm.model._ult_sources import Source

#: Most genes in a text by default.
N_TOP = 400
#: Longest text in tokens, of the tiny backbone and where a pretrained one does not say.
CONTEXT = 4096
SCALES = ("auto", "rank", "log", "values")
#: From so many genes on a rank within the sample says more than the value (``scale="auto"``).
_MANY_GENES = 1000
#: Bounds the rows whose statistics are looked at before anything is chosen.
_PEEK = 1000


def by_modality(
    layer: str | Mapping[str, str] | None, modalities: Sequence[str]
) -> dict[str, str | None]:
    """Layer of each modality, from one name or a dict."""
    if layer is None or isinstance(layer, str):
        return dict.fromkeys(modalities, layer)
    return {m: layer.get(m) for m in modalities}


def scaled(block: Any, scale: str) -> np.ndarray:
    """Values of whole profiles on the scale that is standardised afterwards, float64.

    ``"rank"``: normal scores of the ranks within the profile (ties share their mean rank).
    ``"log"``: log(1 + 10,000 x share of the total). ``"values"``: as they are.
    """
    dense = block.toarray() if sparse.issparse(block) else np.asarray(block)
    dense = dense.astype(np.float64)
    if scale == "rank":
        rank = stats.rankdata(dense, axis=1)
        return stats.norm.ppf((rank - 0.5) / dense.shape[1])
    if scale == "log":
        total = dense.sum(axis=1, keepdims=True)
        return np.log1p(1e4 * dense / np.where(total > 0, total, 1.0))
    return dense


def choose_scale(source: Source, scale: str) -> str:
    """What ``"auto"`` means for the profiles at hand."""
    if scale != "auto":
        return scale
    if len(source.var_names) >= _MANY_GENES:
        return "rank"
    for _, _, block in source.blocks():
        stored = block.data if sparse.issparse(block) else np.asarray(block)[:_PEEK]
        counts = stored.size == 0 or (stored.min() >= 0 and (stored == np.rint(stored)).all())
        return "log" if counts and stored.size and stored.max() > 1 else "values"
    return "values"


@dataclass
class Segment:
    """The genes of one modality in the text.

    Attributes
    ----------
    name
        Modality; empty for an AnnData.
    universe
        All genes of a profile, in the order of training.
    genes
        Positions in `universe` of the genes in the text, in text order.
    scale
        ``"rank"``, ``"log"`` or ``"values"``.
    mean, sd
        Of the training rows, for the genes in the text.
    """

    name: str
    universe: np.ndarray
    genes: np.ndarray
    scale: str
    mean: np.ndarray
    sd: np.ndarray

    @property
    def gene_names(self) -> np.ndarray:
        """Names of the genes in the text."""
        return self.universe[self.genes]

    def standardised(self, source: Source) -> tuple[np.ndarray, np.ndarray]:
        """z-scores (n_obs, n_genes) of the genes in the text, and which rows are there."""
        source = _by_name(source, self.universe)
        out = np.zeros((source.n_obs, len(self.genes)), dtype=np.float32)
        present = np.ones(source.n_obs, dtype=bool)
        for where, there, block in source.blocks():
            z = (scaled(block, self.scale)[:, self.genes] - self.mean) / self.sd
            if there is None:
                out[where] = z
            else:
                rows = np.arange(where.start, where.stop)
                out[rows[there]] = z
                present[rows[~there]] = False
        return out, present


def _by_name(source: Source, universe: np.ndarray) -> Source:
    """The same profiles with genes in the order of training."""
    from dataclasses import replace

    have = np.asarray(source.var_names, dtype=str)
    if len(have) == len(universe) and (have == universe).all():
        return source
    absent = sorted(set(universe.tolist()) - set(have.tolist()))
    if absent:
        of = f" of modality {source.name!r}" if source.name else ""
        msg = (
            f"The model was trained on {len(universe)} genes{of}; {len(absent)} of them are not in "
            f"adata.var_names ({listed(absent, most=3)}). Genes may come in another order and "
            "there may be more, but none may be missing."
        )
        raise ValueError(msg)
    return replace(source, columns=names.positions(universe.tolist(), have), var_names=universe)


@dataclass
class OmicText:
    """Profiles as rows of token numbers: what was chosen and counted on the training rows.

    Attributes
    ----------
    segments
        One per modality, in text order.
    table
        The lookup table; the token number of a character is its rank.
    """

    segments: list[Segment]
    table: LookupTable
    _rank: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        S = self.table.parameters.steps
        self._rank = np.zeros(2 * S + 1, dtype=np.int64)
        self._rank[self.table.levels + S] = np.arange(len(self.table.levels))

    # -- fitting ----------------------------------------------------------------------------

    @classmethod
    def fit(
        cls,
        data: Mapping[str, Source],
        codes: np.ndarray,
        n_classes: int,
        *,
        n_top: int | None,
        scale: str,
        context: int,
        **parameters: Any,
    ) -> tuple[OmicText, np.ndarray, np.ndarray]:
        """Choose genes and fit scales and table on rows with a class.

        Parameters
        ----------
        data
            Profiles by modality.
        codes
            Class of each row; negative for rows that are not trained on.
        n_top
            Genes in the text; by default `N_TOP`, or all genes of the largest modality if these are
            fewer.
        scale, context
            See :class:`omicllm.model.OmicLM`.
        parameters
            Of the lookup table.

        Returns
        -------
        The text, and of all rows what `standardised` gives.
        """
        found = [cls._moments(s, codes, n_classes, choose_scale(s, scale)) for s in data.values()]
        chosen = _chosen([moments for moments, _ in found], n_top)
        sizes = [len(genes) for genes in chosen]
        markers = len(data) if len(data) > 1 else 0
        fits = context - markers - 3
        if sum(sizes) > fits:
            msg = (
                f"A text of {sum(sizes)} genes does not fit the model's context of {context} "
                f"tokens: {fits} genes fit. Pass n_top={fits} or fewer, or a larger context=."
            )
            raise ValueError(msg)
        segments = []
        for source, (moments, own), genes in zip(data.values(), found, chosen, strict=True):
            segments.append(
                Segment(
                    source.name, np.asarray(source.var_names, dtype=str), genes, own,
                    moments.mean[genes], moments.sd[genes],
                )
            )  # fmt: skip
        table = LookupTable([], [], patch_size=None, method="series", **parameters)
        p, S = table.parameters, table.parameters.steps
        z, present = _standardised(segments, data)
        level = series.levels(z[present & (codes >= 0)[:, None]], **p.companding) + S
        count = np.bincount(level, minlength=2 * S + 1)
        # Every level gets a character, so that no value of a new sample is without one.
        order = np.lexsort((np.arange(2 * S + 1), -count))
        table = LookupTable(order - S, count[order], patch_size=None, method="series", **parameters)
        return cls(segments, table), z, present

    @staticmethod
    def _moments(
        source: Source, codes: np.ndarray, n_classes: int, scale: str
    ) -> tuple[ClassMoments, str]:
        moments = ClassMoments(n_classes, len(source.var_names))
        for where, there, block in source.blocks():
            own = codes[where] if there is None else codes[where][there]
            use = own >= 0
            if use.any():
                moments.add(scaled(block[use], scale), own[use])
        if not (moments.sd > 0).any():
            of = f" of modality {source.name!r}" if source.name else ""
            msg = f"Every gene{of} is constant over the labelled rows: there is nothing to learn."
            raise ValueError(msg)
        return moments, scale

    # -- reading ----------------------------------------------------------------------------

    @property
    def gene_names(self) -> np.ndarray:
        """Names of all genes, in text order."""
        return np.concatenate([s.gene_names for s in self.segments])

    @property
    def segment_of(self) -> np.ndarray:
        """Number of the modality of each gene."""
        return np.repeat(np.arange(len(self.segments)), [len(s.genes) for s in self.segments])

    @property
    def n_markers(self) -> int:
        """Markers of modalities; none when there is one modality."""
        return len(self.segments) if len(self.segments) > 1 else 0

    @property
    def columns(self) -> np.ndarray:
        """Position in the text of each gene."""
        return np.arange(len(self.segment_of)) + (self.segment_of + 1) * bool(self.n_markers)

    @property
    def n_positions(self) -> int:
        """Length of a text."""
        return len(self.segment_of) + self.n_markers

    @property
    def values(self) -> np.ndarray:
        """What each character stands for, in standard deviations, in rank order."""
        return series.values(self.table.levels, **self.table.parameters.companding)

    def standardised(self, data: Mapping[str, Source]) -> tuple[np.ndarray, np.ndarray]:
        """z-scores and presence, both (n_obs, n_genes); rows without a modality are zero there."""
        return _standardised(self.segments, data)

    def ranks(self, z: np.ndarray) -> np.ndarray:
        """Token numbers of z-scores."""
        p = self.table.parameters
        return self._rank[series.levels(z, **p.companding).astype(np.int64) + p.steps]

    def ids(self, z: np.ndarray) -> np.ndarray:
        """Texts of z-scores as token numbers (n, n_positions)."""
        return self.with_markers(self.ranks(z))

    def with_markers(self, ranks: np.ndarray) -> np.ndarray:
        """Token numbers of genes with the markers of modalities put in, (n, n_positions)."""
        if not self.n_markers:
            return ranks
        out = np.empty((len(ranks), self.n_positions), dtype=np.int64)
        out[:, self.columns] = ranks
        first = np.searchsorted(self.segment_of, np.arange(self.n_markers))
        start = len(self.table.levels) + 3
        out[:, self.columns[first] - 1] = start + np.arange(self.n_markers)
        return out

    def keep(self, present: np.ndarray) -> np.ndarray:
        """Positions to look at (n, n_positions): all but those of missing modalities."""
        out = np.ones((len(present), self.n_positions), dtype=bool)
        out[:, self.columns] = present
        return out

    def strings(
        self, ranks: np.ndarray, present: np.ndarray, patch: int | None = None
    ) -> list[str]:
        """Texts of token numbers (n, n_genes): words of `patch` characters, markers ``<name>``."""
        characters = np.array(list(self.table.characters))
        out = []
        for row, here in zip(ranks, present, strict=True):
            text = []
            for i, segment in enumerate(self.segments):
                mine = np.flatnonzero(self.segment_of == i)
                word = "".join(characters[row[mine]]) if here[mine].all() else ""
                size = patch or max(1, len(word))
                word = " ".join(word[k : k + size] for k in range(0, len(word), size))
                text.append(f"<{segment.name}>{word}" if self.n_markers else word)
            out.append("".join(text))
        return out

    # -- saving -----------------------------------------------------------------------------

    def arrays(self) -> dict[str, np.ndarray]:
        """Numbers to save."""
        out = {"levels": self.table.levels, "counts": self.table.counts}
        for i, s in enumerate(self.segments):
            out |= {f"{i}.genes": s.genes, f"{i}.mean": s.mean, f"{i}.sd": s.sd}
        return out

    def attributes(self) -> dict[str, Any]:
        """Names and parameters to save."""
        return {
            "table": self.table.parameters.as_dict(),
            "segments": [
                {"name": s.name, "scale": s.scale, "universe": s.universe.tolist()}
                for s in self.segments
            ],
        }

    @classmethod
    def restored(cls, arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> OmicText:
        """The text that `arrays` and `attributes` describe."""
        segments = [
            Segment(
                a["name"], np.asarray(a["universe"], dtype=str), arrays[f"{i}.genes"], a["scale"],
                arrays[f"{i}.mean"], arrays[f"{i}.sd"],
            )
            for i, a in enumerate(attributes["segments"])
        ]  # fmt: skip
        table = LookupTable(arrays["levels"], arrays["counts"], **attributes["table"])
        return cls(segments, table)


def _standardised(
    segments: list[Segment], data: Mapping[str, Source]
) -> tuple[np.ndarray, np.ndarray]:
    z, here = [], []
    for segment in segments:
        own, present = segment.standardised(data[segment.name])
        z.append(own)
        here.append(np.repeat(present[:, None], own.shape[1], axis=1))
    return np.concatenate(z, axis=1), np.concatenate(here, axis=1)


def _chosen(moments: list[ClassMoments], n_top: int | None) -> list[np.ndarray]:
    """Genes of each modality, best first; genes of all modalities compete by their t.

    A text of several modalities is by default as long as that of the largest one alone: weak
    genes of a further modality would cost accuracy. Each modality has at least one gene.
    """
    allowed = np.concatenate([m.sd > 0 for m in moments])
    owner = np.repeat(np.arange(len(moments)), [m.n_genes for m in moments])
    n = n_top or min(N_TOP, max(int((m.sd > 0).sum()) for m in moments))
    if n < len(moments):
        msg = f"n_top must be at least the number of modalities ({len(moments)})."
        raise ValueError(msg)
    t = np.concatenate([m.t_statistics() for m in moments], axis=1)
    order = class_genes(t, len(owner), allowed=allowed)
    best = [int(np.argmax(owner[order] == i)) for i in range(len(moments))]
    rest = np.delete(np.arange(len(order)), best)
    order = order[np.sort(np.concatenate([best, rest[: n - len(best)]]))]
    start = np.cumsum([0, *(m.n_genes for m in moments)])
    return [order[owner[order] == i] - start[i] for i in range(len(moments))]
