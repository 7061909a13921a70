"""Held-out data prepared in another way is named with the change; what merely differs is left in peace."""

from __future__ import annotations

import contextlib
import io
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.edits import Advice
from downslope.core.run import Run
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.script import watch_script
from downslope.diagnosis.symptom import Clear, Unknown
from downslope.diagnosis.symptoms import dataset_shift
from tests.diagnosis.symptoms.problems import found

NAME = "dataset-shift"
Change = Callable[[Tensor], Tensor]


def pictures(n: int, seed: int, *, bright: float = 1.0) -> tuple[Tensor, Tensor]:
    """Colour pictures, normalised: a red band above or a blue one below, strong or weak, in fading light."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(4, (n,), generator=draw)
    x = 0.3 * torch.rand(n, 3, 8, 8, generator=draw)
    x += torch.tensor([0.8, 0.5, 0.2])[:, None, None] * torch.linspace(1.0, 0.4, 8)[:, None] * bright
    for kind in range(4):
        strong, colour, row = (0.9 if kind % 2 else 0.3), (0 if kind < 2 else 2), (1 if kind < 2 else 5)
        x[y == kind, colour, row : row + 2] += strong * bright
    return (x - 0.5) / 0.2, y


def table(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Five columns, each distributed in its own way, and a number that they tell."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 5, generator=draw) * torch.tensor([1.0, 2.0, 0.5, 1.5, 0.8])
    x = x + torch.tensor([0.0, 3.0, -2.0, 1.0, 5.0])
    y = x[:, 0] + 0.5 * (x[:, 1] - 3) - 2 * (x[:, 2] + 2)
    return x, (y / 2)[:, None]


def convolution() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(512, 4))


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 32), nn.ReLU(), nn.Linear(32, 1))


def diagnosed(
    train: Any, valid: Any, model: Callable[[], nn.Module] = convolution, objective: str = "cross_entropy",
    **recipe: Any,
) -> Diagnosis:  # fmt: skip
    problem = ds.Problem(model=model, objective=objective, train=train, valid=valid)
    how = ds.Recipe(optimizer="adam", lr=3e-3, batch_size=32, epochs=12, seed=0).edit(**recipe)
    return ds.diagnose(problem, how, budget="400 steps", progress=False, folder=False)


def of_pictures(change: Change = lambda x: x, **how: Any) -> Diagnosis:
    (x, y), (xv, yv) = pictures(320, 0), pictures(160, 1)
    return diagnosed((x, y), (change(xv), yv), **how)


def named(result: Diagnosis) -> str:
    assert result.root is not None, str(result)
    assert result.root.symptom == NAME, str(result)
    assert result.root.severity == "warning"
    assert isinstance(result.root.remedies[0], Advice)
    return f"{result.root.message} {result.root.remedies[0]}"


def factor(said: str) -> float:
    """What the inputs are said to lack."""
    return float(said.rpartition("x * ")[2].split()[0])


def quiet(result: Diagnosis) -> None:
    assert found(result, NAME) is None, str(result)


# -- in a problem --------------------------------------------------------------------------------------------


def bytes_of(x: Tensor) -> Tensor:
    """The pictures before they were normalised, and before they were divided by 255."""
    return 255 * (0.2 * x + 0.5)


def test_pictures_of_0_to_255_against_normalised_ones_are_told_with_the_map() -> None:
    assert factor(named(of_pictures(bytes_of))) == pytest.approx(1 / 51, rel=0.1)


def test_pictures_normalised_in_training_alone_are_told() -> None:
    assert factor(named(of_pictures(lambda x: 0.2 * x + 0.5))) == pytest.approx(5, rel=0.1)


def test_channels_in_the_other_order_are_told() -> None:
    assert "(2, 1, 0)" in named(of_pictures(lambda x: x.flip(1)))


def test_pictures_that_lie_on_their_side_are_told() -> None:
    assert "transposed" in named(of_pictures(lambda x: x.transpose(2, 3)))


def test_a_table_normalised_in_training_alone_is_told() -> None:
    (x, y), held = table(400, 0), table(200, 1)
    result = diagnosed(((x - x.mean(0)) / x.std(0), y), held, network, "mse")
    assert "for each feature" in named(result)


def test_columns_in_another_order_are_told() -> None:
    (x, y), (xv, yv) = table(400, 0), table(200, 1)
    order = [2, 0, 1, 4, 3]
    result = diagnosed((x, y), (xv[:, order], yv), network, "mse", lr=1e-2, epochs=20)
    assert "(1, 2, 0, 4, 3)" in named(result)


def test_a_logarithm_taken_in_training_alone_is_told() -> None:
    (x, y), (xv, yv) = table(400, 0), table(200, 1)
    result = diagnosed((0.5 * x, y), ((0.5 * xv).exp(), yv), network, "mse", lr=1e-2, epochs=20)
    assert "log(x)" in named(result)


def test_class_ids_of_another_table_are_told_with_the_pairs() -> None:
    (x, y), (xv, yv) = pictures(320, 0), pictures(160, 1)
    said = named(diagnosed((x, y), (xv, (yv + 1) % 4)))
    assert "label 0 for 3, 1 for 0" in said


def test_two_classes_exchanged_among_four_are_told() -> None:
    (x, y), (xv, yv) = pictures(320, 0), pictures(160, 1)
    said = named(diagnosed((x, y), (xv, torch.tensor([0, 3, 2, 1])[yv])))
    assert "label 1 for 3, 3 for 1" in said


def test_what_the_finding_asks_for_leaves_nothing_to_say() -> None:
    quiet(of_pictures())
    assert of_pictures().healthy


def test_a_finished_run_is_told_too() -> None:
    (x, y), (xv, yv) = pictures(320, 0), pictures(160, 1)
    problem = ds.Problem(model=convolution, objective="cross_entropy", train=(x, y), valid=(bytes_of(xv), yv))
    how = ds.Recipe(optimizer="adam", lr=3e-3, batch_size=32, epochs=12, seed=0)
    named(ds.diagnose(ds.fit(problem, how, folder=False, progress=False)))


def test_overfitting_stays_overfitting() -> None:
    draw = torch.Generator().manual_seed(0)
    x, xv = torch.randn(60, 5, generator=draw), torch.randn(200, 5, generator=draw)
    y = (x[:, 0] + 2 * torch.randn(60, generator=draw) > 0).long()
    yv = (xv[:, 0] + 2 * torch.randn(200, generator=draw) > 0).long()
    result = diagnosed((x, y), (xv, yv), lambda: wide(5, 2), epochs=150, lr=1e-2)
    quiet(result)
    assert found(result, "high-variance") is not None


def wide(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, outputs)
    )


def _trend() -> Any:
    t = torch.arange(600.0)
    x = torch.stack([t / 100 + torch.sin(t / 7), torch.cos(t / 5)], 1)
    y = (x[:, :1] ** 2 + x[:, 1:]) / 10
    return (x[:400], y[:400]), (x[400:], y[400:]), lambda: wide(2, 1), "mse"


def _dark() -> Any:
    return pictures(320, 0), pictures(160, 1, bright=0.8), convolution, "cross_entropy"


def _other_classes() -> Any:
    (x, y), (xv, yv) = pictures(320, 0), pictures(400, 1)
    keep = yv < 2
    return (x, y), (xv[keep], yv[keep]), convolution, "cross_entropy"


def _other_concept() -> Any:
    (x, y), (xv, yv) = table(400, 0), table(200, 1)
    return (x, y), (xv, -yv), network, "mse"


def _elsewhere() -> Any:
    (x, y), (xv, _) = table(400, 0), table(200, 1)
    xv = xv + 3 * torch.tensor([1.0, 2.0, 0.5, 1.5, 0.8])
    return (
        (x, y.sin()),
        (xv, (xv[:, :1] + 0.5 * (xv[:, 1:2] - 3) - 2 * (xv[:, 2:3] + 2)).sin()),
        network,
        "mse",
    )


def _shuffled_labels() -> Any:
    (x, y), (xv, yv) = pictures(320, 0), pictures(160, 1)
    return (
        (x, y),
        (xv, yv[torch.randperm(160, generator=torch.Generator().manual_seed(0))]),
        convolution,
        "cross_entropy",
    )


def _few() -> Any:
    (x, y), (xv, yv) = pictures(320, 0), pictures(8, 1)
    return (x, y), (bytes_of(xv), yv), convolution, "cross_entropy"


def _scale_that_the_model_takes_off() -> Any:
    def model() -> nn.Module:
        return nn.Sequential(nn.InstanceNorm2d(3), convolution())

    (x, y), (xv, yv) = pictures(320, 0), pictures(160, 1)
    return (x, y), (50 * xv, yv), model, "cross_entropy"


def _a_little_off() -> Any:
    (x, y), (xv, yv) = pictures(320, 0), pictures(160, 1)
    return (x, y), (1.1 * xv + 0.02, yv), convolution, "cross_entropy"


def _augmented() -> Any:
    (x, y), held = pictures(320, 0), pictures(160, 1)
    draw = torch.Generator().manual_seed(2)
    return (x + 0.3 * torch.randn(x.shape, generator=draw), y), held, convolution, "cross_entropy"


def _nothing_to_learn() -> Any:
    (x, y), (xv, yv) = pictures(320, 0), pictures(160, 1)
    draw = torch.Generator().manual_seed(2)
    return (
        (torch.randn(x.shape, generator=draw), y),
        (torch.rand(xv.shape, generator=draw), yv),
        convolution,
        "cross_entropy",
    )


SILENT = (_trend, _dark, _other_classes, _other_concept, _elsewhere, _shuffled_labels, _few,
          _scale_that_the_model_takes_off, _a_little_off, _augmented, _nothing_to_learn)  # fmt: skip


@pytest.mark.parametrize("case", SILENT, ids=lambda each: each.__name__.strip("_").replace("_", " "))
def test_what_differs_without_a_mistake_in_preparing_is_not_named(case: Callable[[], Any]) -> None:
    quiet(diagnosed(*case()))


def test_without_held_out_data_there_is_nothing_to_compare() -> None:
    result = diagnosed(pictures(320, 0), None)
    assert NAME in [name for name, _ in result.not_checked]


# -- the criterion alone -------------------------------------------------------------------------------------


def shift(**said: Any) -> Run:
    run = Run()
    score = {"train": {"loss": 0.1, "right": None}, "valid": {"loss": 3.0, "right": None}}
    run.facts["shift"] = {"n": 100, "missing": 1.5, "sure": 20.0, "scores": score, "learnt": True} | said
    return run


PROVED = {
    "apart": 3.0, "noise": 0.1, "moments": [0.0, 1.0, 5.0, 9.0], "recovered": 0.6, "won": 9.0,
    "change": {"kind": "scale", "text": "x * 2 + 1", "apart": 0.1}, "mended": {"loss": 0.2, "right": None},
}  # fmt: skip


def test_most_of_the_gap_must_be_closed_and_surely() -> None:
    assert not isinstance(dataset_shift(shift(**PROVED)), Clear | Unknown)
    assert isinstance(dataset_shift(shift(**PROVED | {"recovered": 0.4})), Clear)
    assert isinstance(dataset_shift(shift(**PROVED | {"won": 3.0, "apart": 0.5})), Clear)
    # Inputs that stand elsewhere beyond all doubt: a few examples far off make the errors large.
    assert not isinstance(dataset_shift(shift(**PROVED | {"won": 3.0})), Clear | Unknown)
    assert isinstance(dataset_shift(shift(**PROVED | {"won": 2.0})), Clear)
    columns = PROVED["change"] | {"kind": "columns", "text": "its columns in the opposite order"}
    assert isinstance(dataset_shift(shift(**PROVED | {"won": 3.0, "change": columns})), Clear)
    assert isinstance(dataset_shift(shift(**PROVED | {"recovered": float("nan")})), Clear)


def test_a_run_that_learnt_nothing_is_not_asked() -> None:
    assert isinstance(dataset_shift(shift(learnt=False, missing=None)), Unknown)


# -- in a script ---------------------------------------------------------------------------------------------

SCRIPT = """
import torch
from torch import nn
from torch.nn import functional as F
from tests.diagnosis.symptoms.test_dataset_shift import bytes_of, convolution, pictures

