"""The published code's own results: a subset in tests/data, all of them in OMICLLM_DATA."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import omicllm as ol
from omicllm.codec import LookupTable
from omicllm.codec.series import padded

BUNDLED = Path(__file__).resolve().parent.parent / "data" / "ult"
REFERENCE = {"tie_break": "reference", "codepoints": "reference"}
SERIES = {
    "patch_size": "patch_size", "companding_max": "max_value", "mu": "mu",
    "float_precision": "bits", "offset_value": "offset",
}  # fmt: skip
OTHER = {
    "patch_size": "patch_size", "offset_value": "offset", "max_coefficients": "max_coefficients",
    "dct_precision": "precision",
}  # fmt: skip


@pytest.fixture(params=["bundled", "all"])
def golden(request):
    """Folder of the vectors; a case that is not in it is skipped by `case`."""
    if request.param == "bundled":
        return BUNDLED
    return request.getfixturevalue("data_dir") / "ult"


def case(golden, name):
    if not (golden / name).exists():
        pytest.skip(f"{name} is in the larger set only")
    return golden / name


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def parameters(folder, names):
    params = read(folder / "params.json")
    return {mine: params[theirs] for theirs, mine in names.items() if theirs in params}


def ragged(folder, name):
    values, lengths = (np.load(folder / f"{name}_{part}.npy") for part in ("values", "lengths"))
    return np.split(values, np.cumsum(lengths)[:-1])


def counted(table):
    return [(str(k), c) for k, c in zip(table.levels.tolist(), table.counts.tolist(), strict=True)]


def published(folder):
    return list(read(folder / "occurrences.json")["mapping"].items())


@pytest.mark.parametrize(
    "name", ["series_default", "series_paper", "series_highbits", "series_surrogates"]
)
def test_series(golden, name):
    folder = case(golden, name)
    given = parameters(folder, SERIES)
    train, test = ragged(folder, "train"), ragged(folder, "test")
    table = LookupTable.fit(train, **given, **REFERENCE)
    assert counted(table) == published(folder)
    assert table.encode(train) == read(folder / "train_encoded.json")
    encoded = read(folder / "test_encoded.json")
    assert table.encode(test) == encoded
    for profile, level in zip(test, ragged(folder, "test_levels"), strict=True):
        mine = ol.codec.series.levels(
            profile, bits=given["bits"], mu=given["mu"], max_value=given["max_value"]
        )
        np.testing.assert_array_equal(padded(mine, given["patch_size"]), level)
    for mine, wanted in zip(table.decode(encoded), ragged(folder, "test_decoded"), strict=True):
        np.testing.assert_array_equal(mine, wanted)
    wanted = [q.get("ok", np.nan) for q in read(folder / "quality.json")]
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(table.quality(test[: len(wanted)]), wanted, rtol=1e-12)


@pytest.mark.parametrize("name", ["z200x40", "z50x37"])
def test_published_table(golden, name):
    folder = case(golden, "series_published_lut")
    if not (folder / f"{name}.npy").exists():
        pytest.skip("in the larger set only")
    table = ol.io.read_lut(folder / "occurrences.json", **parameters(folder, SERIES))
    X = np.load(folder / f"{name}.npy")
    encoded = read(folder / f"{name}_encoded.json")
    decoded = np.load(folder / f"{name}_decoded.npy")
    assert table.encode(X) == encoded
    np.testing.assert_array_equal(np.stack(table.decode(encoded)), decoded)
    np.testing.assert_allclose(table.quality(X), np.load(folder / f"{name}_quality.npy"))


def test_ties(golden):
    content = read(case(golden, "series_ties") / "ties.json")
    p = content["params"]
    given = {mine: p[theirs] for theirs, mine in SERIES.items() if theirs in p}
    for record in content["records"]:
        instances = [np.array(i) for i in record["instances"]]
        table = LookupTable.fit(instances, **given, **REFERENCE)
        assert table.levels.tolist() == [k for k, _ in record["ranked"]]
        assert table.counts.tolist() == [c for _, c in record["ranked"]]
        # One by one, in any grouping of calls, is the same history.
        again = LookupTable.fit(instances[:1], **given, **REFERENCE)
        again.update(instances[1:])
        assert again.levels.tolist() == table.levels.tolist()
        single = np.concatenate([padded(i, p["patch_size"]) for i in instances])
        table = LookupTable.fit([single], **given, **REFERENCE)
        assert table.levels.tolist() == [k for k, _ in record["ranked_single_update"]]


def test_edges(golden):
    edges = read(case(golden, "series_edges") / "edges.json")
    levels, counts = zip(*edges["lookup_table"], strict=True)
    table = LookupTable(levels, counts, patch_size=4, max_value=10.0, **REFERENCE)
    for level, character in edges["lookup"].items():
        assert table.lookup([int(level)]) == [character]
    for level, character in edges["lookup_float"].items():
        assert table.lookup([float(level)]) == [character]


def test_every_dtype_is_taken_as_float64(golden):
    folder = case(golden, "series_dtypes")
    cases = read(folder / "cases.json")
    for name, wanted in cases.items():
        kind, setting = name.split("|")
        if kind in ("f32", "f16"):  # the published code compands these partly in float32
            continue
        p = {SERIES[k]: v for k, v in wanted["params"].items()}
        X = np.load(folder / f"{kind}.npy")
        table = LookupTable.fit(X, **p, **REFERENCE)
        assert [
            list(r) for r in zip(table.levels.tolist(), table.counts.tolist(), strict=True)
        ] == (wanted["ranked"])
        assert table.encode(X) == wanted["encoded"]
        if kind == "f64":
            single = X.astype(np.float32)
            again = LookupTable.fit(single.astype(np.float64), **p, **REFERENCE)
            assert LookupTable.fit(single, **p, **REFERENCE).encode(single) == again.encode(
                single.astype(np.float64)
            ), setting


@pytest.mark.parametrize("name", ["image_default", "image_p4m2r0"])
def test_images(golden, name):
    folder = case(golden, name)
    given = parameters(folder, OTHER)
    wanted = read(folder / "encoded.json")
    images = {k: np.load(folder / f"{k}.npy") for k in wanted}
    table = LookupTable.fit(list(images.values()), method="image", **given, **REFERENCE)
    assert counted(table) == published(folder)
    for k, record in wanted.items():
        assert table.encode([images[k]]) == [record["encoded"]]
        decoded = table.decode([record["encoded"]], [images[k].shape])[0]
        if (folder / f"{k}_coefs.npy").exists():
            mine = ol.codec.image.coefficients(
                images[k], **{p: given[p] for p in ("patch_size", "max_coefficients", "precision")}
            )
            np.testing.assert_array_equal(mine, np.load(folder / f"{k}_coefs.npy"))
            np.testing.assert_allclose(
                decoded, np.load(folder / f"{k}_decoded.npy"), atol=1e-12, equal_nan=True
            )
        quality = table.quality([images[k]])[0]
        np.testing.assert_allclose(quality, record["quality"]["ok"], rtol=1e-6, equal_nan=True)


@pytest.mark.parametrize("name", ["text_default", "text_p16"])
def test_texts(golden, name):
    folder = case(golden, name)
    given = parameters(folder, OTHER) | {"method": "text"} | REFERENCE
    records = read(folder / "records.json")
    table = ol.io.read_lut(folder / "occurrences.json", **given)
    fitted = LookupTable.fit([r["text"] for r in records[:10]], **given)
    assert counted(fitted) == counted(table) == published(folder)
    for record in records:
        size = given["patch_size"]
        assert ol.codec.text.tokens(record["text"], patch_size=size) == record["tokens"]
        assert table.encode([record["text"]]) == [record["encoded"]]
        assert table.decode([record["encoded"]]) == [record["decoded"]["ok"]]
        np.testing.assert_allclose(table.quality([record["text"]]), record["quality"]["ok"])
    records = read(folder / "fitted_on_test_records.json")
    table = LookupTable.fit([r["text"] for r in records], **given)
    for record in records:
        assert table.encode([record["text"]]) == [record["encoded"]]
        # Also where the published code loses its place: newlines and tabs.
        assert table.decode([record["encoded"]]) == [record["text"]]
