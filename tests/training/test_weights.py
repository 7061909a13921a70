"""A problem that starts from weights: the same run as by hand in torch, kept in its folder, and resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import downslope as ds
from downslope.core.errors import InputError, RunFolderError, WeightsError
from downslope.core.recipe import Recipe
from downslope.training.fit import resume
from tests.training.problems import same_history, same_state
from tests.training.test_resume import Stop

X = torch.randn(96, 5, generator=torch.Generator().manual_seed(0))
Y = (X @ torch.randn(5, 3, generator=torch.Generator().manual_seed(1))).argmax(1)
HOW: dict[str, Any] = {"optimizer": "adam", "lr": 0.01, "batch_size": 16, "epochs": 6, "seed": 1}


def net(outputs: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, outputs))


def problem(**changes: Any) -> ds.Problem:
    fields: dict[str, Any] = {"model": net, "objective": "cross_entropy", "train": (X, Y)} | changes
    return ds.Problem(**fields)


def fit(of: ds.Problem, folder: Path | bool = False, **changes: Any) -> ds.Run:
    return ds.fit(of, Recipe(**HOW | changes), folder=folder, progress=False, observe=0)


def pretrained(outputs: int = 5) -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    return {k: v.clone() for k, v in net(outputs).state_dict().items()}


def test_a_run_starts_from_the_weights_and_draws_only_the_new_head() -> None:
    there, fresh = pretrained(5), problem().build(1)
    model = problem(weights=there).build(1)
    own = model.state_dict()
    assert all(torch.equal(own[key], there[key]) for key in own if not key.startswith("3."))
    assert all(torch.equal(own[key], fresh.state_dict()[key]) for key in ("3.weight", "3.bias"))


def test_a_full_batch_run_from_weights_is_the_one_written_by_hand() -> None:
    there = pretrained(3)
    run = fit(problem(weights=there), optimizer="gd", lr=0.1, batch_size="full", epochs=None, steps=7)
    model = net()
    model.load_state_dict(there)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(7):
        sgd.zero_grad()
        nn.functional.cross_entropy(model(X), Y).backward()
        sgd.step()
    for key, value in run.model("last").state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[key])


def test_weights_come_after_the_initialisation_and_before_an_edit_of_the_start() -> None:
    there = pretrained(3)
    drawn = problem(weights=there).build(1, init="zeros")
    assert torch.equal(drawn[0].weight, there["0.weight"])
    again = problem(weights=there).edit(ds.edits.Reinitialise("zeros", ("3",))).build(1)
    assert torch.equal(again[0].weight, there["0.weight"])
    assert not again[3].weight.detach().any()


def test_what_was_taken_is_in_the_folder_and_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": pretrained(5)}, tmp_path / "w.pt")
    run = ds.fit(problem(weights=tmp_path / "w.pt"), Recipe(**HOW), folder=tmp_path / "run")
    said = capsys.readouterr().err
    assert "fit: weights w.pt: 7 of 9 tensors" in said
    assert said.count("weights w.pt") == 1
    found = ds.load_run(tmp_path / "run", problem())
    assert found.facts["weights"]["reshaped"]["3.weight"] == [[5, 16], [3, 16]]
    assert found.described["weights"]["path"] == str((tmp_path / "w.pt").resolve())
    assert found.described["weights"]["fingerprint"] == run.facts["weights"]["fingerprint"]


def test_a_run_and_its_folder_are_the_same_source(tmp_path: Path) -> None:
    first = fit(problem(train=(X, Y % 2), model=net, arguments={"outputs": 2}), tmp_path / "first")
    runs = [fit(problem(weights=source)) for source in (first, first.folder, str(first.folder))]
    assert {r.facts["weights"]["fingerprint"] for r in runs} == {runs[0].facts["weights"]["fingerprint"]}
    for other in runs[1:]:
        assert same_state(runs[0].state("last"), other.state("last"))


@pytest.mark.parametrize("gone", [False, True])
def test_an_interrupted_run_from_weights_goes_on_to_the_same_bits(
    gone: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setattr(sys.modules["downslope.training.ready"], "probe_price", lambda *_: 1.5)
    path = tmp_path / "w.pt"
    torch.save(pretrained(5), path)
    start = problem(weights=path)
    how = Recipe(**HOW)
    whole = ds.fit(start, how, folder=tmp_path / "whole", progress=False, observe=0.5)
    ds.fit(start, how, folder=tmp_path / "cut", progress=False, observe=0.5, on_probe=Stop(9))
    if gone:  # the run has its own weights by now
        path.unlink()
        from downslope.core import state_files

        state_files._of_file.cache_clear()
        was = json.loads((tmp_path / "cut" / "run.json").read_text(encoding="utf-8"))["problem"]["weights"]
        start = problem(weights=was)
    run = resume(tmp_path / "cut", start, progress=False)
    assert same_state(run.state("last"), whole.state("last"))
    assert same_history(run, whole)


def test_other_weights_make_another_run(tmp_path: Path) -> None:
    fit(problem(weights=pretrained(5)), tmp_path / "run", epochs=2)
    with pytest.raises(RunFolderError, match="weights a state dict at hand there and a Sequential at hand"):
        ds.fit(
            problem(weights=net(4)),
            Recipe(**HOW | {"epochs": 3}),
            folder=tmp_path / "run",
            resume=True,
            progress=False,
        )


TASK = """
import torch
from torch import nn
import downslope as ds

