"""`ol.pp.image_features`: sources, physical size, alignment, encoders, bad input."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from helpers import round_trip, same_object
from made_histology import make_image, make_section

import omicllm as ol

FAST = {"out_px": 24}


@pytest.fixture
def section():
    return make_section()


def features(adata, **kwargs):
    out = ol.pp.image_features(adata, copy=True, **(FAST | kwargs))
    name = next(k for k in out.obsm if k.startswith("X_") and k not in adata.obsm)
    return out.obsm[name]


def bare(adata):
    """The same without images in uns."""
    out = adata.copy()
    del out.uns["spatial"]
    return out


def test_default(section, tmp_path):
    assert ol.pp.image_features(section, **FAST) is None
    values, entry = section.obsm["X_classical"], section.uns["classical"]
    assert values.shape == (144, 84) and values.dtype == np.float32
    assert entry["licence"] == "BSD-3-Clause" and entry["n_outside"] == 0
    assert len(entry["feature_names"]) == 84
    # Two spot diameters of 20 full-resolution pixels at 2.5 um.
    np.testing.assert_allclose(entry["size_um"], 100)
    np.testing.assert_allclose(entry["mpp"], 5)
    np.testing.assert_allclose(np.median(values, axis=0), 0, atol=1e-6)
    round_trip(section, tmp_path)


def test_features_say_something_about_expression(section):
    values = features(section)
    counts = np.log1p(section.X.toarray())
    programme = counts[:, ::2].mean(axis=1)
    best = max(abs(np.corrcoef(v, programme)[0, 1]) for v in values.T if v.std() > 0)
    assert best > 0.5


def test_row_order_and_subsets(section):
    order = np.random.default_rng(0).permutation(section.n_obs)
    np.testing.assert_array_equal(features(section[order].copy()), features(section)[order])


def test_sections_are_described_apart():
    parts = [make_section("S1", 1), make_section("S2", 2)]
    both = ad.concat(parts, uns_merge="unique")
    wanted = np.concatenate([features(p) for p in parts])
    np.testing.assert_array_equal(features(both), wanted)
    both.obs["slide"] = both.obs["section"]
    np.testing.assert_array_equal(features(both, batch_key="slide"), wanted)
    del both.obs["slide"], both.obs["section"]
    with pytest.raises(ValueError, match="2 images .*batch_key="):
        features(both)


def test_physical_size(section):
    wanted = features(section, size_um=100)
    np.testing.assert_array_equal(features(section), wanted)
    other = section.copy()
    del other.uns["spatial"]["S1"]["metadata"]
    np.testing.assert_array_equal(features(other, size_um=100, mpp=5.0), wanted)
    np.testing.assert_array_equal(features(other, size_um=100, spot_um=50), wanted)
    np.testing.assert_array_equal(features(other, size_um=100, mpp={"S1": 5.0}), wanted)
    assert not np.array_equal(features(section, size_um=150), wanted)
    with pytest.raises(ValueError, match="pass mpp="):
        features(other, size_um=100)
    with pytest.raises(ValueError, match="5000 um is 1000 pixels"):
        features(section, size_um=5000)
    with pytest.raises(ValueError, match="Check size_um"):
        features(section, size_um=5)
    for bad in (-1, 0, np.nan):
        with pytest.raises(ValueError, match="size_um must be"):
            features(section, size_um=bad)
        with pytest.raises(ValueError, match="mpp must be"):
            features(section, mpp=bad)


def test_an_image_in_memory_or_in_a_file(section, tmp_path):
    from skimage.io import imsave

    image = section.uns["spatial"]["S1"]["images"]["hires"]
    section.obsm["spatial"] = section.obsm["spatial"] / 2  # pixels of this image
    plain, wanted = bare(section), None
    imsave(tmp_path / "he.png", image, check_contrast=False)
    for source in (image, image / 255.0, tmp_path / "he.png", {"section": image}):
        found = features(plain, image=source, size_um=100, mpp=5.0)
        wanted = found if wanted is None else wanted
        np.testing.assert_array_equal(found, wanted)
    with pytest.raises(FileNotFoundError, match="no image file"):
        features(plain, image=tmp_path / "none.png", size_um=100, mpp=5.0)
    with pytest.raises(ValueError, match="pass size_um= and mpp="):
        features(plain, image=image)


def test_spatialdata(section):
    """The whole object, an image of it, and one of several resolutions."""
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel

    image = section.uns["spatial"]["S1"]["images"]["hires"]
    section.obsm["spatial"] = section.obsm["spatial"] / 2
    wanted = features(bare(section), image=image, size_um=100, mpp=5.0)
    channels = np.moveaxis(image, 2, 0)
    one, several = (
        Image2DModel.parse(channels, dims=("c", "y", "x"), scale_factors=f) for f in (None, [2])
    )
    sdata = SpatialData(images={"he": one})
    for source in (sdata, one, several):
        found = features(bare(section), image=source, size_um=100, mpp=5.0)
        np.testing.assert_array_equal(found, wanted)
    sdata.images["other"] = one
    with pytest.raises(ValueError, match="2 images .*image=sdata.images"):
        features(bare(section), image=sdata, size_um=100, mpp=5.0)


def element(image, transformations, **kwargs):
    from spatialdata.models import Image2DModel

    channels = np.moveaxis(image, 2, 0)
    return Image2DModel.parse(
        channels, dims=("c", "y", "x"), transformations=transformations, **kwargs
    )


def transformation(name):
    """A transformation from pixels, and its matrix for x and y."""
    from spatialdata.transformations import Affine, Identity, Scale, Sequence, Translation

    turn, move = np.deg2rad(30), np.eye(3)
    move[:2, 2] = 30, -12
    matrix = {
        "identity": np.eye(3),
        "scale": np.diag([0.2125, 0.2125, 1.0]),
        "translation": move,
        "rotation": np.array([[np.cos(turn), -np.sin(turn), 5], [np.sin(turn), np.cos(turn), 9],
                              [0, 0, 1]]),
        "affine": np.array([[0.8, 0.1, 30], [-0.05, 0.7, 4], [0, 0, 1.0]]),
        "sequence": move @ np.diag([0.5, 0.5, 1.0]),
    }[name]  # fmt: skip
    if name == "identity":
        return Identity(), matrix
    if name == "scale":
        return Scale([0.2125, 0.2125], axes=("y", "x")), matrix
    if name == "translation":
        return Translation([30, -12], axes=("x", "y")), matrix
    if name == "sequence":
        parts = [Scale([0.5, 0.5], axes=("x", "y")), Translation([30, -12], axes=("x", "y"))]
        return Sequence(parts), matrix
    return Affine(matrix, ("x", "y"), ("x", "y")), matrix


KINDS = ["identity", "scale", "translation", "rotation", "affine", "sequence"]


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_transformations_of_elements(section, kind, several):
    """The image lies elsewhere than its pixels: features are those of the pixels under spots."""
    from spatialdata import SpatialData

    image = section.uns["spatial"]["S1"]["images"]["hires"]
    plain = bare(section)[::4].copy()
    pixels = plain.obsm["spatial"] / 2
    plain.obsm["spatial"] = pixels
    wanted = features(plain, image=image, size_um=100, mpp=5.0)
    made, matrix = transformation(kind)
    one = element(image, {"global": made}, **({"scale_factors": [2]} if several else {}))
    plain.obsm["spatial"] = pixels @ matrix[:2, :2].T + matrix[:2, 2]
    for source in (one, SpatialData(images={"he": one})):
        found = features(plain, image=source, size_um=100, mpp=5.0)
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    # An alignment that is given goes first.
    plain.obsm["spatial"] = pixels
    found = features(plain, image=one, alignment=np.eye(3), size_um=100, mpp=5.0)
    np.testing.assert_array_equal(found, wanted)


def test_um_per_pixel_of_a_coordinate_system_in_um(section):
    image = section.uns["spatial"]["S1"]["images"]["hires"]
    plain = bare(section)[::4].copy()
    pixels = plain.obsm["spatial"] / 2
    plain.obsm["spatial"] = pixels
    wanted = features(plain, image=image, size_um=20, mpp=0.2125 * 4)
    from spatialdata.transformations import Identity, Scale

    scale = Scale([0.85, 0.85], axes=("y", "x"))
    plain.obsm["spatial"] = pixels * 0.85
    found = features(plain, image=element(image, {"microns": scale}), size_um=20)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    with pytest.raises(ValueError, match="pass mpp="):
        features(plain, image=element(image, {"global": scale}), size_um=20)
    both = element(image, {"microns": scale, "pixels": Identity()})
    with pytest.raises(ValueError, match="2 coordinate systems .*alignment='microns'"):
        features(plain, image=both, size_um=20)
    found = features(plain, image=both, size_um=20, alignment="microns")
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    plain.obsm["spatial"] = pixels
    found = features(plain, image=both, size_um=20, mpp=0.85, alignment="pixels")
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("names", [("S1", "S10"), ("S1_he", "S10_he"), ("S1", "S1b")], ids=str)
def test_regions_that_begin_alike(section, names):
    """The image of S1 is not that of S10, however large that is."""
    from spatialdata import SpatialData
    from spatialdata.transformations import Identity

    image = section.uns["spatial"]["S1"]["images"]["hires"]
    plain = bare(section)[::4].copy()
    plain.obsm["spatial"] = plain.obsm["spatial"] / 2
    wanted = features(plain, image=image, size_um=100, mpp=5.0)
    larger = np.pad(image[::-1], ((0, 30), (0, 30), (0, 0)), mode="edge")
    images = {
        n: element(v, {"global": Identity()}) for n, v in zip(names, (image, larger), strict=True)
    }
    plain.obs["region"] = "S1"
    plain.uns["spatialdata_attrs"] = {"region": "S1", "region_key": "region", "instance_key": "i"}
    found = features(plain, image=SpatialData(images=images), size_um=100, mpp=5.0)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("column", [int, str, "category"], ids=str)
@pytest.mark.parametrize("key", [int, str])
def test_sections_that_are_numbers(section, column, key, named):
    """Names of sections go by how they are written, in every dict."""
    image = section.uns["spatial"]["S1"]["images"]["hires"]
    plain = bare(section)[::4].copy()
    plain.obsm["spatial"] = plain.obsm["spatial"] / 2
    second = np.arange(plain.n_obs) % 2 == 1
    plain.obs["slide"] = np.where(second, 2, 1)
    plain.obs["slide"] = plain.obs["slide"].astype(column)
    images = {key(1): image, key(2): image[::-1].copy()}
    options = {"batch_key": "slide"} if named else {}
    found = features(plain, image=images, mpp={key(1): 5.0, key(2): 10.0}, size_um=100, **options)
    for rows, picture, mpp in ((~second, images[key(1)], 5.0), (second, images[key(2)], 10.0)):
        wanted = features(plain[rows].copy(), image=picture, size_um=100, mpp=mpp)
        np.testing.assert_array_equal(found[rows], wanted)
    with pytest.raises(ValueError, match="mpp= is given for 'one'.*sections are '1', '2'"):
        features(plain, image=images, mpp={"one": 5.0}, size_um=100, **options)


def test_several_images_by_region(section):
    """A table of SpatialData: each region has its image, and its own transformation."""
    import geopandas
    from shapely import Point
    from spatialdata import SpatialData
    from spatialdata.models import ShapesModel
    from spatialdata.transformations import Identity, Scale

    parts, shapes, images, wanted = [], {}, {}, []
    for k, name in enumerate(("left", "right")):
        part = make_section(name, seed=k + 1)[::4].copy()
        image = part.uns["spatial"][name]["images"]["hires"]
        part = bare(part)
        part.obsm["spatial"] = part.obsm["spatial"] / 2
        wanted.append(features(part, image=image, size_um=100, mpp=5.0))
        part.obsm["spatial"] = part.obsm["spatial"] * 0.25 * (k + 1)  # um of the region
        points = geopandas.GeoDataFrame(
            {"radius": np.ones(part.n_obs)}, geometry=[Point(p) for p in part.obsm["spatial"]]
        )
        scale = Scale([4 / (k + 1)] * 2, axes=("x", "y"))
        shapes[name] = ShapesModel.parse(points, transformations={"global": scale})
        images[f"{name}_image"] = element(image, {"global": Identity()})
        part.obs["region"] = name
        parts.append(part)
    table = ad.concat(parts)
    table.uns["spatialdata_attrs"] = {
        "region": list(shapes), "region_key": "region", "instance_key": "id"
    }  # fmt: skip
    sdata = SpatialData(images=images, shapes=shapes)
    found = features(table, image=sdata, size_um=100, mpp=5.0)
    np.testing.assert_allclose(found, np.concatenate(wanted), atol=1e-6)
    table.obs["region"] = "elsewhere"
    with pytest.raises(ValueError, match="2 images .*none is named after region 'elsewhere'"):
        features(table, image=sdata, size_um=100, mpp=5.0)


@pytest.mark.parametrize(
    "wrap",
    [lambda v: np.array([v]), lambda v: [v], str, lambda v: np.array([[v]]), lambda v: np.array(v),
     lambda v: np.array([str(v)]), lambda v: np.float32(v)],
    ids=["vector", "list", "text", "matrix", "0d", "text vector", "float32"],
)  # fmt: skip
def test_scale_factors_of_any_shape(section, wrap):
    wanted = features(section, size_um=100)
    entry = section.uns["spatial"]["S1"]
    for part in ("scalefactors", "metadata"):
        entry[part] = {k: wrap(v) for k, v in entry[part].items()}
    np.testing.assert_array_equal(features(section, size_um=100), wanted)
    np.testing.assert_array_equal(features(section, size_um=100, mpp=wrap(5.0)), wanted)
    ol.pl.image_alignment(section, show=False)


@pytest.mark.parametrize("bad", ["half", [0.5, 0.5], [], None, 0, -1, np.nan, True], ids=str)
def test_scale_factors_that_are_no_numbers(section, bad):
    section.uns["spatial"]["S1"]["scalefactors"]["tissue_hires_scalef"] = bad
    with pytest.raises(ValueError, match="tissue_hires_scalef.* must be a positive number"):
        features(section)


def test_spot_diameter_beside_a_full_resolution_image(section, tmp_path):
    """Space Ranger's folder and the TIFF that went into it: coordinates are its pixels."""
    import tifffile

    large = np.kron(section.uns["spatial"]["S1"]["images"]["hires"], np.ones((2, 2, 1), "uint8"))
    tifffile.imwrite(tmp_path / "he.tif", large, photometric="rgb")
    del section.uns["spatial"]["S1"]["metadata"]
    few = section[::4].copy()
    wanted = features(bare(few), image=large, size_um=100, mpp=2.5)
    for source in (large, tmp_path / "he.tif", {"S1": large}):
        # 20 full-resolution pixels are 50 um.
        found = features(few, image=source, size_um=100, spot_um=50)
        np.testing.assert_array_equal(found, wanted)
        key = {"batch_key": "section"} if isinstance(source, dict) else {}
        np.testing.assert_array_equal(features(few, image=source, **key), wanted)
    half = features(few, image=large[::2, ::2], alignment=np.diag([0.5, 0.5, 1]), spot_um=50,
                    size_um=100)  # fmt: skip
    np.testing.assert_array_equal(half, features(few, size_um=100, spot_um=50))
    with pytest.raises(ValueError, match="spot_diameter_fullres.* is not there: pass mpp="):
        features(bare(few), image=large, size_um=100, spot_um=50)
    with pytest.raises(ValueError, match="do not agree"):
        features(few, image=large, size_um=100, spot_um=50, mpp=1.0)
    patches = np.zeros((few.n_obs, 24, 24, 3), "uint8")
    with pytest.raises(ValueError, match="no use with patches"):
        features(few, patches=patches, spot_um=50)


