"""Roles of parameters, and routes by name, dimensions, shape and role."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import downslope as ds
from downslope import optim
from downslope.core.errors import RecipeError
from downslope.optim.picks import Pick, picked
from downslope.optim.roles import role_of


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.mix = nn.Conv1d(4, 4, 3)
        self.scale = nn.Parameter(torch.ones(4))
        self.norm = nn.BatchNorm1d(4)
        self.out = nn.Linear(4, 7, bias=False)
        self.out.weight = self.table.weight


def test_roles_are_found_in_a_model():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2), nn.Linear(2, 3), nn.Linear(3, 4))
    assert optim.roles(model) == {
        "0.weight": "hidden",
        "0.bias": "bias",
        "1.weight": "norm",
        "1.bias": "norm",
        "2.weight": "hidden",
        "2.bias": "bias",
        "3.weight": "head",
        "3.bias": "bias",
    }


def test_tied_weights_are_the_head_by_both_names():
    found = optim.roles(Tied())
    assert found["table.weight"] == found["out.weight"] == "head"
    assert (found["mix.weight"], found["scale"], found["norm.weight"]) == ("hidden", "bias", "norm")


def test_what_is_known_comes_before_what_is_seen():
    found = optim.roles(Tied(), {"mix.*": "embedding", "mix.bias": "norm"})
    assert (found["mix.weight"], found["mix.bias"]) == ("embedding", "norm")


@pytest.mark.parametrize(
    ("name", "shape", "role"),
    [
        ("transformer.wte.weight", (5, 4), "embedding"),
        ("model.embed_tokens.weight", (5, 4), "embedding"),
        ("encoder.pos_embedding", (1, 5, 4), "embedding"),
        ("lm_head.weight", (5, 4), "head"),
        ("classifier.weight", (5, 4), "head"),
        ("layers.0.attention.weight", (5, 4), "hidden"),
        ("lm_head.bias", (5,), "bias"),
        ("", (5, 4), "hidden"),
        ("", (), "bias"),
    ],
)
def test_without_a_model_the_name_and_the_shape_say(name, shape, role):
    assert role_of(torch.zeros(shape), name) == role


@pytest.mark.parametrize(
    ("table", "taken"),
    [
        ({"ndim": 2}, {"a.weight", "b.weight"}),
        ({"ndim": [1, 4]}, {"a.bias", "c"}),
        ({"shape": [None, 3]}, {"a.weight"}),
        ({"params": "a.*"}, {"a.weight", "a.bias"}),
        ({"params": ["*.weight"], "shape": [5, 2]}, {"b.weight"}),
        ({"role": "bias"}, {"a.bias"}),
        ({"role": ["head"]}, {"b.weight"}),
        ({}, {"a.weight", "a.bias", "b.weight", "c"}),
    ],
)
def test_a_table_picks_parameters(table, taken):
    shapes = {"a.weight": (4, 3), "a.bias": (4,), "b.weight": (5, 2), "c": (2, 2, 2, 2)}
    pick = picked(table, {"b.weight": "head"})
    assert {name for name, shape in shapes.items() if pick(torch.zeros(shape), name)} == taken
    again = picked(pick.to_dict(), {"b.weight": "head"})
    assert again == pick


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"dims": 2}, "did you mean 'ndim'"),
        ({"role": "hiden"}, "did you mean 'hidden'"),
        ({"ndim": "2"}, "ndim='2': must be one or a list of sizes"),
        ({"params": [1]}, "must be one or a list of names"),
        (2, "does not say which parameters"),
    ],
)
def test_a_table_that_says_nothing_is_refused(table, said):
    with pytest.raises(RecipeError, match=said):
        picked(table)


def test_each_parameter_takes_the_first_route_that_wants_it():
    model = Tied()
    rule = optim.route(
        ({"role": ["head", "embedding"]}, optim.chain(optim.ScaleByLr(lr=1.0))),
        (lambda p, name: p.ndim > 1, optim.chain(optim.Orthogonalise(), optim.ScaleByLr(lr=1.0))),
        otherwise=optim.chain(optim.CoupledDecay(weight_decay=1.0), optim.ScaleByLr(lr=1.0)),
        roles=optim.roles(model),
    )
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = optim.Custom(model.named_parameters(), rule)
    draw = torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=draw)
    optimizer.step()
    after = dict(model.named_parameters())
    grads = {name: p.grad for name, p in after.items()}
    torch.testing.assert_close(after["table.weight"], before["table.weight"] - grads["table.weight"])
    moved = (before["mix.weight"] - after["mix.weight"]).view(4, -1)
    assert 0.5 < float(torch.linalg.svdvals(moved.detach()).min()) < 1.3
    torch.testing.assert_close(after["mix.bias"], -grads["mix.bias"])
    assert "Orthogonalise" in str(optimizer.plan())


def test_a_rate_changed_by_a_scheduler_reaches_every_route():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    optimizer = ds.optim.Muon(model.named_parameters(), lr=1.0, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1.0 if t == 0 else 0.0)
    for after_first in (False, True):
        before = [p.detach().clone() for p in model.parameters()]
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()
        schedule.step()
        for p, former in zip(model.parameters(), before, strict=True):
            assert torch.equal(p, former) is after_first


def test_a_pick_is_a_predicate_of_its_own():
    assert Pick(ndim=(2,))(torch.zeros(2, 2))
    assert not Pick(params=("a",))(torch.zeros(2, 2), "b")
    with pytest.raises(RecipeError, match="asks for names"):
        Pick(params=("a",))(torch.zeros(2, 2))


def _stepped(rule, shapes, **options):
    draw = torch.Generator().manual_seed(0)
    params = [nn.Parameter(torch.randn(shape, generator=draw)) for shape in shapes]
    optimizer = optim.Custom(params, rule, **options)
    for _ in range(3):
        for p in params:
            p.grad = torch.randn(p.shape, generator=draw)
        optimizer.step()
    return [p.detach() for p in params], optimizer


def _adamw(lr, weight_decay, betas=(0.9, 0.999)):
    return optim.chain(
        optim.ScaleByAdam(betas=betas),
        optim.DecoupledDecay(weight_decay=weight_decay),
        optim.ScaleByLr(lr=lr),
    )


def test_each_route_keeps_what_it_was_given():
    few, many = (0.5, 0.0, (0.8, 0.99)), (0.1, 0.3)
    shapes = [(3,), (2, 2)]
    rule = optim.route(({"ndim": [1]}, _adamw(*few)), otherwise=_adamw(*many))
    found, optimizer = _stepped(rule, shapes)
    assert torch.equal(found[0], _stepped(_adamw(*few), shapes)[0][0])
    assert torch.equal(found[1], _stepped(_adamw(*many), shapes)[0][1])
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.3)
    assert (group["betas_0"], group["betas_otherwise"]) == ((0.8, 0.99), (0.9, 0.999))
    assert "betas" not in group
    assert group["eps"] == 1e-8


def test_routes_keep_the_ratio_of_their_rates_and_entries_of_their_own():
    shapes = [(3,), (2, 2)]
    rule = optim.route(({"ndim": [1]}, _adamw(0.5, 0.0, (0.8, 0.99))), otherwise=_adamw(0.1, 0.3))
    params = {"lr": 1.0, "weight_decay": 0.6, "betas_0": (0.7, 0.9)}
    draw = torch.Generator().manual_seed(0)
    ps = [nn.Parameter(torch.randn(shape, generator=draw)) for shape in shapes]
    optimizer = optim.Custom([{"params": ps, **params}], rule)
    for _ in range(3):
        for p in ps:
            p.grad = torch.randn(p.shape, generator=draw)
        optimizer.step()
    assert torch.equal(ps[0], _stepped(_adamw(1.0, 0.0, (0.7, 0.9)), shapes)[0][0])
    torch.testing.assert_close(ps[1].detach(), _stepped(_adamw(0.2, 0.6), shapes)[0][1])
    with pytest.raises(RecipeError, match=r"betas_0\[0\]=2: must lie in \[0, 1\)"):
        optim.Custom([{"params": ps, "betas_0": (2.0, 0.9)}], rule)


def test_a_schedule_moves_the_rates_of_all_routes_and_returns_to_what_was_given():
    rule = optim.route(
        ({"ndim": [1]}, optim.ScaleByLr(lr=0.5)), otherwise=optim.chain(optim.ScaleByLr(lr=0.1))
    )
    ps = [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1, 1))]
    optimizer = optim.Custom(ps, rule, schedules={"lr": lambda t: (0.0, 2.0, 1.0)[t]})
    for moved in ((0.0, 0.0), (-1.0, -0.2), (-1.5, -0.3)):
        for p in ps:
            p.grad = torch.ones_like(p)
        optimizer.step()
        assert [float(p.detach()) for p in ps] == pytest.approx(moved)
    again = optim.Custom(ps, rule)
    again.load_state_dict(optimizer.state_dict())
    assert again.param_groups[0]["lr"] == 0.5


def test_links_around_routes_go_to_every_route():
    inner = optim.route(({"ndim": [1]}, optim.ScaleByLr(lr=0.5)), otherwise=optim.ScaleByLr(lr=0.1))
    rule = optim.chain(optim.ClipNorm(max_norm=1.0), inner, optim.WeightMean())
    ps = [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1, 1))]
    optimizer = optim.Custom(ps, rule)
    ps[0].grad, ps[1].grad = torch.tensor([3.0]), torch.tensor([[4.0]])
    optimizer.step()  # one norm, 5, over both routes
    assert [float(p.detach()) for p in ps] == pytest.approx([-0.3, -0.08], rel=1e-5)
    assert all("weight_mean" in optimizer.state[p] for p in ps)


@pytest.mark.parametrize(
    ("table", "roles"),
    [({"params": ["emb*"]}, None), ({"role": ["embedding"]}, None), ({"role": "hidden"}, {"a": "head"})],
)
def test_routes_that_ask_for_names_refuse_parameters_without(table, roles):
    rule = optim.route((table, optim.ScaleByLr(lr=0.5)), otherwise=optim.ScaleByLr(lr=0.5), roles=roles)
    p = nn.Parameter(torch.zeros(2, 2))
    with pytest.raises(RecipeError, match=r"asks for names, .* pass model.named_parameters\(\)"):
        optim.Custom([p], rule)
    optim.Custom([("a" if roles else "embed", p)], rule)


def test_muon_with_roles_refuses_parameters_without_names():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    with pytest.raises(RecipeError, match="asks for names"):
        optim.Muon(net.parameters(), roles=optim.roles(net))
    optim.Muon(net.named_parameters(), roles=optim.roles(net))
