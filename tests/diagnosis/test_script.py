"""`watch_script` runs real scripts as Python does, sees their training, and leaves torch as it was."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import re
import runpy
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.nn.modules import module as torch_module
from torch.optim import optimizer as torch_optimizer

from downslope.core.errors import TaskError
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.script import exit_status, watch_script
from downslope.training.probes import Observer

START = """
import sys
import torch
from torch import nn
import torch.nn.functional as F
torch.manual_seed(0)
X = torch.randn(256, 10)
y = (X @ torch.linspace(-1, 1, 10)[:, None]).tanh()
"""

END = """
print(sum(p.double().sum() for p in model.parameters()).item(), torch.rand(2).tolist())
"""

REGRESSION = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.05)
lr = parser.parse_args().lr
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=lr)
objective = nn.MSELoss()
for step in range(150):
    at = torch.randint(256, (32,))
    optimizer.zero_grad()
    objective(model(X[at]), y[at]).backward()
    optimizer.step()
"""

LOADER = """
from torch.utils.data import DataLoader, TensorDataset, random_split

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(10, 32), nn.Linear(32, 4)
    def forward(self, x):
        return self.b(F.relu(self.a(x)))

def evaluate(model, loader):
    model.eval()
    total = 0.0
    with torch.no_grad():
        for x, labels in loader:
            total += F.cross_entropy(model(x), labels, reduction="sum").item()
    model.train()
    return total / len(loader.dataset)

def main():
    labels = (X @ torch.randn(10, 4)).argmax(1)
    train, valid = random_split(TensorDataset(X, labels), [192, 64])
    loader = DataLoader(train, batch_size=16, shuffle=True, num_workers=WORKERS)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    for epoch in range(4):
        for x, target in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), target).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        schedule.step()
        print(evaluate(model, DataLoader(train, 16)), evaluate(model, DataLoader(valid, 16)))
    return model

if __name__ == "__main__":
    model = main()
    sys.exit(0)
"""

LSTM = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.o = nn.Embedding(9, 8), nn.Linear(16, 9)
        self.r = nn.LSTM(8, 16, 2, batch_first=True, dropout=0.1)
    def forward(self, x, state=None):
        z, state = self.r(self.e(x), state)
        return self.o(z), state
model = Net()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
text = torch.arange(500) % 7
for step in range(30):
    batch = torch.stack([text[i : i + 13] for i in torch.randint(480, (16,)).tolist()])
    output, _ = model(batch[:, :-1])
    loss = F.cross_entropy(output.reshape(-1, 9), batch[:, 1:].reshape(-1))
    optimizer.zero_grad(set_to_none=False)
    loss.backward()
    optimizer.step()
"""

TRANSFORMER = """
encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(10, 2, 16, batch_first=True), 2)
head = nn.Linear(10, 2)
model = nn.ModuleList([encoder, head])
optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=3e-3)
labels = (y[:, 0] > 0).long()
for step in range(30):
    at = torch.randint(256, (32,))
    loss = nn.CrossEntropyLoss()(head(encoder(X[at].unsqueeze(1)).mean(1)), labels[at])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 5 == 0:
        model.eval()
        with torch.inference_mode():
            print(head(encoder(X.unsqueeze(1)).mean(1)).double().sum().item())
        model.train()
"""

GAN = """
model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
critic = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1), nn.Sigmoid())
rules = [torch.optim.Adam(each.parameters(), lr=1e-3) for each in (model, critic)]
bce, one, zero = nn.BCELoss(), torch.ones(32, 1), torch.zeros(32, 1)
for step in range(40):
    real, fake = torch.randn(32, 2), model(torch.randn(32, 4))
    rules[1].zero_grad()
    bce(critic(real), one).backward()
    bce(critic(fake.detach()), zero).backward()
    rules[1].step()
    if step % 2:
        rules[0].zero_grad()
        bce(critic(fake), one).backward()
        rules[0].step()
"""

CLOSURE = """
model = nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5)
def closure():
    optimizer.zero_grad()
    loss = ((model(X) - y) ** 2).mean()
    loss.backward()
    return loss
for step in range(6):
    optimizer.step(closure)
"""

ACCUMULATION = """
model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
labels = (y > 0).float()
for step in range(20):
    for part in range(4):
        at = torch.randint(256, (16,))
        (nn.BCEWithLogitsLoss()(model(X[at]), labels[at]) / 4).backward()
    optimizer.step()
    optimizer.zero_grad()
