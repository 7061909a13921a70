"""A batch in parts gives the gradient of the whole batch: against the whole batch in float64."""

from __future__ import annotations

import copy
import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.core.errors import RecipeError
from tests.training.problems import mlp, regression


def weights(problem: ds.Problem, **recipe: Any) -> Tensor:
    """The last weights of a short run, in one vector."""
    given: dict[str, Any] = {
        "optimizer": "sgd",
        "lr": 0.05,
        "batch_size": 17,
        "epochs": 3,
        "precision": "float64",
    }
    run = ds.fit(problem, ds.Recipe(**given | recipe), folder=False, progress=False)
    return torch.cat([each.double().reshape(-1) for each in run.state("last").values()])


def same(problem: ds.Problem, parts: int = 4, **recipe: Any) -> None:
    """17 examples a batch, the last of 16, in parts of unequal size."""
    whole, cut = weights(problem, **recipe), weights(problem, accumulate=parts, **recipe)
    torch.testing.assert_close(cut, whole, rtol=1e-10, atol=1e-12)


def tokens(masked: bool = True) -> tuple[Tensor, Tensor]:
    """Sequences of 6 tokens out of 5; of each a different number of targets is masked."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randint(5, (50, 6), generator=generator)
    y = torch.randint(5, (50, 6), generator=generator)
    if masked:
        cut = torch.randint(0, 7, (50, 1), generator=generator)
        y = torch.where(torch.arange(6) < cut, y, -100)
        y[:, 0] = torch.where(torch.arange(50) % 5 == 0, y[:, 0].clamp(min=0), y[:, 0])
    return x, y


def speaker() -> nn.Module:
    return nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5))


@pytest.mark.parametrize("parts", [2, 3, 5, 17, 40])
def test_a_mean_over_unequal_parts_is_the_mean_over_the_batch(parts: int) -> None:
    same(regression(), parts)


@pytest.mark.parametrize("optimizer", ["adam", "torch.optim:LBFGS"])
def test_any_optimizer_sees_the_gradient_of_the_whole_batch(optimizer: str) -> None:
    same(regression(), optimizer=optimizer, batch_size=50, lr=0.01)


def test_a_sum_over_the_batch_stays_a_sum() -> None:
    same(regression(objective=nn.MSELoss(reduction="sum")), lr=1e-3)
    same(regression(objective=lambda z, y: ((z - y) ** 2).sum()), lr=1e-3)


def test_a_part_weighs_by_the_tokens_that_count_and_not_by_its_examples() -> None:
    problem = ds.Problem(model=speaker, objective="cross_entropy", train=tokens())
    same(problem)
    by_examples = ds.Problem(
        model=speaker,
        objective=lambda z, y: functional.cross_entropy(
            z.flatten(0, 1), y.flatten(), reduction="none"
        ).mean(),
        train=tokens(),
    )
    same(by_examples)
    assert not torch.allclose(weights(problem), weights(by_examples))


def test_a_part_without_any_target_adds_nothing() -> None:
    x, y = tokens(masked=False)
    y[:40] = -100
    batches = [(x[a : a + 10], y[a : a + 10]) for a in (32, 35, 38)]
    problem = ds.Problem(
        model=speaker,
        objective=nn.CrossEntropyLoss(),
        train=torch.utils.data.DataLoader(_Batches(batches), batch_size=None),
        split=lambda batch: ((batch[0],), {}, batch[1].flatten()),
    ).edit(objective=lambda z, y: functional.cross_entropy(z.flatten(0, 1), y))
    whole, cut = weights(problem), weights(problem, accumulate=3)
    assert torch.isfinite(whole).all()
    torch.testing.assert_close(cut, whole, rtol=1e-10, atol=1e-12)


class _Batches(torch.utils.data.Dataset[Any]):
    def __init__(self, batches: list[Any]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Any:
        return self.batches[index]


def test_weights_of_classes_are_weights_of_the_parts() -> None:
    x, y = tokens(masked=False)
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.1, 2.0, 1.0], dtype=torch.float64))
    same(
        ds.Problem(
            model=lambda: nn.Sequential(speaker(), nn.Flatten()), objective=_first(weighted), train=(x, y)
        )
    )


def _first(objective: nn.Module) -> nn.Module:
    class First(nn.Module):
        weight = objective.weight

        def forward(self, z: Tensor, y: Tensor) -> Tensor:
            return objective(z[:, :5], y[:, 0])

    return First()


def test_named_terms_and_a_penalty_on_the_weights_are_those_of_the_whole_batch() -> None:
    def objective(z: Tensor, y: Tensor, model: nn.Module) -> dict[str, Tensor]:
        return {"fit": ((z - y) ** 2).mean(), "penalty": sum(p.square().sum() for p in model.parameters())}

    problem = regression(objective=objective)
    same(problem)
    recipe = ds.Recipe(optimizer="sgd", lr=0.05, batch_size=17, epochs=2, precision="float64")
    one, cut = (
        ds.fit(problem, recipe.edit(accumulate=k), folder=False, progress=False).history for k in (None, 4)
    )
    for name in ("train_loss", "train_fit", "train_penalty"):
        torch.testing.assert_close(
            torch.tensor(cut.series(name).values), torch.tensor(one.series(name).values), rtol=1e-9, atol=0
        )


def test_an_objective_that_couples_the_examples_goes_through_the_outputs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def contrast(z: Tensor, y: Tensor) -> Tensor:  # which of the batch's targets is mine?
        return functional.cross_entropy(-torch.cdist(z, y), torch.arange(len(z)))

    with caplog.at_level(logging.WARNING):
        same(regression(objective=contrast, metric=None))
    assert len([each for each in caplog.messages if "through the outputs" in each]) == 1


def test_a_second_pass_draws_the_same_dropout() -> None:
    """Without it the gradient would be that of other outputs: checked by a model whose output is the mask."""
    seen: list[Tensor] = []

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.drop = nn.Linear(4, 1), nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            mask = self.drop(torch.ones_like(x))
            if self.training and torch.is_grad_enabled():
                seen.append(mask)
            elif self.training:
                seen.append(-mask)
            return self.inner(x * mask)

    problem = regression(model=Masked, objective=lambda z, y: (z - y).std(), metric=None)
    recipe = ds.Recipe(optimizer="sgd", lr=0.0, steps=2, batch_size=10, accumulate=2, precision="float64")
    ds.fit(problem, recipe, folder=False, progress=False, observe=0.0)
    first, second, third, fourth = seen[-4:]
    assert torch.equal(-first, third)
    assert torch.equal(-second, fourth)
    assert not torch.equal(first, second)


def test_standardised_targets_and_their_units_stay() -> None:
    same(regression().edit(ds.edits.StandardiseTargets()))


class OwnLoss(nn.Module):
    """A language model that forms its loss itself, the targets shifted by one."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = speaker()

    def forward(self, x: Tensor, labels: Tensor) -> Any:
        z = self.inner(x)
        return SimpleNamespace(
            loss=functional.cross_entropy(z[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        )


class Coupled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 1)

    def forward(self, x: Tensor, labels: Tensor) -> Any:
        return SimpleNamespace(loss=(self.inner(x) - labels).std(correction=0))


def test_a_model_with_a_loss_of_its_own_weighs_by_the_targets_that_it_predicts() -> None:
    x, y = tokens()
    y[:, 1] = y[:, 1].clamp(min=0)  # each sequence has a target that counts
    problem = ds.Problem(model=OwnLoss, objective=None, train={"x": x, "labels": y})
    same(problem)


def test_a_model_whose_own_loss_couples_the_examples_is_refused_in_one_line() -> None:
    x = torch.randn(50, 4)
    problem = ds.Problem(model=Coupled, objective=None, train={"x": x, "labels": x[:, :1]})
    with pytest.raises(RecipeError, match="neither a mean nor a sum over its parts"):
        weights(problem, accumulate=2)


def test_batch_norm_is_told_and_takes_each_part(caplog: pytest.LogCaptureFixture) -> None:
    def normed() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))

    with caplog.at_level(logging.WARNING):
        weights(regression(model=normed), accumulate=2)
    assert any("batch norm takes its statistics from each part" in each for each in caplog.messages)