def net(outputs=3):
    return nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, outputs))

def problem():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(96, 5, generator=g)
    return ds.Problem(model=net, objective="cross_entropy", train=(x, (x[:, 0] > 0).long()))
"""


def task(tmp_path: Path) -> ds.Problem:
    from downslope.training.tasks import load_task

    (tmp_path / "task.py").write_text(TASK, encoding="utf-8")
    return load_task(str(tmp_path / "task.py")).problem


def test_a_folder_alone_finds_its_weights_again(tmp_path: Path) -> None:
    torch.save(pretrained(5), tmp_path / "w.pt")
    start = task(tmp_path).edit(weights={"path": str(tmp_path / "w.pt"), "rename": {"3": None}})
    run = fit(start, tmp_path / "run")
    found = ds.load_run(tmp_path / "run")
    assert found.the_problem().weights.rename == {"3": None}
    again = fit(found.the_problem())
    assert same_state(again.state("last"), run.state("last"))


def test_a_run_from_weights_in_memory_gives_its_model_but_not_its_start(tmp_path: Path) -> None:
    run = fit(task(tmp_path).edit(weights=pretrained(5)), tmp_path / "run")
    found = ds.load_run(tmp_path / "run")
    assert same_state(found.model().state_dict(), run.state("last"))
    with pytest.raises(WeightsError, match="were in memory, and no file holds them: give problem="):
        fit(found.the_problem())


@pytest.mark.parametrize("kind", ["module", "state dict"])
def test_weights_in_memory_are_taken_as_they_stand_when_they_are_given(kind: str) -> None:
    model = net()
    there = {k: v.clone() for k, v in model.state_dict().items()}
    start = problem(weights=model if kind == "module" else model.state_dict())
    with torch.no_grad():
        model[0].weight.add_(1.0)  # its own training goes on
    assert torch.equal(start.build()[0].weight, there["0.weight"])
    assert torch.equal(start.edit(goal=None).build()[0].weight, there["0.weight"])


def test_weights_that_cannot_be_used_leave_no_folder(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(b"PK\x03\x04 not much of a zip")
    for weights in (tmp_path / "w.pt", {"conv.weight": torch.ones(2, 2)}, tmp_path / "absent.pt"):
        with pytest.raises(InputError):
            fit(problem(weights=weights), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(WeightsError, match="no key 'prefx'; did you mean 'prefix'"):
        problem(weights={"path": "w.pt", "prefx": "a."})
    with pytest.raises(WeightsError, match="weights=3: must be a path"):
        problem(weights=3)


def test_a_model_of_a_run_needs_none_of_the_weights_it_started_from(tmp_path: Path) -> None:
    first = fit(problem(), tmp_path / "first")
    second = fit(problem(weights=first), tmp_path / "second")
    shutil.rmtree(tmp_path / "first")
    kept = ds.load_run(tmp_path / "second", problem(weights=tmp_path / "first"))
    assert same_state(kept.model("last").state_dict(), second.state("last"))
