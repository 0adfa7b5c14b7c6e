"""`ol.pl.image_alignment` on a turned copy of a section, `ol.pl.expression_agreement`."""

from __future__ import annotations

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from made_histology import make_section, make_study

import omicllm as ol


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def share(ax) -> float:
    return int(re.search(r"(\d+)% on tissue", ax.get_title()).group(1)) / 100


@pytest.fixture
def half():
    """A section with tissue in a part of the frame that no symmetry maps on itself."""
    section = make_section()
    lib = section.uns["spatial"]["S1"]
    wide = np.full((360, 500, 3), 244, dtype=np.uint8)
    wide[40:340, 150:450] = lib["images"]["hires"]
    wide[200:, 150:320] = 244
    lib["images"]["hires"] = wide
    xy = section.obsm["spatial"] / 2 + [150, 40]
    section = section[~((xy[:, 1] > 195) & (xy[:, 0] < 325))].copy()
    section.obsm["spatial"] = (section.obsm["spatial"] / 2 + [150, 40]) * 2
    return section


def test_alignment_of_a_turned_flipped_scaled_copy(half):
    image = half.uns["spatial"]["S1"]["images"]["hires"]
    assert share(ol.pl.image_alignment(half)) > 0.97
    height, width = image.shape[:2]
    from skimage.transform import resize

    turned = np.rot90(image)[:, ::-1]
    scaled = (resize(turned, (int(width * 0.8), int(height * 0.8))) * 255).astype(np.uint8)
    right = np.diag([0.8, 0.8, 1]) @ np.array([[0, -0.5, height], [-0.5, 0, width], [0, 0, 1.0]])
    assert share(ol.pl.image_alignment(half, image=scaled, alignment=right)) > 0.97
    wrong = np.diag([0.8, 0.8, 1]) @ np.diag([0.5, 0.5, 1.0])
    assert share(ol.pl.image_alignment(half, image=scaled, alignment=wrong)) < 0.7


def test_alignment_of_a_turned_copy_of_b4(data_dir):
    import anndata as ad
    from skimage.transform import resize

    adata = ad.read_h5ad(data_dir / "tissue" / "her2st_B4.h5ad")
    library = adata.uns["spatial"]["B4"]
    image, factor = library["images"]["hires"], library["scalefactors"]["tissue_hires_scalef"]
    as_it_is = share(ol.pl.image_alignment(adata))
    height, width = image.shape[:2]
    turned = resize(np.rot90(image)[:, ::-1], (int(width * 0.6), int(height * 0.6)))
    turned = (turned * 255).astype(np.uint8)
    matrix = np.array([[0, -factor, height], [-factor, 0, width], [0, 0, 1.0]])
    right = np.diag([0.6, 0.6, 1]) @ matrix
    wrong = np.diag([0.6 * factor, 0.6 * factor, 1])
    assert as_it_is > 0.9
    found = share(ol.pl.image_alignment(adata, image=turned, alignment=right))
    assert abs(found - as_it_is) < 0.03
    assert share(ol.pl.image_alignment(adata, image=turned, alignment=wrong)) < as_it_is - 0.2


def test_alignment_draws_into_axes_and_names_sections(half):
    _, ax = plt.subplots()
    assert ol.pl.image_alignment(half, ax=ax, section="S1") is ax
    assert ax.get_title().startswith("S1: ")
    with pytest.raises(KeyError, match="'S9' is not in the sections"):
        ol.pl.image_alignment(half, section="S9")


def test_agreement():
    study = make_study(3)
    ol.tl.histology_baselines(study, n_top=None, n_boot=0)
    ax = ol.pl.expression_agreement(study, key="histology_baselines", n_labels=3)
    assert len(ax.collections[0].get_offsets()) == study.n_vars
    assert len(ax.texts) == 3 and "knn" in ax.get_ylabel()
    study.layers["log"] = np.log1p(study.X.toarray())
    ol.tl.evaluate_expression(study, pred="log", n_boot=0)
    ax = ol.pl.expression_agreement(study, score="mse")
    assert "prediction" in ax.get_ylabel() and "better in" in ax.get_title()
    for kwargs, error in (({"method": "forest"}, KeyError), ({"score": "z"}, ValueError),
                          ({"key": "none"}, KeyError)):  # fmt: skip
        with pytest.raises(error):
            ol.pl.expression_agreement(study, **kwargs)


@pytest.mark.parametrize("black", ["all", "margin"])
def test_black_is_no_tissue(black):
    section = make_section()
    image = section.uns["spatial"]["S1"]["images"]["hires"]
    if black == "all":
        image[:] = 0
    else:
        image[:, :150] = 0
    ax = ol.pl.image_alignment(section, show=False)
    share = 0 if black == "all" else 50
    found = int(ax.get_title().split("\n")[1].split("%")[0])
    assert abs(found - share) <= 6 and (black != "all" or found == 0)
    plt.close("all")


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_array", "some rows"])
def test_expression_maps_of_any_layer(kind):
    """Sparse predictions, and predictions of some rows: the correlation is that of numpy."""
    from scipy import sparse

    study = make_study(2)
    rng = np.random.default_rng(0)
    guess = rng.random(study.shape) + study.X.toarray()
    rows = np.asarray(study.obs["section"] == "S1")
    study.layers["p"] = guess.copy()
    if kind == "some rows":
        study.layers["p"][::3] = np.nan
        rows &= np.arange(study.n_obs) % 3 > 0
    else:
        study.layers["p"] = getattr(sparse, kind)(guess)
    figure = ol.pl.expression_maps(study, "Gene2", key="p", section="S1", image=False, show=False)
    X = study.X.toarray()
    truth = np.log1p(1e4 * X / X.sum(axis=1, keepdims=True))
    gene = study.var_names.get_loc("Gene2")
    r = np.corrcoef(truth[rows, gene], guess[rows, gene])[0, 1]
    assert f"(r = {r:.2f})" in "".join(ax.get_title() for ax in figure.axes)
