"""Where a Ray cluster is, and whether anybody answers there."""

from __future__ import annotations

import importlib.util
import os
import socket
from pathlib import Path
from typing import Any

from downslope.core.errors import ClusterError

PROBE = 3.0
"""Seconds in which a cluster's port has to answer; without that Ray tries for minutes."""


PROCESSES = Path("/proc")
"""Where Linux tells of its processes; elsewhere no cluster is found by them."""


def check_ray(address: Any) -> str:
    """The address that Ray is to join; nothing is joined yet.

    Args:
        address: "host:port" of a cluster of which this machine is a node, "auto" for the one that runs here
            or that RAY_ADDRESS names, "ray://host:port" of one from outside, "local" for one of its own.

    Raises:
        ClusterError: no address, Ray is not installed, or nobody listens there.
    """
    if not isinstance(address, str) or not address:
        raise ClusterError(f'ray={address!r}: must be "host:port", "auto", "local" or "ray://host:port"')
    if os.name != "posix":
        raise ClusterError(f"ray={address!r}: clusters are joined from Linux and macOS only")
    if importlib.util.find_spec("ray") is None:
        raise ClusterError(f"ray={address!r}: Ray is not installed: pip install 'downslope[ray]'")
    if address == "local":
        return address
    found = _auto() if address == "auto" else address
    if found.startswith("ray://") and importlib.util.find_spec("grpc") is None:
        raise ClusterError(
            f"ray={address!r}: a cluster is joined from outside with Ray's client: pip install 'ray[client]'"
        )
    host, colon, port = found.removeprefix("ray://").rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ClusterError(
            f'ray={address!r}: must be "host:port", "auto", "local" or "ray://host:port"; a cluster\'s own '
            "port is 6379, that of its client server 10001, unless set otherwise"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE).close()
    except OSError as error:
        raise ClusterError(
            f"ray={address!r}: nobody answers at {host}:{port} ({error.strerror or error}): is it up?"
        ) from None
    return found


def _auto() -> str:
    """Where RAY_ADDRESS says, the one cluster that runs here is, or the note of the last start here says."""
    if (said := os.environ.get("RAY_ADDRESS")) not in (None, "", "auto", "local"):
        return said
    running = _running()
    if len(running) == 1:
        return running[0]
    note = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"
    try:
        return note.read_text(encoding="utf-8").strip()
    except OSError:
        if running:
            raise ClusterError(f"ray='auto': several run here ({', '.join(running)}): give one") from None
        raise ClusterError(
            "ray='auto': no cluster runs here and RAY_ADDRESS is not set: give host:port, or local for one "
            "of its own"
        ) from None


def _running() -> list[str]:
    """Addresses of the clusters of which this machine is a node, by its processes, as Ray looks for them."""
    found = set[str]()
    for each in PROCESSES.glob("[0-9]*/cmdline"):
        try:
            words = each.read_bytes().replace(b"\0", b" ").decode(errors="replace").split()
        except OSError:  # it has ended, or is another's
            continue
        if words and Path(words[0]).name == "raylet":
            found |= {word.partition("=")[2] for word in words if word.startswith("--gcs-address=")}
    return sorted(found)
