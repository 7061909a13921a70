"""What a watched model was handed is kept in small; which of its axes counts the examples is not guessed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from downslope.core.errors import ModelError
from downslope.diagnosis.company import MOST, Company


class Reads(nn.Module):
    def __init__(self, *, first: bool) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 8, batch_first=first)

    def forward(self, x: Tensor, *rest: Any) -> Tensor:
        made = self.rnn(x)[0]
        return made[:, -1] if self.rnn.batch_first else made[-1]


def asked(model: nn.Module, target: tuple[int, ...], *batches: Any) -> dict[str, Any] | None:
    company = Company()
    for step, each in enumerate(batches, 1):
        company.note(model, each if isinstance(each, tuple) else (each,), {}, step)
    return company.measure(dict.fromkeys(range(1, len(batches) + 1), target))


def test_targets_say_along_which_axis_the_examples_lie() -> None:
    first, time = Reads(first=True), Reads(first=False)
    for _ in range(2):
        found = asked(first, (32,), torch.randn(32, 6, 4), torch.randn(32, 6, 4))
        assert found is not None
        assert (found["share"], found["whole"], found["rows"]) == (0, False, 32)
    found = asked(time, (32, 3), torch.randn(6, 32, 4), torch.randn(6, 32, 4))
    assert found is not None
    assert found["share"] == 0
    found = asked(time, (6,), torch.randn(6, 32, 4))
    assert found is not None
    assert found["by"] == "batch_first"


@pytest.mark.parametrize(
    ("sizes", "target"),
    [((32, 6, 4), (6 * 32,)), ((32, 6, 4), (32, 6)), ((6, 32, 4), (6, 32, 2)), ((6, 6, 4), (6,)),
     ((32, 6, 4), ()), ((32, 6, 4), (7,))],
)  # fmt: skip
def test_targets_that_do_not_say_it_are_no_evidence(sizes: tuple[int, ...], target: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="which axis"):
        asked(Reads(first=True), target, torch.randn(sizes))


def test_tables_and_images_have_their_examples_first() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(27, 3))
    for sizes, target in (((27, 27), (27, 27)), ((3, 3, 3, 3), (3, 3, 3, 3)), ((8, 3, 3, 3), (8, 3))):
        if sizes[0] == 3:
            with pytest.raises(ModelError, match="too small"):
                asked(flat, target, torch.randn(sizes))
            continue
        found = asked(flat, target, torch.randn(sizes))
        assert found is not None
        assert found["share"] == 0


def test_the_same_batch_in_every_step_is_noted() -> None:
    x = torch.randn(32, 6, 4)
    found = asked(Reads(first=True), (32,), x, x.clone())
    assert found is not None
    assert found["whole"]


def test_large_batches_are_cut_and_huge_examples_are_not_kept() -> None:
    flat = nn.Flatten()
    found = asked(flat, (64,), torch.randn(64, 1, 2, MOST // 20))
    assert found is not None
    assert found["rows"] == 10
    assert asked(flat, (64,), torch.randn(64, 1, 1, MOST // 3)) is None


def test_a_model_that_is_gone_and_batches_that_are_no_tensors_are_left_alone() -> None:
    company = Company()
    company.note(Reads(first=True), (torch.randn(32, 6, 4),), {}, 1)
    assert company.measure({1: (32,)}) is None
    assert asked(Reads(first=True), (32,), (["text"],), (torch.randn(3).to_sparse(),)) is None


def test_what_is_kept_is_not_what_the_loop_goes_on_with() -> None:
    model, x = Reads(first=True), torch.randn(32, 6, 4)
    company = Company()
    company.note(model, (x, {"rest": [x, 3]}), {}, 1)
    x.fill_(float("nan"))
    found = company.measure({1: (32,)})
    assert found is not None
    assert found["share"] == 0
