"""Several optimizers of one loss are judged as one optimizer that holds all of their parameters."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch

from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.leaves import leaves
from downslope.diagnosis.script import exit_status, watch_script
from downslope.reporting import console, facts
from tests.diagnosis.watched import HEAD

PARTS = """
body, head = nn.Sequential(nn.Linear(10, 32), nn.ReLU()), nn.Linear(32, 4)
first, second = MADE
for at in batches(120):
    loss = F.cross_entropy(head(body(X[at])), C[at])
    first.zero_grad(); second.zero_grad()
    loss.backward(); STEP
"""
TWO = PARTS.replace(
    "MADE", "torch.optim.SGD(body.parameters(), 0.1), torch.optim.SGD(head.parameters(), 0.1)"
).replace("STEP", "first.step(); second.step()")
ONE = PARTS.replace("MADE", "[torch.optim.SGD([*body.parameters(), *head.parameters()], 0.1)] * 2").replace(
    "STEP", "first.step()"
)


def watched(folder: Path, body: str) -> tuple[Diagnosis, int]:
    path = folder / "train.py"
    path.write_text(HEAD + body)
    with contextlib.redirect_stdout(io.StringIO()), torch.random.fork_rng():
        found, status = watch_script(path, trials=0.0)
    assert found is not None
    return found, exit_status(found, status)


@pytest.mark.parametrize("order", ["first.step(); second.step()", "second.step(); first.step()"])
def test_two_optimizers_of_one_loss_are_judged_as_one_that_holds_both(order: str, tmp_path: Path) -> None:
    one, _ = watched(tmp_path, ONE)
    two, status = watched(tmp_path, TWO.replace("first.step(); second.step()", order))
    assert status == 0
    assert (two.notes, two.verdict) == ([], one.verdict)
    mine, other = two.run.facts, one.run.facts
    for fact in ("modules", "constant", "output", "data", "features", "flow"):
        assert mine[fact] == other[fact], fact
    layers = [{k: v for k, v in each.items() if k != "name"} for each in mine["start"]["layers"]]
    assert layers == [{k: v for k, v in each.items() if k != "name"} for each in other["start"]["layers"]]
    assert [each["name"] for each in mine["start"]["layers"]] == list(mine["modules"])
    assert mine["activations"] == {"Sequential.1": {"kind": "relu", "after": "Sequential.0"}}
    assert mine["start"]["loss"] == other["start"]["loss"]
    assert {name for name, _ in two.cleared} == {name for name, _ in one.cleared}
    for statistic in one.run.probes:
        ours, theirs = two.run.probes[statistic], one.run.probes[statistic]
        assert ours.modules == theirs.modules
        assert ours.values[:3] == pytest.approx(theirs.values[:3], nan_ok=True), statistic
    ours, theirs = two.run.history.series("grad_norm"), one.run.history.series("grad_norm")
    assert ours.values[:3] == pytest.approx(theirs.values[:3])


def test_the_head_names_every_method_and_rate(tmp_path: Path) -> None:
    body = TWO.replace("SGD(body.parameters(), 0.1", "SGD(body.parameters(), 0.1, momentum=0.9")
    found, _ = watched(tmp_path, body.replace("SGD(head.parameters(), 0.1", "Adam(head.parameters(), 1e-3"))
    assert facts.recipe(found.run) == "momentum lr 0.1, adam lr 0.001"


def test_parts_of_one_model_are_each_seen_by_the_optimizer_that_holds_them(tmp_path: Path) -> None:
    whole = TWO.replace("first, second", "net = nn.Sequential(body, head)\nfirst, second", 1)
    found, _ = watched(tmp_path, whole.replace("head(body(X[at]))", "net(X[at])"))
    ratio = found.run.probes["update_ratio"]
    assert ratio.modules == ("0.0", "1")
    assert np.isfinite(ratio.values).all()
    assert (ratio.values > 0).all()
    assert found.run.facts["flow"]["parameters"] == 10 * 32 + 32 + 32 * 4 + 4


def test_a_loss_written_by_hand_is_recognised_for_both(tmp_path: Path) -> None:
    body = TWO.replace(
        "F.cross_entropy(head(body(X[at])), C[at])", "(head(body(X[at])) - Y[at]).square().mean()"
    )
    found, _ = watched(tmp_path, body.replace("nn.Linear(32, 4)", "nn.Linear(32, 1)"))
    assert found.run.facts["output"]["objective"] == "mean of squares"


def test_gradients_of_several_batches_belong_to_both(tmp_path: Path) -> None:
    whole = "loss = F.cross_entropy(head(body(X[at])), C[at])"
    half = "(F.cross_entropy(head(body(X[{}])), C[{}]) / 2)"
    body = TWO.replace("loss.backward()", half.format("at[:16]", "at[:16]") + ".backward(); loss.backward()")
    body = body.replace(whole, "loss = " + half.format("at[16:]", "at[16:]"))
    found, _ = watched(tmp_path, body)
    assert len(found.run.facts["optimizers"]) == 2
    assert found.run.facts["constant"]["loss"] == pytest.approx(1.36, abs=0.05)


APART = """
one, other = nn.Linear(10, 4), nn.Linear(10, 4)
first, second = torch.optim.SGD(one.parameters(), 0.1), torch.optim.SGD(other.parameters(), 0.1)
for at in batches(100):
    first.zero_grad(); second.zero_grad()
    F.cross_entropy(one(X[at]), C[at]).backward(); EACH
    F.cross_entropy(other(X[at]), C[at]).backward()
    first.step(); second.step()
