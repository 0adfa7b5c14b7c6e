"""Files that are fetched: checked, kept, and never half there. The server is a local one."""

from __future__ import annotations

import hashlib
import inspect
import re
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

import omicllm as ol
from omicllm.datasets import _downloads

CONTENT = bytes(range(256)) * 400
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    """A server of one file; ``mode`` says what goes wrong, ``asked`` counts requests."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            web.asked += 1
            if web.mode == "absent":
                self.send_error(404)
                return
            body = CONTENT if web.mode != "changed" else CONTENT[::-1]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            # Interrupted: the connection is closed after a third of what was announced.
            self.wfile.write(body[: len(body) // 3] if web.mode == "interrupted" else body)

        def log_message(self, *_):
            pass

    web = HTTPServer(("127.0.0.1", 0), Handler)
    web.asked, web.mode = 0, "ok"
    thread = Thread(target=web.serve_forever, daemon=True)
    thread.start()
    yield web
    web.shutdown()
    web.server_close()
    thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(ol.settings, "_cache_dir", tmp_path / "cache")
    return tmp_path / "cache"


def fetch(server):
    url = f"http://127.0.0.1:{server.server_port}/file.bin"
    return _downloads._fetch("file.bin", url, SHA256)


def left(cache):
    return sorted(p.name for p in cache.iterdir()) if cache.exists() else []


def test_fetched_once(server, cache):
    path = fetch(server)
    assert path == cache / "file.bin" and path.read_bytes() == CONTENT
    assert fetch(server) == path and server.asked == 1, "the second time comes from the cache"
    assert left(cache) == ["file.bin"]


def test_a_damaged_copy_is_replaced(server, cache):
    fetch(server).write_bytes(b"damaged")
    assert fetch(server).read_bytes() == CONTENT and server.asked == 2


def test_another_file_is_refused(server, cache):
    server.mode = "changed"
    with pytest.raises(ValueError, match="(?s)hash of downloaded file.*does not match"):
        fetch(server)
    assert left(cache) == []


@pytest.mark.parametrize("mode", ["interrupted", "absent"])
def test_nothing_is_left_of_a_failure(server, cache, mode):
    server.mode = mode
    with pytest.raises(OSError, match="could not be fetched from http://127.*by hand"):
        fetch(server)
    assert left(cache) == []
    server.mode = "ok"
    assert fetch(server).read_bytes() == CONTENT


def test_a_failure_leaves_a_good_copy(server, cache):
    """A file whose checksum is right is not asked for again, network or not."""
    fetch(server)
    server.mode = "absent"
    assert fetch(server).read_bytes() == CONTENT


def test_no_server(cache):
    with pytest.raises(OSError, match="save it as .*file.bin by hand"):
        _downloads._fetch("file.bin", "http://127.0.0.1:9/file.bin", SHA256)
    assert left(cache) == []


def test_interrupted_by_the_user(server, cache, monkeypatch):
    import pooch

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(pooch.core, "hash_matches", stop)
    with pytest.raises(KeyboardInterrupt):
        fetch(server)
    assert left(cache) == []


def test_addresses_name_a_commit_and_a_checksum(monkeypatch):
    """Each public function asks for one file that cannot change."""
    asked = []
    monkeypatch.setattr(_downloads, "_fetch", lambda *given: asked.append(given))
    functions = [f for name, f in inspect.getmembers(_downloads, inspect.isfunction)
                 if not name.startswith("_")]  # fmt: skip
    for function in functions:
        assert function.__name__ in ol.datasets.__all__
        assert "licence" in inspect.getdoc(function)
        function()
    assert len(asked) == len(functions) == len({name for name, *_ in asked})
    for _, url, sha256 in asked:
        assert re.search(r"^https://[^?]*/[0-9a-f]{40}/", url) and re.fullmatch(
            "[0-9a-f]{64}", sha256
        )


def test_published_table_where_it_is(data_dir):
    """The sums are those of the published files at hand."""
    asked = {}
    import gzip

    def note(name, url, sha256):
        asked[name] = sha256

    original, _downloads._fetch = _downloads._fetch, note
    try:
        for name in ("ult_table", "genemask_ranks", "her2st_image"):
            getattr(_downloads, name)()
    finally:
        _downloads._fetch = original
    local = {
        "lut-rna-42-series-p10cm1mu256.json": data_dir / "ult",
        "her2st_B4_HE.jpg": data_dir / "images" / "her2st_B4_HE_fullres.jpg",
        "genemask-norm-pmi-score-ranking.csv": data_dir / "dna"
        / "norm_pmi_score_ranking_6mer.csv.gz",
    }  # fmt: skip
    assert set(local) == set(asked)
    for name, path in local.items():
        path = path / name if path.is_dir() else path
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        assert hashlib.sha256(content).hexdigest() == asked[name]
