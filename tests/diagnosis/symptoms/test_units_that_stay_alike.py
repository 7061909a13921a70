"""Units that started alike, looked at again at the end: a layer of one unit, or one whose units parted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from downslope.diagnosis.judge import judge
from downslope.diagnosis.measure.alike import still
from downslope.diagnosis.measure.start import watched
from downslope.diagnosis.script import watch_script
from tests.diagnosis.runs import layer, run
from tests.diagnosis.symptoms.problems import classes, diagnosed, found, net, problem, recipe
from tests.diagnosis.watched import HEAD

X = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))


def after(model: nn.Module, given: Tensor = X, steps: int = 30) -> dict[str, dict[str, bool]]:
    """What `still` says of a model that took some steps towards targets that differ by unit."""
    with watched(model) as layers:
        out = model(given)
    wanted = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    rule = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(steps):
        rule.zero_grad()
        nn.functional.mse_loss(model(given), wanted).backward()
        rule.step()
    return still(layers, (model,))


def constant(model: nn.Module, value: float, *, last: bool = True, biases: bool = True) -> nn.Module:
    """`model` with the same number in all weights; without `last` its last layer is left alone."""
    parts = [each for each in model.modules() if hasattr(each, "weight")]
    for part in parts if last else parts[:-1]:
        nn.init.constant_(part.get_parameter("weight"), value)
        if biases:
            nn.init.zeros_(part.get_parameter("bias"))
    return model


def test_equal_units_before_equal_weights_stay_alike() -> None:
    model = constant(
        nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 5), nn.Tanh(), nn.Linear(5, 4)), 0.1
    )
    found = after(model)
    assert found["0"] == found["2"] == {"still": True, "moved": True}
    assert not found["4"]["still"]  # the targets tell the units of the last layer apart


@pytest.mark.parametrize(
    "model",
    [
        constant(nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 4)), 0.1, last=False),
        constant(nn.Sequential(nn.Linear(6, 9), nn.Dropout(0.5), nn.Linear(9, 4)), 0.1),
        constant(nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 4)), 0.1, biases=False),
    ],
    ids=["the next layer is random", "dropout", "the biases are random"],
)
def test_units_that_something_tells_apart_part(model: nn.Module) -> None:
    torch.manual_seed(0)
    assert not after(model)["0"]["still"]


def test_all_zeros_stay_where_they_are() -> None:
    assert after(constant(net(6, 4), 0.0))["0"] == {"still": True, "moved": False}


def test_equal_filters_of_channels_of_their_own_are_no_equal_units() -> None:
    image = torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    apart = nn.Sequential(nn.Conv2d(3, 3, 3, groups=3), nn.Flatten(), nn.Linear(27, 4))
    joint = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Flatten(), nn.Linear(27, 4))
    for model in (apart, joint):
        constant(model, 1 / 9, last=True)
    assert "0" not in after(apart, image)
    assert after(joint, image)["0"]["still"]


def test_a_name_of_two_models_says_nothing() -> None:
    model = constant(net(6, 4), 0.1)
    with watched(model) as layers:
        model(X)
    assert "0" in still(layers, (model,))
    assert not still(layers, (model, net(6, 4)))


LAYERS = {"loss": 2.3, "layers": [layer("0", equal_rows=True), layer("2"), layer("4")], "norms": 0}
ONE, PARTED = {"still": True, "moved": True}, {"still": False, "moved": True}
HALF = [2.3 - 0.005 * step for step in range(200)]


def verdict(row: dict[str, bool] | None, losses: Any, **facts: Any) -> str:
    made = run(losses, start=LAYERS, **({} if row is None else {"alike": {"0": row}}), **facts)
    said = found(judge(made), "symmetric-init")
    return "clear" if said is None else said.severity


def test_what_became_of_the_units_decides_where_nothing_can_be_tried() -> None:
    assert verdict(ONE, HALF) == "warning"
    assert verdict(ONE, None) == "critical"
    assert verdict(None, HALF) == "info"
    assert verdict(PARTED, HALF) == "clear"
    assert verdict(PARTED, None) == "clear"
    # Never moved: nothing says that the layer matters.
    assert verdict({"still": True, "moved": False}, HALF) == "info"
    # It does well all the same.
    assert verdict(ONE, [2.3 * 0.97**step for step in range(200)]) == "clear"


def test_a_loss_that_tells_nothing_leaves_the_units_as_evidence() -> None:
    nothing = {"constant": None, "output": {"tensors": 1, "expects": None, "objective": "own"}}
    assert verdict(ONE, HALF, **nothing) == "warning"
    assert verdict(None, HALF, **nothing) == "clear"


def test_a_diagnosis_looks_at_the_trained_model_too() -> None:
    sick = problem(classes(), lambda: constant(net(12, 4), 0.05), "cross_entropy", "accuracy")
    result = diagnosed(sick, recipe())
    assert result.root is not None
    assert result.root.symptom == "symmetric-init"
    assert "each is a layer of a single unit" in result.root.message


LOOP = """
def alike(model, value, weights_only=False):
    for m in model.modules():
        if isinstance(m, nn.Linear):
            nn.init.constant_(m.weight, value)
            if not weights_only: nn.init.zeros_(m.bias)
    return model
