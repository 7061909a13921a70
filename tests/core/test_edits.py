"""Edits: what they do to a problem, that raw goes in and raw comes out, and that files hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core import edits, names
from downslope.core.adapted import Adapted, Standardise, Whiten, scale_of, unwrap, whitening_of
from downslope.core.errors import EditError, InputError, RecipeError
from downslope.core.finding import Evidence, Finding
from tests.training.problems import classification, data, labels, mlp, regression, same_history, same_state

HOW = ds.Recipe(optimizer="sgd", lr=0.05, momentum=0.9, batch_size=16, epochs=4, precision="float64", seed=2)


def fit(problem: ds.Problem, recipe: ds.Recipe = HOW) -> ds.Run:
    return ds.fit(problem, recipe, folder=False, progress=False, observe=0.0)


def raw() -> tuple[Tensor, Tensor]:
    x, y = data()
    return x * torch.tensor([1.0, 100.0, 0.01, 10.0]) + torch.tensor([5.0, -300.0, 0.0, 1.0]), 40 * y + 900


def standard(values: Tensor) -> Tensor:
    return (values - values.mean(0)) / values.std(0, correction=0)


def close(a: nn.Module, b: nn.Module) -> None:
    ours, theirs = unwrap(a).state_dict(), unwrap(b).state_dict()
    assert list(ours) == list(theirs)
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-9, atol=1e-11)


def test_standardised_inputs_train_as_data_standardised_by_hand() -> None:
    x, y = raw()
    y = (y - 900) / 40
    edited = fit(regression(train=(x, y), valid=(x, y)).edit(edits.StandardiseInputs()))
    by_hand = fit(regression(train=(standard(x), y), valid=(standard(x), y)))
    np.testing.assert_allclose(edited.history["train_loss"], by_hand.history["train_loss"], rtol=1e-9)
    close(edited.model("last"), by_hand.model("last"))
    with torch.no_grad():
        torch.testing.assert_close(edited.model()(x), by_hand.model()(standard(x)), rtol=1e-9, atol=1e-9)


def test_standardised_targets_train_as_by_hand_and_speak_in_raw_units() -> None:
    x, y = raw()
    x, scale = standard(x), float(y.std(correction=0))
    edited = fit(regression(train=(x, y), valid=(x, y), metric="mae").edit(edits.StandardiseTargets()))
    by_hand = fit(regression(train=(x, standard(y)), valid=(x, standard(y)), metric="mae"))
    np.testing.assert_allclose(
        edited.history["train_loss"], scale**2 * by_hand.history["train_loss"], rtol=1e-9
    )
    for key, factor in (("valid_loss", scale**2), ("valid_metric", scale)):
        np.testing.assert_allclose(edited.history[key], factor * by_hand.history[key], rtol=1e-9)
        assert edited.summary[key] == pytest.approx(factor * by_hand.summary[key], rel=1e-9)
    close(edited.model("last"), by_hand.model("last"))
    with torch.no_grad():
        restored = by_hand.model()(x) * scale + y.mean()
        torch.testing.assert_close(edited.model()(x), restored, rtol=1e-9, atol=1e-9)


def test_the_objective_sees_raw_inputs_and_standard_targets() -> None:
    x, y = raw()
    seen: list[Tensor] = []

    def objective(output: Tensor, target: Tensor, inputs: Tensor) -> Tensor:
        seen.extend((inputs, target))
        return ((output - target) ** 2).mean()

    problem = regression(objective=objective, train=(x, y), valid=None, metric=None)
    edited = problem.edit(edits.StandardiseInputs(), edits.StandardiseTargets())
    fit(edited, HOW.edit(batch_size="full", lr=0.05))
    assert torch.equal(seen[0], x)
    torch.testing.assert_close(seen[1], standard(y))


def test_saved_names_are_those_of_the_inner_model() -> None:
    problem = regression().edit(edits.StandardiseInputs(), edits.StandardiseTargets())
    state = problem.build().state_dict()
    inner = {key for key in state if not key.startswith("_")}
    assert inner == set(mlp().state_dict())
    assert {key for key in state if key.startswith("_")} == {
        "_before.mean", "_before.std", "_2_after.mean", "_2_after.std",
    }  # fmt: skip
    plain = mlp()
    plain.load_state_dict({key: state[key] for key in inner})
    other = problem.build(seed=9)
    other.load_state_dict(plain.state_dict())
    assert same_state(unwrap(other).state_dict(), plain.state_dict())
    with pytest.raises(RuntimeError, match="nothing"):
        other.load_state_dict(plain.state_dict() | {"nothing": torch.zeros(1)})


def test_adaptations_of_adaptations_keep_their_own_weights_apart() -> None:
    class Named(nn.Module):
        """Names of its own that look like those of an adaptation."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)
            self.weight = nn.Parameter(torch.randn(3))

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) * self.weight.sum()

    def make() -> nn.Module:
        model: nn.Module = Adapted(Named(), before=nn.BatchNorm1d(4), after=nn.Linear(4, 4))
        return Adapted(Adapted(model, before=nn.Linear(4, 4)), after=nn.BatchNorm1d(4))

    first, second = make(), make()
    state = first.state_dict()
    assert {"inner.weight", "weight", "_before.weight", "_2_before.weight", "_3_after.weight"} <= set(state)
    assert len(state) == len(list(first.parameters())) + len(list(first.buffers()))
    second.load_state_dict(state)
    x = torch.randn(5, 4)
    assert torch.equal(first.eval()(x), second.eval()(x))
    inside = nn.ModuleDict({"part": make()})
    inside.load_state_dict({f"part.{key}": value for key, value in state.items()})
    assert torch.equal(inside.eval()["part"](x), first(x))


