"""The download, against a server of the test's own: nothing here leaves the machine."""

import gc
import gzip
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from idx_files import FILES, arrays, idx

from stability.catalogue.fashion_mnist import ADDRESS, SHA256, fetch
from stability.errors import InputError

CONTENTS = {
    f"{name}.gz": gzip.compress(idx(a), mtime=0) for name, a in zip(FILES, arrays(), strict=True)
}
SUMS = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}
BROKEN = f"{FILES[2]}.gz"


class Server(ThreadingHTTPServer):
    """Serves ``CONTENTS``; ``fault`` spoils the third file; ``asked``: the paths requested."""

    fault = ""
    asked: list[str]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Any = self.server
        name = self.path.lstrip("/")
        server.asked.append(name)
        content, fault = CONTENTS[name], server.fault if name == BROKEN else ""
        if fault == "missing":
            self.send_error(404)
            return
        if fault == "error":
            self.send_error(503)
            return
        body = content + b"x" if fault == "other" else content
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault == "interrupted" else body)

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    found = Server(("127.0.0.1", 0), Handler)
    found.asked = []
    thread = threading.Thread(target=found.serve_forever, args=(0.01,))
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/"


def test_files_are_downloaded_once(server: Server, tmp_path: Path) -> None:
    images = fetch(address(server), SUMS, tmp_path / "cache")
    np.testing.assert_array_equal(images.test_images, arrays()[2])
    assert sorted(server.asked) == sorted(CONTENTS)
    again = fetch(address(server), SUMS, tmp_path / "cache")
    assert again.digest == images.digest
    assert len(server.asked) == 4


def test_a_cached_file_that_was_damaged_is_downloaded_again(server: Server, tmp_path: Path) -> None:
    images = fetch(address(server), SUMS, tmp_path)
    (tmp_path / BROKEN).write_bytes(b"damaged")
    assert fetch(address(server), SUMS, tmp_path).digest == images.digest
    assert server.asked.count(BROKEN) == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("other", "is not the one known (its sha256 differs), so it wasn't kept"),
        ("missing", "404 Client Error"),
        ("error", "503 Server Error"),
        ("interrupted", ": Connection broken: IncompleteRead("),
    ],
)
def test_a_failed_download_is_one_line_and_leaves_nothing(
    server: Server, tmp_path: Path, fault: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    server.fault = fault
    with pytest.raises(InputError) as caught:
        fetch(address(server), SUMS, tmp_path)
    line = str(caught.value)
    assert line.startswith(f"experiment.data=fashion_mnist: {address(server)}{BROKEN}: ")
    assert message in line
    assert "\n" not in line
    assert len(line) < 500
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(list(CONTENTS)[:2])
    assert capfd.readouterr() == ("", "")
    server.fault = ""
    fetch(address(server), SUMS, tmp_path)
    gc.collect()  # requests leaves the socket of an interrupted download to the collector


def test_no_server_is_one_line(server: Server, tmp_path: Path) -> None:
    free = address(server)
    server.server_close()
    with pytest.raises(InputError, match="can't be downloaded") as caught:
        fetch(free, SUMS, tmp_path)
    assert "\n" not in str(caught.value)
    assert "experiment.folder=PATH" in str(caught.value)


def test_a_cache_that_cannot_be_written_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(InputError, match=r"can't be downloaded to .*cache"):
        fetch(address(server), SUMS, tmp_path / "cache" / "inner")


def test_the_real_ones_are_four_of_known_sums() -> None:
    """MD5 sums of the authors' README stand beside these in many places; sizes differ by file."""
    assert sorted(SHA256) == sorted(CONTENTS)
    assert len(set(SHA256.values())) == 4
    assert all(len(digest) == 64 and int(digest, 16) for digest in SHA256.values())
    assert ADDRESS.endswith("/")


def test_the_default_cache_is_the_users(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fetch(address(server), SUMS)
    assert sorted(p.name for p in (tmp_path / "stability" / "fashion_mnist").iterdir()) == sorted(
        CONTENTS
    )
