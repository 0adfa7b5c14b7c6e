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
    import anndata

    checks.one_of("section", section, (1, 2))
    resource = files("omicllm.datasets") / "data" / f"st_mob{section}.h5ad"
    with as_file(resource) as path:
        return anndata.read_h5ad(path)
