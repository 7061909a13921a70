"""The process that speaks to Ray and its workers, with a Ray that is made up: no cluster is needed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import downslope as ds
from downslope.core.run import Run
from downslope.training.population import ray_client
from downslope.training.population.hand import Job, Order
from downslope.training.population.ray_client import Speaker, cause, refusal
from downslope.training.population.ray_hand import RayHand, fetched, sweep, write_files
from downslope.training.population.sent import LARGE, Parcels, unpack
from tests.training.problems import regression, same_history, same_state

VERSIONS = {"downslope": "1", "torch": "2"}


class Ray:
    """As much of the module as is used: calls go through at once, workers sit on nodes that are said."""

    def __init__(self, *nodes: str, versions: dict[str, str] = VERSIONS) -> None:
        self.nodes, self.versions = list(nodes), versions
        self.dead = set[str]()
        self.given: list[tuple[str, bytes]] = []
        self.stored: list[bytes] = []

    def available_resources(self) -> dict[str, float]:
        return {"CPU": len(self.nodes)} if self.nodes else {}

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 4.0}

    def remote(self, _kind: object) -> Any:
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda _token: Actor(self)))

    def put(self, numbers: Any) -> int:
        if numbers.size > 100:
            raise MemoryError("the store is full")
        self.stored.append(numbers.tobytes())
        return len(self.stored)

    def get(self, made: Callable[[], Any], timeout: float | None = None) -> Any:
        return made()

    def kill(self, actor: object) -> None:
        pass


class Actor:
    def __init__(self, ray: Ray) -> None:
        self.ray, self.node = ray, ray.nodes.pop(0) if ray.nodes else ""

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *given: lambda: self.call(name, *given))

    def call(self, name: str, *given: Any) -> Any:
        if not self.node or self.node in self.ray.dead:
            raise RuntimeError("The actor is dead because its node has died.")
        if name == "hello":
            return {"node": self.node, "id": self.node, **self.ray.versions}
        self.ray.given.append((self.node, given[0]))
        if given[0] == b"deadly" and name == "go":
            self.ray.dead.add(self.node)
            raise RuntimeError("The actor is dead because its worker process has died.")
        return ("evaluated", b"half") if name == "go" else ("done", b"whole" if given[0] else b"all")


@pytest.fixture
def ends() -> Any:
    ours, theirs = Pipe()
    with ours, theirs:
        yield ours, theirs


def heard(line: Connection, *kinds: str) -> Any:
    """The next of these kinds that is said."""
    while line.poll(5):
        said = line.recv()
        if said[0] in kinds:
            return said
    raise AssertionError(f"none of {kinds} is said")


def wait_for(found: Callable[[], object]) -> None:
    """Until something holds, which a thread brings about."""
    limit = time.monotonic() + 5
    while not found():
        assert time.monotonic() < limit
        time.sleep(0.005)


def speaker(ends: Any, ray: Ray, members: int) -> tuple[Connection, Speaker]:
    ours, theirs = ends
    made = Speaker(ray, theirs, VERSIONS)
    made.open(members, 0)
    return ours, made


def test_a_member_is_begun_answered_and_given_back(ends: Any) -> None:
    line, made = speaker(ends, Ray("a", "b"), 8)
    assert heard(line, "opened") == ("opened", 2)
    wait_for(lambda: len(made.free) == 2)
    made.work(7, b"member", [], "")
    assert heard(line, "evaluated") == ("evaluated", 7, b"half")
    made.answer(7, True)
    assert heard(line, "done") == ("done", 7, b"whole")
    assert len(made.free) == 2


def test_a_worker_that_dies_is_told_and_its_member_goes_to_another_node(ends: Any) -> None:
    ray = Ray("a", "b", "c")
    line, made = speaker(ends, ray, 2)
    wait_for(lambda: len(made.free) == 2)
    made.work(0, b"deadly", [], "")
    kind, index, why, node = heard(line, "died")
    assert (kind, index) == ("died", 0)
    assert why == f"its process at {node} was killed"
    wait_for(lambda: len(made.free) == 2)  # another worker has come
    first, second = (each.id for each in made.free)
    made.work(0, b"member", [], first)
    heard(line, "evaluated")
    assert ray.given[-1][0] == second


def test_a_worker_that_died_while_it_waited_costs_its_member_nothing(
    ends: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = Ray("a", "b")
    line, made = speaker(ends, ray, 1)
    wait_for(lambda: made.free)
    ray.dead.add(made.free[0].id)
    made.free[0].since -= 10
    made.work(3, b"member", [], "")
    assert heard(line, "unbegun", "died") == ("unbegun", 3)


def test_data_are_stored_once_and_forgotten_when_a_population_had_no_use_for_them(
    ends: Any, tmp_path: Path
) -> None:
    for name, content in (("a", b"first"), ("b", b"second"), ("c", b"x" * 101)):
        (tmp_path / name).write_bytes(content)
    a, b, c = (str(tmp_path / name) for name in "abc")
    ray = Ray("x")
    line, made = speaker(ends, ray, 1)
    wait_for(lambda: made.free)
    for index, files in enumerate(([a], [a, b], [b])):
        made.work(index, b"member", files, "")
        heard(line, "evaluated")
        made.answer(index, False)
        heard(line, "done")
    assert ray.stored == [b"first", b"second"]
    made.open(1, 0)
    made.work(3, b"member", [b], "")
    heard(line, "evaluated")
    made.answer(3, False)
    heard(line, "done")
    made.open(1, 0)
    assert set(made.refs) == {"b"}
    made.work(4, b"member", [c], "")
    assert heard(line, "died")[2] == "its data cannot be sent: MemoryError: the store is full"


@pytest.mark.parametrize(
    ("versions", "why"),
    [
        (VERSIONS | {"torch": "3"}, "its worker at a has torch 3, here is 2: they must be the same"),
        ({"missing": "No module"}, "cannot import downslope (No module): install downslope 1 there"),
    ],
)
def test_workers_that_do_not_fit_are_none(ends: Any, versions: dict[str, str], why: str) -> None:
    line, made = speaker(ends, Ray("a", versions=versions), 1)
    assert why in heard(line, "gone")[1]
    assert not made.slots


def test_a_full_cluster_refuses(ends: Any) -> None:
    line, _ = speaker(ends, Ray(), 1)
    assert heard(line, "refused")[1].startswith("none of the cluster's 4 CPUs is free")


def test_it_ends_with_the_line_and_when_nobody_asks_for_long(
    ends: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = ends
    monkeypatch.setattr(ray_client, "IDLE", 0.01)
    Speaker(Ray(), theirs, VERSIONS).serve()
    monkeypatch.setattr(ray_client, "IDLE", 60)
    ours.close()
    Speaker(Ray(), theirs, VERSIONS).serve()


def test_what_ray_says_becomes_one_line() -> None:
    mismatch = RuntimeError("Version mismatch: The cluster was started with:\n  Ray: 2.40.0\n  Python: 3.12")
    assert refusal(mismatch).startswith("its versions are not those of here: Version mismatch: The cluster")
    assert "\n" not in refusal(mismatch)
    assert "does not answer as a Ray cluster" in refusal(ConnectionError("ray client"))
    assert cause(RuntimeError("its node has died."), "x") == "its node x died"
    assert cause(ValueError("a\nb"), "x") == "at x: ValueError: a b"


# -- the worker -------------------------------------------------------------------------------------------


def order(job: Job, heard: bool = True) -> Order:
    return Order(
        job, None, 1, torch.get_default_dtype(), (False, False), "highest", heard, "on a worker of Ray"
    )


@pytest.fixture
def hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = RayHand("test")
    yield made
    made.leave()


def result(step: tuple[str, bytes]) -> Any:
    assert step[0] == "done"
    found, files = unpack(step[1])
    return (found[0] if isinstance(found, dict) else found), files


def test_a_worker_gives_the_run_of_fit_and_its_folder(hand: RayHand, tmp_path: Path) -> None:
    x = torch.randn(LARGE // 32, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    problem = regression(train=(x, x.sum(1, keepdim=True)))
    recipe = ds.Recipe(lr=0.01, batch_size=64, epochs=2)
    parcels = Parcels(fetched)
    sent = parcels.pack(order(Job(0, problem, recipe, Path("run"), 0.0)))
    assert len(sent) < x.nbytes
    (file,) = parcels.files
    name = Path(file).name
    assert hand.lacks(name)
    hand.keep(name, memoryview(Path(file).read_bytes()))
    assert not hand.lacks(name)
    fetched(file, x.dtype, x.shape)[0] = 0  # a change is its own
    kind, found = hand.go(sent)
    assert (kind, unpack(found)[:2]) == ("evaluated", (0, 32))
    assert hand.on(False)[0] == "evaluated"
    run, files = result(hand.on(False))
    assert run.folder is None
    write_files(tmp_path, files)
    (tmp_path / "0").rename(tmp_path / "kept")
    alone = ds.fit(problem, recipe, folder=False, progress=False, observe=0.0)
    assert same_history(run, alone)
    kept = ds.load_run(tmp_path / "kept", problem)
    assert kept.status == "done"
    assert same_state(kept.state("last"), dict(sorted(alone.weights["last"].items())))
    assert kept.choices["population"] == "one by one: on a worker of Ray"
    assert not list(tmp_path.glob("downslope-ray-*/run-*"))
    hand.go(sent)
    assert result(hand.on(True))[0].status == "stopped"


def test_what_killed_workers_left_is_removed_and_what_is_in_use_is_not(hand: RayHand, tmp_path: Path) -> None:
    (own,) = tmp_path.iterdir()
    dead, young = (tmp_path / f"{own.name}-{name}" for name in ("dead", "young"))
    for each in (dead, young):
        each.mkdir()
        (each / "lock").touch()
        (each / "data").touch()
    for each in (dead, own):
        os.utime(each, (0, 0))
    sweep()
    assert set(tmp_path.iterdir()) == {own, young}
    hand.leave()
    assert not own.exists()


def test_a_worker_is_stopped_between_two_steps(hand: RayHand) -> None:
    recipe = ds.Recipe(lr=0.01, batch_size=16, epochs=400)
    kind, _ = hand.go(Parcels(fetched).pack(order(Job(0, regression(), recipe, False, 0.0))))
    assert kind == "evaluated"
    hand.stop()
    run, files = result(hand.on(False))
    assert isinstance(run, Run)
    assert (run.status, files) == ("interrupted", {})


def test_what_fails_on_a_worker_is_told(hand: RayHand) -> None:
    def broken(output: object, target: object) -> object:
        raise RuntimeError("no objective at all")

    job = Job(0, regression(objective=broken), ds.Recipe(epochs=1), False, 0.0)
    error, files = result(hand.go(Parcels(fetched).pack(order(job))))
    assert "no objective at all" in str(error)
    assert files == {}
    assert "pickling" in str(result(hand.go(b"rubbish"))[0])


def test_a_folder_that_cannot_be_written_whole_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write_files(tmp_path / "file" / "run", {"run.json": b"{}"})
    with pytest.raises(OSError, match="run"):
        write_files(tmp_path / "run", {"a": b"", "a/b": b"", "run.json": b"{}"})
    assert not (tmp_path / "run").exists()
