"""Schedules and optimizers by name on the command line, and what the run keeps of them."""

from __future__ import annotations

import pytest

import downslope as ds
from downslope.cli.main import main

HOW = [
    "--set",
    "optimizer=lion",
    "--set",
    "lr=0.001",
    "--set",
    "batch_size=71",
    "--set",
    "epochs=4",
    "--quiet",
]


@pytest.mark.parametrize(
    ("schedule", "kept"),
    [
        ("wsd(rise=0.25)", "warmup_stable_decay(rise=0.25)"),
        ("plateau(factor=0.5, patience=0)", "plateau(factor=0.5, patience=0)"),
        (
            "torch.optim.lr_scheduler:StepLR(4, gamma=0.5)",
            "torch.optim.lr_scheduler:StepLR(step_size=4, gamma=0.5)",
        ),
    ],
)
def test_a_schedule_is_set_trained_by_and_kept(schedule, kept, tmp_path):
    folder = tmp_path / "run"
    assert main(["fit", "wine", *HOW, "--set", f"schedule={schedule}", "--folder", str(folder)]) == 0
    run = ds.load_run(folder)
    assert run.recipe is not None
    assert (run.recipe.optimizer, run.recipe.schedule) == ("lion", kept)
    rates = run.history.series("lr").values
    if schedule.startswith("torch"):
        assert rates.tolist() == [0.001] * 4 + [0.0005] * 4


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ("one_cylce", "did you mean 'one_cycle'?"),
        ("torch.optim.lr_scheduler:StepLR", "missing a required argument: 'step_size'"),
    ],
)
def test_one_that_is_none_is_refused_in_one_line(schedule, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "wine", *HOW, "--set", f"schedule={schedule}"]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
