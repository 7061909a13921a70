"""Gradients by hand are those of autograd through `torch.func.vmap`, in the places given for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from downslope.models.mlp import mlp
from downslope.training.population.backward import ByHand
from downslope.training.population.chain import LayerChain
from tests.training.population.test_chain import MODELS, B, C, D, M, by_vmap, numbers, population, slopes

OWN: dict[str, Callable[[], nn.Module]] = {
    "in place": lambda: nn.Sequential(
        nn.Linear(D, 7), nn.ReLU(inplace=True), nn.Linear(7, 7), nn.ELU(inplace=True), nn.Linear(7, C),
        nn.LeakyReLU(inplace=True), nn.LayerNorm(C), nn.ReLU(inplace=True),
    ),
    "activation first": lambda: nn.Sequential(nn.Tanh(), nn.LayerNorm(D), nn.Linear(D, C), nn.Sigmoid()),
}  # fmt: skip


def in_rows(views: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The same numbers as columns of one table, and a table of the same shape for the gradients."""
    leaves = {id(v): v for v in views.values() if v.requires_grad}
    sizes = [v[0].numel() for v in leaves.values()]
    tables = torch.cat([v.detach().flatten(1) for v in leaves.values()], 1), torch.full((M, sum(sizes)), 9.0)
    cut = [
        {
            key: part.view(v.shape)
            for (key, v), part in zip(leaves.items(), table.double().split(sizes, 1), strict=True)
        }
        for table in tables
    ]
    rows, places = ({k: each[id(v)] for k, v in views.items() if id(v) in leaves} for each in cut)
    return {k: v for k, v in views.items() if k not in rows} | rows, places


@pytest.mark.parametrize(("shared", "alike"), [(True, True), (False, False)])
@pytest.mark.parametrize("name", [*MODELS, *OWN])
def test_gradients_are_those_of_autograd(name: str, shared: bool, alike: bool) -> None:
    template, views = population({**MODELS, **OWN}[name], alike=alike)
    x = numbers(B, D) if shared else numbers(M, B, D)
    rows, places = in_rows(views)
    buffers = {k: v.clone() for k, v in views.items() if not v.requires_grad}
    theirs = by_vmap(template, views | buffers, x, shared=shared, whole=False)
    hand = ByHand(LayerChain(template))
    for _ in range(2):  # the second pass overwrites the first
        rows |= {k: buffers[k].clone() for k in buffers}
        output = hand.forward(rows, x, shared=shared)
        weights = torch.linspace(-1, 2, output.numel(), dtype=torch.float64).view_as(output)
        hand.backward(torch.autograd.grad((output * weights).sum(), output)[0], places)
    torch.testing.assert_close(output, theirs, rtol=1e-12, atol=1e-12)
    found = list({v.data_ptr(): v for v in places.values()}.values())
    torch.testing.assert_close(found, slopes(theirs, views), rtol=1e-12, atol=1e-12)


def test_what_is_not_trained_is_neither_written_nor_gone_through() -> None:
    template, views = population(MODELS["mlp"], alike=True)
    for name, p in template.named_parameters():
        p.requires_grad_(name.startswith("3"))
    x = numbers(B, D)
    rows, places = in_rows(views)
    del places["1.weight"], places["1.bias"], places["5.weight"], places["5.bias"]
    hand = ByHand(LayerChain(template))
    output = hand.forward(rows, x, shared=True)
    hand.backward(torch.autograd.grad(output.sum(), output)[0], places)
    whole = by_vmap(template, views, x, shared=True, whole=False)
    theirs = torch.autograd.grad(whole.sum(), [views["3.weight"], views["3.bias"]])
    torch.testing.assert_close([places["3.weight"], places["3.bias"]], list(theirs), rtol=1e-12, atol=1e-12)


def test_dropout_goes_back_by_the_mask_that_was_drawn() -> None:
    template, views = population(lambda: mlp(D, C, width=7, depth=1, dropout=0.5), alike=True)
    mask, x = (numbers(M, B, 7) > 0).double() * 2, numbers(B, D)
    rows, places = in_rows(views)
    hand = ByHand(LayerChain(template, lambda index, h: h * mask))
    output = hand.forward(rows, x, shared=True)
    hand.backward(torch.autograd.grad(output.square().sum(), output)[0], places)
    theirs = LayerChain(template, lambda index, h: h * mask).forward(views, x, shared=True)
    expected = torch.autograd.grad(theirs.square().sum(), list(views.values()))
    torch.testing.assert_close(list(places.values()), list(expected), rtol=1e-12, atol=1e-12)
