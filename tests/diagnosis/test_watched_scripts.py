"""Odd but sound scripts stay healthy and bit-identical; their sick twins are named for what they are."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.resting import Resting
from downslope.diagnosis.script import exit_status, watch_script
from downslope.reporting import facts
from tests.diagnosis.watched import HEAD, ODD, OVERFIT, PHYSICS, TAIL


def watched(folder: Path, body: str, *args: str) -> tuple[Diagnosis, int, str]:
    path = folder / "train.py"
    path.write_text(HEAD + body)
    output = io.StringIO()
    with contextlib.redirect_stdout(output), torch.random.fork_rng():
        found, status = watch_script(path, args, trials=0.0)
    assert found is not None
    return found, status, output.getvalue()


def alone(folder: Path, body: str) -> str:
    path = folder / "alone.py"
    path.write_text(HEAD + body)
    output = io.StringIO()
    with contextlib.redirect_stdout(output), torch.random.fork_rng():
        runpy.run_path(str(path), run_name="__main__")
    return output.getvalue()


def reason(found: Diagnosis, symptom: str) -> str:
    return dict(found.not_checked)[symptom]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # of dynamo's own
@pytest.mark.parametrize("name", ODD)
def test_an_odd_but_sound_script_is_healthy_and_the_same_to_the_last_bit(name: str, tmp_path: Path) -> None:
    if "compiled" in name:
        pytest.importorskip("torch._dynamo").reset()
    plain = alone(tmp_path, ODD[name] + TAIL)
    if "compiled" in name:
        torch._dynamo.reset()
    found, status, output = watched(tmp_path, ODD[name] + TAIL)
    assert output == plain
    assert (status, found.notes) == (0, [])
    assert found.healthy, str(found)
    assert found.symptoms == [], str(found)


CLOSED = """
model = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 1))
rule = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
for epoch in range(4):
    for part in torch.arange(len(X)).split(16):
        def closure():
            rule.zero_grad()
            loss = F.mse_loss(model(X[part]), Y[part])
            loss.backward()
            return loss
        rule.step(closure)
everything = model.parameters()
"""


def test_the_order_of_batches_is_heard_through_closures_which_are_called_several_times(
    tmp_path: Path,
) -> None:
    found, _, _ = watched(tmp_path, CLOSED)
    assert found.run.facts["order"]["watched"]


def test_a_method_of_our_own_is_heard_as_that_of_torch(tmp_path: Path) -> None:
    """It leaves out the backward pass of a closure, and takes the gradient by itself."""
    own, torchs = (watched(tmp_path, ODD[name])[0] for name in ("our own LBFGS", "LBFGS"))
    assert own.run.history["train_loss"][-1] < 0.05 * own.run.history["train_loss"][0]
    heard = {name for name, _ in torchs.not_checked} | {"stale-gradients"}
    assert not {name for name, _ in own.not_checked} - heard


def test_a_physical_law_with_residual_zero_is_no_constant_target(tmp_path: Path) -> None:
    found, _, _ = watched(tmp_path, PHYSICS)
    assert found.healthy, str(found)
    assert "targets were not seen" in reason(found, "constant-target")


def test_held_out_tensors_beside_a_loader_are_validation_and_its_batches_are_not(tmp_path: Path) -> None:
    body = """
from torch.utils.data import DataLoader, TensorDataset
loader = DataLoader(TensorDataset(X[:500], C[:500]), batch_size=32, shuffle=True)
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
rule = torch.optim.Adam(model.parameters(), 1e-2)
for epoch in range(6):
    for x, y in loader:
        rule.zero_grad(); F.cross_entropy(model(x), y).backward(); rule.step()
    with torch.no_grad():
        again = F.cross_entropy(model(x), y)
        held = F.cross_entropy(model(X[500:]), C[500:])
