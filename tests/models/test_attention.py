"""The transformer against torch's own layer with the same weights, and against the formula."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from downslope.core.errors import ModelError
from downslope.models import transformer
from downslope.models.attention import Attention, Block, positions


def test_a_block_is_torchs_encoder_layer_with_the_norm_first():
    torch.manual_seed(0)
    ours = Block(16, 4, 0.0).double()
    theirs = nn.TransformerEncoderLayer(
        16, 4, 64, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, dtype=torch.float64
    )
    attention = theirs.self_attn
    for mine, other in (
        (ours.norm1, theirs.norm1), (ours.norm2, theirs.norm2), (ours.attention.out, attention.out_proj),
        (ours.mlp[0], theirs.linear1), (ours.mlp[2], theirs.linear2),
    ):  # fmt: skip
        nn.init.normal_(mine.weight, 0.0, 0.3)
        nn.init.normal_(mine.bias, 0.0, 0.3)
        other.load_state_dict(mine.state_dict())
    attention.in_proj_weight.data.copy_(ours.attention.into.weight)
    attention.in_proj_bias.data.copy_(ours.attention.into.bias)
    x = torch.randn(3, 7, 16, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs.train()(x))


def test_attention_is_its_formula_in_each_head():
    torch.manual_seed(0)
    part = Attention(6, 2).double()
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    q, k, v = part.into(x).chunk(3, dim=2)
    heads = []
    for head in (slice(0, 3), slice(3, 6)):
        seen = torch.softmax(q[..., head] @ k[..., head].mT / math.sqrt(3), dim=-1)
        heads.append(seen @ v[..., head])
    torch.testing.assert_close(part(x), part.out(torch.cat(heads, dim=2)))


def test_positions_are_the_papers():
    found = positions(9, 6)
    for t in (0, 3, 8):
        for i in range(3):
            angle = t / 10_000 ** (2 * i / 6)
            assert found[t, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-5)
            assert found[t, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-5)


def test_the_order_of_the_steps_counts():
    torch.manual_seed(0)
    model = transformer(9, 3, tokens=True).eval()
    x = torch.randperm(9).unsqueeze(0)
    assert model(x).shape == (1, 3)
    assert not torch.allclose(model(x), model(x.flip(1)))


def test_steps_of_numbers_are_taken_too():
    assert transformer(4, 2, width=8, heads=2)(torch.randn(5, 11, 4)).shape == (5, 2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"width": 30}, "heads=4"), ({"width": 9, "heads": 3}, "even"), ({"dropout": 1.0}, "dropout")],
)
def test_what_is_outside_its_domain_is_refused(arguments, said):
    with pytest.raises(ModelError, match=said):
        transformer(4, 2, **arguments)


def test_the_activation_of_its_blocks_can_be_chosen():
    model = transformer(4, 2, width=8, heads=2, depth=3, activation="relu")
    assert sum(isinstance(each, torch.nn.ReLU) for each in model.modules()) == 3
    assert not any(isinstance(each, torch.nn.GELU) for each in model.modules())
