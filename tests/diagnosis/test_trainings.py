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
        found, status = watch_script(path, trials=0.0)
    assert found is not None
    return found, exit_status(found, status)


def sweep(folder: Path, *trainings: tuple[float, int]) -> tuple[Diagnosis, int]:
    return watched(folder, SWEEP.replace("TRAININGS", repr(list(trainings))))


def last_row(found: Diagnosis) -> str:
    return console.of_diagnosis(found)[-1].text


def test_a_search_in_which_one_left_the_numbers_is_no_alarm_and_not_called_healthy_as_a_whole(
    tmp_path: Path,
) -> None:
    found, status = sweep(tmp_path, (1e30, 100), (0.1, 105), (0.2, 100))
    assert (status, found.root) == (0, None)
    told = "3 of 3 trainings judged; told of is number 3, SGD on Sequential, lr 0.2, the best of a search."
    assert found.notes[0] == told
    assert found.notes[1].endswith("training 1 (SGD on Sequential, lr 1e+30: learning-rate-too-high).")
    said = "the best of a search is healthy; 1 of its trainings went wrong by its settings"
    assert last_row(found) == said
    assert verdict.verdict(found.run, found)[0] == "warn"


def test_a_search_that_found_nothing_is_an_alarm(tmp_path: Path) -> None:
    found, status = sweep(tmp_path, (1e30, 100), (1e20, 100))
    assert status == 1
    assert found.root is not None
    assert found.root.symptom == "learning-rate-too-high"
    assert found.notes[0].endswith("told of is number 1, SGD on Sequential, lr 1e+30, the worst.")
    wrong = "training 2 (SGD on Sequential, lr 1e+20: learning-rate-too-high) too."
    assert found.notes[1] == f"Something is wrong with {wrong}"


def test_a_short_search_excuses_no_long_training(tmp_path: Path) -> None:
    found, status = sweep(tmp_path, (0.1, 40), (0.2, 40), (1e30, 150))
    assert status == 1
    assert found.notes[0].endswith(
        "number 3, SGD on Sequential, lr 1e+30, the only one with something wrong."
    )


def test_healthy_trainings_are_all_judged_and_the_longest_is_told_of(tmp_path: Path) -> None:
    found, status = sweep(tmp_path, (0.05, 60), (0.1, 150), (0.2, 60))
    assert (status, found.healthy) == (0, True)
    told = "3 of 3 trainings judged; told of is number 2, SGD on Sequential, lr 0.1, the longest."
    assert found.notes == [told]
    assert last_row(found) == "healthy, nothing to fix"


def test_of_trainings_too_short_to_judge_it_is_said_so(tmp_path: Path) -> None:
    found, status = sweep(tmp_path, (0.05, 6), (0.1, 150), (0.2, 6))
    assert (status, found.healthy) == (0, True)
    assert last_row(found) == "the training that was judged is healthy; 2 others were not judged"
    assert not re.search(r"(?m)^Healthy", str(found))
    names = [name for name, _ in found.not_checked if name.startswith("SGD")]
    assert names == [
        "SGD on Sequential, lr 0.05 (training 1 of 3)",
        "SGD on Sequential, lr 0.2 (training 3 of 3)",
    ]


def test_a_short_search_that_ended_in_nan_is_told_and_not_blamed_on_the_training(tmp_path: Path) -> None:
    found, status = sweep(tmp_path, (1e30, 15), (0.1, 150))
    assert status == 0
    assert found.run.summary["steps"] == 150
    assert "The loss of training 1 (SGD on Sequential, lr 1e+30) left the finite numbers." in found.notes
    assert last_row(found).endswith("1 other was not judged, of which 1 left the finite numbers")


def test_one_that_left_the_numbers_long_ago_is_judged_after_many(tmp_path: Path) -> None:
    found, status = sweep(tmp_path, (1e30, 30), *[(0.1, 5)] * 20, (0.1, 20))
    assert status == 1
    assert found.run.status == "diverged"
    assert found.notes[0].startswith("2 of 22 trainings judged; told of is number 1, ")


FOLDS = """
for fold in range(5):
    kept = torch.arange(640) % 5 != fold
    x, c = X[kept], C[kept]
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
    rule = torch.optim.Adam(model.parameters(), 1e-2)
    for at in torch.randint(512, (120, 32)):
        loss = F.cross_entropy(model(x[at]), c[at])
        rule.zero_grad(); loss.backward(); rule.step()
"""


def test_of_healthy_folds_all_are_judged(tmp_path: Path) -> None:
    found, status = watched(tmp_path, FOLDS)
    assert (status, found.healthy) == (0, True), str(found)
    assert found.notes[0].startswith("5 of 5 trainings judged; told of is number 1, ")
    assert last_row(found) == "healthy, nothing to fix"


@pytest.mark.parametrize(
    ("sound", "sick", "symptom"),
    [
        ("rule.zero_grad();", "(fold == 3) or rule.zero_grad();", "stale-gradients"),
        ("    for at", "    x = x * (float('nan') if fold == 3 else 1)\n    for at", "non-finite-data"),
        (
            "    for at",
            "    (fold == 3) and nn.init.constant_(model[0].bias, -50.0)\n    for at",
            "dead-units",
        ),
    ],
)
def test_a_fault_in_one_fold_is_one_of_the_script(
    sound: str, sick: str, symptom: str, tmp_path: Path
) -> None:
    found, status = watched(tmp_path, FOLDS.replace(sound, sick))
    assert status == 1
    assert symptom in found.symptoms, str(found)
    assert "told of is number 4, " in found.notes[0]
    assert found.notes[0].endswith("the only one with something wrong.")