@pytest.mark.parametrize("shifted", [True, False])
def test_coordinates_of_a_part_of_the_image(section, shifted, caplog):
    """The object says that its coordinates begin inside the full image: a shift is asked for."""
    small = section[::4].copy()
    library = small.uns["spatial"]["S1"]
    image = np.asarray(library["images"]["hires"])
    small.obsm["spatial"] = small.obsm["spatial"] / 2
    options = {"size_um": 100, "mpp": 5.0}
    wanted = features(bare(small), image=image, **options)
    library["metadata"] = {"crop_offset_fullres_xy": np.array([30.0, 20.0]) * shifted}
    full = np.pad(image, ((20, 0), (30, 0), (0, 0)), mode="edge") if shifted else image
    features(small, image=full, **options)
    assert ("alignment=[[1, 0, 30], [0, 1, 20], [0, 0, 1]]" in caplog.text) == shifted
    caplog.clear()
    matrix = [[1, 0, 30], [0, 1, 20], [0, 0, 1]] if shifted else np.eye(3)
    found = features(small, image=full, alignment=matrix, **options)
    assert "alignment=" not in caplog.text
    inner = (small.obsm["spatial"].min(axis=1) > 25) & (small.obsm["spatial"].max(axis=1) < 125)
    assert inner.sum() > 5
    np.testing.assert_allclose(found[inner], wanted[inner], atol=0.5)


