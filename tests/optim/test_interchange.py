"""A state_dict goes over to torch's optimizer of the method and back, and copies go on as the first."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from downslope import optim
from downslope.core.errors import RecipeError
from tests.optim.peers import CASES, NAMES, SGD_FAMILY, agree, drawn_like, made, ours, step, theirs

SETTINGS: dict[str, list[dict[str, Any]]] = {
    "SGD": [{}, {"momentum": 0.9, "dampening": 0.3}, {"momentum": 0.9, "nesterov": True}],
    "Adagrad": [{"lr_decay": 0.1}],
    "RMSprop": [{}, {"momentum": 0.9, "centered": True}],
    "Adam": [{}, {"amsgrad": True, "weight_decay": 0.1}],
    "AdamW": [{}, {"amsgrad": True}],
}
ROWS = [(name, given) for name in NAMES for given in SETTINGS.get(name, [{}])]


def filed(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize(("name", "given"), ROWS, ids=[f"{n} {list(g)}" for n, g in ROWS])
@pytest.mark.parametrize("backend", ["reference", "eager", "native", None])
@pytest.mark.parametrize("start", [0, 1, 4])
@pytest.mark.parametrize("way", ["to torch", "from torch"])
def test_the_state_goes_over_to_torch_and_back(
    name: str, given: dict[str, Any], backend: str | None, start: int, way: str
) -> None:
    if (name, backend) == ("RMSprop", "native"):
        pytest.skip("torch has no such kernel")
    makers = [ours(name, backend), theirs(name)]
    first, second = makers if way == "to torch" else makers[::-1]
    params = made("plain")
    rows = drawn_like(params, 8)
    begun = first(params, lr=0.1, **given)
    step(begun, params, rows[:start])
    twins = [nn.Parameter(p.detach().clone()) for p in params]
    taken = second(twins, lr=0.5)
    taken.load_state_dict(filed(begun))
    step(begun, params, rows[start:])
    step(taken, twins, rows[start:])
    agree(params, twins)


@pytest.mark.parametrize(("name", "backend"), CASES)
@pytest.mark.parametrize("how", ["copy", "pickle"])
def test_a_copy_goes_on_as_the_first(name: str, backend: str | None, how: str) -> None:
    params = made("plain")
    rows = drawn_like(params, 8)
    optimizer = ours(name, backend)(params, lr=0.1)
    step(optimizer, params, rows[:4])
    twin: Any = copy.deepcopy(optimizer) if how == "copy" else pickle.loads(pickle.dumps(optimizer))
    own = twin.param_groups[0]["params"]
    step(optimizer, params, rows[4:])
    step(twin, own, rows[4:])
    agree(params, own, 0.0)
    assert twin.backend == backend


@pytest.mark.parametrize(
    ("given", "name", "part"),
    [
        ({"momentum": 0.9, "nesterov": True}, "Momentum", "nesterov=True"),
        ({"momentum": 0.9}, "Nesterov", "nesterov=False"),
        ({"momentum": 0.9, "dampening": 0.5}, "Momentum", "dampening=0.5"),
        ({"momentum": 0.9}, "GD", "momentum=0.9"),
    ],
)
def test_the_state_of_another_method_is_refused_in_one_line(
    given: dict[str, Any], name: str, part: str
) -> None:
    params = made("plain")
    other = torch.optim.SGD(params, **given)
    step(other, params, drawn_like(params, 2))
    with pytest.raises(RecipeError, match=rf"^{part}: with [^\n]*; use SGD$"):
        ours(name)(made("plain")).load_state_dict(other.state_dict())


@pytest.mark.parametrize(("first", "second"), [("Adam", "AdamW"), ("AdamW", "Adam")])
@pytest.mark.parametrize("made_by", ["ours", "torch"])
def test_coupled_and_decoupled_decay_are_not_exchanged_in_silence(
    first: str, second: str, made_by: str
) -> None:
    begun = getattr(optim if made_by == "ours" else torch.optim, first)(made("plain"))
    with pytest.raises(RecipeError, match=rf"^decoupled_weight_decay=[^\n]*; use {first}$"):
        ours(second)(made("plain")).load_state_dict(begun.state_dict())


@pytest.mark.parametrize("name", ["Momentum", "Nesterov", "Adam", "AdamW", "RMSprop", "Adagrad"])
def test_a_refused_state_leaves_the_optimizer_as_it_was(name: str) -> None:
    params, twins = made("plain"), made("plain")
    rows = drawn_like(params, 8)
    touched, alone = ours(name)(params, lr=0.1), ours(name)(twins, lr=0.1)
    step(touched, params, rows[:4])
    strange = copy.deepcopy(touched.state_dict())
    strange["param_groups"][0] |= {"lr": 5.0, "eps" if name not in SGD_FAMILY else "momentum": -1.0}
    with pytest.raises(RecipeError):
        touched.load_state_dict(strange)
    step(touched, params, rows[4:])
    step(alone, twins, rows)
    agree(params, twins, 0.0)


def test_a_setting_of_torch_that_makes_another_optimizer_is_taken_as_it_is_or_names_that_one():
    p = nn.Parameter(torch.zeros(2))
    optim.Adam([p], decoupled_weight_decay=False)
    optim.Momentum([p], dampening=0.0, nesterov=False)
    with pytest.raises(RecipeError, match=r"^decoupled_weight_decay=True: with Adam [^\n]*; use AdamW$"):
        optim.Adam([p], decoupled_weight_decay=True)
    with pytest.raises(RecipeError, match=r"^nesterov=True: with Momentum [^\n]*; use SGD$"):
        optim.Momentum([p], nesterov=True)
