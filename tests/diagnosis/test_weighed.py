"""Losses that a script asks for one by one and sums up itself: what each counts, and what a guess costs."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.diagnosis.ear import Call, source
from downslope.diagnosis.script import watch_script
from downslope.diagnosis.weighed import Weights, weighed


def called(function: object, output: Tensor, target: Tensor) -> Call:
    value = function(output, target, reduction="none")  # type: ignore[operator]
    return Call(function, (output, target), {"reduction": "none"}, value)


def test_a_plain_mean_is_one_however_it_is_written() -> None:
    output, target = torch.randn(12, 3, requires_grad=True), torch.randint(3, (12,))
    for summed in (Tensor.mean, lambda each: each.sum() / 12, lambda each: (0.25 * each).sum() / 3):
        call = called(functional.cross_entropy, output, target)
        loss = summed(call.value)
        found = source(loss, [call])
        assert found is not None
        found = weighed(loss, found)
        assert found is not None
        assert found.weights is None
        assert float(found.value) == pytest.approx(functional.cross_entropy(output, target).item())


def test_a_plain_sum_is_no_mean() -> None:
    output, target = torch.randn(12, 3, requires_grad=True), torch.randint(3, (12,))
    call = called(functional.cross_entropy, output, target)
    assert weighed(call.value.sum(), call) is None


def test_a_mean_over_the_classes_that_count_is_that_of_the_function() -> None:
    output, target = torch.randn(12, 3, requires_grad=True), torch.randint(3, (12,))
    target[::3] = -100
    call = called(functional.cross_entropy, output, target)
    found = weighed(call.value.sum() / (target >= 0).sum(), call)
    assert found is not None
    assert found.weights is None
    assert float(found.value) == pytest.approx(functional.cross_entropy(output, target).item())


def test_the_loss_is_not_asked_for_again_to_know_its_mean() -> None:
    asked: list[str] = []

    def counting(
        output: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
    ) -> Tensor:
        asked.append(reduction)
        return functional.cross_entropy(output, target, weight, reduction=reduction)

    output, target = torch.randn(12, 3, 5, requires_grad=True), torch.randint(3, (12, 5))
    target[::3] = -100
    call = called(counting, output, target)
    found = weighed(call.value.sum() / (target >= 0).sum(), call)
    assert found is not None
    assert float(found.value) == pytest.approx(functional.cross_entropy(output, target).item())
    assert asked == ["none"]


def test_of_classes_that_weigh_the_mean_is_over_their_weights() -> None:
    output, target = torch.randn(12, 3, requires_grad=True), torch.randint(3, (12,))
    weight = torch.tensor([1.0, 2.0, 5.0])
    value = functional.cross_entropy(output, target, weight, reduction="none")
    call = Call(functional.cross_entropy, (output, target), {"weight": weight, "reduction": "none"}, value)
    found = weighed(value.sum() / weight[target].sum(), call)
    assert found is not None
    assert found.weights is None
    assert float(found.value) == pytest.approx(functional.cross_entropy(output, target, weight).item())


def least(weigh: dict[float, float], target: Tensor) -> float:
    """The cost of the best constant probability, by SciPy, as a mean over the examples."""
    y = target.double().numpy()
    w = np.array([weigh[each] for each in y])

    def cost(p: float) -> float:
        return float((w * -(y * np.log(p) + (1 - y) * np.log(1 - p))).mean())

    return float(minimize_scalar(cost, bounds=(1e-6, 1 - 1e-6), method="bounded").fun)


@pytest.mark.parametrize("shared", [False, True], ids=["over all", "over the weights"])
def test_what_a_constant_guess_costs_under_weights_of_the_classes(shared: bool) -> None:
    torch.manual_seed(0)
    kept, weigh = Weights(), {0.0: 0.5, 1.0: 4.0}
    targets = [(torch.rand(40) < 0.2).float() for _ in range(5)]
    for target in targets:
        output = torch.randn(40, requires_grad=True)
        call = called(functional.binary_cross_entropy_with_logits, output, target)
        w = torch.where(target == 1, weigh[1.0], weigh[0.0])
        found = weighed((w * call.value).sum() / (w.sum() if shared else 40), call)
        assert found is not None
        assert found.weights is not None
        kept.take(found.weights, target)
    whole = torch.cat(targets)
    function = kept.of(functools.partial(functional.binary_cross_entropy_with_logits, reduction="mean"))
    assert function is not None
    best = min(float(function(z.expand(len(whole)), whole)) for z in torch.linspace(-4, 4, 2001))
    scale = sum(weigh[float(each)] for each in whole) / len(whole) if shared else 1.0
    assert best == pytest.approx(least(weigh, whole) / scale, rel=1e-4)


def test_weights_that_hang_on_more_than_the_target_are_not_known() -> None:
    torch.manual_seed(0)
    kept, output, target = Weights(), torch.randn(12, 3, requires_grad=True), torch.randint(3, (12,))
    call = called(functional.cross_entropy, output, target)
    found = weighed((torch.rand(12) * call.value).mean(), call)
    assert found is not None
    assert found.weights is not None
    kept.take(found.weights, target)
    assert kept.of(functools.partial(functional.cross_entropy, reduction="mean")) is None


SCRIPT = """
import torch
from torch import nn
import torch.nn.functional as F
torch.manual_seed(0)
y = (torch.rand(800) < 0.16).long()
x = torch.randn(800, 8) + 0.75 * y[:, None]
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
rule = torch.optim.Adam(model.parameters(), 3e-3)
for step in range(250):
    at = torch.randint(800, (50,))
    out = model(x[at])
    {loss}
    rule.zero_grad(); loss.backward(); rule.step()