torch.manual_seed(0)
(X, Y), (XV, YV) = pictures(320, 0), pictures(160, 1)
{change}
model = convolution()
rule = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(10):
    model.train()
    for rows in torch.randperm(320).split(32):
        rule.zero_grad()
        F.cross_entropy(model(X[rows]), Y[rows]).backward()
        rule.step()
    {mode}
    with torch.no_grad():
        {score}
print(sum(p.sum().item() for p in model.parameters()), torch.rand(1).item())
"""
WHOLE = "print(F.cross_entropy(model(XV), YV).item())"
BATCHES = "print([F.cross_entropy(model(x), y).item() for x, y in zip(XV.split(40), YV.split(40))])"


def told(folder: Path, change: str, score: str = WHOLE, mode: str = "model.eval()") -> tuple[Diagnosis, str]:
    path = folder / "train.py"
    path.write_text(SCRIPT.format(change=change, score=score, mode=mode), encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()) as out:
        result, status = watch_script(path, trials=0.0)
    assert result is not None
    assert status == 0
    return result, out.getvalue()


@pytest.mark.parametrize("score", [WHOLE, BATCHES], ids=["at once", "in batches"])
@pytest.mark.parametrize("mode", ["model.eval()", "model.train(False)", "pass"])
def test_a_script_is_told_however_it_validates(score: str, mode: str, tmp_path: Path) -> None:
    result, _ = told(tmp_path, "XV = bytes_of(XV)", score, mode)
    assert factor(named(result)) == pytest.approx(1 / 51, rel=0.1)
    assert "high-variance" in [each.symptom for each in result.findings[0].consequences]


def test_a_script_whose_labels_are_numbered_otherwise_is_told(tmp_path: Path) -> None:
    result, _ = told(tmp_path, "YV = (YV + 1) % 4")
    assert "label 0 for 3" in named(result)


@pytest.mark.parametrize("score", [WHOLE, BATCHES], ids=["at once", "in batches"])
def test_a_sound_script_is_healthy_and_prints_what_it_prints_alone(score: str, tmp_path: Path) -> None:
    result, out = told(tmp_path, "pass", score)
    assert result.healthy
    with contextlib.redirect_stdout(io.StringIO()) as alone:
        runpy.run_path(str(tmp_path / "train.py"), run_name="__main__")
    assert out == alone.getvalue()


def test_a_model_that_is_saved_copied_or_scripted_while_it_is_watched_carries_nothing_of_ours(
    tmp_path: Path,
) -> None:
    after = "import copy, io; copy.deepcopy(model); torch.save(model, io.BytesIO()); " + WHOLE
    result, _ = told(tmp_path, "pass", after)
    assert result.healthy


def test_nothing_is_left_in_torch_after_a_script(tmp_path: Path) -> None:
    hooks = torch.nn.modules.module._global_forward_hooks
    before, train = len(hooks), nn.Module.train
    told(tmp_path, "pass")
    assert len(hooks) == before
    assert nn.Module.train is train


FULL = """
import gc, weakref
import torch
from torch import nn
from torch.nn import functional as F
from tests.diagnosis.symptoms.test_dataset_shift import bytes_of, convolution, pictures
torch.manual_seed(0)
(X, Y), (XV, YV) = pictures({rows}, 0), pictures(160, 1)
{model}
rule = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range({epochs}):
    model.train()
    for rows in torch.randperm(len(X)).split(32):
        rule.zero_grad()
        {train}
        rule.step()
    model.eval()
    with torch.no_grad():
        {score}
