"""A watched training taken up again: what is kept of it is what it was, and what is tried on that counts."""

from __future__ import annotations

import contextlib
import io
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from downslope.core.errors import DataError, ModelError, ObjectiveError
from downslope.core.run import Run
from downslope.diagnosis import replay
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.intake import Intake
from downslope.diagnosis.measure.imbalance import weighted
from downslope.diagnosis.replay import Kept, adopt, alike, problem_of, recipe_of, retry
from downslope.diagnosis.script import watch_script
from downslope.diagnosis.shown import Shown
from downslope.reporting import facts
from tests.diagnosis.watched import HEAD


def shown(model: nn.Module, inputs: Tensor, target: Tensor, score: Callable[[Any], Tensor]) -> Shown:
    """What is kept of one epoch in batches of 16, in which every weight is moved after the first batch."""
    found = Shown()
    for at in torch.arange(len(inputs)).split(16):
        made = model(inputs[at])
        found.called(model, (inputs[at],), {}, made)
        handed = score(made)
        wanted = target[at].flatten() if len(handed) > len(at) else target[at]
        assert found.scored(handed, wanted)
        with torch.no_grad():
            for each in model.parameters():
                each.add_(1.0)
    return found


def test_the_copy_begins_where_the_training_began() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(64, 5), torch.randint(3, (64,))
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    first = F.cross_entropy(model(x), y).item()
    kept = Kept(
        shown(model, x, y, lambda made: made), F.cross_entropy, None, [torch.optim.SGD(model.parameters())]
    )
    problem = problem_of(kept)
    again, source = problem.build(), problem.train_source
    args, _, target = problem.splitter(next(source.stored(64)))
    with torch.no_grad():
        assert float(problem.objective(again(*args), target)) == pytest.approx(first, rel=1e-6)
    assert F.cross_entropy(model(x), y).item() != pytest.approx(first, rel=1e-2)


def test_the_first_weights_are_kept_without_a_call_of_the_script_s_own_code() -> None:
    class Own(nn.Linear):
        def state_dict(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("it may wait for other processes")

    model, found = Own(3, 2), Shown()
    found.called(model, (torch.randn(4, 3),), {}, model(torch.randn(4, 3)))
    assert found.first is not None
    assert torch.equal(found.first[1]["weight"], model.weight)
    assert found.first[1]["weight"].data_ptr() != model.weight.data_ptr()


class Language(nn.Module):
    """Scores of the next token, beside a state that nobody scores."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.body, self.out = nn.Embedding(7, 6), nn.GRU(6, 9, batch_first=True), nn.Linear(9, 7)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (n, t, 7) and the last state."""
        made, state = self.body(self.embed(tokens))
        return self.out(made), state


def test_a_model_of_language_is_kept_whole_though_its_loss_takes_one_row_a_token() -> None:
    torch.manual_seed(0)
    tokens, following = torch.randint(7, (48, 11)), torch.randint(7, (48, 11))
    model = Language()
    first = F.cross_entropy(model(tokens)[0].flatten(0, 1), following.flatten()).item()
    found = shown(model, tokens, following, lambda made: made[0].flatten(0, 1))
    problem = problem_of(Kept(found, F.cross_entropy, None, [torch.optim.Adam(model.parameters())]))
    args, _, target = problem.splitter(next(problem.train_source.stored(48)))
    assert (args[0].shape, target.shape) == ((48, 11), (48, 11))
    with torch.no_grad():
        assert float(problem.objective(problem.build()(*args), target)) == pytest.approx(first, rel=1e-6)


def test_an_objective_that_is_handed_a_part_of_the_output_can_be_weighted() -> None:
    torch.manual_seed(0)
    tokens, following = torch.randint(7, (48, 11)), torch.randint(7, (48, 11))
    model = Language()
    logits = model(tokens)[0].detach().flatten(0, 1)
    found = shown(model, tokens, following, lambda made: made[0].flatten(0, 1))
    problem = problem_of(Kept(found, F.cross_entropy, None, [torch.optim.Adam(model.parameters())]))
    shares = [0.01 if k == 2 else 0.165 for k in range(7)]
    edit = weighted(problem, [float(k) for k in range(7)], shares)
    assert edit is not None
    assert "every class weighted" in str(edit)
    weight = torch.tensor([1 / (7 * share) for share in shares])
    args, _, target = problem.splitter(next(problem.train_source.stored(48)))
    with torch.no_grad():
        told = float(edit.apply_to_problem(problem).objective(problem.build()(*args), target))
    assert told == pytest.approx(F.cross_entropy(logits, following.flatten(), weight).item(), rel=1e-5)


def test_steps_that_come_before_the_examples_are_not_taken_for_them() -> None:
    model = nn.GRU(4, 3)
    inputs = torch.randn(5, 16, 4)
    made, _ = model(inputs)
    found = Shown()
    found.called(model, (inputs,), {}, made)
    assert not found.scored(made.flatten(0, 1), torch.randint(3, (80,)))


def test_an_example_that_comes_again_is_kept_once_and_what_is_fixed_stays_fixed() -> None:
    x, y = torch.randn(40, 4).repeat(2, 1), torch.randn(40, 1).repeat(2, 1)
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 1))
    rule = torch.optim.SGD(model[1].parameters(), lr=0.1)
    problem = problem_of(Kept(shown(model, x, y, lambda made: made), F.mse_loss, None, [rule]))
    assert problem.train_source.size == 40
    assert [p.requires_grad for p in problem.build().parameters()] == [False, False, True, True]