def test_keyword_inputs_are_standardised_too() -> None:
    x, y = raw()
    problem = ds.Problem(model=Named4, objective="squared_error", train={"x": x, "labels": y})
    model = problem.edit(edits.StandardiseInputs()).build().double()
    inner: Any = unwrap(model)
    torch.testing.assert_close(model(x=x), inner(x=standard(x)))


class Named4(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(4, 1)

    def forward(self, *, x: Tensor) -> Tensor:
        return self.lin(x)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((50,), (0,)), ((50, 3), (0,)), ((50, 2, 4, 4), (0, 2, 3)), ((50, 2, 3, 3, 3), (0, 2, 3, 4))],
)
def test_scales_are_per_feature_or_per_channel(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64) * 3 + 7
    z = Standardise(*scale_of(x))(x)
    torch.testing.assert_close(z.mean(axes), torch.zeros_like(z.mean(axes)), rtol=0, atol=1e-12)
    torch.testing.assert_close(z.std(axes, correction=0), torch.ones_like(z.mean(axes)))


def test_a_constant_feature_becomes_zero_and_not_infinite() -> None:
    x = torch.full((100, 2), 0.1)
    x[:, 1] = torch.linspace(0, 1, 100)
    z = Standardise(*scale_of(x))(x)
    assert torch.equal(z[:, 0], torch.zeros(100))


def mixed() -> Tensor:
    """Columns of one deviation whose directions spread 1 to 1e-3, and one column that is constant."""
    draw = torch.Generator().manual_seed(4)
    z = torch.randn(300, 4, generator=draw, dtype=torch.float64) * torch.logspace(0, -3, 4)
    x = z @ torch.linalg.qr(torch.randn(4, 4, generator=draw, dtype=torch.float64))[0].T
    return torch.cat([5 + 3 * x / x.std(0), torch.full((300, 1), 7.0)], 1)