"""
TRAIN = "F.cross_entropy(model(X[rows]), Y[rows]).backward()"
PROBABLE = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = convolution()
    def forward(self, x):
        out = self.inner(x)[:, 0]
        return out if self.training else torch.sigmoid(out)
model, Y, YV = Net(), (Y < 2).float(), (YV < 2).float()
"""
NOISY = "F.cross_entropy(model(X[rows] + torch.randn(len(rows), 3, 8, 8)), Y[rows]).backward()"
MIXED = """
a, b = rows, rows[torch.randperm(len(rows))]
        wanted = 0.7 * F.one_hot(Y[a], 4) + 0.3 * F.one_hot(Y[b], 4)
        F.cross_entropy(model(0.7 * X[a] + 0.3 * X[b]), wanted).backward()
""".strip()
QUIET = {
    "a probability in eval mode": {
        "model": PROBABLE,
        "train": "F.binary_cross_entropy_with_logits(model(X[rows]), Y[rows]).backward()",
        "score": "print(F.binary_cross_entropy(model(XV), YV).item())",
    },
    "dropout": {"model": "model = nn.Sequential(nn.Dropout(0.5), convolution())"},
    "batch norm": {"model": "model = nn.Sequential(nn.BatchNorm2d(3), convolution())"},
    "noise on the training inputs": {"train": NOISY},
    "pairs that are mixed": {"train": MIXED},
    "a scale that the model takes off": {
        "model": "model, XV = nn.Sequential(nn.InstanceNorm2d(3), convolution()), 40 * XV",
    },
    "only the share of right answers": {"score": "print((model(XV).argmax(1) == YV).float().mean().item())"},
    "by heart": {"rows": 40, "epochs": 60, "model": "model, Y = convolution(), torch.randint(4, (40,))"},
    "the training data scored": {"score": "print(F.cross_entropy(model(X), Y).item())"},
    "a validation after 60 steps": {"epochs": 6},
}  # fmt: skip


