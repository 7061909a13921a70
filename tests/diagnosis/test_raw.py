"""Networks written out over raw tensors show their inputs, layers and activations as modules do."""

from __future__ import annotations

import contextlib
import io
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from downslope.diagnosis import raw
from downslope.diagnosis.chains import Graph
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.script import watch_script
from tests.diagnosis.watched import HEAD

DESCEND = """
def descend(tensors, lr):
    with torch.no_grad():
        for p in tensors:
            p -= lr * p.grad
            p.grad = None
"""

RAW = """
W1 = (torch.randn(10, 32) / 3).requires_grad_()
b1 = torch.zeros(32, requires_grad=True)
W2 = (torch.randn(32, 4) / 6).requires_grad_()
b2 = torch.zeros(4, requires_grad=True)
def net(x):
    return torch.relu(x @ W1 + b1) @ W2 + b2
parameters = [W1, b1, W2, b2]
"""

BY_HAND = """
for at in batches(120):
    loss = F.cross_entropy(net(X[at]), C[at])
    loss.backward()
    descend(parameters, 0.3)
"""

BY_SGD = """
rule = torch.optim.SGD(parameters, 0.3)
for at in batches(120):
    loss = F.cross_entropy(net(X[at]), C[at])
    rule.zero_grad(); loss.backward(); rule.step()
"""

AS_MODULES = """
with torch.random.fork_rng():
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
with torch.no_grad():
    model[0].weight.copy_(W1.T), model[0].bias.zero_(), model[2].weight.copy_(W2.T), model[2].bias.zero_()
net, parameters = model, list(model.parameters())
"""

AS_COLUMNS = """
V1, c1, V2, c2 = W1.detach().T.clone(), torch.zeros(32, 1), W2.detach().T.clone(), torch.zeros(4, 1)
for each in (V1, c1, V2, c2):
    each.requires_grad_()
def net(x):
    return (V2 @ torch.relu(V1 @ x.T + c1) + c2).T
parameters = [V1, c1, V2, c2]
"""

AS_PRODUCTS = """
def net(x):
    return F.linear(torch.einsum("bi,ij->bj", x, W1).add(b1).clamp(min=0), W2.T, b2)
"""


def watched(folder: Path, body: str) -> Diagnosis:
    path = folder / "train.py"
    path.write_text(HEAD + DESCEND + body, encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()), torch.random.fork_rng():
        found, status = watch_script(path, trials=0.0)
    assert found is not None
    assert status == 0
    assert not [note for note in found.notes if note.startswith("Something")], found.notes
    return found


def alarms(found: Diagnosis) -> list[str]:
    return [each.symptom for each in found.findings if each.severity != "info"]


@pytest.mark.parametrize("loop", [BY_HAND, BY_SGD])
@pytest.mark.parametrize("form", ["", AS_COLUMNS, AS_PRODUCTS])
def test_what_is_measured_is_what_modules_of_the_same_weights_show(
    loop: str, form: str, tmp_path: Path
) -> None:
    one = watched(tmp_path, RAW + form + loop).run
    other = watched(tmp_path, RAW + AS_MODULES + BY_SGD).run
    for mine, theirs in zip(one.facts["start"]["layers"], other.facts["start"]["layers"], strict=True):
        for key in ("fan_in", "fan_out", "gain", "lean", "in_rms", "out_spread", "equal_rows", "trainable"):
            assert mine[key] == pytest.approx(theirs[key], rel=1e-4), key
        assert mine["grad_rms"] == pytest.approx(theirs["grad_rms"], rel=1e-4)
    assert one.facts["features"] == pytest.approx(other.facts["features"], rel=1e-4)
    assert one.facts["constant"]["loss"] == pytest.approx(other.facts["constant"]["loss"], rel=1e-4)
    for statistic in ("dead_fraction", "grad_norm", "weight_norm", "update_ratio"):
        first = one.probes[statistic].values[:3], other.probes[statistic].values[:3]
        assert first[0] == pytest.approx(first[1], rel=1e-3), statistic
    kinds = [[each["kind"] for each in run.facts["activations"].values()] for run in (one, other)]
    assert kinds == [["relu"], ["relu"]]


