"""Where a cluster is said to be: refused in a line before Ray is asked, which would try for minutes."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import downslope as ds
from downslope.core.errors import ClusterError, InputError
from downslope.training.population import ray_address
from downslope.training.population.ray_address import check_ray
from tests.training.problems import regression


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> set[str]:
    """Modules that are taken for installed, and no cluster of the machine's own."""
    names = {"ray"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name in names else None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray_address, "PROCESSES", tmp_path / "proc")
    return names


@pytest.fixture
def listening() -> Iterator[str]:
    """An address where somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_an_address_where_somebody_listens_is_taken(listening: str) -> None:
    assert check_ray(listening) == listening
    assert check_ray("local") == "local"


def test_an_address_that_is_none_is_refused(installed: set[str]) -> None:
    for wrong in ("", 6379, "here", "10.0.0.1", "10.0.0.1:port", ":6379", "10.0.0.1:99999"):
        with pytest.raises(ClusterError, match='must be "host:port"'):
            check_ray(wrong)
    installed.add("grpc")
    with pytest.raises(ClusterError, match="client server 10001"):
        check_ray("ray://head")


def test_an_address_that_is_dead_is_refused(listening: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        dead = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(ClusterError, match=rf"nobody answers at {dead} \(Connection refused\): is it up\?"):
        check_ray(dead)
    with pytest.raises(ClusterError, match="nobody answers"):
        ds.fit_population(regression(), ds.Recipe(), ray=dead, progress=False)
    with pytest.raises(ClusterError, match="nobody answers"):
        ds.tune(regression(), ray=dead, folder=False, progress=False)
    with pytest.raises(ClusterError, match="nobody answers"):
        ds.race(regression(), ["sgd", "adam"], ray=dead, progress=False)


def test_without_ray_the_extra_is_named(installed: set[str], listening: str) -> None:
    with pytest.raises(ClusterError, match=r"pip install 'ray\[client\]'"):
        check_ray(f"ray://{listening}")
    installed.clear()
    with pytest.raises(ClusterError, match=r"Ray is not installed: pip install 'downslope\[ray\]'"):
        check_ray(listening)


def test_auto_is_what_the_environment_or_the_last_start_here_says(
    listening: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(ClusterError, match="no cluster runs here and RAY_ADDRESS is not set"):
        check_ray("auto")
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(listening)
    assert check_ray("auto") == listening
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ClusterError, match=r"ray='auto': nobody answers at 127\.0\.0\.1:1 "):
        check_ray("auto")


def test_auto_is_the_cluster_whose_process_runs_here_whatever_its_folder(
    listening: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "none"))

    def process(number: int, *words: str) -> None:
        (tmp_path / "proc" / str(number)).mkdir(parents=True)
        (tmp_path / "proc" / str(number) / "cmdline").write_bytes("\0".join(words).encode() + b"\0")

    process(7, "grep", "--gcs-address=10.0.0.9:1")
    process(8, "/usr/lib/ray/core/src/ray/raylet/raylet", "--node_id=1", f"--gcs-address={listening}")
    assert check_ray("auto") == listening
    process(9, "/usr/lib/ray/core/src/ray/raylet/raylet", "--gcs-address=10.0.0.9:1")
    with pytest.raises(ClusterError, match=r"several run here \(10\.0\.0\.9:1, 127\.0\.0\.1:\d+\): give one"):
        check_ray("auto")


@pytest.mark.parametrize("how", [{"workers": 2}, {"way": "one by one"}])
def test_what_contradicts_a_cluster_is_refused(how: Any) -> None:
    with pytest.raises(InputError, match="with ray='auto'"):
        ds.fit_population(regression(), ds.Recipe(), ray="auto", progress=False, **how)