def test_a_resumed_run_goes_on_in_parts(tmp_path: Any) -> None:
    recipe = ds.Recipe(optimizer="adam", lr=0.01, batch_size=16, epochs=4, accumulate=3)
    whole = ds.fit(regression(), recipe, folder=tmp_path / "a", progress=False)
    problem = regression()
    calls = 0

    def stop(state: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ds.fit(problem, recipe, folder=tmp_path / "b", progress=False, on_probe=stop)
    again = ds.fit(problem, recipe, folder=tmp_path / "b", progress=False, resume=True)
    for name, tensor in whole.state("last").items():
        assert torch.equal(tensor, again.state("last")[name])


def test_what_the_parts_hold_at_once_is_a_part() -> None:
    """The saved activations of one part, not of the batch, stand in memory."""
    sizes: list[int] = []

    class Seen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = mlp()

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                sizes.append(len(x))
            return self.inner(x)

    weights(regression(model=Seen), accumulate=4, epochs=1)
    assert max(sizes) == 5


@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_a_number_of_parts_below_one_is_refused(value: Any) -> None:
    with pytest.raises(RecipeError, match="accumulate"):
        ds.Recipe(accumulate=value)


def test_more_parts_than_a_batch_has_examples_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        weights(regression(), batch_size=4, accumulate=9)
    assert caplog.messages == ["accumulate=9: a batch of 4 goes through in 4 parts, one for each example"]


def test_the_recipe_says_its_parts_and_keeps_them_in_a_file() -> None:
    recipe = ds.Recipe(batch_size=64, accumulate=4)
    assert "batch 64 in 4 parts" in str(recipe)
    assert ds.Recipe.from_toml(recipe.to_toml()) == copy.copy(recipe)


def test_of_a_model_with_states_beside_its_steps_the_objective_has_those_of_all_parts() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells = nn.LSTM(2, 3, num_layers=2, batch_first=True)

        def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            return self.cells(x)

    def own(output: Any, target: Tensor) -> Tensor:
        steps, (h, _) = output
        return functional.cross_entropy(h[-1] + steps[:, 0], target)

    x = torch.randn(50, 5, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    same(ds.Problem(model=Reader, objective=own, train=(x, (x.sum((1, 2)) > 0).long())))
