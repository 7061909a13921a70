"""Files of the standard sets: found where the user keeps data, or fetched once from their own address."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from downslope.core.cache import cache_folder
from downslope.core.errors import DataError

_log = logging.getLogger("downslope")

TIMEOUT = 30.0
"""Seconds without an answer after which an address counts as not reachable."""

TRIES = 3
"""Breaks in a row without a byte gained after which an address is given up."""

_PIECE = 2**20


@dataclass(frozen=True, kw_only=True)
class Remote:
    """One file of a set.

    Attributes:
        folder: Of the set, below ``DOWNSLOPE_DATA`` and below the cache; "" for none.
        name: Of the file.
        urls: Where it is to be had, tried in order; empty for a file that is not fetched.
        digest: ``"md5:..."``, ``"sha1:..."`` or ``"sha256:..."`` of the file, as its authors publish it.
        from_where: A page that a person can go to.
    """

    folder: str
    name: str
    urls: tuple[str, ...]
    digest: str = ""
    from_where: str = ""


def located(remote: Remote) -> Path:
    """The file, from ``$DOWNSLOPE_DATA``, from the cache, or fetched into it.

    What lies in ``$DOWNSLOPE_DATA`` is taken as it is, packed or not; what is fetched has to have the
    published digest. A fetch that breaks off keeps what it has, and goes on from there the next time.

    Raises:
        DataError: it is nowhere and cannot be fetched; the message says what to put where.
    """
    given = os.environ.get("DOWNSLOPE_DATA")
    cached = cache_folder() / "data" / remote.folder
    for folder in ([Path(given).expanduser() / remote.folder] if given else []) + [cached]:
        for name in (remote.name, remote.name.removesuffix(".gz")):
            if (folder / name).is_file():
                return folder / name
    reason = "no address to fetch it from is known"
    for url in remote.urls:
        try:
            return _fetched(url, cached / remote.name, remote.digest)
        except OSError as error:
            reason = f"{url} cannot be reached ({_reason(error)})"
    wanted = f"{remote.folder}/{remote.name}".removeprefix("/")
    get = remote.from_where or next(iter(remote.urls), "its authors")
    where = f"put it into {cached}, or into {wanted} below the folder that DOWNSLOPE_DATA names"
    raise DataError(f"{wanted}: not there, and {reason}; get it from {get} and {where}")


def _fetched(url: str, path: Path, digest: str) -> Path:
    """The file at `url`, in `path`.

    Raises:
        OSError: the address cannot be reached, or broke off too often; what came stays in ``.partial``.
        DataError: what came is not what the authors published; it is deleted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    _log.warning("fetching %s into %s", url, path.parent)
    failures = 0
    while True:
        before = _size(partial)
        try:
            if _rest(url, partial):
                break
            error = OSError(f"broke off after {_size(partial):,} bytes")
        except urllib.error.HTTPError as refused:
            if refused.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not before:
                raise
            if _matches(partial, digest):
                break
            partial.unlink()  # longer than the file itself: begun with another one
            continue
        except (OSError, http.client.HTTPException) as broken:
            error = broken if isinstance(broken, OSError) else OSError(repr(broken))
        failures = 0 if _size(partial) > before else failures + 1
        if failures >= TRIES:
            raise error
    if not _matches(partial, digest):
        found = _digest(partial, digest.partition(":")[0])
        partial.unlink()
        raise DataError(
            f"{url}: came with {found}, its authors publish {digest}: damaged on the way, or not the file; "
            "what came is deleted, try again"
        )
    partial.replace(path)
    return path


def _rest(url: str, partial: Path) -> bool:
    """Append to `partial` what it lacks; whether it is all there then."""
    have = _size(partial)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        goes_on = answer.status == http.client.PARTIAL_CONTENT
        length = answer.headers.get("Content-Length")
        with partial.open("ab" if goes_on else "wb") as file:
            came = 0
            while piece := answer.read(_PIECE):
                file.write(piece)
                came += len(piece)
    return length is None or came >= int(length)


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


def _matches(path: Path, digest: str) -> bool:
    return not digest or _digest(path, digest.partition(":")[0]) == digest


def _digest(path: Path, kind: str) -> str:
    """The digest of a file, led by its kind; the kinds are those that were published, against damage."""
    found = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            found.update(piece)
    return f"{kind}:{found.hexdigest()}"


def _reason(error: Any) -> str:
    inner = getattr(error, "reason", None) or error
    return str(getattr(inner, "strerror", None) or inner or type(error).__name__)