"""

RARE = """
    score = out[:, 1]
    each = F.binary_cross_entropy_with_logits(score, y[at].float(), reduction="none")
    loss = (each * torch.tensor([1.0, 6.0])[y[at]]).mean()
"""

MASKED = """
    each = F.cross_entropy(out, y[at], reduction="none")
    seen = (torch.rand(50) < 0.5).float()
    loss = 3 * (each * seen).sum() / seen.sum()
"""

TWICE = """
    score = torch.sigmoid(out[:, 1] - out[:, 0])
    loss = F.binary_cross_entropy_with_logits(score, y[at].float())
"""


def script(folder: Path, loss: str) -> Path:
    path = folder / "train.py"
    path.write_text(SCRIPT.format(loss=loss.strip()), encoding="utf-8")
    return path


def test_a_training_with_rare_classes_weighted_up_is_seen_to_learn(tmp_path: Path) -> None:
    found, _ = watch_script(script(tmp_path, RARE), trials=0.0)
    assert found is not None
    assert found.healthy
    assert not found.lost
    assert found.run.facts["constant"]["loss"] == pytest.approx(1.25, abs=0.15)  # 0.84 and 6 x 0.16: as many


def test_of_a_mask_drawn_beside_the_data_nothing_is_claimed(tmp_path: Path) -> None:
    found, _ = watch_script(script(tmp_path, MASKED), trials=0.0)
    assert found is not None
    assert not found.findings
    assert not found.lost
    assert found.run.facts.get("constant") is None


def test_the_difference_of_two_scores_is_the_models_output(tmp_path: Path) -> None:
    found, _ = watch_script(script(tmp_path, TWICE), trials=0.0)
    assert found is not None
    assert found.symptoms[0] == "output-activation"


@pytest.mark.parametrize("before", [True, False], ids=["before the backward pass", "after it"])
def test_a_monitor_is_not_told_of_a_guess_by_other_weights(before: bool) -> None:
    torch.manual_seed(0)
    y = (torch.rand(400) < 0.16).float()
    x = torch.randn(400, 8) + 0.75 * y[:, None]
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    rule = torch.optim.Adam(model.parameters(), 3e-3)
    with ds.watch(model, rule) as monitor:
        for _ in range(150):
            each = functional.binary_cross_entropy_with_logits(model(x)[:, 0], y, reduction="none")
            loss = (each * (1 + 5 * y)).mean()
            if before:
                monitor.step(loss)
            rule.zero_grad()
            loss.backward()
            rule.step()
            if not before:
                monitor.step(loss)
    found = monitor.diagnose()
    assert found.healthy
    assert not found.lost
    known = found.run.facts.get("constant")
    assert (known or {}).get("loss") == (pytest.approx(1.25, abs=0.15) if before else None)
