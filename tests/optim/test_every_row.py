"""What every optimizer of the catalogue owes; new rows are asked as soon as they have a name."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from downslope.core.errors import RecipeError
from downslope.optim import Optimizer, catalogue
from downslope.optim.domains import DOMAINS, Count, Domain
from downslope.testing import Case
from downslope.testing.rules.bad_input import WRONG_USE, Wrong, assert_one_line, outside, refuses
from downslope.testing.rules.proofs import Proofs

ROWS = {row.name: row for row in catalogue()}

WITHOUT_DOMAIN = {
    "matrices": "a table of picks, refused by the class itself: tests/optim/test_muon.py",
    "roles": "a table of names, refused by the class itself: tests/optim/test_muon.py",
}
"""Hyper-parameters that are no numbers, switches or choices."""

OWN: dict[str, Domain] = {"ns_steps": Count(1, "", "")}
"""Domains that a class checks by itself."""

OWES = ("hand", "paper", "invariances", "descents")
"""Fields that at least one case of each class fills."""

_MATRIX = "a step of a matrix is no expression of its elements; its recurrence is of whole matrices"
_WRAPPER = "around any optimizer, whose proofs are its own: tests/optim/test_sam.py, test_lookahead.py"

OWES_NOT: dict[tuple[str, str], str] = {
    **{(name, "paper"): _MATRIX for name in ("muon", "adafactor", "shampoo", "soap")},
    **{(name, field): _WRAPPER for name in ("sam", "lookahead") for field in OWES},
}
"""(name, field) to why none fills it."""


@cache
def cases() -> dict[type[Optimizer], list[Case]]:
    """Every case of every contract of this folder, by the class that it makes."""
    found: dict[type[Optimizer], list[Case]] = {}
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        module = importlib.import_module(f"tests.optim.{file.stem}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Proofs) and value.__module__ == module.__name__:
                for case in value.cases:
                    made = case.make([nn.Parameter(torch.zeros(2, 2))], None)
                    found.setdefault(type(made), []).append(case)
    return found


@pytest.mark.parametrize("name", ROWS)
def test_every_proof_is_given_for_every_row(name: str) -> None:
    own = cases().get(ROWS[name].cls, [])
    missing = [field for field in OWES if not any(getattr(case, field) for case in own)]
    assert missing == [field for field in OWES if (name, field) in OWES_NOT]


@pytest.mark.parametrize("name", ROWS)
def test_every_hyper_parameter_has_a_domain_and_is_refused_outside_of_it(name: str) -> None:
    cls = ROWS[name].cls
    for each in ROWS[name].hyper_parameters:
        domain = {**DOMAINS, **cls.domains, **OWN}.get(each.name)
        assert (domain is None) == (each.name in WITHOUT_DOMAIN), each.name
        for value in outside(domain) if domain is not None else ():
            with pytest.raises(RecipeError) as caught:
                cls([nn.Parameter(torch.ones(3, 2))], **{each.name: value})
            assert_one_line(caught.value, each.name)


@pytest.mark.parametrize("wrong", WRONG_USE, ids=[wrong.name for wrong in WRONG_USE])
@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.cls not in cases()])
def test_wrong_use_is_refused_in_one_line_where_there_is_no_contract(name: str, wrong: Wrong) -> None:
    refuses(ROWS[name].cls, wrong)


@pytest.mark.parametrize("name", ROWS)
def test_it_comes_down_a_valley_as_it_is_set_by_default(name: str) -> None:
    p = nn.Parameter(torch.full((3, 2), 0.5))
    curvature = torch.tensor([[1.0, 2.0], [5.0, 10.0], [0.5, 3.0]])
    optimizer: Any = ROWS[name].cls([p])

    def value() -> torch.Tensor:
        optimizer.zero_grad()
        loss = 0.5 * (curvature * p * p).sum()
        loss.backward()
        return loss

    start = float(value().detach())
    for _ in range(100):
        optimizer.step(value)
    with optimizer.shown():
        assert float(value().detach()) < start