SOUND: dict[str, str] = {
    "logistic from zeros, log loss by hand": """
w, b, t = torch.zeros(10, requires_grad=True), torch.zeros(1, requires_grad=True), (Y[:, 0] > 0).float()
for at in batches(200):
    p = torch.sigmoid(X[at] @ w + b)
    loss = -(t[at] * torch.log(p + 1e-8) + (1 - t[at]) * torch.log(1 - p + 1e-8)).mean()
    loss.backward(); descend([w, b], 0.5)
""",
    "word counts": """
K = torch.poisson(torch.rand(640, 30) * 8); t = (K[:, 0] + K[:, 1] > K[:, 2] + K[:, 3]).long()
W = torch.zeros(30, 2, requires_grad=True); rule = torch.optim.Adam([W], 2e-2)
for at in batches(300):
    loss = F.cross_entropy(K[at] @ W, t[at]); rule.zero_grad(); loss.backward(); rule.step()
""",
    "recurrence from the identity": """
S = torch.randn(640, 6, 3); t = S[:, :, 0].sum(1, keepdim=True).tanh()
Wx, Wh = (torch.randn(3, 16) * 0.3).requires_grad_(), torch.eye(16, requires_grad=True)
Wo = (torch.randn(16, 1) * 0.2).requires_grad_(); rule = torch.optim.Adam([Wx, Wh, Wo], 5e-3)
for at in batches(200):
    h = torch.zeros(32, 16)
    for k in range(6):
        h = torch.relu(S[at, k] @ Wx + h @ Wh)
    loss = F.mse_loss(h @ Wo, t[at]); rule.zero_grad(); loss.backward(); rule.step()
""",
    "recurrence whose states start at weight zero": """
S = torch.randn(640, 6, 3); t = S[:, :, 0].sum(1, keepdim=True).tanh()
Wx, Wh = (torch.randn(3, 16) * 0.3).requires_grad_(), torch.zeros(16, 16, requires_grad=True)
Wo = torch.zeros(16, 1, requires_grad=True)
for at in batches(200):
    h = torch.zeros(32, 16)
    for k in range(6):
        h = torch.tanh(S[at, k] @ Wx + h @ Wh)
    loss = F.mse_loss(h @ Wo, t[at] + 2 * torch.randn(32, 1)); loss.backward(); descend([Wx, Wh, Wo], 0.01)
""",
    "autoencoder with tied weights": """
Z = torch.randn(640, 3) @ torch.randn(3, 10) * 0.3
w, b = (torch.randn(10, 5) * 0.2).requires_grad_(), torch.zeros(5, requires_grad=True)
rule = torch.optim.Adam([w, b], 1e-2)
for at in batches(300):
    loss = F.mse_loss(torch.tanh(Z[at] @ w + b) @ w.t(), Z[at])
    rule.zero_grad(); loss.backward(); rule.step()
""",
    "zeros at the end of a block, targets of noise": """
A, B = (torch.randn(10, 32) * 0.3).requires_grad_(), (torch.randn(32, 32) * 0.2).requires_grad_()
Z, O = torch.zeros(32, 32, requires_grad=True), torch.zeros(32, 1, requires_grad=True)
for at in batches(200):
    h = X[at] @ A
    h = h + torch.relu(h @ B) @ Z
    loss = F.mse_loss(h @ O, Y[at] + 2 * torch.randn(32, 1)); loss.backward(); descend([A, B, Z, O], 0.02)
""",
    "columns, a minibatch at a time": """
W1, b1 = (torch.randn(20, 10) * 0.3).requires_grad_(), torch.zeros(20, 1, requires_grad=True)
W2 = (torch.randn(1, 20) * 0.2).requires_grad_()
for at in batches(300):
    loss = ((W2 @ torch.relu(W1 @ X[at].T + b1) - Y[at].T) ** 2).mean()
    loss.backward(); descend([W1, b1, W2], 0.1)
""",
    "columns, likelihood by hand": """
W1, b1 = (torch.randn(20, 10) * 0.3).requires_grad_(), torch.zeros(20, 1, requires_grad=True)
W2, t = (torch.randn(1, 20) * 0.2).requires_grad_(), (Y + 0.3 * torch.randn_like(Y) > 0).float().T
for step in range(200):
    A = torch.sigmoid(W2 @ torch.tanh(W1 @ X.T + b1)).clamp(1e-6, 1 - 1e-6)
    loss = -(t * A.log() + (1 - t) * (1 - A).log()).mean(); loss.backward(); descend([W1, b1, W2], 0.5)
""",
    "one example at a time, squares by hand": """
w, b = torch.zeros(10, requires_grad=True), torch.zeros((), requires_grad=True)
for k in range(600):
    loss = (w @ X[k] + b - Y[k, 0]) ** 2
    loss.backward(); descend([w, b], 0.01)
""",
    "factors of a matrix": """
R = torch.randn(40, 3) @ torch.randn(3, 30)
U, V = (torch.randn(40, 3) * 0.1).requires_grad_(), (torch.randn(30, 3) * 0.1).requires_grad_()
rule = torch.optim.Adam([U, V], 3e-2)
for step in range(300):
    loss = ((U @ V.T - R) ** 2).mean(); rule.zero_grad(); loss.backward(); rule.step()
""",
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_and_odd_networks_by_hand_are_healthy(name: str, tmp_path: Path) -> None:
    found = watched(tmp_path, SOUND[name])
    assert not alarms(found), str(found)
    assert found.healthy or "2 * torch.randn" in SOUND[name], str(found)  # of mere noise little is learnt


PIXELS = RAW.replace(
    "def net", "X = (255 * torch.rand(640, 10)).round()\nC = (X[:, 0] // 64).long()\ndef net"
)
ZEROS = """
W1, b1 = torch.zeros(10, 16, requires_grad=True), torch.zeros(16, requires_grad=True)
W2, b2 = torch.zeros(16, 4, requires_grad=True), torch.zeros(4, requires_grad=True)
def net(x):
    return torch.tanh(x @ W1 + b1) @ W2 + b2
parameters = [W1, b1, W2, b2]
"""


@pytest.mark.parametrize("loop", [BY_HAND, BY_SGD])
def test_raw_pixels_are_named_and_scaled_ones_are_not(loop: str, tmp_path: Path) -> None:
    sick = watched(tmp_path, PIXELS + loop)
    assert alarms(sick)[0] == "unscaled-inputs", str(sick)
    assert sick.run.facts["features"]["max_rms"] == pytest.approx(148, rel=0.1)
    twin = watched(tmp_path, PIXELS + loop.replace("X[at]", "(X[at] / 128 - 1)"))
    assert "unscaled-inputs" not in [each.symptom for each in twin.findings], str(twin)


@pytest.mark.parametrize("hidden", ["torch.tanh", "torch.relu", "torch.softmax"])
@pytest.mark.parametrize("loop", [BY_HAND, BY_SGD])
def test_weights_all_zero_behind_a_hidden_layer_are_named(hidden: str, loop: str, tmp_path: Path) -> None:
    body = ZEROS.replace("torch.tanh(x @ W1 + b1)", f"{hidden}(x @ W1 + b1{', 1' * ('soft' in hidden)})")
    found = watched(tmp_path, body + loop.replace("batches(120)", "batches(400)"))
    assert alarms(found)[:1] == ["symmetric-init"], str(found)
    assert found.findings[0].where.modules == ("W1",)


def test_a_first_layer_of_zeros_before_random_ones_is_no_fault_whatever_little_is_learnt(
    tmp_path: Path,
) -> None:
    body = ZEROS.replace("W2, b2 = torch.zeros(16, 4, requires_grad=True)", "W2, b2 = W").replace(
        "\nW1,", "\nW = (torch.randn(16, 4) / 4).requires_grad_()\nW1,", 1
    )
    noise = "C = torch.where(torch.rand(640) < 0.6, torch.randint(4, (640,)), C)\n"
    found = watched(tmp_path, noise + body + BY_SGD.replace("batches(120)", "batches(500)"))
    assert not alarms(found), str(found)


def test_values_that_are_not_finite_are_found_in_inputs_and_in_targets_of_squares(tmp_path: Path) -> None:
    body = "w = torch.zeros(10, 1, requires_grad=True)\nX[77, 3] = float('nan')\n" + (
        "for at in batches(200):\n"
        "    loss = ((X[at] @ w - Y[at]) ** 2).mean(); loss.backward(); descend([w], 0.1)\n"
    )
    for where in ("X[77, 3]", "Y[77]"):
        found = watched(tmp_path, body.replace("X[77, 3]", where))
        assert alarms(found) == ["non-finite-data"], str(found)


FACTORS = """
I = torch.randint(60, (3000,)); J = torch.randint(40, (3000,))
R = (torch.randn(60, 4)[I] * torch.randn(40, 4)[J]).sum(1)
U, V = (torch.zeros(60, 4), torch.zeros(40, 4))
U += NOISE * torch.randn(60, 4); V += NOISE * torch.randn(40, 4)
U.requires_grad_(); V.requires_grad_(); b = torch.zeros(60, requires_grad=True)
for step in range(300):
    loss = ((U[I] * V[J]).sum(1) + b[I] - R).pow(2).mean()
    loss.backward(); descend([U, V, b], 10.0)
"""


def test_factors_that_are_zero_to_the_end_are_named_and_small_random_ones_are_not(tmp_path: Path) -> None:
    sick = watched(tmp_path, FACTORS.replace("NOISE", "0"))
    assert alarms(sick) == ["symmetric-init"], str(sick)
    assert set(sick.findings[0].where.modules) == {"U", "V"}
    assert "zero from the first step to the last" in sick.findings[0].message
    assert not alarms(watched(tmp_path, FACTORS.replace("NOISE", "0.1")))


def test_one_factor_at_zero_is_no_fault(tmp_path: Path) -> None:
    twin = watched(tmp_path, FACTORS.replace("U += NOISE *", "U += 0 *").replace("NOISE", "0.3"))
    assert not alarms(twin), str(twin)


def test_a_rate_that_throws_a_linear_model_off_is_not_put_down_to_its_start(tmp_path: Path) -> None:
    line = (
        "X = torch.randn(640, 40)\nY = X @ torch.randn(40, 1) / 6\n"
        "w = (3 * torch.randn(40, 1)).requires_grad_()\n"
        "for step in range(60):\n"
        "    loss = ((X @ w - Y) ** 2).mean(); loss.backward(); descend([w], RATE)\n"
    )
    sick = watched(tmp_path, line.replace("RATE", "2.0"))
    assert alarms(sick)[:1] == ["learning-rate-too-high"], str(sick)
    assert "init-scale" not in alarms(sick), str(sick)
    assert not alarms(watched(tmp_path, line.replace("RATE", "0.2")))


def test_dead_units_are_named_of_clamped_columns_too(tmp_path: Path) -> None:
    body = RAW + AS_COLUMNS.replace("torch.relu(V1 @ x.T + c1)", "(V1 @ x.T + c1 - 30).clamp(min=0)")
    found = watched(tmp_path, body + BY_HAND)
    assert alarms(found)[:1] == ["dead-units"], str(found)


@pytest.mark.parametrize(
    "body",
    [
        # Weights that are calculated, what a module makes, a parameter that nothing updates.
        RAW.replace("x @ W1", "x @ (W1 / W1.norm(dim=0))") + BY_SGD,
        "seen = nn.Linear(10, 10).requires_grad_(False)\n" + RAW.replace("x @ W1", "seen(x) @ W1") + BY_HAND,
        RAW + "W0 = torch.eye(4, requires_grad=True)\n" + BY_SGD.replace("net(X[at])", "net(X[at]) @ W0"),
    ],
)
def test_what_cannot_be_told_apart_is_not_judged(body: str, tmp_path: Path) -> None:
    found = watched(tmp_path, body)
    assert "start" not in found.run.facts
    assert "symmetric-init" in dict(found.not_checked)


CHECKPOINTED = """
from torch.utils.checkpoint import checkpoint
def net(x):
    return checkpoint(lambda x: torch.relu(x @ W1 + b1), x, use_reentrant=False) @ W2 + b2
"""


def test_checkpoints_are_left_alone_and_nothing_of_a_script_changes(tmp_path: Path) -> None:
    body = HEAD + RAW + CHECKPOINTED + BY_SGD + "print([p.double().sum().item() for p in parameters])\n"
    path = tmp_path / "train.py"
    path.write_text(body, encoding="utf-8")
    outputs: list[str] = []
    for run in (lambda: watch_script(path), lambda: runpy.run_path(str(path), run_name="__main__")):
        output = io.StringIO()
        with contextlib.redirect_stdout(output), torch.random.fork_rng():
            run()
        outputs.append(output.getvalue())
    assert outputs[0] == outputs[1] != ""


def test_the_graph_is_read_in_sampled_steps_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counted(*args: Any) -> Graph:
        read.append(1)
        return Graph(*args)

    monkeypatch.setattr(raw, "Graph", counted)
    run = watched(tmp_path, RAW + BY_SGD).run
    assert len(read) == len(run.probes["grad_norm"].steps) < 20 < run.summary["steps"]