class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.aside, self.head = nn.Linear(10, 32), nn.Linear(32, 5), nn.Linear(32, 4)
        alike(self.aside, 0.0); alike(self.head, 0.0)
    def forward(self, x):
        h = torch.tanh(self.body(x))
        return self.aside(h).detach().sum() * 0 + self.head(h)
class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.inner = nn.Linear(10, 32), nn.Linear(32, 32)
        self.outer, self.head = nn.Linear(32, 32), nn.Linear(32, 4)
        alike(self.outer, 0.0)
    def forward(self, x):
        h = torch.relu(self.body(x))
        return self.head(h + self.outer(torch.relu(self.inner(h))))
LABELS = torch.where(torch.rand(640) < NOISE, torch.randint(4, (640,)), C)
model = MODEL
rule = torch.optim.RULE
for at in batches(300):
    loss = F.cross_entropy(model(X[at]), LABELS[at])
    rule.zero_grad(); loss.backward(); rule.step()
"""
DEEP = "nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 4))"
ADAM, SGD = "Adam(model.parameters(), 3e-3)", "SGD(model.parameters(), 0.1, momentum=0.9)"


@pytest.mark.parametrize("noise", ["0.0", "0.5"])
@pytest.mark.parametrize(
    ("model", "rule", "sick"),
    [
        (f"alike({DEEP}, 0.05)", ADAM, True),
        (f"alike({DEEP}, 0.1)", SGD, True),
        (DEEP, ADAM, False),
        ("Heads()", ADAM, False),
        ("Branch()", SGD, False),
        ("nn.Sequential(alike(nn.Linear(10, 32), 0.1), nn.Tanh(), nn.Linear(32, 4))", ADAM, False),
    ],
)
def test_a_script_is_told_of_layers_that_stayed_one_unit(
    model: str, rule: str, sick: bool, noise: str, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    loop = LOOP.replace("MODEL", model).replace("RULE", rule).replace("NOISE", noise)
    script.write_text(HEAD + loop, encoding="utf-8")
    result, _ = watch_script(script, trials=0.0)
    assert result is not None
    serious = [each.symptom for each in result.findings if each.severity != "info"]
    assert serious == ["symmetric-init"] * sick, str(result)
    if sick:
        assert result.root is not None
        assert "At the end those of 0, 2 still have" in result.root.message


def test_what_rounding_leaves_in_weights_of_zero_tells_no_units_apart() -> None:
    model = constant(nn.Sequential(nn.Linear(6, 9), nn.Softmax(1), nn.Linear(9, 4)), 0.0)
    with watched(model) as layers:
        model(X)
    layers[0]["grad_rms"] = 0.0  # as the first backward pass has it
    with torch.no_grad():  # it moved by what rounding leaves, which hangs on the processor
        model.get_parameter("0.weight").normal_(std=1e-9, generator=torch.Generator().manual_seed(0))
    assert still(layers, (model,))["0"]["still"]
    layers[0]["grad_rms"] = 1e-9  # what a gradient reached may have moved by small steps
    assert not still(layers, (model,))["0"]["still"]
