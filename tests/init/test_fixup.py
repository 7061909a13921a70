"""Fixup: what is taken for a residual branch, how it is scaled, and what that is worth at 100 layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import downslope as ds
from downslope.core.errors import ModelError
from downslope.init import branches, fixup, initialise
from tests.init.test_initialise import has_variance, seeded


class Residual(nn.Module):
    """``x + f(x)``, f of `m` linear maps with ReLU before each."""

    def __init__(self, width: int, m: int = 2):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(m))

    def forward(self, x):
        y = x
        for layer in self.layers:
            y = layer(functional.relu(y))
        return x + y


def residual(depth: int, width: int = 64, m: int = 2) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(64, width), *(Residual(width, m) for _ in range(depth)), nn.ReLU(), nn.Linear(width, 10)
    )


@pytest.mark.parametrize(("depth", "m"), [(9, 2), (5, 3), (4, 1)])
def test_the_weights_of_a_branch_have_the_papers_scale_and_its_last_is_zero(depth, m):
    model = residual(depth, 128, m)
    assert fixup(model, seeded(), batch=torch.randn(2, 64)) == []
    for block in list(model)[1 : 1 + depth]:
        *inside, last = block.layers
        assert last.weight.abs().max() == 0
        for layer in inside:
            assert has_variance(layer.weight, 2 / 128 * (depth ** (-1 / (2 * m - 2))) ** 2)
    assert has_variance(model[0].weight, 2 / 64)  # in no branch
    assert model[-1].weight.abs().max() == 0


def test_projections_in_place_sums_and_nested_branches_are_recognised():
    class Down(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.short = (
                nn.Conv2d(4, 8, 3, 2, 1),
                nn.Conv2d(8, 8, 3, 1, 1),
                nn.Conv2d(4, 8, 1, 2),
            )

        def forward(self, x):
            y = self.b(functional.relu(self.a(x)))
            y += self.short(x)
            return y

    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.out = Down(), nn.Conv2d(8, 8, 1)
            self.inner = nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x):
            x = self.down(x)
            y = torch.add(x, self.inner(functional.relu(x)))
            return functional.avg_pool2d(x.add(self.out(y)), 2)

    found = branches(Nested(), torch.randn(2, 4, 8, 8))
    assert [each.weights for each in found] == [
        ("down.a.weight", "down.b.weight"), ("inner.weight",), ("out.weight",)
    ]  # fmt: skip
    assert str(found[0]) == "down: down.a.weight -> down.b.weight"


def test_towers_positions_and_recurrences_by_hand_are_no_branches():
    class Towers(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.place = nn.Linear(4, 4), nn.Linear(4, 4), nn.Parameter(torch.randn(3, 4))
            self.into, self.again = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            x = self.a(x) + self.b(x) + self.place
            state = torch.zeros_like(x[:, 0])
            for step in range(3):
                state = torch.tanh(self.into(x[:, step]) + self.again(state))
            return state

    model = Towers()
    assert branches(model, torch.randn(2, 3, 4)) == []
    with pytest.raises(ModelError, match=r"no residual branch.*'lsuv'"):
        fixup(model, batch=torch.randn(2, 3, 4))


def test_a_transformers_attention_and_mlp_are_branches():
    model = ds.models.transformer(5, 3, width=16, depth=2)
    found = branches(model, torch.randn(2, 7, 5))
    assert [each.weights[-1] for each in found] == [
        "blocks.0.attention.out.weight", "blocks.0.mlp.2.weight",
        "blocks.1.attention.out.weight", "blocks.1.mlp.2.weight",
    ]  # fmt: skip
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert [each.weights for each in branches(layer, torch.randn(2, 5, 8))] == [
        ("self_attn.in_proj_weight", "self_attn.out_proj.weight"), ("linear1.weight", "linear2.weight")
    ]  # fmt: skip


def test_a_table_of_tokens_that_reads_out_as_well_is_not_set_to_zero():
    x = torch.randint(0, 30, (4, 8), generator=seeded())
    for tied in (True, False):
        model = ds.models.gpt(30, 8, width=16, depth=2, tied=tied)
        fixup(model, seeded(), batch=x)
        sizes = {name: p.abs().max().item() for name, p in model.named_parameters()}
        assert sizes["tokens.weight"] > 0
        assert sizes["blocks.1.mlp.2.weight"] == 0
        assert tied or 0 in [size for name, size in sizes.items() if name.startswith("head")]


def change_of_the_output(init: str, depth: int) -> float:
    """How far one step of plain gradient descent at lr 0.1 moves the logits of a batch, root mean square."""
    x, y = ds.data.digits(scale=16).train
    x, y = x.flatten(1)[:256], y[:256]
    model = residual(depth)
    initialise(model, init, seeded(), batch=x)
    before = model(x)
    functional.cross_entropy(before, y).backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.1 * p.grad
        return (model(x) - before).square().mean().sqrt().item()


def test_one_step_changes_the_output_by_the_same_at_every_depth_and_without_fixup_it_explodes():
    changes = [change_of_the_output("fixup", depth) for depth in (5, 50, 200)]
    assert min(changes) > 0.02
    assert max(changes) < 2 * min(changes)
    assert not change_of_the_output("he", 50) < 1e3


def test_a_residual_network_of_100_layers_without_norm_trains():
    digits = ds.data.digits(scale=16)
    problem = ds.Problem(
        model=lambda: nn.Sequential(nn.Flatten(), residual(49)),  # 2 + 98 weights
        objective="cross_entropy", train=digits.train, valid=digits.valid, metric="accuracy",
    )  # fmt: skip
    recipe = ds.Recipe(optimizer="sgd", lr=0.05, momentum=0.9, batch_size=64, steps=60, init="fixup")
    run = ds.fit(problem, recipe, folder=False, progress=False, observe=0)
    assert run.summary["valid_metric"] > 0.85
    plain = ds.fit(problem, recipe.edit(init="he"), folder=False, progress=False, observe=0)
    assert plain.status == "diverged" or plain.summary["valid_metric"] < 0.3


def test_without_a_batch_it_is_refused_in_one_line():
    with pytest.raises(ModelError, match="give a batch"):
        initialise(residual(2), "fixup")
    with pytest.raises(ModelError, match="cannot take the batch"):
        initialise(residual(2), "fixup", batch=torch.randn(2, 3))
