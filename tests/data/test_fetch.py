"""Fetching, against a server of our own that knows ranges, breaks off, and serves what is damaged."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from downslope.core.errors import DataError
from downslope.data.fetch import Remote, located

CONTENT = bytes(range(256)) * 9000
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class Server:
    """What the server does, and what it was asked."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.breaks: list[int] = []
        """After how many bytes each of the next answers breaks off."""
        self.ranges = True
        self.asked: list[str | None] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                server.asked.append(asked)
                if self.path != "/file.gz":
                    self.send_error(404)
                    return
                start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
                if start and start >= len(server.content):
                    self.send_error(416)
                    return
                body = server.content[start:]
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if server.breaks:
                    body = body[: server.breaks.pop(0)]
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DOWNSLOPE_DATA", raising=False)
    return tmp_path / "cache" / "data" / "set"


def remote(*urls: str, digest: str = DIGEST) -> Remote:
    return Remote(folder="set", name="file.gz", urls=urls, digest=digest, from_where="https://the.page")


def test_a_file_is_fetched_once_and_then_taken_from_the_cache(server: Server, cache: Path) -> None:
    path = located(remote(server.url + "file.gz"))
    assert path == cache / "file.gz"
    assert path.read_bytes() == CONTENT
    assert located(remote(server.url + "file.gz")) == path
    assert server.asked == [None]
    assert list(cache.iterdir()) == [path]


def test_a_fetch_that_breaks_off_goes_on_where_it_was(server: Server) -> None:
    server.breaks = [1_000_000, 700_000]
    path = located(remote(server.url + "file.gz"))
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000000-", "bytes=1700000-"]


def test_what_an_earlier_process_left_is_gone_on_with(server: Server, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "file.gz.partial").write_bytes(CONTENT[:123_456])
    assert located(remote(server.url + "file.gz")).read_bytes() == CONTENT
    assert server.asked == ["bytes=123456-"]


def test_an_earlier_whole_file_that_was_not_renamed_is_taken(server: Server, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "file.gz.partial").write_bytes(CONTENT)
    assert located(remote(server.url + "file.gz")).read_bytes() == CONTENT


def test_a_rest_longer_than_the_file_is_begun_anew(server: Server, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "file.gz.partial").write_bytes(CONTENT + b"more")
    assert located(remote(server.url + "file.gz")).read_bytes() == CONTENT


def test_a_server_without_ranges_is_read_from_the_start(server: Server, cache: Path) -> None:
    server.ranges = False
    server.breaks = [5000]
    assert located(remote(server.url + "file.gz")).read_bytes() == CONTENT


def test_a_damaged_file_is_refused_and_deleted(server: Server, cache: Path) -> None:
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(DataError, match=r"its authors publish sha256:.*damaged on the way") as caught:
        located(remote(server.url + "file.gz"))
    assert "\n" not in str(caught.value)
    assert not list(cache.iterdir())


def test_the_second_address_is_tried_where_the_first_fails(server: Server) -> None:
    assert located(remote(server.url + "gone", server.url + "file.gz")).read_bytes() == CONTENT


def test_a_server_that_gives_nothing_is_given_up(server: Server, cache: Path) -> None:
    server.breaks = [10, 0, 0, 0, 0, 0]
    with pytest.raises(DataError, match=r"cannot be reached \(broke off after 10 bytes\)"):
        located(remote(server.url + "file.gz"))
    assert (cache / "file.gz.partial").read_bytes() == CONTENT[:10]


def test_without_a_network_one_line_says_what_to_put_where(cache: Path) -> None:
    with pytest.raises(DataError) as caught:
        located(remote("http://127.0.0.1:9/file.gz"))
    said = str(caught.value)
    assert said.startswith(
        "set/file.gz: not there, and http://127.0.0.1:9/file.gz cannot be reached (Connection"
    )
    assert f"get it from https://the.page and put it into {cache}, or into set/file.gz below" in said
    assert "\n" not in said


@pytest.mark.parametrize("name", ["file.gz", "file"])
def test_what_lies_in_the_users_folder_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / name).write_bytes(b"mine")
    monkeypatch.setenv("DOWNSLOPE_DATA", str(tmp_path))
    assert located(remote()).read_bytes() == b"mine"
