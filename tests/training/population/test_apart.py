"""Members in other processes: the same bits as alone, deaths, Ctrl-C. One process serves most of the file."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import downslope as ds
from downslope.training.population import apart, foreman
from downslope.training.population.hand import Job
from downslope.training.population.sent import LARGE, Parcels, unpack
from tests.training.problems import mlp, regression, same_history, same_state

HOW = ds.Recipe(lr=0.01, batch_size=16, epochs=2)


@pytest.fixture(autouse=True, scope="module")
def processes() -> Iterator[None]:
    """Those that the tests share end with the file."""
    yield
    apart.end_all()


def large() -> tuple[torch.Tensor, torch.Tensor]:
    """More examples than are sent by value."""
    x = torch.randn(LARGE // 32, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return x, x.sum(1, keepdim=True)


def kill(marker: str, times: int, *, together: bool = False) -> Any:
    """An objective that kills its process in the midst, as often as said, counted in a file.

    Members that go `together` call it for all at once, and tell nobody of a gradient.
    """
    calls: list[bool] = []

    def objective(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        path = Path(marker)
        seen = len(path.read_text()) if path.exists() else 0
        calls.append(together or output.requires_grad)
        if seen < times and sum(calls) > (12 if together else 4):
            path.write_text("x" * (seen + 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return ((output - target) ** 2).mean()

    return objective


def test_members_apart_are_those_of_fit_alone_to_the_bit(tmp_path: Path) -> None:
    problem = regression(train=large(), model=lambda: mlp(dropout=0.2))
    heard: list[tuple[int, int]] = []

    def watch(member: int, step: int, found: Any) -> bool:
        assert found.metric is not None
        heard.append((member, step))
        return member == 2 and step >= 128

    runs = ds.fit_population(
        problem, HOW, seeds=[1, 2, 3], folder=tmp_path, progress=False, way="processes", on_evaluation=watch
    )
    for index, run in enumerate(runs[:2]):
        alone = ds.fit(problem, HOW.edit(seed=index + 1), folder=False, progress=False, observe=0.0)
        assert same_history(run, alone)
        assert same_state(run.weights["last"], alone.weights["last"])
        assert run.problem is problem
        kept = ds.load_run(tmp_path / f"member-{index:03d}", problem)
        assert kept.status == "done"
        assert kept.choices["population"] == "one by one: in a process of its own"
    assert runs[2].status == "stopped"
    assert {member for member, _ in heard} == {0, 1, 2}


def test_a_member_that_fails_apart_says_what_it_says_alone() -> None:
    def broken(output: object, target: object) -> object:
        raise RuntimeError("no objective at all")

    with pytest.raises(Exception, match="no objective at all"):
        ds.fit_population(regression(objective=broken), [HOW], progress=False, way="processes")


def test_a_member_that_does_not_fit_into_the_time_is_left_out() -> None:
    long = HOW.edit(epochs=10**6)
    runs = ds.fit_population(
        regression(), [HOW, long, HOW], progress=False, way="processes", until=time.monotonic() + 1.5
    )
    assert len(runs) <= 1  # none where a process had to be started first
    assert all(run.status == "done" and "cut" not in run.facts for run in runs)


def test_a_member_whose_process_is_killed_is_begun_anew(tmp_path: Path) -> None:
    sick = regression(objective=kill(str(tmp_path / "once"), 1))
    (run,) = ds.fit_population(sick, HOW, folder=tmp_path / "runs", progress=False, way="processes")
    assert run.status == "done"
    alone = ds.fit(
        regression(objective=kill(str(tmp_path / "never"), 0)), HOW, folder=False, progress=False, observe=0.0
    )
    assert same_history(run, alone)


def test_of_several_workers_only_those_that_cannot_go_together_are_sent(tmp_path: Path) -> None:
    curved = ds.Recipe(optimizer="lbfgs", epochs=2)
    runs = ds.fit_population(
        regression(), [HOW, curved, HOW], progress=False, way="together", workers=2, folder=tmp_path
    )
    ways = [run.choices["population"] for run in runs]
    assert ways == ["together with 1 others", "one by one: in a process of its own", "together with 1 others"]
    assert same_history(runs[1], ds.fit(regression(), curved, folder=False, progress=False, observe=0.0))


def test_crews_train_together_in_processes_of_their_own(tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []

    def watch(member: int, step: int, found: Any) -> bool:
        assert found.metric is not None
        heard.append((member, step))
        return member == 3

    hows = [HOW.edit(lr=lr, seed=seed) for seed, lr in enumerate((1e-3, 3e-3, 1e-2, 3e-2, 1e-1))]
    curved = ds.Recipe(optimizer="lbfgs", epochs=2)
    given: dict[str, Any] = {"progress": False, "way": "together", "on_evaluation": watch}
    problem = regression()
    runs = ds.fit_population(problem, [*hows, curved], workers=2, folder=tmp_path, **given)
    told = set(heard)
    heard.clear()
    here = ds.fit_population(problem, [*hows, curved], **given)
    assert told == set(heard)
    ways = [run.choices["population"] for run in runs]
    assert ways == [
        *["together with 2 others, in a process of its own"] * 3,
        *["together with 1 others, in a process of its own"] * 2,
        "one by one: in a process of its own",
    ]
    for index, (run, other) in enumerate(zip(runs, here, strict=True)):
        assert run.status == other.status
        assert run.problem is other.problem
        assert run.summary["valid_loss"] == pytest.approx(other.summary["valid_loss"], rel=1e-9)
        kept = ds.load_run(tmp_path / f"member-{index:03d}", run.problem)
        assert same_history(kept, run)
    assert runs[3].status == "stopped"


def test_members_of_a_crew_whose_process_is_killed_are_begun_anew_by_themselves(tmp_path: Path) -> None:
    sick = regression(objective=kill(str(tmp_path / "once"), 1, together=True))
    lead, *others = (Job(index, sick, HOW.edit(seed=index), tmp_path / f"{index}", 0.0) for index in range(3))
    ended = dict(apart.run_apart([replace(lead, others=tuple(others))], 1))
    assert [ended[index].choices["population"] for index in range(3)] == [
        "one by one: in a process of its own"
    ] * 3
    well = regression(objective=kill(str(tmp_path / "never"), 0))
    for index, run in ended.items():
        alone = ds.fit(well, HOW.edit(seed=index), folder=False, progress=False, observe=0.0)
        assert same_history(run, alone)
        assert same_history(ds.load_run(tmp_path / f"{index}", well), alone)


def test_a_member_of_a_crew_that_fails_takes_no_other_with_it() -> None:
    def metric(output: torch.Tensor, target: torch.Tensor) -> float:
        if not output.abs().max() < 1e3:
            raise RuntimeError("too large for this metric")
        return float(((output - target) ** 2).mean())

    hows = [HOW.edit(seed=0), HOW.edit(lr=1e12), HOW.edit(seed=2)]
    problem = regression(metric=metric, metric_goal="min")
    lead, *others = (Job(index, problem, how, False, 0.0) for index, how in enumerate(hows))
    ended = dict(apart.run_apart([replace(lead, others=tuple(others))], 1))
    assert [getattr(ended[index], "status", "") for index in (0, 2)] == ["done", "done"]
    assert isinstance(ended[1], Exception)
    assert "too large for this metric" in str(ended[1])


def test_a_member_that_kills_its_processes_is_failed_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreman, "TRIES", 1)  # each costs the start of a process
    sick = regression(objective=kill(str(tmp_path / "ever"), 99))
    runs = ds.fit_population([sick], [HOW], progress=False, way="processes", strict=False)
    assert runs[0].status == "failed"
    assert "SIGKILL" in runs[0].facts["error"]
    assert len((tmp_path / "ever").read_text()) == 1


def test_what_cannot_be_sent_is_trained_here() -> None:
    lock = threading.Lock()

    def model() -> nn.Module:
        with lock:
            return mlp()

    (run,) = ds.fit_population(regression(model=model), [HOW], progress=False, way="processes")
    assert run.status == "done"
    assert "cannot be sent" in run.choices["population"]


def test_a_tensor_of_many_members_is_written_once_and_mapped() -> None:
    x, y = large()
    parcels = Parcels()
    packed = [parcels.pack({"x": x, "y": y, "i": i}) for i in range(2)]
    assert all(len(each) < 2000 + 8 * y.numel() for each in packed)
    first, second = map(unpack, packed)
    assert torch.equal(first["x"], x)
    first["x"][0] = 0  # a change is its own
    assert torch.equal(second["x"], x)


SCRIPT = """
    import downslope as ds, torch
    from tests.training.problems import regression
    how = ds.Recipe(lr=0.01, batch_size=2, epochs=100000, patience=100000)
    def watch(member, step, found):
        print("going", flush=True)
        return False
    runs = ds.fit_population(regression(), [how], progress=False, way="processes", on_evaluation=watch)
    print([run.status for run in runs], flush=True)
"""


@pytest.mark.skipif(not Path("/proc").exists(), reason="reads the processes of a session from /proc")
def test_ctrl_c_stops_the_runs_and_leaves_no_process() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as main:  # fmt: skip
        assert main.stdout is not None
        assert main.stderr is not None
        assert main.stdout.readline() == "going\n", main.stderr.read()
        assert len(of_session(main.pid)) > 1
        main.send_signal(signal.SIGINT)
        assert "['interrupted']" in main.stdout.read()
    ends = time.monotonic() + 10
    while of_session(main.pid) and time.monotonic() < ends:
        time.sleep(0.05)
    assert of_session(main.pid) == []


def of_session(leader: int) -> list[int]:
    """Processes of a session that live."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                found.append(int(path.parent.name))
    return found