"""

AMP = """
model = nn.Sequential(nn.Linear(10, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
for step in range(30):
    at = torch.randint(256, (32,))
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = F.mse_loss(model(X[at]).float(), y[at])
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
"""

COMPILED = """
model = nn.Sequential(nn.Linear(10, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
HOW
for step in range(15):
    at = torch.randint(256, (32,))
    optimizer.zero_grad()
    F.mse_loss(compiled(X[at]), y[at]).backward()
    optimizer.step()
print(model[1].running_mean.sum().item())
"""

SCRIPTS = {
    "regression": REGRESSION,
    "loader": LOADER.replace("WORKERS", "0"),
    "lstm": LSTM,
    "transformer": TRANSFORMER,
    "gan": GAN,
    "closure": CLOSURE,
    "accumulation": ACCUMULATION,
    "amp": AMP,
    "compiled module": COMPILED.replace("HOW", 'compiled = torch.compile(model, backend="eager")'),
    "compiled in place": COMPILED.replace("HOW", 'model.compile(backend="eager"); compiled = model'),
    "compiled function": COMPILED.replace(
        "HOW", '@torch.compile(backend="eager")\ndef compiled(x):\n    return model(x)'
    ),
}


@pytest.fixture(autouse=True)
def _torch_is_left_as_it_was() -> Iterator[None]:
    def state() -> tuple[Any, ...]:
        names = ("cross_entropy", "mse_loss", "binary_cross_entropy")
        loader = torch.utils.data.dataloader._BaseDataLoaderIter
        return (
            *(getattr(functional, name) for name in names),
            torch.optim.Optimizer.__init__,
            torch.autograd.backward,
            torch.compile,
            torch.amp.GradScaler.scale,
            loader.__next__,
            len(torch_module._global_forward_pre_hooks),
            len(torch_module._global_forward_hooks),
            len(torch_optimizer._global_optimizer_post_hooks),
            len(torch_optimizer._global_optimizer_pre_hooks),
            sys.argv,
            sys.path[:],
            sys.modules["__main__"],
        )

    gc.collect()  # monitors that other tests left
    before = state()
    yield
    assert state() == before


def written(folder: Path, body: str) -> Path:
    path = folder / "train.py"
    path.write_text(START + textwrap.dedent(body), encoding="utf-8")
    return path


def watched(path: Path, *args: str) -> tuple[Diagnosis | None, int, str]:
    output = io.StringIO()
    with contextlib.redirect_stdout(output), torch.random.fork_rng():
        found, status = watch_script(path, args)
    return found, status, output.getvalue()


def alone(path: Path) -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output), torch.random.fork_rng(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(path)])
        with contextlib.suppress(SystemExit):
            runpy.run_path(str(path), run_name="__main__")
    return output.getvalue()


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_a_script_prints_is_the_same_to_the_last_bit(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, SCRIPTS[name] + (END if name != "loader" else ""))
    if name.startswith("compiled"):
        pytest.importorskip("torch._dynamo").reset()
    plain = alone(path)
    if name.startswith("compiled"):
        torch._dynamo.reset()
    found, status, output = watched(path)
    assert output == plain
    assert output
    assert status == 0
    assert found is not None
    assert found.run.summary["steps"] >= 6
    # The trials beside it say what they came to.
    assert [each for each in found.notes if "was tried after the script" not in each] == []


def test_a_rate_far_too_high_is_named_and_its_healthy_twin_is_healthy(tmp_path: Path) -> None:
    path = written(tmp_path, REGRESSION)
    sound, status, _ = watched(path)
    assert sound is not None
    assert sound.healthy
    assert exit_status(sound, status) == 0
    sick, status, _ = watched(path, "--lr", "50")
    assert sick is not None
    assert sick.root is not None
    assert sick.root.symptom == "learning-rate-too-high"
    assert exit_status(sick, status) == 1


def test_model_objective_data_and_constant_are_found(tmp_path: Path) -> None:
    found, _, _ = watched(written(tmp_path, REGRESSION))
    assert found is not None
    facts = found.run.facts
    assert list(facts["modules"]) == ["0", "3"]
    assert facts["optimizer"]["name"] == "sgd"
    assert facts["output"]["expects"] == "real"
    assert facts["output"]["objective"] == "mse_loss"
    assert facts["features"]["features"] == 10
    assert facts["batch_size"] == 32
    x = torch.randn(256, 10, generator=torch.Generator().manual_seed(0))
    y = (x @ torch.linspace(-1, 1, 10)[:, None]).tanh()
    assert facts["constant"]["loss"] == pytest.approx(float(y.var(correction=0)), rel=0.05)


def test_validation_is_the_part_that_is_not_trained_on_at_the_steps_it_was_made(tmp_path: Path) -> None:
    found, _, output = watched(written(tmp_path, SCRIPTS["loader"]))
    assert found is not None
    printed = [float(line.split()[1]) for line in output.splitlines()]
    series = found.run.history.series("valid_loss")
    assert series.steps.tolist() == [12, 24, 36, 48]
    assert series.values == pytest.approx(printed, rel=1e-5)
    assert found.run.facts["ending"]["valid_n"] == 64


def test_workers_of_a_loader_are_left_alone(tmp_path: Path) -> None:
    path = written(tmp_path, LOADER.replace("WORKERS", "2"))
    command = (
        "import sys; from downslope.diagnosis.script import watch_script; "
        "found, status = watch_script(sys.argv[1]); print(found.run.summary['steps'], status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", command, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.splitlines()[-1] == "48 0", done.stderr


def test_losses_of_a_scaled_and_divided_backward_are_in_the_users_units(tmp_path: Path) -> None:
    written_out = "(model(X[at]).float() - y[at]).abs().mean()"
    by_hand = AMP.replace("F.mse_loss(model(X[at]).float(), y[at])", written_out)
    assert by_hand != AMP
    for body in (AMP, by_hand, ACCUMULATION):
        found, _, _ = watched(written(tmp_path, body))
        assert found is not None
        first = found.run.history.series("train_loss").values[0]
        assert 0.2 < first < 2.0
        assert found.run.probes["grad_norm"].values[0].max() < 50


def test_of_several_optimizers_the_busiest_is_judged_and_its_loss_is_not_taken_for_progress(
    tmp_path: Path,
) -> None:
    found, _, _ = watched(written(tmp_path, GAN))
    assert found is not None
    assert found.run.summary["steps"] == 40
    assert any("20 steps" in reason for _, reason in found.not_checked)
    assert "constant" not in found.run.facts
    assert "several optimizers" in found.run.facts["not_measured"]["constant"]


def test_a_closure_has_one_loss_a_step_and_an_objective_written_by_hand_is_recognised(tmp_path: Path) -> None:
    found, _, _ = watched(written(tmp_path, CLOSURE))
    assert found is not None
    assert found.run.history.series("train_loss").steps.tolist() == [1, 2, 3, 4, 5, 6]
    assert found.run.facts["output"]["objective"] == "mean of squares"
    # The loss of a step is that before it: here of the untrained model, not the mean over the line search.
    assert found.run.history["train_loss"][0] == found.run.facts["start"]["loss"] > 0.5


def test_what_is_compiled_is_looked_into_or_the_reason_is_told(tmp_path: Path) -> None:
    pytest.importorskip("torch._dynamo").reset()
    found, _, _ = watched(written(tmp_path, SCRIPTS["compiled module"]))
    assert found is not None
    assert "dead_fraction" in found.run.probes
    for name in ("compiled in place", "compiled function"):
        torch._dynamo.reset()
        found, _, _ = watched(written(tmp_path, SCRIPTS[name]))
        assert found is not None
        assert "compiled" in found.run.facts["not_measured"]["start"]


def test_a_script_that_raises_keeps_its_traceback_and_is_judged_until_then(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ending = "\ndef broken():\n    raise ValueError('of the script')\nbroken()\n"
    path = written(tmp_path, REGRESSION + ending)
    found, status = watch_script(path)
    told = capsys.readouterr().err
    assert status == 1
    assert found is not None
    assert found.run.status == "failed"
    assert told.startswith("Traceback (most recent call last):\n  File ")
    assert told.rstrip().endswith("ValueError: of the script")
    assert "downslope" not in told
    assert exit_status(found, status) == 1


@pytest.mark.parametrize(("code", "status"), [("sys.exit(3)", 3), ("sys.exit()", 0), ("sys.exit('why')", 1)])
def test_the_scripts_own_exit_status_is_kept(code: str, status: int, tmp_path: Path) -> None:
    found, ended, _ = watched(written(tmp_path, REGRESSION + "\n" + code + "\n"))
    assert ended == status
    assert found is not None
    assert found.healthy is (status == 0)
    assert found.root is None
    assert ("stopped" in str(found)) is (status != 0)
    assert exit_status(found, ended) == status


def test_a_script_that_trains_nothing_gives_no_diagnosis(tmp_path: Path) -> None:
    found, status, output = watched(written(tmp_path, "print('hello', __name__, sys.argv[1:])"), "a", "-b")
    assert found is None
    assert status == 0
    assert output == "hello __main__ ['a', '-b']\n"
    assert exit_status(found, status) == 2


def test_a_script_finds_its_neighbours_and_can_save_its_own_classes(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_train.py").write_text("WIDTH = 3\n", encoding="utf-8")
    body = """
    import io
    from neighbour_of_train import WIDTH
    class Net(nn.Linear):
        pass
    model = Net(10, WIDTH)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        model(X).square().mean().backward()
        optimizer.step()
    kept = io.BytesIO()
    torch.save(model, kept)
    kept.seek(0)
    print(type(torch.load(kept, weights_only=False)).__name__)
    """
    found, status, output = watched(written(tmp_path, body))
    assert (status, output) == (0, "Net\n")
    assert found is not None


def test_ctrl_c_ends_training_without_end_and_the_diagnosis_stands(tmp_path: Path) -> None:
    body = REGRESSION.replace("range(150)", "iter(int, 1)").replace(
        "    at =", "    import os, signal\n    count = globals().get('count', 0) + 1\n"
        "    if count == 60: os.kill(os.getpid(), signal.SIGINT)\n    at ="
    )  # fmt: skip
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        found, status, _ = watched(written(tmp_path, body))
    finally:
        signal.signal(signal.SIGINT, before)
    assert status == 130
    assert found is not None
    assert found.run.status == "interrupted"
    assert found.run.summary["steps"] == 59
    assert os.getpid()


def test_many_optimizers_one_after_another_are_not_all_kept(tmp_path: Path) -> None:
    body = """
    for fold in range(20):
        model = nn.Linear(10, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(3 + (fold == 4)):
            optimizer.zero_grad()
            F.mse_loss(model(X), y).backward()
            optimizer.step()
    """
    found, _, _ = watched(written(tmp_path, body))
    assert found is not None
    assert found.run.summary["steps"] == 4
    assert len([name for name, _ in found.not_checked if name.startswith("SGD on")]) == 19
    assert found.run.facts["constant"]["loss"] > 0


def test_a_path_that_is_no_script_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="give the path of a Python script"):
        watch_script(tmp_path / "missing.py")
    broken = tmp_path / "broken.py"
    broken.write_text("def (:\n", encoding="utf-8")
    with pytest.raises(TaskError, match="line 1: this is no Python script"):
        watch_script(broken)


LINEAR = """
model = nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 1))
"""

LOOP = """
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for step in range(60):
    optimizer.zero_grad()
    F.mse_loss(model(X), y).backward()
    optimizer.step()
"""


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_scripted_model_trains_as_it_does_alone_and_is_said_not_to_be_seen(tmp_path: Path) -> None:
    script = written(tmp_path, LINEAR + "model = torch.jit.script(model)\n" + LOOP)
    expected = alone(script)
    found, status, output = watched(script)
    assert (status, output) == (0, expected)
    assert found is not None
    assert found.healthy
    assert "torch.jit takes no hooks" in found.run.facts["not_measured"]["dead_fraction"]


def test_a_fault_of_the_observation_never_reaches_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("of our own")

    script = written(tmp_path, LINEAR + LOOP)
    expected = alone(script)
    monkeypatch.setattr(Observer, "attach", broken)
    found, status, output = watched(script)
    assert (status, output) == (0, expected)
    assert found is not None
    assert found.run.facts["not_measured"]["dead_fraction"] == "RuntimeError: of our own"


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_function_that_calls_a_loss_is_scripted_as_it_is_alone(tmp_path: Path) -> None:
    body = """
@torch.jit.script
def twice(a, b):
    return 2 * torch.nn.functional.mse_loss(a, b)
print(twice(X, X + 1).item(), torch.jit.script(F.l1_loss)(X, X + 1).item())
"""
    script = written(tmp_path, LINEAR + LOOP + body)
    expected = alone(script)
    _, status, output = watched(script)
    assert (status, output) == (0, expected)


def test_a_warning_names_the_line_that_it_names_alone_and_is_given_once(tmp_path: Path) -> None:
    body = LINEAR + LOOP.replace("model(X), y", "model(X), y[:, 0]")
    script = written(tmp_path, body)
    place = rf"{re.escape(script.name)}:\d+: UserWarning: Using a target size"
    told: list[list[str]] = []
    for run in (["-m", "downslope", "watch"], []):
        command = [sys.executable, *run, str(script)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        told.append([line for line in done.stderr.splitlines() if "UserWarning" in line])
    assert told[0] == told[1]
    assert len(told[0]) == 1
    assert re.search(place, told[0][0])