@pytest.mark.parametrize("kind", ["cmyk", "clear", "twelve", "grey", "bgr"])
def test_colours_reach_features_and_tiles(section, tmp_path, kind):
    from PIL import Image

    few = section[::4].copy()
    rgb = few.uns["spatial"]["S1"]["images"]["hires"]
    wanted = features(few)
    source = path = tmp_path / "he.tif"
    if kind == "cmyk":
        Image.fromarray(rgb).convert("CMYK").save(path)
    elif kind == "clear":
        source = np.dstack([rgb, np.full(rgb.shape[:2], 255, "uint8")])
        source[rgb.min(axis=2) > 235] = 0
        rgb = np.where(rgb.min(axis=2, keepdims=True) > 235, np.uint8(255), rgb)
        wanted = features(few, image=rgb, alignment=np.diag([0.5, 0.5, 1]))
    elif kind == "twelve":
        source = (rgb.astype("uint16") * 257) >> 4
    elif kind == "grey":
        grey = np.asarray(Image.fromarray(rgb).convert("L"))
        source, rgb = grey, np.repeat(grey[..., None], 3, 2)
        wanted = features(few, image=rgb, alignment=np.diag([0.5, 0.5, 1]))
    else:
        import xarray

        source = xarray.DataArray(rgb[..., ::-1], dims=("y", "x", "c"), coords={"c": list("bgr")})
    found = features(few, image=source, alignment=np.diag([0.5, 0.5, 1]))
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    if isinstance(source, np.ndarray):
        few.uns["spatial"]["S1"]["images"]["hires"] = source
        np.testing.assert_array_equal(features(few), found)
    tiles, same = (ol.pp.tiles(i, mpp=5.0, size_um=100.0) for i in (source, rgb))
    assert list(tiles.obs_names) == list(same.obs_names)
    image = tiles.uns["spatial"]["slide"]["images"]["hires"]
    assert isinstance(image, np.ndarray) and image.dtype == np.uint8