print(held.item())
"""
    found, _, output = watched(tmp_path, body)
    assert found.run.history.series("valid_loss").values[-1] == pytest.approx(float(output))
    alone, _, _ = watched(tmp_path, body.replace("X[500:]), C[500:]", "x), y"))
    assert "valid_loss" not in alone.run.history


@pytest.mark.parametrize("batch", [64, 200, 400])
def test_variance_is_judged_from_few_validation_batches(batch: int, tmp_path: Path) -> None:
    sick, status, _ = watched(tmp_path, OVERFIT, "100", "40", str(batch))
    assert sick.root is not None
    assert sick.root.symptom == "high-variance"
    assert exit_status(sick, status) == 1
    sound, status, _ = watched(tmp_path, OVERFIT, "6000", "2", str(batch))
    assert sound.healthy, str(sound)
    assert "high-variance" in dict(sound.cleared)
    assert exit_status(sound, status) == 0


def test_a_single_validation_at_the_end_is_enough(tmp_path: Path) -> None:
    body = OVERFIT.replace("if True:", "if epoch == epochs - 1:")
    found, _, _ = watched(tmp_path, body, "100", "40", "400")
    assert found.root is not None
    assert found.root.symptom == "high-variance"


@pytest.mark.parametrize(
    ("plain", "regularised"),
    [
        ("nn.ReLU(),", "nn.ReLU(), nn.Dropout(0.5),"),
        ("F.cross_entropy(model(a), b)", "F.cross_entropy(model(a + 0.3 * torch.randn_like(a)), b)"),
        ("F.cross_entropy(model(a), b)", "F.cross_entropy(model(a), b, label_smoothing=0.2)"),
        ("F.cross_entropy(model(c), d).item()", "(lambda l: l * 9)(F.cross_entropy(model(c), d)).item()"),
        ("F.cross_entropy(model(c), d)", 'F.cross_entropy(model(c), d, reduction="sum")'),
        ("F.cross_entropy(model(c), d)", "F.multi_margin_loss(model(c), d)"),
    ],
)
def test_a_training_loss_of_another_kind_is_no_variance(plain: str, regularised: str, tmp_path: Path) -> None:
    assert plain in OVERFIT
    found, _, _ = watched(tmp_path, OVERFIT.replace(plain, regularised), "6000", "2", "200")
    assert found.healthy, str(found)
    assert "high-variance" not in found.symptoms


def test_another_loss_on_held_out_data_in_other_units_is_not_compared(tmp_path: Path) -> None:
    other = OVERFIT.replace("F.cross_entropy(model(c), d)", "F.mse_loss(100 * model(c), 100 * model(-c))")
    found, _, _ = watched(tmp_path, other, "6000", "2", "200")
    assert found.healthy, str(found)
    assert "other units" in reason(found, "high-variance")


def test_folds_one_after_another_are_not_taken_for_one_run(tmp_path: Path) -> None:
    folds = "for fold in range(3):\n" + "".join(
        f"    {line}\n" for line in OVERFIT.strip().splitlines() if line
    )
    found, _, _ = watched(tmp_path, folds, "3000", "2", "400")
    series = found.run.history.series("valid_loss")
    assert found.healthy, str(found)
    assert len(series.steps) == 2
    assert series.steps[-1] == found.run.summary["steps"]


def test_a_script_that_raises_is_never_called_healthy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = OVERFIT.replace("if True:", "if epoch == 1: raise RuntimeError('of mine')\n    if True:")
    found, status, _ = watched(tmp_path, body, "6000", "3", "400")
    trace = capsys.readouterr().err
    line = body.count("\n", 0, body.index("raise")) + HEAD.count("\n") + 1
    assert (status, exit_status(found, status), found.healthy) == (1, 1, False)
    stopped = f"RuntimeError: of mine (line {line} of train.py)"
    assert found.run.facts["stopped"] == {"step": 376, "error": stopped}
    assert f"stopped at step 376 by {stopped}" in " ".join(str(found).split())
    assert "Nothing wrong was seen in the training until it stopped." in " ".join(str(found).split())
    assert not re.search(r"[Hh]ealthy", str(found))
    assert trace.startswith("Traceback (most recent call last):\n")
    assert trace.rstrip().endswith("RuntimeError: of mine")


def test_a_script_that_stopped_and_was_sick_keeps_its_own_status(tmp_path: Path) -> None:
    found, status, _ = watched(tmp_path, OVERFIT + "\nsys.exit(7)\n", "100", "40", "400")
    assert found.root is not None
    assert found.root.symptom == "high-variance"
    assert exit_status(found, status) == 7


SHORT = """
model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 4))
rule = torch.optim.SGD(model.parameters(), float(sys.argv[2]))
for at in batches(int(sys.argv[1])):
    loss = F.cross_entropy(model(SCALE * X[at]), C[at])
    rule.zero_grad(); loss.backward(); rule.step()