def test_what_was_not_kept_is_said() -> None:
    model, x = nn.Linear(4, 1), torch.randn(2, 4)
    rules = [torch.optim.SGD(model.parameters())]
    with pytest.raises(ModelError, match="were not kept"):
        problem_of(Kept(Shown(), F.mse_loss, None, rules))
    found = shown(model, x, x[:, :1], lambda made: made)
    with pytest.raises(DataError, match="only 2 of its"):
        problem_of(Kept(found, F.mse_loss, None, rules))
    with pytest.raises(ObjectiveError, match="not one function"):
        problem_of(Kept(found, None, None, rules))


def test_the_recipe_is_that_of_the_optimizer() -> None:
    run = Run()
    run.facts |= {
        "optimizer": {"name": "momentum", "lr": 0.5, "momentum": 0.8, "groups": 1},
        "batch_size": 32,
    }
    run.history.extend("lr", [1, 2, 3], [0.1, 0.2, 0.1])
    run.summary = {"steps": 90}
    found = recipe_of(run, rows=20)
    assert (found.lr, found.momentum, found.batch_size, found.steps) == (0.1, 0.8, 20, 90)


@pytest.mark.parametrize(("ended", "same"), [(0.55, True), (0.8, False)])
def test_a_copy_that_ends_elsewhere_is_no_copy(ended: float, same: bool) -> None:
    def ran(last: float) -> Run:
        run = Run()
        run.facts["constant"] = {"loss": 1.0}
        run.history.extend("train_loss", list(range(1, 51)), [1.0] * 40 + [last] * 10)
        return run

    assert alike(ran(0.5), ran(ended)) is same


def test_a_model_carries_no_hook_outside_its_own_call() -> None:
    model, seen = nn.Linear(3, 2), list[Any]()
    intake = Intake(lambda *given: seen.append(given))
    intake.open(model)
    nn.Linear(3, 3)(torch.randn(2, 3))
    assert not model._forward_hooks
    model.eval()(torch.randn(1, 3))
    made = model.train()(torch.randn(4, 3))
    model(torch.randn(5, 3))
    assert [given[3] is made for given in seen] == [True]
    assert not model._forward_hooks
    assert not model._forward_hooks_with_kwargs


# -- scripts -------------------------------------------------------------------------------------------------

HELD_BACK = """
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Dropout({rate}), nn.Linear(32, 4))
rule = torch.optim.Adam(model.parameters(), lr=3e-3)
for at in batches(150):
    loss = F.cross_entropy(model(X[at]), C[at])
    rule.zero_grad(); loss.backward(); rule.step()
print(loss.item())
"""


