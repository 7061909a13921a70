"""The small GPT: published sizes, causality, its start, and its attention against torch's own layer."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from downslope.core.errors import ModelError
from downslope.models import gpt
from downslope.models.attention import Block


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_its_size_is_that_of_gpt2_and_of_nanogpts_recipes() -> None:
    with torch.device("meta"):  # GPT-2 is not made, only counted
        large = gpt(50_257, 1024, width=768, heads=12, depth=12, bias=True)
        letters = gpt(65, 256, width=384, heads=6, depth=6)
        small = gpt(65, 64)
    assert count(large) == 124_439_808
    assert (count(letters) - 256 * 384) / 1e6 == pytest.approx(10.65, abs=0.005)  # told without places
    assert (count(small) - 64 * 128) / 1e6 == pytest.approx(0.80, abs=0.005)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_its_size_is_the_formula(bias, tied) -> None:
    V, S, w, L = 11, 6, 8, 3
    wanted = V * w + S * w + L * (12 * w * w + 2 * w) + w + bias * (11 * L * w + w) + (not tied) * V * w
    assert count(gpt(V, S, width=w, depth=L, heads=2, bias=bias, tied=tied)) == wanted


def test_a_step_sees_itself_and_those_before_it_and_no_later_one() -> None:
    torch.manual_seed(0)
    model = gpt(9, 8, width=16, depth=2).eval()
    x = torch.randint(9, (2, 8))
    changed = x.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 9
    before, after = model(x), model(changed)
    assert before.shape == (2, 8, 9)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert (before[:, 5:] - after[:, 5:]).abs().amax(2).min() > 1e-5
    torch.testing.assert_close(model(x[:, :3]), before[:, :3])


def test_a_causal_block_is_torchs_encoder_layer_under_a_causal_mask() -> None:
    torch.manual_seed(0)
    ours = Block(16, 4, 0.0, causal=True).double()
    theirs = nn.TransformerEncoderLayer(
        16, 4, 64, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, dtype=torch.float64
    )
    attention = theirs.self_attn
    theirs.norm1.load_state_dict(ours.norm1.state_dict())
    theirs.norm2.load_state_dict(ours.norm2.state_dict())
    theirs.linear1.load_state_dict(ours.mlp[0].state_dict())
    theirs.linear2.load_state_dict(ours.mlp[2].state_dict())
    attention.out_proj.load_state_dict(ours.attention.out.state_dict())
    attention.in_proj_weight.data.copy_(ours.attention.into.weight)
    attention.in_proj_bias.data.copy_(ours.attention.into.bias)
    x = torch.randn(3, 7, 16, dtype=torch.float64)
    mask = nn.Transformer.generate_square_subsequent_mask(7, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x, src_mask=mask, is_causal=True))


def test_it_starts_as_nanogpt_does() -> None:
    torch.manual_seed(0)
    model = gpt(65, 64, bias=True)
    scaled = 0.02 / math.sqrt(2 * 4)
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            assert not p.any(), name
        elif "norm" in name:
            assert torch.all(p == 1), name
        else:
            back = name.endswith(("attention.out.weight", "mlp.2.weight"))
            assert p.std().item() == pytest.approx(scaled if back else 0.02, rel=0.05), name
    x, y = torch.randint(65, (2, 4, 64))
    loss = nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
    assert loss.item() == pytest.approx(math.log(65), rel=0.02)  # of a uniform guess


def test_tied_embeddings_are_one_parameter() -> None:
    model = gpt(9, 4)
    assert model.head.weight is model.tokens.weight
    apart = gpt(9, 4, tied=False)
    assert apart.head.weight is not apart.tokens.weight


def test_dropout_acts_in_embedding_attention_and_blocks_in_training_alone() -> None:
    torch.manual_seed(0)
    model = gpt(9, 8, width=16, depth=2, dropout=0.3)
    x = torch.randint(9, (2, 8))
    assert sum(isinstance(m, nn.Dropout) for m in model.modules()) == 1 + 2 * 2
    assert model.blocks[0].attention.share == 0.3
    attended = model.blocks[0].attention
    stream = torch.randn(2, 8, 16)
    assert not torch.equal(attended(stream), attended(stream))
    model.eval()
    assert torch.equal(model(x), model(x))
    assert torch.equal(attended(stream), attended(stream))


def test_it_goes_on_with_a_sequence_that_it_knows_by_heart() -> None:
    torch.manual_seed(0)
    model = gpt(5, 6, width=32, heads=2, depth=1)
    line = torch.arange(200) % 5
    windows = line.unfold(0, 7, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        out = model(windows[:, :-1])
        nn.functional.cross_entropy(out.flatten(0, 1), windows[:, 1:].flatten()).backward()
        optimizer.step()
    draw = torch.Generator().manual_seed(0)
    told = model.generate(line[:3].unsqueeze(0), 20, temperature=0.1, top=2, generator=draw)
    assert told[0].tolist() == line[:23].tolist()  # also beyond its six places
    assert model.training
    assert model.generate(line[:3].unsqueeze(0), 0).shape == (1, 3)


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda: gpt(9, 4, width=30), "heads=4"),
        (lambda: gpt(9, 4, dropout=1.0), "dropout"),
        (lambda: gpt(9, 0), "steps=0"),
        (lambda: gpt(9, 4)(torch.zeros(1, 5, dtype=torch.long)), "5 steps: this gpt has places for 4"),
        (lambda: gpt(9, 4).generate(torch.zeros(1, 2, dtype=torch.long), 1, temperature=0.0), "temperature"),
        (lambda: gpt(9, 4).generate(torch.zeros(1, 2, dtype=torch.long), 1, top=0), "top=0"),
    ],
)
def test_what_is_outside_its_domain_is_refused(act, said) -> None:
    with pytest.raises(ModelError, match=said):
        act()