def test_whitened_inputs_have_the_covariance_of_the_identity() -> None:
    x = mixed()
    z = Whiten(*whitening_of(x))(x)
    covariance = torch.cov(z[:, :4].T, correction=0)
    torch.testing.assert_close(covariance, torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close(z[:, 4], torch.zeros(300, dtype=torch.float64), rtol=0, atol=1e-12)


def test_directions_are_whitened_as_far_as_float32_tells_them_and_copies_of_a_column_are_not() -> None:
    draw = torch.Generator().manual_seed(0)
    z = torch.randn(4000, 4, generator=draw, dtype=torch.float64)
    turned = torch.linalg.qr(torch.randn(4, 4, generator=draw, dtype=torch.float64))[0]
    x = (z * torch.tensor([1.0, 1e-2, 1e-4, 1e-5])) @ turned  # variances down to 1e-10 of the widest
    white = Whiten(*whitening_of(x.float()))(x.float())
    torch.testing.assert_close(white.T.cov().float(), torch.eye(4), atol=0.05, rtol=0)
    copied = torch.cat([z[:, :1], z[:, :1] * 3 + 1], 1).float()  # apart by rounding alone
    white = Whiten(*whitening_of(copied))(copied)
    assert white.std(0).max() < 1.1


def test_whitened_inputs_train_as_data_whitened_by_hand() -> None:
    x, y = mixed()[:, :4], data()[1]
    x = x[: len(y)]
    mean, matrix = whitening_of(x)
    z = (x - mean) @ matrix
    edited = fit(regression(train=(x, y), valid=(x, y)).edit(edits.WhitenInputs()))
    by_hand = fit(regression(train=(z, y), valid=(z, y)))
    np.testing.assert_allclose(edited.history["train_loss"], by_hand.history["train_loss"], rtol=1e-9)
    close(edited.model("last"), by_hand.model("last"))


@pytest.mark.parametrize("x", [torch.randn(20, 2, 4, 4), torch.ones(20, 3).long(), torch.randn(20, 600)])
def test_only_tables_of_numbers_are_whitened(x: Tensor) -> None:
    data = (x, torch.randn(20, 1))
    problem = ds.Problem(model=lambda: nn.Linear(1, 1), objective="squared_error", train=data)
    with pytest.raises(EditError, match=r"^[^\n]*table of numbers[^\n]*$"):
        problem.edit(edits.WhitenInputs())


def test_a_column_of_yes_or_no_beside_measurements_keeps_its_units() -> None:
    x, y = data()
    both = torch.cat([(x[:, :1] > 0).to(y.dtype), 4000 + 1500 * y[:, :1]], dim=1)
    problem = regression(train=(x, both), valid=(x, both), model=lambda: mlp(outputs=2))
    made = problem.edit(edits.StandardiseTargets()).build(0).double()
    seen = made.training_target(both)
    torch.testing.assert_close(seen[:, 0], both[:, 0])
    assert float(seen[:, 1].std(correction=0)) == pytest.approx(1.0)
    output = made.training_output(x)
    torch.testing.assert_close(made(x)[:, 0], output[:, 0])
    torch.testing.assert_close(made(x)[:, 1], output[:, 1] * both[:, 1].std(correction=0) + both[:, 1].mean())


@pytest.mark.parametrize("what", [edits.StandardiseInputs, edits.StandardiseTargets])
def test_indices_and_classes_have_no_scale(what: Any) -> None:
    x, y = labels()
    problem = classification(train=((x > 0).long(), y), model=lambda: nn.Embedding(2, 2))
    with pytest.raises(EditError, match="no scale"):
        problem.edit(what())


def test_a_module_is_replaced_by_its_qualified_name() -> None:
    problem = regression(model=lambda: nn.ModuleDict({"body": mlp()})).edit(
        edits.ReplaceModule("body.1", "torch.nn:LeakyReLU", {"negative_slope": 0.3})
    )
    for seed in (0, 1):
        assert problem.build(seed).get_submodule("body.1").negative_slope == 0.3
    with pytest.raises(EditError, match=r"no module 'body.7'; did you mean 'body\."):
        problem.edit(edits.ReplaceModule("body.7", nn.ReLU))
    with pytest.raises(EditError, match="could not be made"):
        problem.edit(edits.ReplaceModule("body.1", nn.Linear)).build()


def test_the_model_is_wrapped_before_and_after() -> None:
    problem = regression().edit(edits.WrapModel(before=nn.Softsign, after="torch.nn:Sigmoid"))
    model = problem.build()
    x = data(3, torch.float32)[0]
    with torch.no_grad():
        torch.testing.assert_close(model(x), torch.sigmoid(unwrap(model)(nn.functional.softsign(x))))


def test_an_argument_of_the_factory_is_changed() -> None:
    problem = regression().edit(edits.SetArgument("width", 3))
    assert problem.build().get_submodule("0").out_features == 3
    assert problem.argument("width") == 3
    assert regression().argument("width") == 8
    assert problem.edit(**{"model.width": 5}).build().get_submodule("0").out_features == 5


def test_the_objective_is_swapped() -> None:
    assert regression().edit(edits.SetObjective("huber")).objective is ds.objectives.huber


def test_weights_are_drawn_anew_for_some_modules() -> None:
    before = regression().build(3).state_dict()
    after = regression().edit(edits.Reinitialise("he", ("0",))).build(3).state_dict()
    assert not torch.equal(before["0.weight"], after["0.weight"])
    assert torch.equal(before["3.weight"], after["3.weight"])
    with pytest.raises(EditError, match="no module '7'"):
        regression().edit(edits.Reinitialise("he", ("7",)))
    with pytest.raises(InputError, match="did you mean"):
        edits.Reinitialise("hee")


def test_several_edits_apply_as_one_to_problem_and_recipe() -> None:
    edit = edits.Combined((edits.SetRecipe({"lr": 0.5}), edits.SetArgument("width", 3)))
    problem, recipe = edit.apply(regression(), HOW)
    assert recipe.lr == 0.5
    assert problem.argument("width") == 3
    assert str(edit) == "lr = 0.5 and model.width -> 3"
    with pytest.raises(EditError, match="an edit of the recipe"):
        regression().edit(edits.SetRecipe({"lr": 0.5}))


def test_advice_cannot_be_applied() -> None:
    advice = edits.Advice("shuffle the file")
    assert not advice.provable
    with pytest.raises(EditError, match="done by hand"):
        advice.apply(regression(), HOW)
    with pytest.raises(EditError, match="done by hand"):
        regression().edit(advice)


def test_nothing_is_changed_in_place() -> None:
    problem = regression()
    before = problem.build().state_dict()
    problem.edit(edits.StandardiseInputs(), edits.Reinitialise("he"), edits.ReplaceModule("1", nn.ReLU))
    assert problem.edits == ()
    assert same_state(problem.build().state_dict(), before)


EDITS = [
    edits.StandardiseInputs(), edits.WhitenInputs(), edits.StandardiseTargets(), edits.SetObjective("huber"),
    edits.ReplaceModule("1", "torch.nn:LeakyReLU", {"negative_slope": 0.2}),
    edits.ReplaceModule("1", nn.ReLU), edits.WrapModel(before="torch.nn:Softsign"),
    edits.SetArgument("width", 5), edits.Reinitialise("he", ("0",)),
    edits.Combined((edits.SetArgument("width", 6), edits.Reinitialise("he"))),
]  # fmt: skip


def test_a_file_holds_the_recipe_and_the_edits(tmp_path: Path) -> None:
    edits.save(tmp_path / "fixed.toml", HOW, EDITS)
    recipe, again = edits.load(tmp_path / "fixed.toml")
    assert recipe == HOW
    assert [each.to_dict() for each in again] == [each.to_dict() for each in EDITS]
    assert same_history(fit(regression().edit(*again), recipe), fit(regression().edit(*EDITS), HOW))


@pytest.mark.parametrize(
    "edit",
    [
        edits.ReplaceModule("1", lambda: nn.ReLU()),  # noqa: PLW0108
        edits.SetObjective(nn.CrossEntropyLoss(label_smoothing=0.1)),
        edits.Combined((edits.WrapModel(after=lambda: nn.Sigmoid()),)),  # noqa: PLW0108
    ],
)
def test_code_is_refused_by_a_file_and_read_back_as_advice(edit: edits.Edit, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"^[^\n]*holds code[^\n]*$"):
        edits.save(tmp_path / "fixed.toml", HOW, [edit])
    assert not (tmp_path / "fixed.toml").exists()
    finding = Finding(
        symptom="dead-units", title="Dead units", severity="warning",
        evidence=Evidence(name="dead", value=float("nan"), threshold=0.5),
        remedies=(edit, edits.SetRecipe({"lr": 0.1})),
    )  # fmt: skip
    again = Finding.from_dict(finding.to_dict())
    assert again.remedies == (edits.Advice(str(edit)), edits.SetRecipe({"lr": 0.1}))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('[[edit]]\nkind = "standardize-inputs"\n', "did you mean 'standardise-inputs'"),
        ('[[edit]]\nname = "width"\n', "is not known"),
        ('[[edit]]\nkind = "set-argument"\nnme = "width"\n', "set-argument"),
    ],
)
def test_an_edit_that_nobody_knows_is_one_clear_line(text: str, part: str, tmp_path: Path) -> None:
    (tmp_path / "fixed.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as told:
        edits.load(tmp_path / "fixed.toml")
    assert part in str(told.value)
    assert "\n" not in str(told.value)


def test_another_metric_leaves_the_goal_of_the_old_one_behind() -> None:
    x, y = torch.randn(6, 2), torch.tensor([0, 1, 0, 1, 1, 0])
    task = ds.Problem(model=lambda: nn.Linear(2, 2), objective="cross_entropy", train=(x, y),
                      metric="mae", metric_goal="min", goal=0.1)  # fmt: skip
    edit = edits.SetMetric("balanced_accuracy")
    changed = task.edit(edit)
    assert changed.metric is names.resolve("metric", "balanced_accuracy")
    assert (changed.direction, changed.goal) == ("max", None)
    assert ds.edits.from_dict(edit.to_dict()) == edit
    assert str(edit) == "metric -> balanced_accuracy"


def test_many_modules_that_give_way_to_the_same_are_told_in_one_breath() -> None:
    def swaps(names: list[str]) -> tuple[edits.Edit, ...]:
        return tuple(edits.ReplaceModule(name, "torch.nn:ReLU") for name in names)

    odd = [str(2 * i + 1) for i in range(10)]
    assert str(edits.Combined(swaps(odd))) == "modules 1, 3, 5 ... 19 (10) -> ReLU"
    assert str(edits.Combined(swaps(["1"]))) == "module 1 -> ReLU"
    assert str(edits.Combined(swaps(["act1", "act2"]))) == "act1, act2 -> ReLU"
    both = edits.Combined((*swaps(odd), edits.Reinitialise("he", tuple(odd))))
    assert str(both).endswith(
        "-> ReLU and initialise the weights of modules 1, 3, 5 ... 19 (10) by He's rule"
    )
    inside = "downslope.models.activated:ActivatedLinear"
    linear = edits.Combined(tuple(edits.ReplaceModule(each, inside) for each in ("0", "1")))
    assert str(linear) == "put a ReLU after modules 0, 1"
    mixed = edits.Combined((*swaps(["1", "3"]), edits.ReplaceModule("5", "torch.nn:Tanh")))
    assert str(mixed) == "modules 1, 3 -> ReLU and module 5 -> Tanh"


def test_a_module_that_is_put_in_is_told_with_its_settings_and_without_its_sizes() -> None:
    dropped = [edits.ReplaceModule(name, "torch.nn:Dropout", {"p": 0.1}) for name in ("2", "5")]
    assert str(dropped[0]) == "module 2 -> Dropout(p=0.1)"
    assert str(edits.Combined(tuple(dropped))) == "modules 2, 5 -> Dropout(p=0.1)"
    other = edits.ReplaceModule("8", "torch.nn:Dropout", {"p": 0.5})
    assert "modules 2, 5, 8" not in str(edits.Combined((*dropped, other)))
    wide = edits.ReplaceModule("1", "torch.nn:Linear", {"in_features": 2, "out_features": 3})
    assert str(wide) == "module 1 -> Linear"


@pytest.mark.parametrize("what", [edits.StandardiseInputs, edits.StandardiseTargets])
def test_to_standardise_twice_is_to_standardise_once(what: type[edits.Edit]) -> None:
    once = regression().edit(what())
    assert once.edit(what()).edits == once.edits


def test_a_reference_of_standardised_targets_reaches_what_one_that_standardises_them_does() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 4, generator=generator)
    y = 50 + x @ torch.tensor([2.0, -1.0, 0.5, 1.0])  # far from 0 in units of their deviation
    problem = ds.Problem(model="mlp", objective="squared_error", train=(x, y)).edit(
        edits.StandardiseTargets()
    )
    found = ds.diagnose(problem, ds.Recipe(lr=1e-3, epochs=5), progress=False).run.facts["references"]
    assert min(each["loss"] for each in found) < 1  # 6.25 for a constant guess