def test_a_fault_that_no_setting_makes_is_none_of_a_search(tmp_path: Path) -> None:
    body = SWEEP.replace("TRAININGS", "((0.1, 120), (0.2, 120), (0.3, 120))")
    found, status = watched(tmp_path, body.replace("rule.zero_grad();", "(lr == 0.2) or rule.zero_grad();"))
    assert status == 1
    assert found.root is not None
    assert found.root.symptom == "stale-gradients"
    assert "told of is number 2, " in found.notes[0]


def test_the_second_of_two_models_is_judged_though_it_is_shorter(tmp_path: Path) -> None:
    first = SWEEP.replace("TRAININGS", "[(0.1, 200)]")
    second = first.replace("32", "24").replace("200", "100")
    sick = second.replace("rule = torch", "nn.init.constant_(model[0].bias, -50.0)\n    rule = torch")
    found, status = watched(tmp_path, first + second)
    assert (status, last_row(found)) == (0, "healthy, nothing to fix"), str(found)
    found, status = watched(tmp_path, first + sick)
    assert status == 1
    assert "dead-units" in found.symptoms, str(found)
    assert found.notes[0].startswith("2 of 2 trainings judged; told of is number 2, ")


def test_an_optimizer_made_anew_for_every_epoch_goes_on_with_one_training(tmp_path: Path) -> None:
    body = SWEEP.replace("TRAININGS", "[(0.1, 40)] * 6")
    model = "model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))\n"
    body = model + body.replace("    " + model, "")
    found, status = watched(tmp_path, body)
    assert status == 0, str(found)
    assert found.run.summary["steps"] == 240
    assert not [note for note in found.notes if "trainings" in note]


ANEW = """
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
for at in batches(STEPS, SIZE):
    rule = torch.optim.RULE
    loss = F.cross_entropy(model(X[at]), C[at])
    rule.zero_grad(); loss.backward(); rule.step()
"""


@pytest.mark.parametrize("size", [1, 32])
def test_an_optimizer_made_anew_for_every_step_goes_on_with_one_training(tmp_path: Path, size: int) -> None:
    """One example a step: a single step says nothing of the data, and unlike examples are no throw."""
    body = ANEW.replace("STEPS", "600").replace("SIZE", str(size))
    found, status = watched(tmp_path, body.replace("RULE", "SGD(model.parameters(), 0.05)"))
    assert (status, found.root) == (0, None)
    assert found.run.summary["steps"] == 600
    assert not [note for note in found.notes if "trainings" in note]
    slow, status = watched(tmp_path, body.replace("RULE", "SGD(model.parameters(), 1e-8)"))
    assert status == 1
    assert slow.root is not None
    assert slow.root.symptom == "learning-rate-too-low"


def test_optimizers_with_losses_of_their_own_are_one_training_of_which_little_is_known(
    tmp_path: Path,
) -> None:
    found, status = watched(tmp_path, ODD["rivals"])
    assert (status, found.notes) == (0, [])
    assert last_row(found) == "nothing wrong was seen in what could be judged"
    assert "Healthy" not in str(found)


RAW = """
w = torch.ones(10, 1, requires_grad=True)
for at in batches(200):
    (1 + (X[at] @ (w * w.tanh()) - Y[at]) ** 2).log().mean().backward()
    with torch.no_grad():
        w -= 0.1 * w.grad; w.grad = None
"""


def test_of_what_was_hardly_seen_no_health_is_told(tmp_path: Path) -> None:
    found, status = watched(tmp_path, RAW)
    assert (status, found.healthy) == (0, True)
    assert last_row(found).startswith("nothing wrong was seen in what could be judged")


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


SWEPT = """
import copy
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
trial = copy.deepcopy(model)
rule = torch.optim.SGD(trial.parameters(), 1e-6)
rise = torch.optim.lr_scheduler.ExponentialLR(rule, 1.2)
for at in batches(130):
    loss = F.cross_entropy(trial(X[at]), C[at])
    rule.zero_grad(); loss.backward(); rule.step(); rise.step()
rule = torch.optim.SGD(model.parameters(), 0.1)
for at in batches(200):
    loss = F.cross_entropy(model(X[at]), C[at])
    rule.zero_grad(); loss.backward(); rule.step()
"""


def test_a_rate_that_is_raised_until_the_loss_leaves_is_a_search(tmp_path: Path) -> None:
    found, status = watched(tmp_path, SWEPT)
    assert (status, found.root) == (0, None), str(found)
    assert "told of is number 2, SGD on Sequential, lr 0.1, the best of a search." in found.notes[0]
    assert last_row(found).startswith("the best of a search is healthy; 1 of its trainings went wrong")


def test_one_settings_that_fails_in_a_fold_is_not_what_a_search_found(tmp_path: Path) -> None:
    body = SWEEP.replace("TRAININGS", "((0.1, 120), (0.1, 120), (0.2, 120), (0.2, 120))")
    sick = "    nn.init.constant_(model[0].bias, -50.0 * SICK)\n    for at"
    made = "made = globals().setdefault('made', []); made.append(0); SICK = len(made) in (WHICH)\n" + sick
    for which, status in (("1, 3", 1), ("1,", 0)):
        fold = body.replace("    for at", "    " + made.replace("WHICH", which))
        assert watched(tmp_path, fold)[1] == status, which