@pytest.mark.parametrize("name", QUIET)
def test_scripts_that_do_something_odd_and_are_prepared_alike_hear_nothing_of_it(
    name: str, tmp_path: Path
) -> None:
    how = {"rows": 320, "model": "model = convolution()", "train": TRAIN, "score": WHOLE, "epochs": 10}
    path = tmp_path / "train.py"
    path.write_text(FULL.format(**how | QUIET[name]), encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()):
        result, status = watch_script(path, trials=0.0)
    assert result is not None
    assert status == 0
    quiet(result)
    assert found(result, "mode-gap") is None
    assert result.healthy or name == "by heart"


def test_no_graph_is_held_beyond_its_step(tmp_path: Path) -> None:
    train = (
        "made = model(X[rows]); lost = made.square().mean(); lost.backward(); seen.append(weakref.ref(made))"
    )
    score = "del made, lost; gc.collect(); print(sum(each() is not None for each in seen))"
    path = tmp_path / "train.py"
    how = {
        "rows": 64,
        "model": "model, seen = convolution(), []",
        "train": train,
        "score": score,
        "epochs": 3,
    }
    path.write_text(FULL.format(**how), encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()) as out:
        watch_script(path, trials=0.0)
    assert out.getvalue().split() == ["0", "0", "0"]
