"""Matrices that somebody's module holds itself: which are maps, and how "auto" draws them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from downslope.init import initialise
from downslope.init.bare import bare_matrices, blocks


class Own(nn.Module):
    """Maps under several names, beside everything that is none."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.b1 = nn.Parameter(torch.zeros(60, 90)), nn.Parameter(torch.zeros(90))
        self.heads = nn.Parameter(torch.zeros(4, 90, 30))
        self.kernel = nn.Parameter(torch.zeros(16, 40, 5))
        self.more = nn.ParameterList([nn.Parameter(torch.full((50, 70), 0.3))])
        self.embedding = nn.Parameter(torch.randn(30, 20))
        self.positions = nn.Parameter(torch.randn(12, 20))
        self.cls_token = nn.Parameter(torch.randn(2, 20))
        self.row = nn.Parameter(torch.randn(1, 20))
        self.per_channel = nn.Parameter(torch.ones(8, 3))
        self.turn = nn.Parameter(torch.eye(6))
        self.held = nn.Parameter(torch.randn(5, 5), requires_grad=False)
        self.known = nn.Linear(20, 20)
        self.whole = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_maps_are_told_from_tables_scales_vectors_and_what_is_chosen() -> None:
    assert [name for name, _ in bare_matrices(Own())] == ["first", "heads", "kernel", "more.0"]


def test_auto_draws_them_by_the_mean_of_both_fans_and_leaves_the_rest() -> None:
    model = Own()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    left = initialise(model, "auto", torch.Generator().manual_seed(0))
    wanted = {"first": 2 / 150, "heads": 2 / 120, "kernel": 2 / (56 * 5), "more.0": 2 / 120}
    for name, variance in wanted.items():
        drawn = dict(model.named_parameters())[name]
        assert abs(drawn.var().item() / variance - 1) < 6 * math.sqrt(2 / drawn.numel()), name
        assert name not in left
    kept = {"b1", "embedding", "positions", "cls_token", "row", "per_channel", "turn", "held"}
    assert kept <= set(left)
    assert all(torch.equal(dict(model.named_parameters())[name], before[name]) for name in kept)


def test_a_rule_asked_for_by_name_goes_only_where_the_role_is_known() -> None:
    model = Own()
    assert {"first", "heads", "kernel", "more.0"} <= set(initialise(model, "he"))
    assert not bool(model.first.any())


def test_a_kernel_stays_whole_and_a_stack_does_not() -> None:
    assert [tuple(each.shape) for each in blocks(torch.zeros(16, 40, 5))] == [(16, 40, 5)]
    assert [tuple(each.shape) for each in blocks(torch.zeros(4, 90, 30))] == [(90, 30)] * 4
    assert [tuple(each.shape) for each in blocks(torch.zeros(9, 7))] == [(9, 7)]
