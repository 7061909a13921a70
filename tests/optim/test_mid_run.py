"""A setting that changes in the middle of a run counts as it does in torch, on every backend."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from downslope import optim
from downslope.core.errors import RecipeError
from tests.optim.peers import CASES, SGD_FAMILY, agree, drawn_like, made, ours, step, theirs

Changes = tuple[dict[str, Any], ...]

EVERY: dict[str, Changes] = {
    "lr": ({}, {"lr": 0.3}, {"lr": 0.0}, {"lr": 0.2}),
    "weight_decay": ({}, {"weight_decay": 0.1}, {"weight_decay": 0.0}, {"weight_decay": 0.2}),
    "maximize": ({}, {"maximize": True}, {"maximize": False}),
}
HAVING: list[tuple[str, dict[str, Any], Changes]] = [
    ("SGD", {}, ({}, {"momentum": 0.5}, {"momentum": 0.0}, {"momentum": 0.9})),
    ("SGD", {"momentum": 0.5}, ({}, {"dampening": 0.3}, {"dampening": 0.0})),
    ("SGD", {"dampening": 0.3}, ({}, {"momentum": 0.5})),
    ("SGD", {"momentum": 0.5}, ({}, {"nesterov": True}, {"nesterov": False})),
    ("Momentum", {}, ({"momentum": 0.0}, {"momentum": 0.5}, {"momentum": 0.9})),
    ("Nesterov", {}, ({}, {"momentum": 0.3}, {"momentum": 0.9})),
    ("Adagrad", {}, ({}, {"lr_decay": 0.5}, {"eps": 0.1, "lr_decay": 0.0})),
    ("RMSprop", {"momentum": 0.9}, ({}, {"alpha": 0.5}, {"momentum": 0.0}, {"eps": 0.1, "momentum": 0.4})),
    ("RMSprop", {"centered": True}, ({}, {"centered": False}, {"centered": True})),
    ("Adam", {}, ({}, {"betas": (0.5, 0.9)}, {"betas": (0.0, 0.99)}, {"eps": 0.01})),
    ("AdamW", {}, ({}, {"betas": (0.5, 0.9)}, {"weight_decay": 0.0}, {"eps": 0.01, "weight_decay": 0.3})),
    ("Adam", {"amsgrad": True}, ({}, {"amsgrad": False}, {"amsgrad": True})),
    ("AdamW", {"amsgrad": True}, ({}, {"amsgrad": False}, {"amsgrad": True})),
]


def through(make: Callable[..., Any], given: dict[str, Any], changes: Changes) -> list[nn.Parameter]:
    params = made("plain")
    optimizer = make(params, lr=0.1, **given)
    for seed, change in enumerate(changes):
        optimizer.param_groups[0].update(change)
        step(optimizer, params, drawn_like(params, 4, seed=seed))
    return params


@pytest.mark.parametrize(("name", "backend"), CASES)
@pytest.mark.parametrize("setting", EVERY)
def test_what_every_optimizer_has_may_change(name: str, backend: str | None, setting: str) -> None:
    agree(through(ours(name, backend), {}, EVERY[setting]), through(theirs(name), {}, EVERY[setting]))


@pytest.mark.parametrize("backend", ["reference", "eager", "native", None])
@pytest.mark.parametrize(
    ("name", "given", "changes"), HAVING, ids=[f"{n} {list(c[1])}" for n, _, c in HAVING]
)
def test_its_own_settings_may_change(
    name: str, given: dict[str, Any], changes: Changes, backend: str | None
) -> None:
    if (name, backend) == ("RMSprop", "native"):
        pytest.skip("torch has no such kernel")
    agree(through(ours(name, backend), given, changes), through(theirs(name), given, changes))


@pytest.mark.parametrize("backend", ["reference", "eager", "native", None])
@pytest.mark.parametrize(
    ("name", "change", "key"),
    [
        ("Adam", {"amsgrad": True}, "max_exp_avg_sq"),
        ("AdamW", {"amsgrad": True}, "max_exp_avg_sq"),
        ("RMSprop", {"centered": True}, "grad_avg"),
        ("RMSprop", {"momentum": 0.9}, "momentum_buffer"),
    ],
)
def test_what_torch_cannot_switch_on_starts_from_zeros(
    name: str, change: dict[str, Any], key: str, backend: str | None
) -> None:
    if (name, backend) == ("RMSprop", "native"):
        pytest.skip("torch has no such kernel")
    found: list[list[nn.Parameter]] = []
    for make in (ours(name, backend), theirs(name)):
        params = made("plain")
        optimizer = make(params, lr=0.1)
        step(optimizer, params, drawn_like(params, 3))
        optimizer.param_groups[0].update(change)
        if isinstance(optimizer, optim.Optimizer):
            assert key not in optimizer.state[params[0]]
        else:
            for p in params:
                optimizer.state[p][key] = torch.zeros_like(p)
        step(optimizer, params, drawn_like(params, 3, seed=2))
        found.append(params)
    agree(*found)


@pytest.mark.parametrize(
    ("name", "switch"), [("Adam", "amsgrad"), ("AdamW", "amsgrad"), ("RMSprop", "centered")]
)
def test_what_is_switched_off_keeps_its_state_through_a_file(name: str, switch: str) -> None:
    params = made("plain")
    optimizer = ours(name)(params, lr=0.1, **{switch: True})
    step(optimizer, params, drawn_like(params, 3))
    optimizer.param_groups[0][switch] = False
    step(optimizer, params, drawn_like(params, 3, seed=2))
    twins = [nn.Parameter(p.detach().clone()) for p in params]
    other = ours(name)(twins, lr=0.5)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for each in (optimizer, other):
        each.param_groups[0][switch] = True
    for each, own in ((optimizer, params), (other, twins)):
        step(each, own, drawn_like(own, 3, seed=3))
    agree(params, twins, 0.0)


@pytest.mark.parametrize(("name", "backend"), CASES)
def test_a_group_added_in_mid_run_starts_at_its_own_first_step(name: str, backend: str | None) -> None:
    found: list[list[nn.Parameter]] = []
    for make in (ours(name, backend), theirs(name)):
        params, late = made("plain"), made("without dimensions")
        optimizer = make(params, lr=0.1)
        step(optimizer, params, drawn_like(params, 3))
        optimizer.add_param_group({"params": late, "lr": 0.05})
        step(optimizer, [*params, *late], drawn_like([*params, *late], 4))
        found.append([*params, *late])
    agree(*found)


@pytest.mark.parametrize(("name", "backend"), CASES)
def test_a_parameter_without_gradient_waits(name: str, backend: str | None) -> None:
    found: list[list[nn.Parameter]] = []
    for make in (ours(name, backend), theirs(name)):
        params = made("plain")
        optimizer = make(params, lr=0.1, weight_decay=0.1)
        for i, row in enumerate(drawn_like(params, 6)):
            step(optimizer, params, [[None if (i + j) % 2 else g for j, g in enumerate(row)]])  # type: ignore[list-item]
        found.append(params)
    agree(*found)


SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 10),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(
        o, 0.2, total_steps=20, cycle_momentum="momentum" in o.defaults or "betas" in o.defaults
    ),
    "sequence": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o), lr_scheduler.ExponentialLR(o, 0.9)], [3]
    ),
}


@pytest.mark.parametrize("name", ["SGD", "Momentum", "RMSprop", "Adagrad", "Adam", "AdamW"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_torchs_schedulers_drive_it_momentum_and_betas_included(name: str, scheduler: str) -> None:
    found: list[list[nn.Parameter]] = []
    given = {"momentum": 0.5} if name in ("SGD", "RMSprop") else {}
    for make in (ours(name), theirs(name)):
        params = made("plain")
        optimizer = make(params, lr=0.1, **given)
        schedule = SCHEDULERS[scheduler](optimizer)
        for row in drawn_like(params, 8):
            step(optimizer, params, [row])
            schedule.step()
        found.append(params)
    agree(*found)


@pytest.mark.parametrize(("name", "backend"), CASES)
def test_a_closure_is_asked_once_a_step(name: str, backend: str | None) -> None:
    found: list[list[nn.Parameter]] = []
    for make in (ours(name, backend), theirs(name)):
        params = made("plain")
        optimizer = make(params, lr=0.1)
        asked: list[torch.Tensor] = []

        def closure(params: Any = params, optimizer: Any = optimizer, asked: Any = asked) -> torch.Tensor:
            optimizer.zero_grad()
            loss = torch.stack([(p**2).sum() for p in params]).sum()
            loss.backward()
            asked.append(loss.detach())
            return loss

        told = [optimizer.step(closure) for _ in range(4)]
        assert [float(each.detach()) for each in told] == [float(each) for each in asked]
        found.append(params)
    agree(*found)


@pytest.mark.parametrize("name", [*SGD_FAMILY, "Adam", "AdamW"])
def test_a_fixed_setting_in_a_group_is_refused_in_one_line(name: str) -> None:
    fixed = getattr(optim, name).fixed
    for key, value in fixed.items():
        wrong = (not value) if isinstance(value, bool) else value + 0.5
        with pytest.raises(RecipeError, match=rf"^{key}=[^\n]* it is always [^\n]*; use (SGD|Adam|AdamW)$"):
            ours(name)([{"params": made("plain"), key: wrong}])
