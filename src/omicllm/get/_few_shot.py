"""Few-shot results as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from omicllm._core import checks, docs
from omicllm.get._tables import table_of

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

SCORES = ("accuracy", "auc", "f1_macro", "mcc")
#: Lowest and highest value of a score.
_SCALES = {"mcc": (-1.0, 1.0), "gain": (-1.0, 1.0)}


@docs.fill()
def few_shot_df(
    adata: AnnData | MuData,
    *,
    summary: bool = False,
    level: float = 0.95,
    key: str = "few_shot",
    mod: str | None = None,
) -> pd.DataFrame:
    """Return the scores of :func:`omicllm.tl.few_shot`, draw by draw or summed up.

    Parameters
    ----------
    {adata}
    summary
        One row per model and number of shots, with means and intervals over draws.
    level
        Level of the intervals (Student's t over draws; they end at the ends of the scale of a
        score). NaN where draws cannot tell: a single draw, or all of them alike, as when every
        sequence of a class is drawn.
    key
        Root of the results, as given with ``key_added=``.
    {mod}

    Returns
    -------
    DataFrame with the columns that :func:`omicllm.tl.few_shot` lists. With `summary`: ``model``,
    ``shots``, ``baseline``, ``n_draws``, and of each score its mean, ``_sd``, ``_low`` and
    ``_high``; also ``gain``, ``gain_low``, ``gain_high``: accuracy less that of the baseline with
    the better mean at as many shots, paired by draw.

    Raises
    ------
    KeyError
        When there are no such results.
    """
    checks.share("level", level)
    frame = table_of(adata, key, "table", "few_shot(adata)", mod)
    if not summary:
        return frame
    import pandas as pd

    rows = []
    for shots, block in frame.groupby("shots", sort=True):
        wide = block.pivot(index="draw", columns="model", values="accuracy")
        plain = block[block["baseline"]].groupby("model")["accuracy"].mean().idxmax()
        for model, own in block.groupby("model", sort=False):
            row = {
                "model": model, "shots": shots, "baseline": bool(own["baseline"].iloc[0]),
                "n_draws": len(own),
            }  # fmt: skip
            for score in SCORES:
                mean, sd, low, high = _interval(own[score].to_numpy(), level, score)
                row |= {score: mean, f"{score}_sd": sd, f"{score}_low": low, f"{score}_high": high}
            mean, _, low, high = _interval((wide[model] - wide[plain]).to_numpy(), level, "gain")
            rows.append(row | {"gain": mean, "gain_low": low, "gain_high": high})
    return pd.DataFrame(rows)


def _interval(values: np.ndarray, level: float, score: str) -> tuple[float, float, float, float]:
    """Mean, standard deviation and interval of the mean, within the scale of the score.

    One draw has no spread; draws that are all alike (to rounding) say nothing about the mean's.
    """
    from scipy.stats import t

    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return mean, float("nan"), float("nan"), float("nan")
    sd = float(np.std(values, ddof=1))
    if not sd > 1e-12:
        return mean, sd, float("nan"), float("nan")
    half = float(t.ppf((1 + level) / 2, n - 1)) * sd / np.sqrt(n)
    lowest, highest = _SCALES.get(score, (0.0, 1.0))
    return mean, sd, max(mean - half, lowest), min(mean + half, highest)