def test_patches_share_one_depth(section):
    """Dark patches of 12 bits stay dark beside bright ones."""
    patches = np.random.default_rng(0).integers(0, 250, (144, 24, 24, 3)).astype("uint16")
    patches[:70] = patches[:70] // 8
    wanted = features(section, patches=patches.astype("uint8"), standardize=False)
    found = features(section, patches=(patches * 257) >> 4, standardize=False)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_images_that_are_not_there(section, tmp_path):
    section.uns["spatial"]["S1"]["images"] = {}
    with pytest.raises(KeyError, match=r"holds no image: the 'images' of 'S1' are empty"):
        ol.pp.image_features(section)
    with pytest.raises(ValueError, match="no observations"):
        ol.pp.image_features(make_section()[:0].copy())


def test_xenium_coordinates_and_alignment(section, tmp_path):
    """Centroids in um, and an image that was turned by the matrix of Xenium Explorer."""
    image = section.uns["spatial"]["S1"]["images"]["hires"]
    wanted = features(section, size_um=100)
    cells = bare(section)
    um = cells.obsm["spatial"] * 2.5
    cells.obs["x_centroid"], cells.obs["y_centroid"] = um.T
    del cells.obsm["spatial"]
    matrix = np.diag([0.2, 0.2, 1.0])  # um -> pixels of 5 um
    found = features(cells, image=image, alignment=matrix, mpp=5.0, size_um=100)
    np.testing.assert_array_equal(found, wanted)
    exported = np.diag([5 / 0.2125, 5 / 0.2125, 1.0])  # image pixel -> morphology pixel
    np.savetxt(tmp_path / "matrix.csv", exported, delimiter=",")
    found = features(cells, image=image, alignment=tmp_path / "matrix.csv", size_um=100)
    np.testing.assert_array_equal(found, wanted)
    for bad, message in ((np.eye(4), "3 x 3"), (np.zeros((3, 3)), "invertible")):
        with pytest.raises(ValueError, match=message):
            features(cells, image=image, alignment=bad, size_um=100)
    with pytest.raises(FileNotFoundError, match="alignment="):
        features(cells, image=image, alignment=tmp_path / "no.csv", size_um=100)


