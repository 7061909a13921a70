"""Gradients that are not finite: skipped, stopped or raised, and as ever without a policy."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from downslope.core.errors import NonFiniteError, RecipeError
from downslope.optim import SAM, SGD, Adam, ClipNorm, Custom, Prodigy, ScaleByLr, catalogue, chain
from downslope.optim.nonfinite import SMALL, all_finite
from downslope.testing.rules import gradients, parameters, run

BAD = [math.nan, math.inf, -math.inf]


def spoilt(row, value=math.nan, at=0):
    broken = [g.clone() for g in row]
    broken[at].view(-1)[-1] = value
    return broken


STEPPING = [row for row in catalogue() if not getattr(row.cls, "needs_closure", False)]


@pytest.mark.parametrize("row", STEPPING, ids=lambda row: row.name)
def test_every_optimizer_skips_the_step_without_a_trace(row):
    first, second = parameters(torch.float64), parameters(torch.float64)
    rows = gradients(torch.float64, 6)
    skipping, plain = row.cls(first, nonfinite="skip"), row.cls(second)
    run(skipping, [spoilt(rows[1]), rows[0], spoilt(rows[1]), rows[2], spoilt(rows[3], math.inf, 2), rows[4]])
    run(plain, [rows[0], rows[2], rows[4]])
    assert skipping.skipped == 3
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    for p, q in zip(first, second, strict=True):
        for key, value in plain.state[q].items():
            assert torch.equal(torch.as_tensor(skipping.state[p][key]), torch.as_tensor(value))


@pytest.mark.parametrize("bad", BAD)
def test_first_step_may_be_the_one_that_is_skipped(bad):
    params = parameters(torch.float32)
    before = [p.detach().clone() for p in params]
    optimizer = Adam(params, nonfinite="skip")
    run(optimizer, [spoilt(gradients(torch.float32, 1)[0], bad)])
    assert optimizer.skipped == 1
    assert all(torch.equal(p.detach(), start) for p, start in zip(params, before, strict=True))


def test_without_a_policy_the_step_is_made_as_ever():
    params = parameters(torch.float32)
    optimizer = SGD(params, lr=0.1)
    run(optimizer, [spoilt(gradients(torch.float32, 1)[0])])
    assert optimizer.nonfinite is None
    assert params[0].isnan().sum() == 1
    assert optimizer.skipped == 0


def test_stop_leaves_out_all_that_follows_until_a_state_is_loaded():
    params, rows = parameters(torch.float32), gradients(torch.float32, 4)
    optimizer = Adam(params, nonfinite="stop")
    run(optimizer, [rows[0]])
    saved, before = copy.deepcopy(optimizer.state_dict()), [p.detach().clone() for p in params]
    run(optimizer, [spoilt(rows[1]), rows[2], rows[3]])
    assert optimizer.stopped
    assert optimizer.skipped == 3
    assert all(torch.equal(p.detach(), start) for p, start in zip(params, before, strict=True))
    optimizer.load_state_dict(saved)
    run(optimizer, [rows[2]])
    assert not optimizer.stopped
    assert not torch.equal(params[0].detach(), before[0])


def test_raise_names_the_parameter_and_leaves_it_as_it_was():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = SGD(model.named_parameters(), lr=0.1, nonfinite="raise")
    model(torch.ones(1, 3)).sum().backward()
    model[1].weight.grad[1, 2] = math.inf
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(NonFiniteError, match=r"'1.weight', of shape \(2, 4\), has 1 of 8 .* the first inf"):
        optimizer.step()
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    model[1].weight.grad.nan_to_num_(posinf=1.0)
    optimizer.step()


def test_raise_names_the_place_of_a_parameter_without_a_name():
    params = parameters(torch.float32)
    optimizer = SGD([{"params": params[:1]}, {"params": params[1:]}], lr=0.1, nonfinite="raise")
    with pytest.raises(NonFiniteError, match="parameter 1 of group 1"):
        run(optimizer, [spoilt(gradients(torch.float32, 1)[0], at=2)])


def test_count_is_saved_loaded_and_pickled():
    params, rows = parameters(torch.float32), gradients(torch.float32, 3)
    optimizer = Adam(params, nonfinite="skip")
    assert all("skipped" not in group for group in optimizer.state_dict()["param_groups"])
    run(optimizer, [rows[0], spoilt(rows[1])])
    after = Adam(parameters(torch.float32), nonfinite="skip")
    after.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert after.skipped == 1
    assert "skipped" not in after.param_groups[0]
    twin = pickle.loads(pickle.dumps(optimizer))
    assert (twin.nonfinite, twin.skipped, twin.stopped) == ("skip", 1, False)
    torch.optim.Adam(parameters(torch.float32)).load_state_dict(optimizer.state_dict())


def test_policy_can_be_set_and_taken_away():
    params, rows = parameters(torch.float32), gradients(torch.float32, 3)
    optimizer = SGD(params, lr=0.1)
    optimizer.nonfinite = "skip"
    run(optimizer, [spoilt(rows[0])])
    assert optimizer.skipped == 1
    optimizer.nonfinite = None
    run(optimizer, [spoilt(rows[0])])
    assert params[0].isnan().any()


@pytest.mark.parametrize("given", ["ignore", True, 1])
def test_unknown_policy_is_refused(given):
    with pytest.raises(RecipeError, match=r"nonfinite=.*: must be one of None, 'skip', 'stop', 'raise'"):
        SGD([nn.Parameter(torch.ones(1))], lr=0.1, nonfinite=given)
    optimizer = SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    with pytest.raises(RecipeError, match="nonfinite="):
        optimizer.nonfinite = given


def test_numbers_of_rules_are_those_of_the_steps_made():
    first, second = parameters(torch.float64), parameters(torch.float64)
    rows = gradients(torch.float64, 5)
    skipping, plain = Prodigy(first, d0=1e-2, nonfinite="skip"), Prodigy(second, d0=1e-2)
    run(skipping, [rows[0], spoilt(rows[1]), *rows[2:]])
    run(plain, [rows[0], *rows[2:]])
    assert skipping.d == plain.d
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_norm_of_nan_is_skipped_before_it_spreads():
    params = parameters(torch.float32)
    optimizer = Custom(params, chain(ClipNorm(max_norm=1.0), ScaleByLr(lr=0.1)), nonfinite="skip")
    run(optimizer, [spoilt(gradients(torch.float32, 1)[0])])
    assert optimizer.skipped == 1
    assert all(p.isfinite().all() for p in params)


def test_sam_comes_back_from_a_climb_by_a_gradient_that_is_not_finite():
    first, second = parameters(torch.float64), parameters(torch.float64)
    rows = gradients(torch.float64, 3)
    skipping, plain = SAM(first, lr=0.1, nonfinite="skip"), SAM(second, lr=0.1)

    def closure(params, row):
        for p, g in zip(params, row, strict=True):
            p.grad = g + 0.0 * p.detach()  # of a climb into NaN NaN comes back
        return torch.tensor(1.0)

    for row in (rows[0], spoilt(rows[1]), rows[2]):
        skipping.step(lambda row=row: closure(first, row))
    for row in (rows[0], rows[2]):
        plain.step(lambda row=row: closure(second, row))
    assert (skipping.skipped, skipping.stopped, skipping.nonfinite) == (1, False, "skip")
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_closure_returns_its_loss_when_the_step_is_skipped():
    p = nn.Parameter(torch.tensor([0.0]))
    optimizer = SGD([p], lr=0.1, nonfinite="skip")

    def closure():
        optimizer.zero_grad()
        loss = p.sqrt().sum()  # its slope at 0 is infinite
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 0.0
    assert (optimizer.skipped, p.item()) == (1, 0.0)


def test_grad_scaler_leaves_out_its_steps_by_itself():
    p = nn.Parameter(torch.ones(3))
    optimizer = SGD([p], lr=0.1, nonfinite="raise")
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for value in (1.0, math.inf, 1.0):
        optimizer.zero_grad()
        scaler.scale((p * value).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    assert p.tolist() == pytest.approx([0.8] * 3)
    assert optimizer.skipped == 0
    assert scaler.get_scale() == 2.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 7, SMALL + 3])
def test_any_element_of_any_dtype_is_found(dtype, size):
    for bad in BAD:
        for place in {0, size // 2, size - 1}:
            g = torch.ones(size, dtype=dtype)
            g[place] = bad
            assert not all_finite([torch.ones(3, dtype=dtype), g])


def test_opposite_infinities_are_found():
    assert not all_finite([torch.tensor([math.inf, -math.inf])])
    assert not all_finite([torch.tensor([math.inf]), torch.full((SMALL,), -math.inf)])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_finite_numbers_whose_sum_overflows_are_finite(dtype):
    largest = torch.finfo(dtype).max
    assert all_finite([torch.full((50,), largest, dtype=dtype), torch.full((SMALL,), largest, dtype=dtype)])


def test_complex_sparse_and_empty_gradients():
    assert all_finite([])
    assert all_finite([torch.empty(0, 3)])
    assert all_finite([torch.full((4,), 3e38 + 1j)])
    assert not all_finite([torch.tensor([1.0 + 1j * math.nan])])
    rows = torch.sparse_coo_tensor(
        torch.tensor([[1, 1]]), torch.tensor([[1.0], [math.inf]]), (4, 1), check_invariants=True
    )
    assert not all_finite([rows])
    assert all_finite(
        [torch.sparse_coo_tensor(torch.tensor([[1, 1]]), torch.ones(2, 1), (4, 1), check_invariants=True)]
    )


def test_sparse_gradient_is_skipped():
    table = nn.Embedding(5, 2, sparse=True)
    before = table.weight.detach().clone()
    optimizer = SGD(table.parameters(), lr=0.1, nonfinite="skip")
    (table(torch.tensor([1, 1, 3])) * math.nan).sum().backward()
    optimizer.step()
    assert optimizer.skipped == 1
    assert torch.equal(table.weight.detach(), before)
