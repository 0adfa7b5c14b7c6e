"""Agreement of two partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def ari(truth: ArrayLike, labels: ArrayLike) -> float:
    """Adjusted Rand index of two partitions of the same items (Hubert and Arabie 1985).

    Parameters
    ----------
    truth, labels
        One label per item.

    Returns
    -------
    1 for equal partitions, about 0 for unrelated ones; may be negative.
    """
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(truth, labels))


def nmi(truth: ArrayLike, labels: ArrayLike) -> float:
    """Normalised mutual information of two partitions (arithmetic mean of the entropies).

    Parameters
    ----------
    truth, labels
        One label per item.

    Returns
    -------
    Between 0 and 1.
    """
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(truth, labels))