def test_a_turned_image_gives_nearly_the_same(section):
    """Rotated by 90 degrees and flipped: only directions could differ, and none is a feature."""
    image = section.uns["spatial"]["S1"]["images"]["hires"]
    turned = np.ascontiguousarray(np.rot90(image)[:, ::-1])
    height, width = image.shape[:2]
    matrix = np.array([[0, -0.5, height], [-0.5, 0, width], [0, 0, 1.0]])
    wanted = features(section, size_um=100)
    found = features(bare(section), image=turned, alignment=matrix, mpp=5.0, size_um=100)
    pairs = zip(found.T, wanted.T, strict=True)
    r = [np.corrcoef(a, b)[0, 1] for a, b in pairs if b.std() > 0]
    assert np.min(r) > 0.9 and np.median(r) > 0.99


def test_spots_outside(section):
    section.obsm["spatial"][:3] = -50
    out = ol.pp.image_features(section, copy=True, **FAST)
    assert out.uns["classical"]["n_outside"] == 3
    assert (out.obsm["X_classical"][:3] == 0).all()
    section.obsm["spatial"][:30] = -50
    before = section.copy()
    with pytest.raises(ValueError, match="30 of 144 observations have no patch"):
        ol.pp.image_features(section, **FAST)
    same_object(section, before)
    assert features(section, max_outside=0.5).shape == (144, 84)


