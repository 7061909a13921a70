"""What is looked at in a watched loop is told by the steps, never by a clock."""

from __future__ import annotations

import contextlib
import io
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import downslope as ds
from downslope.core.run import Run
from downslope.diagnosis.audience import Audience
from downslope.diagnosis.hearing import ALL, APART, ROUND
from downslope.diagnosis.pace import UNKNOWN, Pace
from downslope.diagnosis.script import watch_script
from downslope.diagnosis.taps import Taps
from tests.diagnosis.watched import HEAD

LONG = """
model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 4))
rule = torch.optim.SGD(model.parameters(), 0.1)
for at in batches(700):
    loss = F.cross_entropy(model(X[at]), C[at])
    rule.zero_grad(); loss.backward(); rule.step()
"""

TURNS = """
parts = [nn.Linear(10, 1) for _ in range(5)]
rules = [torch.optim.SGD(part.parameters(), 0.01) for part in parts]
for at in batches(500):
    for part, rule in zip(parts, rules):
        loss = F.mse_loss(part(X[at]), Y[at])
        rule.zero_grad(); loss.backward(); rule.step()
"""


def fast() -> Callable[[], float]:
    return lambda: 1000.0


def slow() -> Callable[[], float]:
    return itertools.count(1000.0, 0.5).__next__


def jumping() -> Callable[[], float]:
    state, gaps = [1000.0], itertools.cycle([1e-7, 1e-6, 3.0, 1e-5, 1e-7, 0.02, 40.0])

    def clock() -> float:
        state[0] += next(gaps)
        return state[0]

    return clock


CLOCKS = [None, fast, slow, jumping]


def set_clock(patch: pytest.MonkeyPatch, make: Callable[[], Callable[[], float]] | None) -> None:
    if make is not None:
        clock = make()
        for name in ("perf_counter", "monotonic", "thread_time", "process_time"):
            patch.setattr(time, name, clock)


def looked_at(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: run.history.series(name).steps.tolist() for name in run.history if name != "step"
    }
    found |= {f"probes of {name}": run.probes[name].steps.tolist() for name in run.probes}
    return found | {
        "leftover": run.facts.get("leftover"),
        "batches": (run.facts.get("order") or {}).get("batches"),
    }


def of_script(folder: Path, body: str) -> tuple[Run, Any]:
    path = folder / "train.py"
    path.write_text(HEAD + body)
    with contextlib.redirect_stdout(io.StringIO()), torch.random.fork_rng():
        found, _ = watch_script(path, trials=0.0)
    assert found is not None
    told = (found.findings, found.cleared, found.not_checked, found.verdict, found.notes)
    return found.run, told


def of_loop(steps: int) -> Run:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    rule = torch.optim.SGD(model.parameters(), 0.1)
    monitor = ds.watch(model, rule)
    for _ in range(steps):
        x = torch.randn(16, 8)
        loss = functional.cross_entropy(model(x), (x[:, 0] > 0).long())
        rule.zero_grad()
        loss.backward()
        rule.step()
        monitor.step(loss)
    monitor.close()
    return monitor.run


def test_a_script_is_seen_at_the_same_steps_and_judged_alike_by_any_clock(tmp_path: Path) -> None:
    seen: list[Any] = []
    for make in CLOCKS:
        with pytest.MonkeyPatch.context() as patch:
            set_clock(patch, make)
            run, told = of_script(tmp_path, LONG)
        seen.append((looked_at(run), told))
    assert all(each == seen[0] for each in seen[1:])
    steps = seen[0][0]["train_loss"]
    assert steps[:ALL] == [*range(1, ALL + 1)]
    assert len(steps) == pytest.approx(ALL + 500 / 5, abs=5)


def test_a_loop_is_seen_at_the_same_steps_by_any_clock() -> None:
    seen: list[Any] = []
    for make in CLOCKS:
        with pytest.MonkeyPatch.context() as patch:
            set_clock(patch, make)
            seen.append(looked_at(of_loop(600)))
    assert all(each == seen[0] for each in seen[1:])
    assert len(seen[0]["probes of grad_norm"]) > 3  # beyond those of the start


def test_of_optimizers_that_take_turns_every_one_is_heard_as_often() -> None:
    heard = [step for step in range(25 * 60) if not step % ROUND % APART]
    for turns in (2, 3, 4, 5, 6, 7, 10):
        counts = [sum(step % turns == i for step in heard) for i in range(turns)]
        assert min(counts) >= 0.6 * max(counts), turns


def test_each_of_five_that_take_turns_is_heard_of_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text(HEAD + TURNS)
    audience = Audience()
    with Taps(audience), torch.random.fork_rng():
        exec(compile(path.read_text(), str(path), "exec"), {"__name__": "__main__"})
    runs = [
        role.track.conclude("done").history.series("train_loss").steps for role in audience.roles.values()
    ]
    audience.close()
    assert len(runs) == 5
    assert all(steps[-1] > 450 and sum(s > ALL for s in steps) > 30 for steps in runs)


def learnt(layers: int, parameters: int, products: int, **given: Any) -> Pace:
    rows = {
        str(i): {"parameters": parameters // layers, "products": products // layers} for i in range(layers)
    }
    pace = Pace()
    assert (pace.price, pace.milliseconds) == (UNKNOWN, 0.0)
    pace.learn(rows, **({"threads": 1, "device": "cpu", "dense": True} | given))
    return pace


@pytest.mark.parametrize(
    ("layers", "parameters", "products", "plain", "price"),
    [  # measured: milliseconds of a plain step, and the price under SGD and Adam
        (3, 8970, 64 * 8970, 0.5, (1.34, 0.91)),
        (3, 8970, 1024 * 8970, 1.3, (0.46, 0.40)),
        (21, 6378, 32 * 6378, 1.7, (2.86, 1.51)),
        (5, 3225610, 128 * 3225610, 33.0, (0.16, 0.14)),
        (6, 421834, 136_000_000, 22.5, (0.17, 0.15)),
    ],
)
def test_the_rule_is_near_what_was_measured(
    layers: int, parameters: int, products: int, plain: float, price: tuple[float, float]
) -> None:
    pace = learnt(layers, parameters, products)
    assert plain / 3 < pace.milliseconds < 3 * plain
    assert min(price) / 2.5 < pace.price < 2.5 * max(price)


def test_a_table_whose_gradients_are_sparse_is_dear_to_look_at() -> None:
    dense, sparse = (learnt(2, 6_400_330, 10_000, dense=each) for each in (True, False))
    assert sparse.price > 10 * dense.price
