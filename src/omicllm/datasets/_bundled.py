"""Sets whose licence allows them to travel in the wheel."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import TYPE_CHECKING

from omicllm._core import checks

if TYPE_CHECKING:
    from anndata import AnnData


def mouse_olfactory_bulb(section: int = 1) -> AnnData:
    """Load a section of mouse olfactory bulb with its H&E image.

    Spatial Transcriptomics (2k hexagonal array), example data of STUtility (Bergenstråhle et al.
    2020, BMC Genomics 21:482), MIT licence. Raw counts of 1,000 genes.

    Parameters
    ----------
    section
        1 (379 spots) or 2 (407 spots).

    Returns
    -------
    AnnData
        Counts in ``X`` (csr float32), ``obs`` array_row, array_col, section, individual,
        ``obsm["spatial"]`` in pixels of the image in ``uns["spatial"]``, and the attribution in
        ``uns["source"]``.

    Raises
    ------
    ValueError
        When there is no such section.
    """
    checks.one_of("section", section, (1, 2))
    return _read(f"st_mob{section}")


def osmfish_cortex() -> AnnData:
    """Load 6,471 cells of mouse somatosensory cortex, 33 genes measured by osmFISH.

    Codeluppi et al. 2018, Nat Methods 15:932, from the repository drieslab/spatial-datasets, MIT
    licence. Cells that the authors left out have ``obs["valid"]`` 0.

    Returns
    -------
    AnnData
        Counts of molecules in ``X`` (csr float32), ``obs`` cluster, region, valid, size_um2,
        total_molecules, ``obsm["spatial"]`` as published, and the attribution in
        ``uns["source"]``.

    See Also
    --------
    omicllm.datasets.osmfish_reference : single cells with the same genes.
    """
    return _read("osmfish_cortex")


def osmfish_reference() -> AnnData:
    """Load single-cell RNA-seq of 1,000 mouse cortical cells, the 33 genes of the osmFISH panel.

    Test data of TISSUE (Sun et al. 2024, Nat Methods 21:444), MIT licence; the cells are probably
    those of Tasic et al. 2018. A reference for imputing genes of
    :func:`omicllm.datasets.osmfish_cortex` that were left out.

    Returns
    -------
    AnnData
        Counts in ``X`` (csr float32) and the attribution in ``uns["source"]``.
    """
    return _read("osmfish_reference")


def geomx_kidney() -> AnnData:
    """Load 134 regions of diseased (diabetic) and normal human kidney, 18,642 genes.

    GeoMx whole-transcriptome profiles of four slides, example data of GeoDiff (Merritt et al.
    2022), MIT licence. Regions of one slide are alike: hold out whole slides.

    Returns
    -------
    AnnData
        Counts in ``X`` (float32), ``obs`` slide_name, condition (DKD or normal), region, segment,
        pathology and others, and the attribution in ``uns["source"]``.
    """
    return _read("geomx_kidney")


def _read(name: str) -> AnnData:
    """Read one of the files beside this module."""
    import anndata

    with as_file(files("omicllm.datasets") / "data" / f"{name}.h5ad") as path:
        return anndata.read_h5ad(path)
