"""What a SPAM model learns from held-out groups about its own errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from omicllm.model._spam_data import Counts
from omicllm.model._spam_results import SPAMResults
from omicllm.stats.conformal import calibrated
from omicllm.stats.count_intervals import SECTION_VARIANCE, CountIntervals
from omicllm.stats.expression_scores import held_out_pearson
from omicllm.stats.ridge import mean_of_sections
from omicllm.stats.tissue_context import TissueContext

if TYPE_CHECKING:
    from omicllm.model._spam_data import Tissue


class SPAMCalibration(SPAMResults):
    """Levels, intervals, reliability and context of :class:`omicllm.model.SPAM`."""

    def _calibrate(self, tissue: Tissue, data: Counts, seed: int) -> None:
        """Learn from held-out groups how wrong predictions are: intervals, genes, context."""
        regression = self._require_training()
        rng, other = np.random.default_rng(seed), np.random.default_rng([seed, 1])
        values, groups, sections = data.values, regression.groups_, tissue.sections
        self._learn_patients(tissue, data)
        programs = regression.deviations(regression.out_of_fold_)
        depth = regression.depth_out_of_fold_
        deviation = programs + regression.depth_effect(depth, sections)
        parts = [(groups == g, groups != g) for g in range(groups.max() + 1)]
        level, share = _levels_of(data, sections, parts)
        held = level + deviation
        self.reliability_ = held_out_pearson(values, deviation, sections, groups)
        regions = len(tissue.section_names) == 1 and not len(self.patients_)
        self.intervals_ = calibrated(held, values, rng)
        self.count_intervals_ = CountIntervals.fitted(
            data.counts, data.total, np.log(self._rates(programs, share)), sections, other,
            section_variance=SECTION_VARIANCE if regions else 0.0,
        )  # fmt: skip
        if len(self.patients_):
            self._calibrate_known(tissue, data, programs, deviation, other)
        coords = tissue.coords
        if coords is None:
            coords = np.arange(len(values))[:, None] * np.array([1e6, 0.0])
        rows = tissue.rows()
        self.context_ = TissueContext.fitted(
            values - held, [coords[r] for r in rows], rows, regression.axes_, rng
        )

    def _learn_patients(self, tissue: Tissue, data: Counts) -> None:
        """Levels of the patients, where there are several."""
        names = np.unique(tissue.patients)
        self.patients_ = [tissue.patient_names[i] for i in names] if len(names) > 1 else []
        self.patient_level_, self.patient_share_ = (np.zeros((0, len(self.genes_))),) * 2
        if self.patients_:
            parts = [tissue.patients == i for i in names]
            self.patient_level_, self.patient_share_ = (
                np.stack(v) for v in zip(*(_level_of(data, tissue.sections, p) for p in parts),
                                         strict=True)
            )  # fmt: skip

    def _calibrate_known(
        self, tissue: Tissue, data: Counts, programs: np.ndarray, deviation: np.ndarray,
        rng: np.random.Generator,
    ) -> None:  # fmt: skip
        """Intervals of new sections of patients that were trained on.

        The level of a section is that of the patient's other sections. Where no patient has two,
        it is the section's own, and a usual variance between sections is added.
        """
        sections, patients = tissue.sections, tissue.patients
        parts = []
        for mine in (sections == s for s in range(len(tissue.section_names))):
            others = np.isin(patients, patients[mine]) & ~mine
            parts.append((mine, others))
        alone = not any(others.any() for _, others in parts)
        parts = [(m, m) for m, _ in parts] if alone else [p for p in parts if p[1].any()]
        level, share = _levels_of(data, sections, parts)
        rows = np.flatnonzero(np.any([m for m, _ in parts], axis=0))
        self.known_intervals_ = calibrated((level + deviation)[rows], data.values[rows], rng)
        self.known_count_intervals_ = CountIntervals.fitted(
            data.counts[rows], data.total[rows], np.log(self._rates(programs, share)[rows]),
            sections[rows], rng, section_variance=SECTION_VARIANCE if alone else 0.0,
        )  # fmt: skip


def _level_of(
    data: Counts, sections: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Means (g,) over sections of some rows, of log-normalised values and of shares."""
    codes = np.unique(sections[rows], return_inverse=True)[1].ravel()
    part = Counts(data.counts[rows], data.total[rows])
    return mean_of_sections(part.values, codes), part.shares(codes).mean(axis=0)


def _levels_of(
    data: Counts, sections: np.ndarray, parts: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Levels and shares (n, g): rows of the first mask of a pair get those of the second."""
    level, share = (np.ones(data.counts.shape) for _ in range(2))
    for mine, source in parts:
        level[mine], share[mine] = _level_of(data, sections, source)
    return level, share
