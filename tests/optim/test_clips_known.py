"""What an optimizer says that it clips is what its steps are seen to be clipped to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from downslope import optim as o
from downslope.optim.clips import Clips, clips

Links = Callable[[], list[Any]]

LR = o.ScaleByLr(lr=0.1)

KNOWN: dict[str, tuple[list[Any], Clips | None]] = {
    "norm": ([o.ClipNorm(max_norm=1.0), LR], Clips("clip norm 1", 1.0, True)),
    "norm before momentum": (
        [o.ClipNorm(max_norm=0.5), o.HeavyBall(momentum=0.9), LR],
        Clips("clip norm 0.5", 0.5, True),
    ),
    "norm before Adam": (
        [o.ClipNorm(max_norm=1.0), o.ScaleByAdam(), LR],
        Clips("clip norm 1", 1.0, False),
    ),
    "norm of the step": ([o.ScaleByAdam(), o.ClipNorm(max_norm=1.0), LR], Clips("clip norm 1", None, True)),
    "norm after decay": (
        [o.CoupledDecay(weight_decay=0.1), o.ClipNorm(max_norm=1.0), LR],
        Clips("clip norm 1", 1.0, True),
    ),
    "another norm": ([o.ClipNormInf(max_norm=2.0), LR], Clips("clip norm 2 (largest size)", None, True)),
    "value": ([o.ClipValue(clip_value=0.25), LR], Clips("clip value 0.25", None, True)),
    "tensors": ([o.ClipTensor(max_tensor_norm=3.0), LR], Clips("clip norm 3 of each tensor", None, True)),
    "adaptive": ([o.ClipAdaptive(), LR], Clips("clip 0.01 of each unit's weights", None, True)),
    "two": (
        [o.ClipValue(clip_value=1.0), o.ClipNorm(max_norm=2.0), LR],
        Clips("clip value 1 and clip norm 2", 2.0, True),
    ),
    "idle": ([o.ClipNorm(), LR], None),
    "none": ([o.ScaleByAdam(), LR], None),
}


def made(links: list[Any]) -> tuple[o.Custom, nn.Parameter]:
    p = nn.Parameter(torch.ones(3, 4, dtype=torch.float64))
    return o.Custom([p], o.chain(*links)), p


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_clipped_is_known_from_the_links(name: str) -> None:
    links, known = KNOWN[name]
    assert clips(made(links)[0]) == known


@pytest.mark.parametrize("name", [name for name, (_, known) in KNOWN.items() if known and known.norm])
def test_plain_is_what_steps_half_as_far_by_a_clip_twice_as_tight(name: str) -> None:
    """The first step by a gradient far beyond the clip, which a method that divides by its size undoes."""
    links, known = KNOWN[name]
    assert known is not None
    moved: list[float] = []
    for share in (1.0, 0.5):
        tight = [
            type(link)(max_norm=share * link.max_norm) if isinstance(link, o.ClipNorm) else link
            for link in links
        ]
        optimizer, p = made(tight)
        before = torch.ones_like(p)
        p.grad = torch.full_like(p, 1e6)
        optimizer.step()
        moved.append(torch.dist(p, before).item())
    assert moved[1] / moved[0] == pytest.approx(0.5 if known.plain else 1.0, rel=1e-3)


def test_of_a_wrapper_what_is_inside_counts_and_of_torch_nothing_is_known() -> None:
    optimizer, p = made([o.ClipNorm(max_norm=1.0), LR])
    assert clips(o.SAM(optimizer)) == KNOWN["norm"][1]
    assert clips(o.Lookahead(o.Adam([p]))) is None
    assert clips(torch.optim.SGD([p], lr=0.1)) is None


def test_a_clip_that_only_some_parameters_have_is_not_one_of_the_whole_gradient() -> None:
    p, q = nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(3))
    route = o.route((lambda p, _: p.ndim == 2, o.chain(o.ClipNorm(max_norm=1.0), LR)), otherwise=o.chain(LR))
    assert clips(o.Custom([p, q], route)) == Clips("clip norm 1", None, True)


def test_the_setting_of_a_group_counts() -> None:
    optimizer, _ = made([o.ClipNorm(max_norm=1.0), LR])
    optimizer.param_groups[0]["max_norm"] = 7.0
    assert clips(optimizer) == Clips("clip norm 7", 7.0, True)
