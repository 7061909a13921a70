"""A Ray cluster of several nodes, for real: the bits of `fit`, deaths of workers, nodes and the cluster."""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import downslope as ds
from downslope.cli.main import main
from downslope.core.errors import ClusterError
from downslope.training.population import ray_workers
from downslope.training.population.sent import LARGE
from downslope.tuning.standing import Standing
from downslope.tuning.tune import load_search, resume
from tests.training.problems import mlp, regression, same_history, same_state
from tests.tuning.ray_nodes import Nodes

pytestmark = [
    pytest.mark.slow,  # a cluster takes 10 to 20 s to come up, and each of its workers imports torch
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: make test-ray"),
]

HOW = ds.Recipe(lr=0.01, batch_size=16, epochs=2)
SPACE = {"lr": ds.log(1e-3, 1e-1)}


@pytest.fixture(scope="module", autouse=True)
def _without_a_token() -> Iterator[None]:
    """Ray writes one to the home for a cluster that it starts by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        yield


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """Two nodes of one CPU each, which lose workers and stay."""
    made = Nodes(1, 1)
    yield made
    ray_workers.leave_all()
    made.close()


@pytest.fixture
def doomed() -> Iterator[Nodes]:
    """Two nodes that a test may kill."""
    made = Nodes(1, 1)
    yield made
    ray_workers.leave_all()
    made.close()


def large() -> tuple[torch.Tensor, torch.Tensor]:
    """More examples than are sent by value."""
    x = torch.randn(LARGE // 32, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return x, x.sum(1, keepdim=True)


def slow(seconds: float) -> Any:
    """Squared error, late."""

    def objective(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        time.sleep(seconds)
        return ((output - target) ** 2).mean()

    return objective


def deadly(marker: Path, times: int) -> Any:
    """Squared error, that kills its process in the midst, as often as said."""
    calls: list[bool] = []

    def objective(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        calls.append(output.requires_grad)
        seen = len(marker.read_text()) if marker.exists() else 0
        if seen < times and sum(calls) > 4:
            marker.write_text("x" * (seen + 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return ((output - target) ** 2).mean()

    return objective


def test_members_on_a_cluster_are_those_of_fit_alone_to_the_bit(nodes: Nodes, tmp_path: Path) -> None:
    problem = regression(train=large(), model=lambda: mlp(dropout=0.2))
    heard = set[int]()

    def watch(member: int, step: int, found: Any) -> bool:
        assert found.metric is not None
        heard.add(member)
        return member == 2 and step >= 128

    runs = ds.fit_population(
        problem, HOW, seeds=[1, 2, 3], folder=tmp_path, progress=False, way="processes", ray=nodes.address,
        on_evaluation=watch,
    )  # fmt: skip
    for index, run in enumerate(runs[:2]):
        alone = ds.fit(problem, HOW.edit(seed=index + 1), folder=False, progress=False, observe=0.0)
        assert same_history(run, alone)
        assert same_state(run.state("last"), alone.weights["last"])
        assert run.problem is problem
        kept = ds.load_run(tmp_path / f"member-{index:03d}", problem)
        assert (kept.status, kept.choices["population"]) == ("done", "one by one: on a worker of Ray")
    assert runs[2].status == "stopped"
    assert heard == {0, 1, 2}


def test_crews_train_together_on_workers_and_are_kept_here(nodes: Nodes, tmp_path: Path) -> None:
    problem = regression()
    given: dict[str, Any] = {"progress": False, "way": "together"}
    runs = ds.fit_population(problem, HOW, seeds=[0, 1, 2, 3], folder=tmp_path, ray=nodes.address, **given)
    here = ds.fit_population(problem, HOW, seeds=[0, 1, 2, 3], **given)
    for index, (run, other) in enumerate(zip(runs, here, strict=True)):
        assert run.choices["population"] == "together with 1 others, on a worker of Ray"
        assert run.summary["valid_loss"] == pytest.approx(other.summary["valid_loss"], rel=1e-9)
        assert same_history(ds.load_run(tmp_path / f"member-{index:03d}", problem), run)


def test_a_worker_that_is_killed_costs_its_member_one_new_start(nodes: Nodes, tmp_path: Path) -> None:
    how: dict[str, Any] = {"progress": False, "way": "processes", "ray": nodes.address, "strict": False}
    before = ray_workers.lost_on_ray(nodes.address)
    (run,) = ds.fit_population(regression(objective=deadly(tmp_path / "once", 1)), HOW, **how)
    assert ray_workers.lost_on_ray(nodes.address) == before + 1
    alone = ds.fit(
        regression(objective=deadly(tmp_path / "no", 0)), HOW, folder=False, progress=False, observe=0.0
    )
    assert same_history(run, alone)
    (run,) = ds.fit_population(regression(objective=deadly(tmp_path / "ever", 99)), HOW, **how)
    assert run.status == "failed"
    assert "died 2 times, maybe for want of memory, or by its own code: its process at" in run.facts["error"]
    assert len((tmp_path / "ever").read_text()) == 2


def test_what_does_not_fit_into_the_time_is_left_out_and_what_cannot_be_sent_is_trained_here(
    nodes: Nodes,
) -> None:
    how: dict[str, Any] = {"progress": False, "way": "processes", "ray": nodes.address}
    late = regression(objective=slow(0.02))
    until = time.monotonic() + 2
    runs = ds.fit_population(late, [HOW, HOW.edit(epochs=400), HOW], until=until, **how)
    assert [run.status for run in runs] == ["done"]
    lock = threading.Lock()

    def model() -> torch.nn.Module:
        with lock:
            return mlp()

    (run,) = ds.fit_population(regression(model=model), [HOW], **how)
    assert "cannot be sent" in run.choices["population"]


def test_ctrl_c_ends_the_runs_in_hand_with_their_folders(nodes: Nodes, tmp_path: Path) -> None:
    def watch(member: int, step: int, found: Any) -> bool:
        if step == 8:
            os.kill(os.getpid(), signal.SIGINT)
        return False

    runs = ds.fit_population(
        regression(objective=slow(0.01)), HOW.edit(epochs=400), seeds=range(4), folder=tmp_path,
        progress=False, way="processes", ray=nodes.address, on_evaluation=watch,
    )  # fmt: skip
    assert runs
    assert {run.status for run in runs} == {"interrupted"}
    kept = ds.load_run(tmp_path / "member-000", regression())
    assert kept.status == "interrupted"
    assert kept.summary["steps"] >= 8


def test_a_race_goes_to_the_cluster(nodes: Nodes) -> None:
    given: dict[str, Any] = {"seeds": 2, "trials": 2, "recipe": HOW, "progress": False}
    there = ds.race(regression(), ["sgd", "adam"], ray=nodes.address, way="processes", **given)
    here = ds.race(regression(), ["sgd", "adam"], way="one by one", **given)
    assert [[one.levels for one in each.raced] for each in there.entries] == [
        [one.levels for one in each.raced] for each in here.entries
    ]


def test_a_search_is_whole_though_a_node_dies_in_its_midst(doomed: Nodes, tmp_path: Path) -> None:
    """LBFGS, as its members never go together."""
    problem, recipe = regression(objective=slow(0.005)), ds.Recipe(optimizer="lbfgs", epochs=12)
    asked: dict[str, Any] = {"trials": 8, "confirm": 0, "progress": False}
    there: list[int] = []

    def watch(standing: Standing) -> None:
        if not there and any(step >= 2 for step, _ in standing.running.values()):
            there.append(1)
            doomed.kill(0)

    found = ds.tune(problem, recipe, SPACE, folder=tmp_path / "ray", ray=doomed.address, watch=watch, **asked)
    assert there
    alone = ds.tune(problem, recipe, SPACE, folder=False, **asked)
    assert [each.state for each in found.trials] == ["done"] * 8
    assert [each.value for each in found.trials] == [each.value for each in alone.trials]
    assert found.best.number == alone.best.number
    lines = [line for line in (tmp_path / "ray" / "curves.jsonl").read_text().splitlines() if line]
    assert len(lines) == 8


def test_a_search_whose_cluster_goes_away_is_kept_and_goes_on_elsewhere(
    doomed: Nodes, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    problem, recipe = regression(objective=slow(0.01)), ds.Recipe(optimizer="lbfgs", epochs=20)
    gone: list[int] = []

    def watch(standing: Standing) -> None:
        if standing.ended >= 2 and not gone and standing.running:
            gone.append(standing.ended)
            doomed.kill("head")

    asked: dict[str, Any] = {"trials": 6, "batch": 2, "confirm": 0, "progress": False}
    found = ds.tune(problem, recipe, SPACE, folder=tmp_path, ray=doomed.address, watch=watch, **asked)
    assert found.interrupted
    assert f"the Ray cluster {doomed.address} went away" in caplog.text
    states = [each.state for each in found.trials]
    assert states.count("done") >= 2
    assert "running" not in states
    assert capfd.readouterr().err == ""  # Ray itself is silent
    with pytest.raises(ClusterError, match="nobody answers"):
        resume(tmp_path, problem, progress=False)
    whole = resume(tmp_path, problem, ray="none", progress=False)
    alone = ds.tune(problem, recipe, SPACE, folder=False, **asked)
    assert sum(each.state == "done" for each in whole.trials) == 6
    assert whole.best.value == alone.best.value
    assert load_search(tmp_path, problem).plan.ray is None


def test_the_command_line_drives_a_cluster_of_its_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    where = tmp_path / "search"
    words = ["tune", "digits", "--trials", "2", "--confirm", "0", "--set", "epochs=1", "--ray", "local"]
    assert main([*words, "--folder", str(where), "-o", str(tmp_path / "best.toml"), "--quiet"]) == 0
    told = capfd.readouterr()
    noise = [line for line in told.err.splitlines() if not line.startswith("tune: on a Ray cluster")]
    assert "ray" not in "\n".join(noise).lower()
    assert 'ray = "local"' in (where / "search.toml").read_text()
    ray_workers.leave_all()
