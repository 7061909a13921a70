"""Members of a population are stepped as each of them alone, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from downslope import optim
from downslope.core.errors import RecipeError
from downslope.optim.members import MemberStep, columns_of

Settings = dict[str, Any]

SHAPES = [(16, 13), (13,), (8, 8), (7, 13), (7,), (1,)]
"""Tensors with and without a rest behind a vector loop, side by side."""

TABLE: list[tuple[type[optim.Optimizer], list[Settings]]] = [
    (optim.GD, [{"lr": 0.1}, {"lr": 0.02, "weight_decay": 0.3}, {"lr": 0.1}]),
    (optim.SGD, [{"lr": 0.1}, {"lr": 0.1, "momentum": 0.9}, {"momentum": 0.8, "weight_decay": 0.1}]),
    (optim.SGD, [{"lr": 0.1, "momentum": 0.9, "nesterov": True}, {"momentum": 0.5, "nesterov": True}]),
    (optim.SGD, [{"momentum": 0.9, "dampening": 0.5}, {"momentum": 0.9, "dampening": 0.1}]),
    (optim.Momentum, [{"momentum": 0.9}, {"momentum": 0.0}, {"lr": 0.3, "weight_decay": 0.01}]),
    (optim.Nesterov, [{"momentum": 0.9}, {"momentum": 0.5, "lr": 0.2}]),
    (optim.Adagrad, [{"lr": 0.1, "lr_decay": 0.1}, {"eps": 1e-3}, {"weight_decay": 0.1}]),
    (optim.RMSprop, [{"alpha": 0.9}, {"momentum": 0.9, "weight_decay": 0.1}, {"lr": 0.1}, {"lr": 0.1}]),
    (optim.RMSprop, [{"centered": True, "eps": 1e-3}, {"centered": True, "momentum": 0.5}]),
    (optim.Adam, [{"lr": 0.1}, {"betas": (0.5, 0.9), "weight_decay": 0.1}, {"eps": 0.1}, {"lr": 0.1}]),
    (optim.Adam, [{"amsgrad": True}, {"amsgrad": True, "betas": (0.0, 0.5)}]),
    (optim.AdamW, [{"lr": 0.1}, {"weight_decay": 0.0}, {"betas": (0.5, 0.9)}, {"maximize": True}]),
    (optim.AveragedMomentum, [{"momentum": 0.9}, {"momentum": 0.0}, {"debias": True, "weight_decay": 0.1}]),
    (optim.Adadelta, [{"rho": 0.95}, {"weight_decay": 0.1}]),
    (optim.Adamax, [{"lr": 0.1}, {"betas": (0.5, 0.9), "weight_decay": 0.1}]),
    (optim.NAdam, [{"lr": 0.1}, {"momentum_decay": 0.1}, {"betas": (0.5, 0.9), "weight_decay": 0.1}]),
    (optim.RAdam, [{"lr": 0.1}, {"betas": (0.5, 0.6)}, {"betas": (0.9, 0.8), "weight_decay": 0.1}]),
    (optim.AdaBelief, [{"lr": 0.1}, {"eps_root": 1e-3, "weight_decay": 0.1}, {"rectify": True}]),
    (optim.Adan, [{"lr": 0.1}, {"weight_decay": 0.3}, {"weight_decay": 0.3, "no_prox": True}]),
    (optim.AdEMAMix, [{"alpha": 5.0}, {"beta3_warmup": 4, "alpha_warmup": 3, "weight_decay": 0.1}]),
    (optim.Lion, [{"lr": 0.1}, {"weight_decay": 0.1, "betas": (0.5, 0.9)}]),
    (optim.Signum, [{"momentum": 0.5}, {"momentum": 0.0}, {"weight_decay": 0.1}]),
]


class Alone:
    """The members one by one: parameters and an optimizer for each."""

    def __init__(
        self, cls: type[optim.Optimizer], settings: Sequence[Settings], dtype: torch.dtype, *, grouped: bool
    ) -> None:
        draw = torch.Generator().manual_seed(3)
        self.dtype, self.draw = dtype, draw
        self.params = [
            [nn.Parameter(torch.randn(shape, generator=draw, dtype=dtype)) for shape in SHAPES]
            for _ in settings
        ]
        self.optimizers = [
            cls(self._groups(params, grouped=grouped), **each)
            for params, each in zip(self.params, settings, strict=True)
        ]

    def _groups(self, params: list[nn.Parameter], *, grouped: bool) -> Any:
        if not grouped:
            return params
        weights, rest = [p for p in params if p.ndim > 1], [p for p in params if p.ndim == 1]
        return [{"params": weights}, {"params": rest, "weight_decay": 0.0}]

    def rows(self) -> Tensor:
        return torch.stack(
            [torch.cat([p.detach().flatten() for p in columns_of(each)]) for each in self.optimizers]
        )

    def gradient(self) -> Tensor:
        shape = len(self.params), sum(p.numel() for p in self.params[0])
        return torch.randn(shape, generator=self.draw, dtype=self.dtype) * 0.1

    def step(self, i: int, gradient: Tensor, lr: float | None = None) -> None:
        optimizer, place = self.optimizers[i], 0
        for p in columns_of(optimizer):
            p.grad = gradient[place : place + p.numel()].view_as(p).clone()
            place += p.numel()
        for group in optimizer.param_groups if lr is not None else []:
            group["lr"] = lr
        optimizer.step()


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("cls", "settings"), TABLE)
def test_every_member_steps_as_it_does_alone(
    cls: type[optim.Optimizer], settings: list[Settings], dtype: torch.dtype, grouped: bool
) -> None:
    alone = Alone(cls, settings, dtype, grouped=grouped)
    rows = alone.rows()
    together = MemberStep.of(alone.optimizers, rows)
    for count in range(6):
        gradient = alone.gradient()
        together.step(gradient)
        for i in range(len(settings)):
            alone.step(i, gradient[i])
        assert torch.equal(rows, alone.rows()), f"after step {count + 1}"


RATES: list[tuple[str, Callable[[int, int], float]]] = [
    ("of each its own", lambda i, t: 0.1 * (i + 1) / t),
    ("the same for all", lambda i, t: 0.1 / t),
    ("apart after two steps", lambda i, t: 0.1 * (i + 1) if t > 2 else 0.1),
]


@pytest.mark.parametrize("cls", [optim.Momentum, optim.Adagrad, optim.RMSprop, optim.AdamW, optim.NAdam])
@pytest.mark.parametrize("rate", [each for _, each in RATES], ids=[name for name, _ in RATES])
def test_rates_follow_a_schedule_of_each_member(
    cls: type[optim.Optimizer], rate: Callable[[int, int], float]
) -> None:
    alone = Alone(cls, [{"weight_decay": 0.1}] * 3, torch.float32, grouped=True)
    rows = alone.rows()
    together = MemberStep.of(alone.optimizers, rows)
    for t in range(1, 6):
        gradient = alone.gradient()
        together.step(gradient, [rate(i, t) for i in range(3)])
        for i in range(3):
            alone.step(i, gradient[i], rate(i, t))
        assert torch.equal(rows, alone.rows())


def test_members_that_are_off_stand_still_and_go_on_where_they_were() -> None:
    for cls in (optim.Momentum, optim.RMSprop, optim.Adam, optim.NAdam):
        alone = Alone(cls, [{"lr": 0.1}] * 3, torch.float64, grouped=False)
        rows = alone.rows()
        together = MemberStep.of(alone.optimizers, rows)
        for on in ([True, False, True], [True] * 3, [False, True, True], [True] * 3):
            gradient = alone.gradient()
            gradient[torch.tensor(on).logical_not()] = torch.nan
            together.step(gradient, on=on)
            for i in range(3):
                if on[i]:
                    alone.step(i, gradient[i])
            assert torch.equal(rows, alone.rows())


@pytest.mark.parametrize("cls", [optim.AdamW, optim.NAdam])
def test_the_batch_shrinks_and_what_is_left_keeps_its_past(cls: type[optim.Optimizer]) -> None:
    own = "momentum_decay" if cls is optim.NAdam else "eps"
    given = [{"lr": 0.1 * (i + 1), own: 0.1 * (i + 1)} for i in range(4)]
    alone = Alone(cls, given, torch.float64, grouped=True)
    rows, index = alone.rows(), [3, 1]
    together = MemberStep.of(alone.optimizers, rows)
    for _ in range(2):
        gradient = alone.gradient()
        together.step(gradient)
        for i in range(4):
            alone.step(i, gradient[i])
    rows = rows[index].clone()
    together.keep(index, rows)
    for _ in range(2):
        gradient = alone.gradient()
        together.step(gradient[index])
        for i in index:
            alone.step(i, gradient[i])
    assert len(together) == 2
    assert torch.equal(rows, alone.rows()[index])


@pytest.mark.parametrize("cls", [optim.Momentum, optim.Adagrad, optim.RMSprop, optim.Adam, optim.NAdam])
def test_a_state_goes_to_an_optimizer_of_its_own_and_back(cls: type[optim.Optimizer]) -> None:
    alone = Alone(cls, [{"weight_decay": 0.1}] * 2, torch.float64, grouped=True)
    fresh = Alone(cls, [{"weight_decay": 0.1}] * 2, torch.float64, grouped=True)
    rows = alone.rows()
    together = MemberStep.of(alone.optimizers, rows)
    for _ in range(3):
        gradient = alone.gradient()
        together.step(gradient)
        for i in range(2):
            alone.step(i, gradient[i])
    again = MemberStep.of(fresh.optimizers, rows)
    for i in range(2):
        together.give(i, fresh.optimizers[i])
        ours, theirs = fresh.optimizers[i].state_dict(), alone.optimizers[i].state_dict()
        assert ours["param_groups"] == theirs["param_groups"]
        torch.testing.assert_close(ours["state"], theirs["state"], rtol=0, atol=0)
        again.take(i, fresh.optimizers[i], 3)
    gradient = alone.gradient()
    again.step(gradient)
    for i in range(2):
        alone.step(i, gradient[i])
    assert torch.equal(rows, alone.rows())


@pytest.mark.parametrize("cls", [optim.SGD, optim.RMSprop, optim.Adam, optim.NAdam])
def test_a_member_takes_over_the_state_of_another_and_other_settings(cls: type[optim.Optimizer]) -> None:
    alone = Alone(cls, [{"lr": 0.1}, {"lr": 0.01}], torch.float64, grouped=False)
    rows = alone.rows()
    together = MemberStep.of(alone.optimizers, rows)

    def both() -> None:
        gradient = alone.gradient()
        together.step(gradient)
        for i in range(2):
            alone.step(i, gradient[i])

    both()
    together.load(0, together.state_of(1))
    rows[0] = rows[1]
    with torch.no_grad():
        for p, q in zip(alone.params[0], alone.params[1], strict=True):
            p.copy_(q)
    alone.optimizers[0].load_state_dict(alone.optimizers[1].state_dict())
    changes: Settings = {"lr": 0.02, "weight_decay": 0.1}
    changes |= {"betas": (0.5, 0.9)} if "betas" in alone.optimizers[0].defaults else {"momentum": 0.9}
    together.set(0, **changes)
    alone.optimizers[0].param_groups[0].update(changes)
    for _ in range(3):
        both()
        assert torch.equal(rows, alone.rows())


def test_what_is_no_setting_or_outside_its_domain_is_refused_and_changes_nothing() -> None:
    rows = torch.zeros(2, 3)
    step = MemberStep(optim.Adam, [{"lr": 0.1}, {}], rows)
    for changes in ({"lr": -1.0}, {"learning_rate": 0.1}):
        with pytest.raises(RecipeError):
            step.set(1, **changes)
    step.step(torch.ones(2, 3))
    torch.testing.assert_close(rows, torch.tensor([[-0.1] * 3, [-0.001] * 3]))
    with pytest.raises(RecipeError, match="lr"):
        MemberStep(optim.SGD, [{"lr": -0.1}], rows)


def test_columns_outside_of_all_slices_stay() -> None:
    rows = torch.ones(2, 4)
    step = MemberStep(optim.SGD, [{"lr": 0.5}] * 2, rows, [(slice(1, 3), [{}, {"lr": 0.25}])])
    step.step(torch.ones(2, 4))
    assert rows.tolist() == [[1.0, 0.5, 0.5, 1.0], [1.0, 0.75, 0.75, 1.0]]


def test_a_tally_is_of_a_slice_where_the_slices_differ_in_what_makes_it() -> None:
    """NAdam's product of momenta, with another momentum for the columns behind."""
    rows = torch.ones(2, 4, dtype=torch.float64)
    own = [{"betas": (0.5, 0.999)}, {"momentum_decay": 1.0}]
    step = MemberStep(optim.NAdam, [{"lr": 0.1}] * 2, rows, [(slice(0, 2), [{}, {}]), (slice(2, 4), own)])
    alone = [
        [nn.Parameter(torch.ones(2, dtype=torch.float64)), nn.Parameter(torch.ones(2, dtype=torch.float64))]
        for _ in range(2)
    ]
    optimizers = [
        optim.NAdam([{"params": [a]}, {"params": [b], **each}], lr=0.1)
        for (a, b), each in zip(alone, own, strict=True)
    ]
    for t in range(4):
        step.step(torch.full_like(rows, 1.0 - t))
        for optimizer, params in zip(optimizers, alone, strict=True):
            for p in params:
                p.grad = torch.full_like(p, 1.0 - t)
            optimizer.step()
        assert torch.equal(rows, torch.stack([torch.cat([p.detach() for p in each]) for each in alone]))
    told = step.state_of(0)["mu_product"]
    assert told.tolist() == [float(optimizers[0].state[p]["mu_product"]) for p in alone[0]]
    again = MemberStep(optim.NAdam, [{"lr": 0.1}] * 2, rows, [(slice(0, 2), [{}, {}]), (slice(2, 4), own)])
    again.load(0, step.state_of(0))
    assert again.state_of(0)["mu_product"].tolist() == told.tolist()


def test_a_rule_with_a_tally_refuses_a_number_for_each_member_in_one_line() -> None:
    with pytest.raises(RecipeError, match=r"betas of ScaleByNadam holds a number for each.*mu_product"):
        optim.ScaleByNadam(betas=(torch.tensor([0.5, 0.9]), 0.999))


@pytest.mark.parametrize("whole", [{"nonfinite": "skip"}, {"backend": "reference"}])
def test_members_that_look_at_their_own_gradients_or_have_a_backend_step_one_by_one(whole):
    made = [optim.Adam([nn.Parameter(torch.ones(2))], **whole) for _ in range(2)]
    with pytest.raises(RecipeError, match=f"{next(iter(whole))} is of one optimizer's steps"):
        MemberStep.of(made, torch.ones(2, 2))
