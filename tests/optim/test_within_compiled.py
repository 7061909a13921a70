"""Training steps that are compiled whole: the optimizer's part runs as it is, as torch's optimizers do."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from downslope import optim

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler itself

MADE = {
    "sgd": lambda params: optim.SGD(params, lr=0.1, momentum=0.9),
    "lion": lambda params: optim.Lion(params, lr=0.01),
    "muon": lambda params: optim.Muon(params, lr=0.01, matrices=True),
    "prodigy": optim.Prodigy,
    "schedule-free": lambda params: optim.ScheduleFreeAdamW(params, lr=0.01),
    "lookahead": lambda params: optim.Lookahead(params, k=2, base_optimizer=optim.Adam, lr=0.01),
    "torch": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
}


def pair(name: str) -> list[tuple[nn.Linear, torch.optim.Optimizer]]:
    torch.manual_seed(0)
    model = nn.Linear(8, 4)
    return [(each, MADE[name](each.parameters())) for each in (model, copy.deepcopy(model))]


@pytest.fixture
def counters():
    """How many frames torch's compiler took, which is loaded here, in a second."""
    from torch._dynamo.utils import counters as found

    torch._dynamo.reset()
    found.clear()
    yield found
    torch._dynamo.reset()


class LeftOut:
    """What torch's own switch leaves out of the graph."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    @torch.compiler.disable
    def step(self) -> None:
        self.optimizer.step()


def train(model: nn.Module, optimizer, x: torch.Tensor) -> None:
    model(x).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("name", MADE)
def test_a_training_step_goes_the_same_way_compiled_or_not(name: str, counters) -> None:
    (model, optimizer), (other, plain) = pair(name)
    x = torch.randn(3, 8)
    compiled = torch.compile(train, backend="eager")
    again, theirs = pair("torch")[0]
    for _ in range(3):
        compiled(again, LeftOut(theirs), x)
    expected = dict(counters["frames"])
    torch._dynamo.reset()
    counters.clear()
    for _ in range(3):
        compiled(model, optimizer, x)
        train(other, plain, x)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)
    if name != "torch":
        assert counters["frames"] == expected


@pytest.mark.parametrize("name", [name for name in MADE if name != "torch"])
def test_a_step_that_is_asked_to_be_compiled_runs_as_it_is(name: str, counters) -> None:
    (model, optimizer), (other, plain) = pair(name)
    x = torch.randn(3, 8)
    for layer in (model, other):
        layer(x).square().mean().backward()
    torch.compile(optimizer.step, backend="eager")()
    plain.step()
    assert torch.equal(model.weight, other.weight)
    assert not counters["frames"]


def test_both_halves_of_sam_run_as_they_are(counters) -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(8, 4), torch.randn(3, 8)
    other = copy.deepcopy(model)
    optimizer, plain = (optim.SAM(each.parameters(), lr=0.1) for each in (model, other))

    def step(layer: nn.Module, own: optim.SAM) -> None:
        layer(x).square().mean().backward()
        own.first_step(zero_grad=True)
        layer(x).square().mean().backward()
        own.second_step(zero_grad=True)

    compiled = torch.compile(step, backend="eager")
    for _ in range(2):
        compiled(model, optimizer)
        step(other, plain)
    assert torch.equal(model.weight, other.weight)
