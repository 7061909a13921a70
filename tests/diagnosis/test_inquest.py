"""What made a watched loss leave the finite numbers: named from what went through, or said to be unseen."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules import module as torch_module

import downslope as ds
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.inquest import autopsy

ROWS, BATCH = 640, 32


@pytest.fixture(autouse=True)
def _torch_is_left_as_it_was() -> Iterator[None]:
    gc.collect()  # a monitor that another test left open is none of ours
    before = functional.mse_loss, functional.cross_entropy
    hooks = dict(torch_module._global_forward_pre_hooks)
    yield
    assert (functional.mse_loss, functional.cross_entropy) == before
    assert dict(torch_module._global_forward_pre_hooks) == hooks


def data(spoilt: str | None = None, at: int = 0, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, 10, generator=draw)
    y = scale * (x.sum(1, keepdim=True).tanh() + (scale > 1))
    if spoilt is not None:
        (x if spoilt == "inputs" else y)[at * BATCH + 3, 2 if spoilt == "inputs" else 0] = math.nan
    return x, y


def loop(
    x: Tensor,
    y: Tensor,
    *,
    lr: float = 0.05,
    steps: int = 45,
    first: bool = False,
    until_lost: bool = False,
    by_hand: bool = False,
) -> Diagnosis:
    """A loop in stored order, 20 steps an epoch, as the README has it; `first`: the loss is told before."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1))
    rule = torch.optim.SGD(model.parameters(), lr)
    with ds.watch(model, rule) as monitor:
        for step in range(steps):
            at = slice(step * BATCH % ROWS, step * BATCH % ROWS + BATCH)
            output = model(x[at])
            loss = (output - y[at]).square().mean() if by_hand else functional.mse_loss(output, y[at])
            rule.zero_grad()
            if first:
                monitor.step(loss)
            loss.backward()
            rule.step()
            if not first:
                monitor.step(loss)
            if until_lost and not math.isfinite(loss.item()):
                break
        return monitor.diagnose()


@pytest.mark.parametrize("spoilt", ["inputs", "targets"])
@pytest.mark.parametrize(("batch", "first"), [(0, False), (13, False), (13, True)])
def test_nan_in_the_data_is_named_by_step_and_row(spoilt: str, batch: int, first: bool) -> None:
    found = loop(*data(spoilt, batch), first=first)
    assert found.root is not None
    assert found.root.symptom == "non-finite-data"
    # Told before its backward pass, the batch itself is seen; else the same one in the next epoch.
    step = batch + 1 + (20 if batch and not first else 0)
    assert f"step {step}, row 3 of the batch" in found.root.message
    assert spoilt in found.root.message
    assert "learning-rate-too-high" not in [each.symptom for each in found.findings]


def test_the_same_loop_without_it_is_healthy() -> None:
    assert loop(*data()).healthy


def test_where_the_loop_ends_at_once_it_is_said_that_the_cause_was_not_seen() -> None:
    found = loop(*data("inputs", 13), until_lost=True)
    assert found.findings == []
    assert not found.healthy
    # Every weight is NaN by now; that is what the loss did to them, not what did it.
    assert found.run.facts["nonfinite"] == {"step": 14, "what": "loss", "module": None}
    assert "had not risen before: NaN in a batch, or in the objective" in found.verdict
    assert "from one step to the next" in dict(found.not_checked)["learning-rate-too-high"]
    assert "not the one at which the numbers ended" in dict(found.not_checked)["non-finite-data"]


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_rate_that_is_too_high_is_still_blamed_for_a_loss_that_rose(by_hand: bool) -> None:
    found = loop(*data(), lr=50.0, by_hand=by_hand)
    assert found.root is not None
    assert found.root.symptom == "learning-rate-too-high"


@pytest.mark.parametrize("by_hand", [False, True])
def test_huge_targets_are_named_and_not_the_rate_that_they_make_too_high(by_hand: bool) -> None:
    found = loop(*data(scale=1e4), by_hand=by_hand)
    assert found.root is not None
    assert found.root.symptom == "unscaled-targets"
    assert [each.symptom for each in found.root.consequences] == ["learning-rate-too-high"]


def test_a_graph_tells_inputs_targets_and_weights_apart_before_its_backward_pass_only() -> None:
    x, y = data()
    layer = nn.Linear(10, 1)

    def after(x: Tensor, y: Tensor, layer: nn.Module) -> dict[str, Any]:
        return autopsy(functional.mse_loss(layer(x), y))

    spoilt_x, spoilt_y = data("inputs")[0], data("targets")[1]
    assert set(after(spoilt_x, y, layer)) == {"non_finite"}
    assert set(after(x, spoilt_y, layer)) == {"target_non_finite"}
    assert after(x, y, layer) == {}
    broken = nn.Linear(10, 1)
    with torch.no_grad():
        broken.weight[0, 0] = math.inf
    assert after(x, y, broken) == {"weights": True}
    loss = functional.mse_loss(layer(spoilt_x), y)
    loss.backward()
    assert autopsy(loss) == {}


def test_an_attention_mask_of_minus_infinity_is_no_fault_of_the_data() -> None:
    x = torch.randn(2, 4, 6, 8, requires_grad=True)
    mask = torch.full((6, 6), -math.inf).triu(1)
    loss = functional.scaled_dot_product_attention(x, x, x, attn_mask=mask).sum() * math.inf
    assert "non_finite" not in autopsy(loss)


def test_a_compiled_model_is_asked_without_compiling_it_again() -> None:
    dynamo = pytest.importorskip("torch._dynamo")
    dynamo.reset()
    dynamo.utils.counters.clear()
    x, y = data("inputs", 3)
    torch.manual_seed(0)
    model = torch.compile(nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1)), backend="eager")
    rule = torch.optim.SGD(model.parameters(), 0.05)
    with ds.watch(model, rule) as monitor:
        for step in range(30):
            at = slice(step * BATCH % ROWS, step * BATCH % ROWS + BATCH)
            loss = functional.mse_loss(model(x[at]), y[at])
            rule.zero_grad()
            loss.backward()
            rule.step()
            monitor.step(loss)
        found = monitor.diagnose()
    assert found.root is not None
    assert found.root.symptom == "non-finite-data"
    assert dynamo.utils.counters["stats"]["unique_graphs"] == 1
    dynamo.utils.counters.clear()
