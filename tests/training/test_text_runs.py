"""Runs on text and on streams: stopped within an epoch and gone on with, they end with the same bits."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

import downslope as ds
from downslope.core.sources import Stream
from downslope.training.fit import resume
from downslope.training.state import StepState
from tests.training.problems import same_history, same_state

HOW = ds.Recipe(optimizer="adam", lr=0.01, batch_size=8, epochs=3, seed=1)


class Noisy(Dataset):
    """Examples that are augmented anew in every epoch."""

    def __len__(self) -> int:
        return 90

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return torch.randn(3) + i % 3, i % 3


def on_text() -> ds.Problem:
    tokens = torch.randint(11, (900,), generator=torch.Generator().manual_seed(0))
    train, valid = ds.data.Windows(tokens[:700], 10, 11), ds.data.Windows(tokens[700:], 10, 11)
    small = {"width": 8, "depth": 1, "heads": 2, "dropout": 0.2}
    return ds.Problem(model="gpt", objective="cross_entropy", train=train, valid=valid, arguments=small)


def on_a_stream() -> ds.Problem:
    return ds.Problem(model="mlp", objective="cross_entropy", train=Stream(Noisy()), arguments={"outputs": 3})


@pytest.mark.parametrize("problem", [on_text, on_a_stream])
def test_a_run_that_goes_on_equals_one_that_was_not_stopped(
    problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["downslope.training.ready"], "probe_price", lambda *_: 1.5)

    def stop(state: StepState) -> None:
        within = state.step % (state.problem.train_source.steps(8) or 1)
        if state.step >= 11 and within and state.run.status == "running":
            signal.raise_signal(signal.SIGINT)

    whole = ds.fit(problem(), HOW, folder=tmp_path / "whole", progress=False, observe=0.5)
    part = ds.fit(problem(), HOW, folder=tmp_path / "part", progress=False, observe=0.5, on_probe=stop)
    assert part.status == "interrupted"
    assert part.summary["steps"] % (part.problem.train_source.steps(8) or 0)  # type: ignore[union-attr]
    again = resume(tmp_path / "part", problem(), progress=False)
    assert same_history(again, whole)
    assert same_state(again.model("last").state_dict(), whole.model("last").state_dict())


def test_a_member_of_a_population_on_text_equals_a_run_alone() -> None:
    alone = ds.fit(on_text(), HOW, folder=False, progress=False)
    (member,) = ds.fit_population(on_text(), HOW, progress=False)
    assert member.summary["valid_loss"] == pytest.approx(alone.summary["valid_loss"], rel=1e-6)