"""


@pytest.mark.parametrize("each", ["pass", "first.step()"])
def test_models_that_only_step_side_by_side_are_not_joined(each: str, tmp_path: Path) -> None:
    found, _ = watched(tmp_path, APART.replace("EACH", each))
    assert "optimizers" not in found.run.facts


def test_the_parameters_behind_a_loss_are_those_that_it_depends_on() -> None:
    one, other = torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)
    loss = other(one(torch.ones(4, 3)).detach()).mean()
    assert {id(p) for p in leaves(loss)} == {id(p) for p in other.parameters()}
    both = other(one(torch.ones(4, 3))).mean()
    assert {id(p) for p in leaves(both)} == {id(p) for each in (one, other) for p in each.parameters()}


RATES = TWO.replace("SGD(body.parameters(), 0.1)", "SGD(body.parameters(), BODY)").replace(
    "SGD(head.parameters(), 0.1)", "SGD(head.parameters(), HEAD)"
)


@pytest.mark.parametrize("order", ["first.step(); second.step()", "second.step(); first.step()"])
@pytest.mark.parametrize(("body", "head"), [("0.01", "1e30"), ("1e30", "0.01"), ("0.01", "1e4")])
def test_the_optimizer_that_threw_its_weights_first_is_the_one_that_is_blamed(
    body: str, head: str, order: str, tmp_path: Path
) -> None:
    script = RATES.replace("BODY", body).replace("HEAD", head)
    found, status = watched(tmp_path, script.replace("first.step(); second.step()", order))
    assert status == 1
    assert found.root is not None
    assert found.root.symptom == "learning-rate-too-high"
    bad, part = (float(body), "Sequential") if float(body) > 1 else (float(head), "Linear")
    assert f"sgd lr {bad:.3g} on {part}, number " in found.root.message
    assert "0.01" not in found.root.message
    assert str(found.root.remedies[0]).startswith(f"lr {bad:g} ->")


def test_where_both_threw_their_weights_neither_is_blamed(tmp_path: Path) -> None:
    found, status = watched(tmp_path, RATES.replace("BODY", "1e30").replace("HEAD", "1e30"))
    assert status == 1
    assert "learning-rate-too-high" not in found.symptoms
    assert "Which of the 2 optimizers of this loss threw the weights first is not known" in found.notes[-1]
    assert found.notes[-1] in " ".join(row.text for row in console.of_diagnosis(found))


def test_of_very_many_optimizers_of_one_loss_as_many_as_are_followed_are_put_together(tmp_path: Path) -> None:
    body = """
parts = [part for _ in range(4) for part in (nn.Linear(10, 10), nn.LayerNorm(10), nn.ReLU())]
model = nn.Sequential(*parts, nn.Linear(10, 4))
rules = [torch.optim.SGD([p], 0.05) for p in model.parameters()]
for at in batches(150):
    F.cross_entropy(model(X[at]), C[at]).backward()
    for rule in rules:
        rule.step(); rule.zero_grad()
"""
    found, status = watched(tmp_path, body)
    assert (status, found.notes, found.run.summary["steps"]) == (0, [], 150)
    assert facts.recipe(found.run) == "16 x sgd lr 0.05"
    assert not any("training" in name or " on " in name for name, _ in found.not_checked)
