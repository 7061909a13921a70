"""Batches as pytrees: splitting, cutting, joining."""

from __future__ import annotations

import dataclasses
import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from downslope.core import batches
from downslope.core.errors import DataError


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    loss: torch.Tensor | None = None


def tree(n: int) -> dict[str, Any]:
    rows = torch.arange(n)
    return {"a": rows, "b": (rows.double(), [rows[:, None].repeat(1, 3)]), "note": "kept"}


def test_the_last_element_is_the_target_and_the_rest_goes_to_the_model() -> None:
    a, b, y = torch.zeros(2), torch.ones(2), torch.full((2,), 2.0)
    args, kwargs, target = batches.default_split((a, b, y))
    assert args[0] is a
    assert args[1] is b
    assert kwargs == {}
    assert target is y


def test_a_dict_gives_its_labels_and_is_left_as_it_was() -> None:
    given_batch = {"x": torch.zeros(2), "labels": torch.ones(2)}
    args, kwargs, target = batches.default_split(given_batch)
    assert args == ()
    assert list(kwargs) == ["x"]
    assert target is given_batch["labels"]
    assert "labels" in given_batch


def test_a_single_tensor_is_input_and_target() -> None:
    x = torch.zeros(2)
    assert batches.default_split((x,)).target is x
    assert batches.default_split(x).args == (x,)


def test_a_model_with_a_loss_gets_the_labels_and_a_metric_sees_them_too() -> None:
    y = torch.ones(2)
    args, kwargs, target = batches.whole_split({"x": torch.zeros(2), "labels": y})
    assert set(kwargs) == {"x", "labels"}
    assert args == ()
    assert target is y


@given(n=st.integers(1, 40), size=st.integers(1, 50))
def test_slices_cut_every_leaf_alike_and_lose_nothing(n: int, size: int) -> None:
    pieces = list(batches.slices(tree(n), size))
    assert [batches.length(piece) for piece in pieces] == [min(size, n - i) for i in range(0, n, size)]
    assert torch.equal(torch.cat([piece["b"][1][0] for piece in pieces]), tree(n)["b"][1][0])
    assert all(piece["note"] == "kept" for piece in pieces)


@given(n=st.integers(1, 30), seed=st.integers(0, 1000))
def test_taking_examples_is_indexing_every_leaf(n: int, seed: int) -> None:
    index = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    taken = batches.take(tree(n), index)
    assert torch.equal(taken["a"], index)
    assert torch.equal(taken["b"][0], index.double())


@given(n=st.integers(1, 30), size=st.integers(1, 31))
def test_joining_what_was_cut_gives_the_whole(n: int, size: int) -> None:
    whole = tree(n)
    joined = batches.join(list(batches.slices(whole, size)))
    assert torch.equal(joined["a"], whole["a"])
    assert torch.equal(joined["b"][1][0], whole["b"][1][0])


@pytest.mark.parametrize("kind", [Output, SimpleNamespace])
def test_outputs_that_are_objects_are_joined_field_by_field(kind: Any) -> None:
    first = kind(logits=torch.zeros(2, 3), loss=torch.tensor(1.0))
    second = kind(logits=torch.ones(1, 3), loss=torch.tensor(2.0))
    joined = batches.join([first, second])
    assert joined.logits.shape == (3, 3)
    assert float(joined.loss) == 2.0
    assert first.logits.shape == (2, 3)


def test_an_output_that_nobody_can_join_is_refused() -> None:
    with pytest.raises(DataError, match="cannot be joined"):
        batches.join([object(), object()])


def test_only_floating_leaves_change_their_type() -> None:
    moved = batches.to((torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.int64)),
                       torch.device("cpu"), torch.float32)  # fmt: skip
    assert [leaf.dtype for leaf in moved] == [torch.float32, torch.int64]


@pytest.mark.parametrize("bad", [(torch.zeros(3), torch.zeros(2)), (torch.tensor(1.0),), ("words",)])
def test_leaves_of_different_length_are_no_batch(bad: Any) -> None:
    with pytest.raises(DataError, match="same first dimension"):
        batches.length(bad)


def test_states_are_joined_along_the_dimension_of_the_examples() -> None:
    x = torch.randn(11, 5, 3)
    cells = torch.nn.LSTM(3, 4, num_layers=2, batch_first=True)
    cuts = [0, 4, 8, 11]
    with torch.no_grad():
        steps, (h, c) = cells(x)
        parts = [cells(x[a:b]) for a, b in itertools.pairwise(cuts)]
    joined, (joined_h, joined_c) = batches.join(parts, [4, 4, 3])
    for found, wanted in ((joined, steps), (joined_h, h), (joined_c, c)):
        assert torch.allclose(found, wanted, atol=1e-6)


def test_a_tensor_beside_others_is_joined_where_it_counts_examples_and_else_the_last() -> None:
    first = {"made": torch.zeros(4, 2), "table": torch.eye(7), "steps": torch.zeros(12, 5)}
    second = {"made": torch.ones(3, 2), "table": torch.eye(7), "steps": torch.ones(9, 5)}
    joined = batches.join([first, second], [4, 3])
    assert {key: tuple(each.shape) for key, each in joined.items()} == {
        "made": (7, 2), "table": (7, 7), "steps": (21, 5),
    }  # fmt: skip


class Own(dict[str, torch.Tensor]):
    """As libraries return their outputs: entries that are attributes too."""

    def __getattr__(self, name: str) -> torch.Tensor:
        return self[name]


def test_a_dict_of_a_class_of_its_own_is_joined_entry_by_entry() -> None:
    parts = [Own(logits=torch.zeros(2, 3)), Own(logits=torch.ones(1, 3))]
    joined = batches.join(parts)
    assert type(joined) is Own
    assert joined.logits.tolist() == [[0.0] * 3, [0.0] * 3, [1.0] * 3]
    assert len(parts[1].logits) == 1