"""


@pytest.mark.parametrize("steps", [1, 3, 10])
@pytest.mark.parametrize("scale", ["1", "50"])
def test_of_a_handful_of_steps_it_is_said_that_they_tell_nothing(
    steps: int, scale: str, tmp_path: Path
) -> None:
    found, status, _ = watched(tmp_path, SHORT.replace("SCALE", scale), str(steps), "0.001")
    word = "step," if steps == 1 else "steps,"
    assert found.verdict.startswith(f"TOO SHORT TO TELL: {steps} {word}")
    assert found.root is None, str(found)
    assert "too short to tell" in " ".join(str(found).split())
    assert exit_status(found, status) == 0


def test_a_handful_of_steps_that_threw_the_loss_up_tell_enough(tmp_path: Path) -> None:
    found, _, _ = watched(tmp_path, SHORT.replace("SCALE", "1"), "10", "100")
    assert found.run.status == "done"
    assert not found.verdict.startswith("TOO SHORT")
    assert found.root is not None
    assert found.root.symptom == "learning-rate-too-high"


def test_what_noisy_labels_leave_to_learn_is_enough_to_have_learnt(tmp_path: Path) -> None:
    body = OVERFIT.replace("* 2 *", "* 1 *")
    found, _, _ = watched(tmp_path, body, "6000", "2", "400")
    assert found.healthy, str(found)
    dead = OVERFIT.replace("nn.ReLU(),", "nn.ReLU(), nn.Linear(64, 64), nn.Dropout(0.99999),")
    assert dead != OVERFIT
    found, _, _ = watched(tmp_path, dead, "6000", "2", "400")
    assert found.verdict.startswith("NOT LEARNING")
    assert not found.healthy


def test_nothing_is_told_in_the_names_of_our_own_tables(tmp_path: Path) -> None:
    every = [watched(tmp_path, ODD[name])[0] for name in ("LBFGS", "GRU over time, several losses", "rivals")]
    reasons = [why for found in every for _, why in found.not_checked]
    ours = re.compile(r"not recorded|[a-z]_[a-z]+ |\bending\b|\bfacts\b|None|ds\.diagnose\(run")
    assert len(reasons) > 20
    assert [why for why in reasons if ours.search(why)] == []


def test_advice_for_a_script_is_in_words_about_the_script(tmp_path: Path) -> None:
    body = ODD["frozen backbone in eval mode"].replace("head(seen), C", "head(seen).softmax(1), C")
    found, _, _ = watched(tmp_path, body.replace("1e-2", "1e-3"))
    assert found.root is not None
    assert found.root.symptom == "output-activation"
    told = str(found.root.remedies[0])
    assert "softmax" in told
    assert "Replace" not in told


def test_losses_are_put_back_after_a_script_that_raised_in_its_backward_pass(tmp_path: Path) -> None:
    before = functional.mse_loss, torch.Tensor.backward, torch.autograd.backward
    body = SHORT.replace("SCALE", "1") + "F.mse_loss(model(X), model(X)).backward(torch.ones(3))"
    found, status, _ = watched(tmp_path, body, "3", "0.1")
    assert (status, found.run.status) == (1, "failed")
    assert (functional.mse_loss, torch.Tensor.backward, torch.autograd.backward) == before


RAW = """
x = 1e4 * (1 + 2 * torch.rand(640, 3))
y = x @ torch.tensor([[1e-5], [2e-5], [3e-5]]) + 0.1 * torch.randn(640, 1)
x = x if sys.argv[1] == "raw" else x / 1e4
model = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 1))
rule = torch.optim.SGD(model.parameters(), float(sys.argv[2]))
for at in batches(400):
    loss = ((model(x[at]) - y[at]) ** 2).mean()
    rule.zero_grad(); loss.backward(); rule.step()
"""


def test_a_first_loss_that_raw_inputs_made_is_no_way_that_the_run_came(tmp_path: Path) -> None:
    sick, status, _ = watched(tmp_path, RAW, "raw", "1e-10")
    assert sick.root is not None
    assert (sick.root.symptom, sick.root.severity) == ("unscaled-inputs", "warning")
    assert exit_status(sick, status) == 1
    assert "NOT KNOWN" in sick.verdict
    assert "says not how far" in reason(sick, "learning-rate-too-low")
    sound, _, _ = watched(tmp_path, RAW, "scaled", "0.05")
    assert sound.healthy, str(sound)
    assert "unscaled-inputs" in dict(sound.cleared)
    assert sound.verdict.startswith("Learning")


ZERO = """
model = nn.Sequential(nn.Linear(10, 32), nn.{kind}(), nn.Linear(32, 4))
with torch.no_grad():
    for p in model.parameters(): p.zero_()
rule = torch.optim.SGD(model.parameters(), 0.1)
for at in batches(200):
    loss = F.cross_entropy(model(X[at]), C[at])
    rule.zero_grad(); loss.backward(); rule.step()
