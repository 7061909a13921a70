from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.core.run import Run
from downslope.diagnosis.judge import judge
from tests.diagnosis.runs import layer
from tests.diagnosis.runs import run as made_run
from tests.diagnosis.symptoms.problems import (
    Functional,
    classes,
    diagnosed,
    net,
    numbers,
    problem,
    recipe,
)
from tests.diagnosis.symptoms.trying import trial


class Cut(Functional):
    """The graph ends below the head."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = torch.tanh(self.second(torch.tanh(self.first(x))))
        return self.head(x)


def held(make: Any, *names: str) -> Any:
    def made() -> nn.Module:
        model = make()
        for name in names:
            model.get_submodule(name).requires_grad_(False)
        return model

    return made


def narrow() -> nn.Module:
    return Functional(6, 1, width=4)


def test_held_layers_are_the_root_and_training_them_cures_it() -> None:
    sick = problem(numbers(), held(narrow, "first", "second"), "mse", "r2")
    how = recipe(epochs=150, lr=1e-2)
    result = diagnosed(sick, how)
    assert result.root is not None
    assert result.root.symptom == "frozen-parameters"
    assert result.root.where.modules == ("first", "second")
    assert str(result.root.remedies[0]) == "train first, second"
    cured, _ = result.root.remedies[0].apply(sick, how)
    assert all(p.requires_grad for p in cured.build().parameters())


def test_a_graph_that_is_cut_is_told_from_one_that_is_frozen() -> None:
    sick = problem(numbers(), lambda: Cut(6, 1, width=4), "mse", "r2")
    result = diagnosed(sick, recipe(epochs=100, lr=1e-2))
    assert result.root is not None
    assert result.root.symptom == "frozen-parameters"
    assert {each["why"] for each in result.run.facts["flow"]["held"]} == {"cut"}
    assert "no gradient comes back" in result.root.message


class Signs(nn.Module):
    """A layer behind whose sign nothing is learnt, or behind a sigmoid as steep."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.body, self.head = nn.Conv1d(1, 4, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.body(x.unsqueeze(1))
        if self.how == "sign":
            seen = (torch.sign(seen) + 1) / 2
        elif self.how == "round":
            seen = torch.round(torch.sigmoid(4 * seen))
        else:
            seen = torch.sigmoid(4 * seen)
        return self.head(seen.sum(2))


def shapes() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """A bump up or down somewhere in noise; for training and held out."""
    generator = torch.Generator().manual_seed(0)
    x = 0.3 * torch.randn(1500, 60, generator=generator)
    kind = torch.arange(1500) % 2
    for i, at in enumerate(torch.randint(0, 56, (1500,), generator=generator).tolist()):
        x[i, at : at + 3] += (2.0 * int(kind[i]) - 1) * torch.tensor([1.0, -2.0, 1.0])
    return (3 * x[:1000], kind[:1000]), (3 * x[1000:], kind[1000:])


@pytest.mark.parametrize("how", ["sign", "round"])
def test_a_gradient_that_is_flat_stands_before_the_scale_of_the_start(how: str) -> None:
    sick = problem(shapes(), lambda: Signs(how), "cross_entropy", "accuracy")
    result = diagnosed(sick, recipe(epochs=8, lr=1e-2))
    assert result.root is not None, str(result)
    assert result.root.symptom == "frozen-parameters", str(result)
    assert [each["through"] for each in result.run.facts["flow"]["held"]] == [False]
    assert "stand-in" in str(result.root.remedies[0])


def test_the_same_layer_behind_a_steep_sigmoid_is_healthy() -> None:
    sound = problem(shapes(), lambda: Signs("sigmoid"), "cross_entropy", "accuracy")
    assert diagnosed(sound, recipe(epochs=8, lr=1e-2)).healthy


CUT = {
    "parameters": 100,
    "trained": 10,
    "held": [{"name": "0", "parameters": 90, "why": "cut", "through": False}],
}


@pytest.mark.parametrize(
    ("reached", "root"), [(2.2, "frozen-parameters"), (0.2, "init-scale")], ids=["a little", "the answer"]
)
def test_a_scale_of_the_start_stands_before_a_cut_only_where_it_is_the_answer(
    reached: float, root: str
) -> None:
    large = {"loss": 30.0, "norms": 0, "layers": [layer("0", gain=40.0), layer("2", gain=40.0), layer("4")]}
    trials = {"init-scale": trial(1.0, loss=reached)}
    found = judge(made_run(start=large, flow=CUT, trials=trials))
    assert found.root is not None
    assert found.root.symptom == root, str(found)
    assert "frozen-parameters" in [each.symptom for each in found.findings]


def test_an_optimizer_without_part_of_the_parameters_is_seen() -> None:
    class Half(torch.optim.SGD):
        def __init__(self, params: Any, lr: float) -> None:
            super().__init__(list(params)[2:], lr=lr)

    task = problem(numbers(), lambda: Functional(6, 1), "mse", "r2")
    facts = diagnosed(task, ds.Recipe(optimizer=lambda p: Half(p, 0.05), epochs=2, batch_size=32)).run.facts
    assert [(each["name"], each["why"]) for each in facts["flow"]["held"]] == [("first", "left out")]


def test_the_share_is_counted_by_hand() -> None:
    task = problem(classes(), held(lambda: net(12, 4, width=32), "0"), "cross_entropy", "accuracy")
    flow = diagnosed(task, recipe(steps=4)).run.facts["flow"]
    first, second, head = 12 * 32 + 32, 32 * 32 + 32, 32 * 4 + 4
    assert flow["parameters"] == first + second + head
    assert flow["trained"] == second + head
    assert [each["parameters"] for each in flow["held"]] == [first]


def test_wide_random_features_that_suffice_are_healthy() -> None:
    task = problem(classes(), held(lambda: net(12, 4, width=128), "0"), "cross_entropy", "accuracy")
    result = diagnosed(task, recipe())
    assert result.healthy
    assert "does well without them" in dict(result.cleared)["frozen-parameters"]


def test_a_module_that_the_forward_pass_does_not_use_does_not_count() -> None:
    class Spare(Functional):
        def __init__(self) -> None:
            super().__init__(12, 4)
            self.spare = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(functional.relu(self.second(functional.relu(self.first(x)))))

    result = diagnosed(problem(classes(), Spare, "cross_entropy", "accuracy"), recipe())
    assert result.healthy
    assert result.run.facts["flow"]["held"] == []


@pytest.mark.parametrize("made", [Run()])
def test_a_run_of_which_nothing_is_known_raises_nothing(made: Run) -> None:
    assert not judge(made).findings
