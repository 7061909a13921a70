"""A run that was stopped, killed or repeated ends with the same bits as one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import downslope as ds
from downslope.core.errors import InputError, RunFolderError
from downslope.training.fit import resume
from downslope.training.state import StepState
from tests.training.problems import classification, data, labels, mlp, regression, same_history, same_state

HOW: dict[str, Any] = {"optimizer": "adam", "lr": 0.01, "batch_size": 16, "epochs": 6, "seed": 1}


def noisy(**changes: Any) -> ds.Problem:
    return classification(arguments={"dropout": 0.5}, **changes)


class Stop:
    """Presses Ctrl-C when the run has taken `step` steps."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, state: StepState) -> None:
        if state.step >= self.step and state.run.status == "running":
            signal.raise_signal(signal.SIGINT)


@pytest.fixture
def probed_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Stop` comes with a probe, of which a busy machine takes few: here one costs half a step."""
    monkeypatch.setattr(sys.modules["downslope.training.ready"], "probe_price", lambda *_: 1.5)


def shuffled() -> DataLoader[Any]:
    return DataLoader(TensorDataset(*labels()), batch_size=16, shuffle=True)


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "dropout": (noisy, {}),
    "momentum and schedules": (
        noisy,
        {"optimizer": "sgd", "momentum": 0.9, "schedule": "cosine", "warmup": 3}
        | {"schedules": {"momentum": "cosine(final=0.5)"}},
    ),
    "average": (noisy, {"average": "ema"}),
    "average of epochs, batch norm": (
        lambda: noisy(model=normed),
        {"average": "swa", "average_from": 0.2, "schedule": "cyclic"},
    ),
    "augmented": (lambda: noisy(augment="noise(0.3), mixup(0.4)"), {}),
    "plain average": (noisy, {"average": "polyak", "average_every": 2}),
    "torch's own": (noisy, {"optimizer": "torch.optim:NAdam"}),
    "loader": (lambda: noisy(train=shuffled()), {}),
    "standardised": (
        lambda: regression().edit(ds.edits.StandardiseInputs(), ds.edits.StandardiseTargets()),
        {"average": "ema"},
    ),
    "tied": (lambda: classification(model=Tied), {}),
    "patience": (noisy, {"patience": 4, "epochs": 12}),
    "plateau": (noisy, {"schedule": "plateau(factor=0.5, patience=0, threshold=0.5)", "warmup": 3}),
    "plateau inside": (noisy, {"schedule": f"{__name__}:risen"}),
    "torch's scheduler": (
        noisy,
        {"optimizer": "adamw", "schedule": "torch.optim.lr_scheduler:OneCycleLR(max_lr=0.1, total_steps=90)"},
    ),
    "torch's scheduler step by step": (
        noisy,
        {"schedule": "torch.optim.lr_scheduler:ExponentialLR(gamma=0.9)"},
    ),
    "torch's plateau": (
        noisy,
        {"schedule": "torch.optim.lr_scheduler:ReduceLROnPlateau(patience=0, threshold=0.5)"},
    ),
}


def risen(total_steps: int) -> Any:
    inner = ds.schedules.plateau(total_steps, factor=0.5, patience=0, threshold=0.5)
    return ds.schedules.warmup(inner, 3)


def normed(dropout: float = 0.5) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 2))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))))


@pytest.mark.parametrize(
    "stop", [1, 4, 6, 8], ids=["first step", "end of an epoch", "within", "end of the second"]
)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("probed_often")
def test_an_interrupted_run_that_is_resumed_equals_the_undisturbed_one(
    case: str, stop: int, tmp_path: Path
) -> None:
    make, changes = CASES[case]
    recipe = ds.Recipe(**(HOW | changes))
    whole = ds.fit(make(), recipe, folder=tmp_path / "whole", progress=False, observe=0.5)
    part = ds.fit(make(), recipe, folder=tmp_path / "part", progress=False, observe=0.5, on_probe=Stop(stop))
    assert part.status == "interrupted"
    assert part.summary["steps"] < whole.summary["steps"]
    for run in (part, ds.load_run(tmp_path / "part", make())):
        assert same_state(run.model().state_dict(), part.model().state_dict())
    again = resume(tmp_path / "part", make(), progress=False)
    assert again.status == whole.status
    assert same_history(again, whole)
    for which in ("best", "last"):
        assert same_state(again.model(which).state_dict(), whole.model(which).state_dict())
    assert {k: v for k, v in again.summary.items() if k != "seconds"} == {
        k: v for k, v in whole.summary.items() if k != "seconds"
    }
    for statistic in whole.probes:
        assert again.probes[statistic].steps.tolist() == whole.probes[statistic].steps.tolist()
        assert again.probes[statistic].values.tobytes() == whole.probes[statistic].values.tobytes()
    loaded = ds.load_run(tmp_path / "part", make())
    assert same_history(loaded, again)
    assert same_state(loaded.model().state_dict(), again.model().state_dict())


SCRIPT = """
import os, signal, sys
import torch
torch.set_num_threads(1)
import downslope as ds
from downslope.training import checkpoint
from tests.training.problems import after_steps
from tests.training.test_resume import HOW, noisy

checkpoint.SaveTimes.due = lambda _: True  # a checkpoint at every step
kill, folder = int(sys.argv[1]), sys.argv[2]

def end(model):
    end.steps += 1
    if end.steps == kill:
        os.kill(os.getpid(), signal.SIGKILL)

end.steps = 0
with after_steps(end):
    ds.fit(noisy(), ds.Recipe(**HOW), folder=folder, progress=False, observe=0.5)
"""


class Failing(TensorDataset):
    """Its disk is gone after so many examples were read."""

    left = 10**9

    def __getitem__(self, index: int) -> Any:
        Failing.left -= 1
        if Failing.left < 0:
            raise OSError("the disk is gone")
        return super().__getitem__(index)


@pytest.mark.parametrize("more", [{}, {"average": "ema"}], ids=["plain", "average with batch norm"])
def test_data_that_fails_in_the_midst_of_a_run_loses_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    def problem() -> ds.Problem:
        loader = DataLoader(Failing(*labels()), batch_size=16, shuffle=True)
        return classification(train=loader, model=normed) if more else noisy(train=loader)

    recipe = ds.Recipe(**(HOW | more))
    monkeypatch.setattr(Failing, "left", 10**9)
    whole = ds.fit(problem(), recipe, folder=tmp_path / "whole", progress=False)
    per_epoch, read = whole.summary["steps"] // 6, 10**9 - Failing.left
    Failing.left = read // 2  # an average reads the data for its norms too
    with pytest.raises(InputError, match="the disk is gone"):
        ds.fit(problem(), recipe, folder=tmp_path / "part", progress=False)
    taken = ds.load_run(tmp_path / "part", problem()).summary["steps"]
    assert taken > per_epoch
    Failing.left = 10**9
    again = ds.fit(problem(), recipe, folder=tmp_path / "part", resume=True, progress=False)
    assert 10**9 - Failing.left <= read - len(labels()[0])  # an epoch at least is not trained anew
    assert same_history(again, whole)
    assert same_state(again.state("last"), whole.state("last"))


def test_a_killed_run_that_is_resumed_equals_the_undisturbed_one(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = ds.fit(noisy(), ds.Recipe(**HOW), folder=tmp_path / "whole", progress=False, observe=0.5)
        root = Path(__file__).parents[2]
        killed = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(SCRIPT), "10", str(tmp_path / "killed")],
            cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, check=False, capture_output=True,
            timeout=120,
        )  # fmt: skip
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
        left = ds.load_run(tmp_path / "killed", noisy())
        assert left.status == "interrupted"
        assert left.facts["killed"] == {"step": left.summary["steps"], "weights": ["best", "last"]}
        assert left.summary["steps"] in (8, 9)  # the row of the last step may still have been in memory
        left.model()
        with (tmp_path / "killed" / "history.jsonl").open("a") as lines:
            lines.write('{"kind":"colu')  # what a kill in the middle of a write leaves
        again = resume(tmp_path / "killed", noisy(), progress=False)
    finally:
        torch.set_num_threads(threads)
    assert same_history(again, whole)
    assert same_state(again.model("last").state_dict(), whole.model("last").state_dict())
    assert same_state(again.model("best").state_dict(), whole.model("best").state_dict())
    assert same_history(ds.load_run(tmp_path / "killed"), whole)


def test_a_run_killed_before_its_first_checkpoint_starts_again(tmp_path: Path) -> None:
    whole = ds.fit(noisy(), ds.Recipe(**HOW), folder=tmp_path / "whole", progress=False)
    ds.fit(noisy(), ds.Recipe(**HOW), folder=tmp_path / "part", progress=False, on_probe=Stop(2))
    for file in (tmp_path / "part" / "checkpoints").iterdir():
        file.unlink()
    again = resume(tmp_path / "part", noisy(), progress=False)
    assert same_history(again, whole)
    assert same_state(again.model("last").state_dict(), whole.model("last").state_dict())


def test_a_finished_run_comes_back_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = ds.fit(noisy(), ds.Recipe(**HOW), folder=tmp_path / "run", progress=False)
    before = (tmp_path / "run" / "history.jsonl").read_bytes()
    assert resume(tmp_path / "run", noisy(), progress=False).summary == json.loads(json.dumps(run.summary))
    assert "nothing to resume, the run has ended (done)" in caplog.text
    assert (tmp_path / "run" / "history.jsonl").read_bytes() == before


class Own(torch.optim.SGD):
    """A class that is neither torch's nor ours."""


def test_code_that_no_file_holds_is_refused_in_one_line(tmp_path: Path) -> None:
    recipe = ds.Recipe(optimizer=lambda params: Own(params, lr=0.1), epochs=3, batch_size=16)
    ds.fit(noisy(), recipe, folder=tmp_path / "run", progress=False, on_probe=Stop(2))
    with pytest.raises(RunFolderError, match=r"^[^\n]*its optimizer is code[^\n]*$"):
        resume(tmp_path / "run", noisy(), progress=False)


def test_the_resume_state_of_another_model_is_refused(tmp_path: Path) -> None:
    ds.fit(noisy(), ds.Recipe(**HOW), folder=tmp_path / "run", progress=False, on_probe=Stop(2))
    with pytest.raises(RunFolderError, match="belongs to another model"):
        resume(tmp_path / "run", classification(model=lambda: mlp(width=5, outputs=2)), progress=False)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path: Path) -> None:
    runs = [
        ds.fit(noisy(), ds.Recipe(**(HOW | {"seed": seed})), folder=False, progress=False, observe=0.3)
        for seed in (1, 1, 2)
    ]
    assert same_history(runs[0], runs[1])
    assert same_state(runs[0].model().state_dict(), runs[1].model().state_dict())
    assert not same_history(runs[0], runs[2])
    for statistic, probe in runs[0].probes.items():
        assert probe.values.tobytes() == runs[1].probes[statistic].values.tobytes()


def test_probing_changes_no_bit_of_the_weights() -> None:
    runs = [
        ds.fit(noisy(), ds.Recipe(**HOW), folder=False, progress=False, observe=share) for share in (0.0, 0.9)
    ]
    assert len(runs[0].probes) == 0
    assert len(runs[1].probes["grad_norm"].steps) > 5
    assert same_state(runs[0].model("last").state_dict(), runs[1].model("last").state_dict())


def test_fit_leaves_the_global_generator_untouched() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    ds.fit(noisy(train=shuffled(), valid=shuffled()), ds.Recipe(**HOW), folder=False, progress=False)
    ds.fit(noisy(), ds.Recipe(**HOW), folder=False, progress=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_member_of_a_population_is_what_fit_gives_alone() -> None:
    recipes = [ds.Recipe(**HOW), ds.Recipe(**(HOW | {"lr": 0.1, "optimizer": "sgd"}))]
    members = ds.fit_population(noisy(), recipes, seeds=[3, 4], progress=False, way="one by one")
    alone = [
        ds.fit(noisy(), recipe.edit(seed=seed), folder=False, progress=False, observe=0.0)
        for recipe in recipes
        for seed in (3, 4)
    ]
    for member, run in zip(members, alone, strict=True):
        assert same_history(member, run)
        assert same_state(member.model().state_dict(), run.model().state_dict())


def test_data_in_double_precision_is_that_of_the_model() -> None:
    assert data()[0].dtype == torch.float64
    run = ds.fit(regression(), ds.Recipe(**HOW), folder=False, progress=False)
    assert run.choices["precision"] == "float32"


@pytest.mark.usefixtures("probed_often")
def test_a_rule_that_keeps_lists_of_tensors_is_kept_and_goes_on(tmp_path: Path) -> None:
    recipe = ds.Recipe(optimizer="torch.optim:LBFGS", lr=0.05, batch_size="full", steps=8, seed=1)
    make = regression
    whole = ds.fit(make(), recipe, folder=tmp_path / "whole", progress=False, observe=0.5)
    part = ds.fit(make(), recipe, folder=tmp_path / "part", progress=False, observe=0.5, on_probe=Stop(3))
    assert part.status == "interrupted"
    again = resume(tmp_path / "part", make(), progress=False)
    assert same_history(again, whole)
    assert same_state(again.model("last").state_dict(), whole.model("last").state_dict())
