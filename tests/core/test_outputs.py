"""What stands for an output of several parts, and what of it is example by example."""

from __future__ import annotations

import functools
from collections import namedtuple
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import downslope as ds
from downslope.core import outputs

A, B = torch.zeros(5, 3), torch.ones(5, 2, 4)
STATES = (torch.zeros(1, 5, 8), torch.zeros(2, 5, 8))
Named = namedtuple("Named", ["loss", "logits"])


class Own(nn.CrossEntropyLoss):
    """Somebody's own, which may want the whole."""


def own(output: Any, target: Any) -> Any:
    return output


@pytest.mark.parametrize("output", [{"logits": A}, SimpleNamespace(logits=A, loss=None), Named(None, A)])
def test_named_functions_read_the_logits_and_ones_own_the_whole(output: Any) -> None:
    from downslope.objectives.metrics import accuracy

    named = [
        ds.objectives.make("cross_entropy", label_smoothing=0.1),
        functional.mse_loss,
        nn.L1Loss(),
        accuracy,
    ]
    assert all(outputs.read_by(each, output) is A for each in named)
    assert outputs.read_by(functools.partial(accuracy, threshold=0.5), output) is A
    several = ds.objectives.composite({"logits": "mse"})
    assert all(outputs.read_by(each, output) is output for each in (own, Own(), several, None))


@pytest.mark.parametrize("output", [A, (A, B), {"loss": A}, {"logits": None}, {"logits": [A]}, None])
def test_without_such_a_tensor_the_output_stays_whole(output: Any) -> None:
    assert outputs.read_by(functional.mse_loss, output) is output


@pytest.mark.parametrize(
    "output", [{"logits": A, "other": B}, SimpleNamespace(logits=A, other=B), Named(B, A)]
)
def test_changed_logits_leave_the_output_as_it_was(output: Any) -> None:
    changed = outputs.with_logits(output, lambda made: made + 1)
    assert type(changed) is type(output)
    assert torch.equal(outputs.logits(changed), A + 1)
    assert outputs.logits(output) is A


def test_what_is_by_example_is_kept_and_the_rest_told() -> None:
    found = outputs.by_example((A, STATES), 5)
    assert found.output is A
    assert found.left_out == ((1, 5, 8), (2, 5, 8))
    assert outputs.by_example({"loss": torch.tensor(1.0), "logits": A}, 5) == (A, ())
    assert outputs.by_example((A, B), 5).output == (A, B)
    assert list(outputs.by_example(SimpleNamespace(box=B, kind=A, note="x"), 5).output) == ["box", "kind"]
    assert list(outputs.by_example({"digit": A}, 5).output) == ["digit"]
    assert outputs.by_example((torch.eye(4),), 5) == (None, ((4, 4),))


def test_another_number_of_examples_tells_their_dimension_from_layers() -> None:
    one, two = ((torch.zeros(n, 3), (torch.zeros(1, n, 8), torch.zeros(1, n, 8))) for n in (1, 2))
    assert isinstance(outputs.by_example(one, 1).output, tuple)
    assert outputs.by_example(one, 1, (two, 2)).output is one[0]