def watched(folder: Path, body: str, **said: Any) -> tuple[Diagnosis, str]:
    path = folder / "train.py"
    path.write_text(HEAD + body, encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        found, _ = watch_script(path, **said)
    assert found is not None
    return found, printed.getvalue()


def test_a_cause_that_only_a_trial_shows_is_found_after_the_script(tmp_path: Path) -> None:
    told = list[str]()
    found, printed = watched(tmp_path, HELD_BACK.format(rate=0.97), talk=told.append)
    assert found.root is not None
    assert found.root.symptom == "over-regularised"
    assert len(told) == 1
    assert any("on copies of its model" in each for each in found.notes)
    assert found.run.facts["replay"]["adopted"]
    without, same = watched(tmp_path, HELD_BACK.format(rate=0.97), trials=0.0)
    assert (without.root, "replay" in without.run.facts, same) == (None, False, printed)


def test_nothing_is_tried_of_a_training_whose_steps_fill_the_time(tmp_path: Path) -> None:
    found, _ = watched(tmp_path, HELD_BACK.format(rate=0.97), trials=0.0)
    steps = int(found.run.summary["steps"])
    found.run.summary["seconds"] = 0.5 * steps
    retry(found, Kept(Shown(), None, None, []), 20.0)
    assert found.notes == ["Nothing was tried beside it: a step takes 0.5 s."]
    found.run.summary["seconds"] = 0.01 * steps
    retry(found, Kept(Shown(), None, None, []), 20.0)
    assert "were not kept" in found.notes[-1]


def test_a_model_that_has_other_layers_by_then_is_said_and_ends_nothing(tmp_path: Path) -> None:
    body = HELD_BACK.format(rate=0.97) + "model.append(nn.Linear(4, 4))\n"
    found, _ = watched(tmp_path, body)
    assert found.root is None
    assert "Nothing could be tried beside it" in found.notes[-1]


@pytest.mark.parametrize(
    ("error", "noted"), [(RuntimeError("no such kernel"), True), (KeyError("a name"), False)]
)
def test_only_what_a_copy_may_fail_by_is_kept_quiet(
    error: Exception, noted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = watched(tmp_path, HELD_BACK.format(rate=0.97), trials=0.0)

    def failing(*_: Any) -> Any:
        raise error

    monkeypatch.setattr("downslope.diagnosis.replay.problem_of", failing)
    if not noted:
        with pytest.raises(KeyError, match="a name"):
            retry(found, Kept(Shown(), None, None, []), 20.0)
        return
    retry(found, Kept(Shown(), None, None, []), 20.0)
    assert found.notes[-1] == "Nothing could be tried beside it: RuntimeError: no such kernel."


def test_its_twin_is_let_be(tmp_path: Path) -> None:
    found, _ = watched(tmp_path, HELD_BACK.format(rate=0.1))
    assert found.healthy
    assert found.root is None


SCORED = """
X = torch.randn(1600, 10)
C = (X @ torch.randn(10)).argsort().argsort() * 4 // len(X)
held, X, C = (X[:400], C[:400]), X[400:], C[400:]
{labels}
model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 4))
rule = torch.optim.Adam(model.parameters(), lr={lr})
for epoch in range(8):
    for at in torch.randperm(len(X)).split(32):
        loss = F.cross_entropy(model(X[at]), C[at])
        rule.zero_grad(); loss.backward(); rule.step()
    with torch.no_grad():
        F.cross_entropy(model(held[0]), held[1])
"""


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, a short training counts as one."""
    monkeypatch.setattr(replay, "QUICK", 120.0)


@pytest.mark.usefixtures("patient")
def test_labels_that_belong_to_other_inputs_are_named_where_held_out_data_never_told(tmp_path: Path) -> None:
    """The loss in training falls a little, by memory; what says so is the copy beside trees of our own."""
    body = SCORED.format(labels="C = C[torch.randperm(len(C))]", lr=3e-3)
    found, _ = watched(tmp_path, body)
    assert found.root is not None, str(found)
    assert (found.root.symptom, found.root.severity) == ("uninformative-inputs", "warning")
    assert not found.lost
    assert "on held-out data it never was below a constant guess" in found.verdict
    assert "neither trees nor a linear model find anything" in found.root.message
    without, _ = watched(tmp_path, body, trials=0.0)
    assert without.root is None
    assert "never was below" in without.verdict


@pytest.mark.usefixtures("patient")
def test_what_was_tried_beside_a_training_that_learnt_is_told_though_nothing_came_of_it(
    tmp_path: Path,
) -> None:
    told = list[str]()
    noisy = "C = torch.where(torch.rand(len(C)) < 0.6, torch.randint(4, C.shape), C)"
    found, _ = watched(tmp_path, SCORED.format(labels=noisy, lr=1e-3), talk=told.append)
    assert found.root is None, str(found)
    assert len(told) == 1
    assert "tried after the script" in found.notes[-1].lower()
    assert "never was below" not in found.verdict


def test_what_no_trial_proved_is_taken_over_only_where_nothing_was_learnt(tmp_path: Path) -> None:
    copy, _ = watched(tmp_path, HELD_BACK.format(rate=0.97))
    copy.run.facts.pop("trials", None)
    assert copy.root is not None
    lost, _ = watched(tmp_path, HELD_BACK.format(rate=0.97), trials=0.0)
    assert adopt(lost, copy) is lost.lost
    learnt, _ = watched(tmp_path, HELD_BACK.format(rate=0.1), trials=0.0)
    assert not adopt(learnt, copy)
    assert learnt.root is None


def test_classes_that_weights_would_help_are_no_fault_of_a_training_that_learnt(tmp_path: Path) -> None:
    """A picture's background is most of it: who is out for all pixels alike has no fault."""
    copy, _ = watched(tmp_path, HELD_BACK.format(rate=0.1), trials=0.0)
    finished, _ = watched(tmp_path, HELD_BACK.format(rate=0.97))
    assert finished.root is not None
    for symptom, taken in (("class-imbalance", False), ("over-regularised", True)):
        copy.findings = [replace(finished.root, symptom=symptom, consequences=())]
        copy.run.facts["trials"] = {symptom: {}}
        learnt, _ = watched(tmp_path, HELD_BACK.format(rate=0.1), trials=0.0)
        assert adopt(learnt, copy) is taken


STEPS = """
x = torch.randn(600, 5, 6)
y = (x[:, -1, :4]).argmax(1)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.out = nn.GRU(6, 24, batch_first=True), nn.Linear(24, 4)
    def forward(self, x):
        made, state = self.body(x)
        return self.out({last})
model = Net()
rule = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(150):
    at = torch.randint(600, (30,))
    loss = F.cross_entropy(model(x[at]), y[at])
    rule.zero_grad(); loss.backward(); rule.step()
print(loss.item())
"""


def test_examples_that_are_mixed_are_told_where_nothing_was_learnt(tmp_path: Path) -> None:
    found, _ = watched(tmp_path, STEPS.format(last="made.reshape(5, -1, 24)[-1]"))
    assert found.root is not None
    assert found.root.symptom == "mixed-examples"
    assert watched(tmp_path, STEPS.format(last="made[:, -1]"))[0].root is None


def test_a_few_examples_are_enough_where_there_are_no_more(tmp_path: Path) -> None:
    body = """
    x, y = torch.tensor([[0., 0], [0, 1], [1, 0], [1, 1]]), torch.tensor([[0.], [1], [1], [0]])
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    rule = torch.optim.SGD(model.parameters(), lr=1e-3)
    for step in range(300):
        loss = F.mse_loss(model(x), y)
        rule.zero_grad(); loss.backward(); rule.step()
    """
    found, _ = watched(tmp_path, textwrap.dedent(body))
    assert found.root is not None
    assert found.root.symptom in ("learning-rate-too-low", "too-few-steps")


STEPPED = """
import downslope as ds
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
rule = {rule}
for at in batches(150):
    loss = F.cross_entropy(model(X[at]), C[at])
    rule.zero_grad(); loss.backward(); rule.step()
print(loss.item())
"""


@pytest.mark.parametrize(
    ("rule", "name", "settings"),
    [
        ("ds.optim.Lookahead(model.parameters(), k=10, alpha=0.3)", "lookahead(adam)",
         {"la_steps": 10, "la_alpha": 0.3}),
        ("ds.optim.Muon(model.parameters(), lr=1e-3)", "muon",
         {"roles": {"0.weight": "hidden", "0.bias": "bias", "2.weight": "hidden", "2.bias": "bias"}}),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Converting a tensor")
def test_a_copy_is_stepped_by_what_is_around_the_base_and_by_the_same_roles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str, name: str, settings: dict[str, Any]
) -> None:
    given = list[Any]()
    whole = replay.diagnose

    def diagnose(problem: Any, recipe: Any, **said: Any) -> Diagnosis:
        given.append(recipe)
        return whole(problem, recipe, **said)

    monkeypatch.setattr(replay, "diagnose", diagnose)
    found, _ = watched(tmp_path, STEPPED.format(rule=rule))
    assert [recipe.optimizer for recipe in given] == [name]
    assert settings.items() <= given[0].settings.items()
    assert facts.recipe(found.run).startswith(f"{name} lr 0.001")
    assert found.run.facts["replay"]["alike"], found.notes
