"""A script that trains several models: which of them was judged, and what is said of the others."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest
import torch

from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.script import exit_status, watch_script
from downslope.reporting import console, verdict
from tests.diagnosis.watched import HEAD, ODD

SWEEP = """
for lr, steps in TRAININGS:
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
    rule = torch.optim.SGD(model.parameters(), lr)
    for at in batches(steps):
        loss = F.cross_entropy(model(X[at]), C[at])
        rule.zero_grad(); loss.backward(); rule.step()
"""


def watched(folder: Path, body: str) -> tuple[Diagnosis, int]:
    path = folder / "train.py"
    path.write_text(HEAD + body)
    with contextlib.redirect_stdout(io.StringIO()), torch.random.fork_rng():
        found, status = watch_script(path)
    assert found is not None
    return found, exit_status(found, status)


def sweep(folder: Path, *trainings: tuple[float, int]) -> tuple[Diagnosis, int]:
    return watched(folder, SWEEP.replace("TRAININGS", repr(list(trainings))))


def last_row(found: Diagnosis) -> str:
    return console.of_diagnosis(found)[-1].text


@pytest.mark.parametrize("trainings", [((0.1, 100), (1e30, 100)), ((1e30, 100), (0.1, 105), (0.2, 100))])
def test_a_training_that_left_the_numbers_is_judged_before_one_that_did_not(
    trainings: tuple[tuple[float, int], ...], tmp_path: Path
) -> None:
    found, status = sweep(tmp_path, *trainings)
    assert status == 1
    assert found.root is not None
    assert found.root.symptom == "learning-rate-too-high"
    number = [lr for lr, _ in trainings].index(1e30) + 1
    told = f"1 of {len(trainings)} trainings judged: number {number}, SGD on Sequential, lr 1e+30, whose loss"
    assert found.notes[0].startswith(told)


def test_of_healthy_trainings_it_is_said_which_one_was_judged_and_how_many_were_not(tmp_path: Path) -> None:
    found, status = sweep(tmp_path, (0.05, 60), (0.1, 150), (0.2, 60))
    assert (status, found.healthy) == (0, True)
    assert found.notes == ["1 of 3 trainings judged: number 2, SGD on Sequential, lr 0.1, the longest."]
    assert last_row(found) == "the training that was judged is healthy; 2 others were not judged"
    assert not re.search(r"(?m)^Healthy", str(found))
    assert verdict.verdict(found.run, found)[0] == "warn"
    names = [name for name, _ in found.not_checked if name.startswith("SGD")]
    assert names == [
        "SGD on Sequential, lr 0.05 (training 1 of 3)",
        "SGD on Sequential, lr 0.2 (training 3 of 3)",
    ]


def test_a_short_search_that_ended_in_nan_is_told_and_not_blamed_on_the_training(tmp_path: Path) -> None:
    found, status = sweep(tmp_path, (1e30, 20), (0.1, 150))
    assert status == 0
    assert found.run.summary["steps"] == 150
    assert "The loss of training 1 (SGD on Sequential, lr 1e+30) left the finite numbers." in found.notes[0]
    assert last_row(found).endswith("1 other was not judged, of which 1 left the finite numbers")


def test_one_that_left_the_numbers_long_ago_is_still_told_of_after_many(tmp_path: Path) -> None:
    found, _ = sweep(tmp_path, (0.1, 5), (1e30, 30), *[(0.1, 5)] * 20, (0.1, 30))
    assert found.run.status == "diverged"
    assert found.notes[0].startswith("1 of 23 trainings judged: number 2, ")


def test_optimizers_with_losses_of_their_own_are_one_training_of_which_little_is_known(
    tmp_path: Path,
) -> None:
    found, status = watched(tmp_path, ODD["rivals"])
    assert (status, found.notes) == (0, [])
    assert last_row(found) == "nothing wrong was seen in what could be judged"
    assert "Healthy" not in str(found)


RAW = """
w = torch.zeros(10, 1, requires_grad=True)
for at in batches(200):
    ((X[at] @ w - Y[at]) ** 2).mean().backward()
    with torch.no_grad():
        w -= 0.1 * w.grad; w.grad = None
"""


def test_of_what_was_hardly_seen_no_health_is_told(tmp_path: Path) -> None:
    found, status = watched(tmp_path, RAW)
    assert (status, found.healthy) == (0, True)
    assert last_row(found) == "nothing wrong was seen in what could be judged"


@pytest.mark.parametrize("name", ["two optimizers of one loss", "half precision", "LBFGS"])
def test_what_was_seen_whole_is_healthy(name: str, tmp_path: Path) -> None:
    found, _ = watched(tmp_path, ODD[name])
    assert last_row(found) == "healthy, nothing to fix", str(found)


def test_a_training_that_was_interrupted_is_never_called_healthy(tmp_path: Path) -> None:
    body = SWEEP.replace("TRAININGS", "[(0.1, 200)]")
    stop = "        STEP = globals().get('STEP', 0) + 1\n        if STEP == 100: raise KeyboardInterrupt\n"
    found, status = watched(tmp_path, body + stop)
    assert (status, found.healthy) == (130, False)
    assert last_row(found) == "nothing wrong was seen in the training until it was interrupted"
    assert not re.search(r"[Hh]ealthy|kept", str(found))
    told = " ".join(row.text for row in console.of_run(found.run))
    assert "interrupted at step 100" in told
    assert "kept" not in told
    assert "The script was interrupted at step 100; what was seen until then is judged." in found.notes
