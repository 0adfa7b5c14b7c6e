"""Public files that are fetched once, checked, and kept in the cache."""

from __future__ import annotations

from pathlib import Path

from omicllm._core.log import logger
from omicllm._core.settings import settings

# Addresses name a commit, so that what is fetched cannot change; the sums are of those files.
_GITHUB = "https://raw.githubusercontent.com"


def ult_table() -> Path:
    """Fetch the published lookup table of ULT (7 kB).

    The table of 162,000 synthetic colorectal profiles of 40 genes (513 levels, patch size 10,
    largest value 1, mu 256), repository IBM/unified-lookup-tables, MIT licence.

    Returns
    -------
    Path of the JSON file in ``omicllm.settings.cache_dir``, for :func:`omicllm.io.read_lut`.

    Raises
    ------
    OSError
        When the file can neither be found in the cache nor fetched.
    ValueError
        When what was fetched is not the published file.
    """
    return _fetch(
        "lut-rna-42-series-p10cm1mu256.json",
        f"{_GITHUB}/IBM/unified-lookup-tables/3b1f34d6cf1102039bf4c4ca0d7850dcc3cae652/"
        "scripts/IEEE_ICDH_2025/lut-rna-42-series-p10cm1mu256.json",
        "3dc38ca3d9a4b1b3df68093e7f7aaeef5c26a10c3ddeaf80813a787b8fc42cd6",
    )


def genemask_ranks() -> Path:
    """Fetch the published ranking of 6-mers by normalised PMI (0.5 MB).

    File Data-A of GeneMask (Roy et al. 2023), repository roysoumya/GeneMask, **GPL-3.0**: the
    file comes from there, and its licence goes with it.

    Returns
    -------
    Path of the CSV file in ``omicllm.settings.cache_dir``, for
    :func:`omicllm.io.read_kmer_ranks`.

    Raises
    ------
    OSError
        When the file can neither be found in the cache nor fetched.
    ValueError
        When what was fetched is not the published file.
    """
    return _fetch(
        "genemask-norm-pmi-score-ranking.csv",
        f"{_GITHUB}/roysoumya/GeneMask/fa0604f9f813140316de854338ff106c1b5689a5/"
        "Data-A_norm-pmi-score-ranking.csv",
        "2ce5b66caf6719f8a6e2c157c450d7c487222b38235a39a3a08d778b9f166ed5",
    )


def her2st_image() -> Path:
    """Fetch a full-resolution H&E image of a HER2-positive breast tumour (4.1 MB).

    Section B4 of Andersson et al. 2021 (Nat Commun 12:6012), repository almaan/her2st, which
    carries no licence file: look at it, do not pass it on.

    Returns
    -------
    Path of the JPEG file in ``omicllm.settings.cache_dir``, for ``image=`` of
    :func:`omicllm.pp.tiles` and :func:`omicllm.pp.image_features`.

    Raises
    ------
    OSError
        When the file can neither be found in the cache nor fetched.
    ValueError
        When what was fetched is not the published file.
    """
    return _fetch(
        "her2st_B4_HE.jpg",
        f"{_GITHUB}/almaan/her2st/9f2260c6aa8347996955d53f0a5f06ac14c93470/"
        "data/ST-imgs/B/B4/BT10737_D2_HE.jpg",
        "3cb165614ce2a13426381e450220dccac980cc9bda6a90fb041c28ca0e2c753d",
    )


def _fetch(name: str, url: str, sha256: str) -> Path:
    """Path of a file in the cache, fetched where it is not there or not what it should be.

    pooch writes to a temporary name and moves the file only when its checksum is right, so that
    no part of a file is ever taken for the whole.
    """
    import pooch

    target = settings.cache_dir / name
    if not target.exists():
        logger.info("fetching %s into %s", url, settings.cache_dir)
    try:
        found = pooch.retrieve(
            url,
            known_hash=f"sha256:{sha256}",
            fname=name,
            path=settings.cache_dir,
            progressbar=bool(settings.show_progress),
        )
    except OSError as error:  # also what requests raises
        msg = (
            f"{name} could not be fetched from {url} ({type(error).__name__}). Without network, "
            f"save it as {target} by hand."
        )
        raise OSError(msg) from error
    return Path(found)
