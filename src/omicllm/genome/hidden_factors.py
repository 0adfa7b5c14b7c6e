"""Expression free of hidden factors: principal components over people, taken out."""

from __future__ import annotations

import numpy as np


def remove_components(
    values: np.ndarray, genes: np.ndarray, fitted: np.ndarray, n_components: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Subtract what the first principal components explain of each gene.

    With Z the standardised values and V the first right singular vectors of ``Z[fitted][:,
    genes]``, people have scores S = Z V; each gene's regression on S, fitted on the same people,
    is subtracted. For the genes of the decomposition that is the reconstruction S V'.

    Parameters
    ----------
    values
        Log expression (n_people, n_genes).
    genes
        Genes that determine the components, bool (n_genes,).
    fitted
        People that everything is fitted on, bool (n_people,).
    n_components
        Number of components.

    Returns
    -------
    Corrected values on the scale of `values`; mean and standard deviation of each gene before
    (over the people fitted on); scores (n_people, n_components).
    """
    mean = values[fitted].mean(axis=0)
    sd = values[fitted].std(axis=0)
    Z = (values - mean) / np.where(sd > 0, sd, 1.0)
    if not n_components:
        return values.copy(), mean, sd, np.zeros((len(values), 0))
    _, _, rotation = np.linalg.svd(Z[fitted][:, genes], full_matrices=False)
    scores = Z[:, genes] @ rotation[:n_components].T
    slopes, *_ = np.linalg.lstsq(scores[fitted], Z[fitted], rcond=None)
    return (Z - scores @ slopes) * np.where(sd > 0, sd, 1.0) + mean, mean, sd, scores