def test_an_augmentation_is_an_edit_that_a_file_holds_and_that_training_batches_meet(tmp_path: Path) -> None:
    images = torch.zeros(6, 1, 8, 8)
    images[:, :, 4, 4] = 1.0
    task = ds.Problem(
        model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), objective="cross_entropy",
        train=(images, torch.tensor([0, 1, 0, 1, 1, 0])),
    )  # fmt: skip
    edit = edits.SetAugment("shift(1)")
    assert (str(edit), edit.entity, edit.provable) == ("augment -> shift(1)", "optimisation", True)
    changed = task.edit(edit)
    assert task.augment is None
    moved = changed.augment((images, torch.zeros(6)))[0]
    assert not torch.equal(moved, images)
    assert moved.sum() == images.sum()
    edits.save(tmp_path / "fixed.toml", ds.Recipe(lr=0.1), [edit, edits.SetAugment(ds.augment.Flip())])
    again = edits.load(tmp_path / "fixed.toml")[1]
    assert [str(each) for each in again] == ["augment -> shift(1)", "augment -> flip"]
    assert str(task.edit(again[0]).augment) == "shift(by=1)"
    with pytest.raises(InputError, match="did you mean 'shift'"):
        edits.SetAugment("shfit(1)")
    with pytest.raises(InputError, match="'set-augment' holds code"):
        edits.save(tmp_path / "code.toml", ds.Recipe(lr=0.1), [edits.SetAugment(lambda batch: batch)])
