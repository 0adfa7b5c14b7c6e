"""How many alleles a person carries: dosages, missing calls, haploid calls, frequencies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from typing import Literal

#: What an allele of a haploid call counts: twice (0/2, PLINK and FUSION), or once (0/1).
HAPLOID = ("double", "single")


def alleles_carried(hap1: sparse.csc_matrix, hap2: sparse.csc_matrix) -> sparse.csc_matrix:
    """Number of alleles that are not the reference: csc int8."""
    return ((hap1 > 0).astype(np.int8) + (hap2 > 0).astype(np.int8)).tocsc()


class Calls:
    """Genotypes or dosages of people, and which of them are missing or haploid.

    Parameters
    ----------
    X
        csc (n_people, n_variants): alleles that are not the reference; NaN is missing.
    hap1, hap2
        Allele numbers, below 0 where there is none; None for dosages.
    haploid
        Not 0 for a call of one allele. None: a call with the first allele and without a second.

    Attributes
    ----------
    missing
        csc bool: no call, or half a one.
    haploid
        csc bool: a call of one allele.
    """

    def __init__(
        self,
        X: sparse.csc_matrix,
        hap1: sparse.csc_matrix | None,
        hap2: sparse.csc_matrix | None,
        haploid: sparse.csc_matrix | None = None,
    ) -> None:
        self.X, self._first = X, hap1
        self.missing = _flags(X, np.isnan(X.data))
        self._lacking = self.missing.astype(np.int8) * np.int8(2)
        if hap1 is not None and hap2 is not None:
            first, second = hap1 < 0, hap2 < 0
            if haploid is None:
                haploid = (second.astype(np.int8) - first.astype(np.int8)) > 0
            both = first.astype(np.int8) + second.astype(np.int8)
            self._lacking = self._lacking.maximum(both)
        self.haploid = sparse.csc_matrix(X.shape, dtype=bool)
        if haploid is not None:
            self.haploid = (haploid != 0).tocsc()
        # Of two alleles a haploid call lacks one, which is no fault.
        one_too_many = self._lacking - self.haploid.astype(np.int8)
        self.missing = (one_too_many > 0).tocsc()
        self.haploid = (self.haploid.astype(np.int8) - self.missing.astype(np.int8) > 0).tocsc()

    def n_missing(self) -> np.ndarray:
        """People without a whole call at each variant."""
        return np.asarray(self.missing.sum(axis=0), dtype=np.int64).ravel()

    def frequency(self) -> np.ndarray:
        """Share of alleles that are not the reference, among those called; NaN where none is."""
        known = self.X.copy()
        known.data = np.nan_to_num(known.data)
        lacking = np.asarray(self._lacking.maximum(self.haploid.astype(np.int8)).sum(axis=0))
        called = 2.0 * self.X.shape[0] - lacking.ravel()
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(known.sum(axis=0), dtype=np.float64).ravel() / called

    def dosage(self, haploid: Literal["double", "single"] = "double") -> sparse.csc_matrix:
        """`X` without NaN, alleles of haploid calls counted once or twice: csc float32."""
        out = self.X.astype(np.float32)
        out.data = np.nan_to_num(out.data)
        if not self.haploid.nnz:
            return out.tocsc()
        one = out if self._first is None else (self._first > 0).astype(np.float32)
        one = one.multiply(self.haploid).tocsc()
        other = out - out.multiply(self.haploid)
        return (other + one * np.float32(2 if haploid == "double" else 1)).tocsc()


def _flags(like: sparse.csc_matrix, values: np.ndarray) -> sparse.csc_matrix:
    """Boolean matrix of the stored entries of another."""
    out = sparse.csc_matrix((values, like.indices.copy(), like.indptr.copy()), shape=like.shape)
    out.eliminate_zeros()
    return out


def second_haplotype(
    hap1: sparse.csc_matrix, hap2: sparse.csc_matrix, haploid: sparse.csc_matrix | None
) -> sparse.csc_matrix:
    """The second haplotype, with the allele of the first where a call is haploid."""
    at = Calls(alleles_carried(hap1, hap2), hap1, hap2, haploid).haploid.astype(hap1.dtype)
    return (hap2 - hap2.multiply(at) + hap1.multiply(at)).tocsc()
