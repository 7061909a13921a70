"""Which weights the parameters of an optimizer hold, in anyone's own loop: `shown`, `eval`, `train`."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from downslope import optim
from downslope.core.errors import ModelError
from downslope.optim import Custom, ScaleByLr, WeightEMA, chain
from downslope.testing import gradients, parameters, run

SHOWING: dict[str, Any] = {
    "schedule_free_sgd": lambda params: optim.ScheduleFreeSGD(params, lr=0.1, warmup_steps=3),
    "schedule_free_adamw": lambda params: optim.ScheduleFreeAdamW(params, lr=0.1),
    "lookahead": lambda params: optim.Lookahead(optim.Adam(params, lr=0.1), k=3),
    "lookahead of torch's": lambda params: optim.Lookahead(torch.optim.Adam(params, lr=0.1), k=3),
    "sam around one": lambda params: optim.SAM(optim.ScheduleFreeSGD(params, lr=0.1)),
    "average": lambda params: Custom(params, chain(ScaleByLr(lr=0.1), WeightEMA())),
}


def stepped(make: Any, steps: int = 7) -> tuple[Any, list[nn.Parameter], list[Tensor], list[Tensor]]:
    """An optimizer after some steps, its parameters, what it trains and what it shows."""
    params = parameters(torch.float32)
    optimizer = make(params)
    move(optimizer, gradients(torch.float32, steps))
    return optimizer, params, copies(params), [optimizer.evaluated(p).detach().clone() for p in params]


def move(optimizer: Any, given: list[list[Tensor]]) -> None:
    if not isinstance(optimizer, optim.SAM):
        run(optimizer, given)
        return
    for grads in given:
        for p, g in zip(optimizer.param_groups[0]["params"], grads, strict=True):
            p.grad = g.clone()
        optimizer.first_step()
        optimizer.second_step()


def copies(params: list[nn.Parameter]) -> list[Tensor]:
    return [p.detach().clone() for p in params]


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", list(SHOWING))
def test_weights_to_evaluate_stand_in_place_in_the_block_and_the_others_come_back(name: str) -> None:
    optimizer, params, trained, shown = stepped(SHOWING[name])
    assert optimizer.shows
    assert not same(trained, shown)
    with optimizer.shown():
        assert same(params, shown)
        assert same([optimizer.evaluated(p) for p in params], shown)
        with optimizer.shown():
            assert same(params, shown)
        assert same(params, shown)
    assert same(params, trained)
    with pytest.raises(ZeroDivisionError), optimizer.shown():
        raise ZeroDivisionError
    assert same(params, trained)


@pytest.mark.parametrize("name", list(SHOWING))
def test_modes_are_those_of_the_authors_class_without_its_drift(name: str) -> None:
    optimizer, params, trained, shown = stepped(SHOWING[name])
    for _ in range(50):
        optimizer.eval()
        optimizer.eval()
        assert same(params, shown)
        optimizer.train()
        optimizer.train()
        assert same(params, trained)


@pytest.mark.parametrize("name", list(SHOWING))
def test_a_step_on_weights_that_are_only_shown_is_refused(name: str) -> None:
    optimizer, params, trained, _ = stepped(SHOWING[name])
    optimizer.eval()
    if isinstance(optimizer, optim.SAM):
        optimizer.first_step()
    with pytest.raises(ModelError, match=r"call optimizer\.train\(\)"):
        optimizer.second_step() if isinstance(optimizer, optim.SAM) else optimizer.step()
    optimizer.train()
    assert same(params, trained)
    move(optimizer, gradients(torch.float32, 1, seed=5))
    assert not same(params, trained)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", list(SHOWING))
def test_a_checkpoint_made_in_either_mode_goes_on_bit_for_bit(name: str, mode: str) -> None:
    optimizer, params, trained, _ = stepped(SHOWING[name])
    getattr(optimizer, mode)()
    buffer = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "model": copies(params)}, buffer)
    buffer.seek(0)
    saved = torch.load(buffer)
    others = [nn.Parameter(each) for each in saved["model"]]
    resumed = SHOWING[name](others)
    resumed.load_state_dict(saved["optimizer"])
    resumed.train()
    optimizer.train()
    assert same(others, trained)
    for each in (optimizer, resumed):
        move(each, gradients(torch.float32, 5, seed=3))
    assert same(others, params)
    assert same([resumed.evaluated(p) for p in others], [optimizer.evaluated(p) for p in params])


@pytest.mark.parametrize("name", list(SHOWING))
def test_a_copy_of_an_optimizer_stands_where_it_stood(name: str) -> None:
    optimizer, params, trained, _ = stepped(SHOWING[name])
    optimizer.eval()
    twin, others = copy.deepcopy((optimizer, params))
    twin.train()
    assert same(others, trained)
    optimizer.train()
    for each in (optimizer, twin):
        move(each, gradients(torch.float32, 3, seed=3))
    assert same(others, params)


def test_other_optimizers_have_the_modes_too_and_nothing_happens() -> None:
    params = parameters(torch.float32)
    optimizer = optim.Adam(params, lr=0.1)
    run(optimizer, gradients(torch.float32, 2))
    before = copies(params)
    optimizer.eval()
    with optimizer.shown():
        assert same(params, before)
    run(optimizer, gradients(torch.float32, 1))
    assert not optimizer.shows
    assert all(optimizer.evaluated(p) is p for p in params)


def test_before_the_first_step_weights_are_shown_as_they_are() -> None:
    for make in SHOWING.values():
        params = parameters(torch.float32)
        optimizer, before = make(params), copies(params)
        with optimizer.shown():
            assert same(params, before)
        assert same([optimizer.evaluated(p) for p in params], before)


def test_half_precision_shows_what_its_float32_copy_stands_for() -> None:
    given = gradients(torch.bfloat16, 30)
    half, full = parameters(torch.bfloat16), [nn.Parameter(p.float()) for p in parameters(torch.bfloat16)]
    optimizer = optim.ScheduleFreeSGD(half, lr=0.01, rounding="master")
    run(optimizer, given)
    reference = optim.ScheduleFreeSGD(full, lr=0.01)
    run(reference, [[g.float() for g in grads] for grads in given])
    for p, q in zip(half, full, strict=True):
        assert torch.allclose(optimizer.evaluated(p).float(), reference.evaluated(q), rtol=1e-5, atol=1e-6)
    kept = copies(half)
    with optimizer.shown():
        pass
    assert same(half, kept)