"""


@pytest.mark.parametrize(("kind", "written"), [("ReLU", "kaiming_normal_"), ("Tanh", "xavier_uniform_")])
def test_weights_to_draw_anew_are_told_as_what_to_write(kind: str, written: str, tmp_path: Path) -> None:
    found, _, _ = watched(tmp_path, ZERO.replace("{kind}", kind))
    assert found.root is not None
    assert found.root.symptom == "symmetric-init"
    told = str(found.root.remedies[0])
    assert f"torch.nn.init.{written}(weight" in told
    assert "auto" not in told


IDLE = """
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
rule = torch.optim.SGD(model.parameters(), 0.1)
for at in batches(200):
    loss = F.cross_entropy(model(X[at]), C[at]) / 2
    loss.backward(); {order}
"""


def test_nothing_was_learnt_where_no_step_changed_a_parameter(tmp_path: Path) -> None:
    sick, _, _ = watched(tmp_path, IDLE.replace("{order}", "rule.zero_grad(); rule.step()"))
    assert sick.root is not None
    assert sick.root.symptom == "frozen-parameters"
    assert sick.verdict.startswith("NOTHING LEARNT: no step changed a parameter")
    sound, _, _ = watched(tmp_path, IDLE.replace("{order}", "rule.step(); rule.zero_grad()"))
    assert sound.verdict.startswith("Learning")


def test_the_rate_that_is_shown_is_the_one_in_use(tmp_path: Path) -> None:
    body = IDLE.replace("{order}", "rule.param_groups[0]['lr'] = LR; rule.step(); rule.zero_grad()")
    steady, _, _ = watched(tmp_path, body.replace("LR", "0.02"))
    assert facts.recipe(steady.run) == "sgd lr 0.02"
    set_later = body.replace("rule.param", "rule.step(); rule.param").replace("LR", "loss.item() * 0 + 0.5")
    moving, _, _ = watched(tmp_path, set_later)
    assert facts.recipe(moving.run) == "sgd lr 0.1 to 0.5"


RESTING = """
model = nn.Sequential(nn.Linear(10, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 4))
model.train(sys.argv[1] == "train")
rule = torch.optim.SGD(model.parameters(), float(sys.argv[2]))
for at in batches(200):
    loss = F.cross_entropy(model(X[at]), C[at])
    rule.zero_grad(); loss.backward(); rule.step()
"""


def test_steps_in_eval_mode_are_told_and_a_fault_only_where_the_run_went_badly(tmp_path: Path) -> None:
    calm, _, _ = watched(tmp_path, RESTING, "eval", "0.2")
    assert calm.healthy, str(calm)
    told = next(each for each in calm.findings if each.symptom == "mode-gap")
    assert (told.severity, told.where.modules) == ("info", ("1", "3"))
    assert "model.train()" in told.message
    lost, _, _ = watched(tmp_path, RESTING, "eval", "1e5")
    assert "mode-gap" in [each.symptom for each in lost.findings if each.severity != "info"]
    usual, _, _ = watched(tmp_path, RESTING, "train", "0.2")
    assert usual.symptoms == [], str(usual)
    assert "mode-gap" in dict(usual.not_checked)


@pytest.mark.parametrize(
    ("rule", "lr", "said"), [("SGD", "1e6", 0.1), ("SGD", "0.5e3", 0.1), ("Adam", "1e6", 0.001)]
)
def test_where_no_lower_rate_was_tried_a_usual_one_is_told_as_a_guess(
    rule: str, lr: str, said: float, tmp_path: Path
) -> None:
    body = IDLE.replace("{order}", "rule.step(); rule.zero_grad()").replace("SGD(model", f"{rule}(model")
    found, _, _ = watched(
        tmp_path, body.replace("0.1)", f"{lr})").replace("F.cross_entropy", "10 * F.cross_entropy")
    )
    assert found.root is not None, str(found)
    assert found.root.symptom == "learning-rate-too-high"
    assert str(found.root.remedies[0]).endswith(f"-> {said:g}")
    assert "is a first guess" in found.root.message
    assert found.root.where.steps is not None
    lost = found.run.facts.get("nonfinite")
    assert lost is None or found.root.where.steps[1] == lost["step"]


def test_a_norm_without_values_is_not_read() -> None:
    model, resting = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).to("meta"), Resting()
    resting.met(model)
    found = resting.measured(lambda _: True)
    assert found is not None
    assert (found["norms"], found["untouched"]) == (["1"], False)