def test_patches_cut_before(section):
    section.obsm["patches"] = np.random.default_rng(0).integers(
        0, 255, (144, 24, 24, 3), dtype=np.uint8
    )
    by_key = features(section, patches="patches")
    assert by_key.shape == (144, 42)
    np.testing.assert_array_equal(features(section, patches=section.obsm["patches"]), by_key)
    with pytest.raises(ValueError, match="holds 3 patches for 144"):
        features(section, patches=np.zeros((3, 8, 8, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="must be"):
        features(section, patches=np.zeros((144, 8, 8), dtype=np.uint8))
    with pytest.raises(KeyError, match="'other' is not in adata.obsm"):
        features(section, patches="other")
    with pytest.raises(ValueError, match="one of image=, patches="):
        features(section, patches="patches", image=np.zeros((9, 9, 3)))


def test_a_patch_map_of_places_is_the_image_itself(section, tmp_path):
    from skimage.io import imsave

    image = section.uns["spatial"]["S1"]["images"]["hires"]
    imsave(tmp_path / "he.png", image, check_contrast=False)
    at = section.obsm["spatial"] / 2
    table = pd.DataFrame(
        {"x": at[:, 0], "y": at[:, 1], "source_image": "he.png", "cell_id": section.obs_names}
    )
    table.sample(frac=1, random_state=0).to_csv(tmp_path / "map.csv", index=False)
    wanted = features(section, size_um=100)
    found = features(bare(section), patch_map=tmp_path / "map.csv", mpp=5.0, size_um=100)
    np.testing.assert_array_equal(found, wanted)
    alone = ol.io.read_patch_map(tmp_path / "map.csv", as_anndata=True)
    found = features(alone[section.obs_names].copy(), mpp=5.0, size_um=100)
    np.testing.assert_array_equal(found, wanted)
    by_hand = ol.io.read_patch_map(tmp_path / "map.csv").drop(columns="crop")
    found = features(bare(section), patch_map=by_hand, mpp=5.0, size_um=100)
    np.testing.assert_array_equal(found, wanted)
    with pytest.raises(KeyError, match="'path' is not in the columns of patch_map="):
        features(bare(section), patch_map=by_hand.drop(columns="path"))


def test_a_patch_map_of_files(section, tmp_path):
    from skimage.io import imsave

    small = section[:60].copy()
    image = small.uns["spatial"]["S1"]["images"]["hires"]
    at = np.rint(small.obsm["spatial"] / 2).astype(int)
    for name, (x, y) in zip(small.obs_names, at, strict=True):
        patch = image[y - 12 : y + 12, x - 12 : x + 12]
        imsave(tmp_path / f"{name}.png", patch, check_contrast=False)
    table = pd.DataFrame(
        {"cell_id": small.obs_names, "patch_path": [f"{n}.png" for n in small.obs_names]}
    )
    table.to_csv(tmp_path / "map.csv", index=False)
    found = features(bare(small), patch_map=ol.io.read_patch_map(tmp_path / "map.csv"))
    assert found.shape == (60, 42)
    (tmp_path / "S1_7.png").unlink()
    with pytest.raises(FileNotFoundError, match="1 patch files are not there"):
        features(bare(small), patch_map=tmp_path / "map.csv")


def test_functions_modules_and_features_in_obsm(section):
    import torch

    mean = features(section, encoder=lambda patches: patches.mean(axis=(1, 2)) / 255)
    assert mean.shape == (144, 3)

    class Mean(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.seen = []

        def forward(self, x):
            self.seen.append(tuple(x.shape))
            return x.mean(dim=(2, 3))

    module = Mean().train()
    found = features(
        section, encoder=module, transform=lambda p: torch.tensor(p).permute(0, 3, 1, 2) / 255.0
    )
    np.testing.assert_allclose(found, mean, atol=1e-5)
    assert module.seen[0] == (64, 3, 24, 24) and module.training
    imagenet = features(section, encoder=module)
    wanted = (mean - [0.485, 0.456, 0.406]) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(imagenet, wanted, atol=1e-4)
    section.obsm["X_uni"] = mean
    ol.pp.image_features(section, encoder="X_uni", standardize="robust", key_added="scaled")
    values = section.obsm["X_scaled"]
    np.testing.assert_allclose(np.median(values, axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(np.median(np.abs(values), axis=0), 1 / 1.4826, rtol=1e-3)
    assert section.uns["scaled"]["encoder"] == "X_uni"
    with pytest.raises(ValueError, match=r"must return \(64, d\)"):
        features(section, encoder=lambda patches: patches)
    with pytest.raises(ValueError, match="encoder must be one of 'classical'"):
        features(section, encoder="resnet")
    with pytest.raises(TypeError, match="encoder must be"):
        features(section, encoder=3)
    section.obsm["X_bad"] = np.full((144, 2), np.nan)
    with pytest.raises(ValueError, match="finite numbers"):
        ol.pp.image_features(section, encoder="X_bad")


@pytest.mark.parametrize("fails", [False, True])
def test_modes_of_all_parts_of_an_encoder_come_back(section, fails):
    import torch

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.frozen = torch.nn.Sequential(
                torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Dropout()
            ).eval()
            self.head = torch.nn.Dropout()

        def forward(self, x):
            if fails:
                raise RuntimeError("out of room")
            return self.head(self.frozen(x).mean((2, 3)))

    net = Net()
    net.frozen[2].train()
    before = {n: m.training for n, m in net.named_modules()}
    mean = net.frozen[1].running_mean.clone()
    assert len(set(before.values())) == 2
    if fails:
        with pytest.raises(RuntimeError, match="out of room"):
            features(section, encoder=net)
    else:
        np.testing.assert_array_equal(
            features(section, encoder=net), features(section, encoder=net)
        )
    assert {n: m.training for n, m in net.named_modules()} == before
    assert torch.equal(net.frozen[1].running_mean, mean)


def test_features_that_are_not_finite_are_named(section):
    def dark(patches):
        out = patches.mean(axis=(1, 2))
        out[-1] = np.nan
        return out

    section.obsm["X_bad"] = np.ones((144, 2))
    section.obsm["X_bad"][[5, 7]] = np.nan, np.inf
    before = section.copy()
    with pytest.raises(ValueError, match="those of 2 of 144 .*'S1_5', 'S1_7'"):
        ol.pp.image_features(section, encoder="X_bad")
    with pytest.raises(ValueError, match="those of 3 of 144 observations are not"):
        ol.pp.image_features(section, encoder=dark)
    same_object(section, before)


def test_standardize(section, caplog):
    center, robust, raw = (features(section, standardize=s) for s in (None, True, False))
    assert np.abs(np.median(raw, axis=0)).max() > 0.1
    np.testing.assert_allclose(np.median(np.abs(robust), axis=0)[:3], 1 / 1.4826, rtol=1e-3)
    r = [np.corrcoef(center[:, i], raw[:, i])[0, 1] for i in range(6)]
    assert np.min(r) > 0.999
    with pytest.raises(ValueError, match="standardize"):
        features(section, standardize="z")
    features(section[:30].copy())
    assert "30 observations: its median and spread are rough" in caplog.text


@pytest.mark.parametrize(
    "change,error,message",
    [
        (lambda a: a.uns.pop("spatial"), KeyError, "image is looked for in"),
        (lambda a: a.obsm.pop("spatial"), KeyError, "x_centroid"),
        (
            lambda a: a.uns["spatial"]["S1"]["scalefactors"].pop("tissue_hires_scalef"),
            KeyError,
            "'tissue_hires_scalef' is not in .*spots cannot be placed",
        ),
    ],
)
def test_what_is_missing_is_named(section, change, error, message):
    change(section)
    before = section.copy()
    with pytest.raises(error, match=message):
        ol.pp.image_features(section)
    same_object(section, before)


def test_other_bad_arguments(section):
    with pytest.raises(KeyError, match="img_key="):
        features(section, img_key="huge")
    with pytest.raises(ValueError, match="context must be"):
        features(section, context=0.5)
    with pytest.raises(ValueError, match="out_px"):
        features(section, out_px=4)
    assert features(section, context=0).shape == (144, 42)


def test_memory_does_not_grow_with_patches():
    import tracemalloc

    image, _ = make_image()
    peaks = []
    for n in (64, 512):
        adata = ad.AnnData(np.zeros((n, 0), dtype=np.float32))
        adata.obsm["spatial"] = np.random.default_rng(0).uniform(40, 260, (n, 2))
        tracemalloc.start()
        ol.pp.image_features(adata, image=image, size_um=32.0, mpp=1.0, out_px=32, batch_size=32)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # What grows is the result: 84 floats for each of 448 more patches.
    assert peaks[1] < 1.3 * peaks[0] + 448 * 84 * 8
