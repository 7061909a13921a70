"""Where a forward calls its last activation: the line, and what it is without the call where that is sure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (as people write it)
from torch import Tensor, nn

import downslope as ds
from downslope.core.edits import SetObjective
from downslope.diagnosis.changes import changes
from downslope.reporting import console
from downslope.reporting.rows import render
from downslope.training.facts.place import place


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(64, 10)


class Straight(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = x / 16
        return torch.softmax(self.out(x), dim=-1)


class Method(Base):
    def forward(self, x: Tensor) -> Tensor:
        p = self.out(x).softmax(-1)
        return p  # noqa: RET504 (as people write it)


class Keyword(Base):
    def forward(self, x: Tensor) -> Tensor:
        return F.softmax(input=self.out(x), dim=1)


class Scaled(Base):
    def forward(self, x: Tensor) -> Tensor:
        return F.softmax(self.out(x), dim=1) * 1.0


class Long(Base):
    def forward(self, x: Tensor) -> Tensor:
        return F.softmax(
            self.out(x),
            dim=1,
        )


class Two(Base):
    def forward(self, x: Tensor) -> Tensor:
        weights = torch.softmax(x, dim=-1)
        return torch.softmax(self.out(weights * x), dim=-1)


class Held(Base):
    def __init__(self) -> None:
        super().__init__()
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        return self.softmax(self.out(x))


@pytest.mark.parametrize(
    ("kind", "new"),
    [
        (Straight, "        return self.out(x)"),
        (Method, "        p = self.out(x)"),
        (Keyword, "        return self.out(x)"),
        (Scaled, None),
        (Long, None),
    ],
)
def test_the_one_call_is_found_and_taken_out_where_nothing_comes_after_it(kind: Any, new: str | None) -> None:
    found = place(kind(), "softmax")
    assert found is not None
    assert found["class"] == kind.__name__
    assert found["file"].endswith("test_place.py")
    assert Path(__file__).read_text().splitlines()[found["line"] - 1] == found["old"]
    assert "softmax(" in found["old"]
    assert found["new"] == new


@pytest.mark.parametrize("model", [Two(), Held(), nn.Sequential(nn.Linear(4, 2), nn.Softmax(dim=-1))])
def test_several_calls_modules_and_torchs_own_forward_name_no_line(model: nn.Module) -> None:
    assert place(model, "softmax") is None


def test_code_without_a_source_names_no_line() -> None:
    names: dict[str, Any] = {}
    exec("import torch\nclass M(torch.nn.Module):\n  def forward(self, x): return torch.softmax(x, 1)", names)
    assert place(names["M"](), "softmax") is None


def test_a_diagnosis_shows_the_change_to_make_and_what_the_objective_is_in_torchs_terms() -> None:
    digits = ds.data.digits()
    problem = ds.Problem(model=Straight, objective="cross_entropy", train=digits.train, valid=digits.valid)
    recipe = ds.Recipe(optimizer="sgd", lr=0.1, epochs=3)
    found = ds.diagnose(problem, recipe, budget="200 steps", folder=False, progress=False)
    text = render(console.of_diagnosis(found), 100)
    lines = text.splitlines()
    assert "F.nll_loss(torch.log(output), target)" in " ".join(text.split())
    assert "F.nll_loss" in str(found)
    start = next(index for index, line in enumerate(lines) if line.startswith("--- "))
    head, new, at, minus, plus = lines[start : start + 5]
    assert head.removeprefix("--- ") == new.removeprefix("+++ ")
    number = int(at.split()[1].removeprefix("-"))
    assert Path(__file__).read_text().splitlines()[number - 1] == minus.removeprefix("-")
    assert plus == "+        return self.out(x)"
    assert "in Straight.forward)" in str(found.findings[0].remedies[-1])


def test_the_module_of_changes_says_what_an_objective_is_and_how_a_task_file_uses_it() -> None:
    text = changes([SetObjective("categorical")], "fixed_changes")
    assert "from fixed_changes import changed" in text
    assert "negative log of the probability" in " ".join(text.split())
    names: dict[str, Any] = {}
    exec(text, names)
    digits = ds.data.digits()
    problem = ds.Problem(model=Straight, objective="cross_entropy", train=digits.train)
    edited, _ = names["changed"](problem, ds.Recipe())
    assert edited.objective is not problem.objective


@pytest.mark.parametrize("name", ["categorical", "bernoulli", "cross_entropy", "logistic", "squared_error"])
def test_an_objective_is_what_its_words_say_in_torch(name: str) -> None:
    words = SetObjective(name).meaning
    code = words.rpartition("in torch ")[2]
    z = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    classes = torch.tensor([0, 2, 1, 1, 0, 2, 2])
    one = (classes > 0).double()
    output, target = {
        "categorical": (z.softmax(1), classes), "bernoulli": (z[:, 0].sigmoid(), one),
        "cross_entropy": (z, classes), "logistic": (z[:, 0], one), "squared_error": (z[:, 0], one),
    }[name]  # fmt: skip
    said = eval(code, {"F": F, "torch": torch, "output": output, "target": target})
    assert getattr(ds.objectives, name)(output, target).item() == pytest.approx(said.item(), rel=1e-9)
