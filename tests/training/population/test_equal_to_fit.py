"""A member of a population equals `fit` alone: optimizers, draws, layers with state, ends."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds

LONG = 200
"""Steps over which a stable member agrees to 1e-9."""

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "gd": {"lr": 0.05, "batch_size": "full"},
    "sgd": {"lr": 0.05},
    "momentum": {"lr": 0.02, "momentum": 0.8},
    "nesterov": {"lr": 0.02},
    "adagrad": {"lr": 0.05},
    "rmsprop": {"lr": 2e-3, "momentum": 0.5, "centered": True},
    "adam": {"lr": 3e-3, "betas": (0.8, 0.99)},
    "adamw": {"lr": 3e-3, "amsgrad": True},
    "nadam": {"lr": 3e-3, "momentum_decay": 0.05},
    "ademamix": {"lr": 3e-3, "alpha_warmup": 50},
}


def data(n: int = 75, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Inputs (n, 6) in float64 and three classes."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 6, generator=generator, dtype=torch.float64)
    return x, (x[:, :3] + 0.3 * x[:, 3:].square()).argmax(1)


def mlp(p: float = 0.0, width: int = 6) -> nn.Module:
    """Dropout on the inputs, which all members share, and behind batch norm.

    No bias before it: its gradient is 0, and what is left of it is rounding that adaptive steps blow up.
    """
    return nn.Sequential(
        nn.Dropout(p / 2), nn.Linear(6, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(p),
        nn.Linear(width, 3),
    )  # fmt: skip


def cnn(p: float = 0.0) -> nn.Module:
    """Channels dropped whole, and then entries."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 4, 2, padding=1, bias=False), nn.BatchNorm2d(4), nn.Tanh(),
        nn.Dropout2d(p), nn.Dropout(p), nn.MaxPool2d(2, 1), nn.Flatten(), nn.Linear(24, 3),
    )  # fmt: skip


TRAIN, VALID = data(), data(30, seed=1)


def problem(**changes: Any) -> ds.Problem:
    given: dict[str, Any] = {
        "model": mlp, "objective": "cross_entropy", "train": TRAIN, "valid": VALID, "metric": "accuracy",
    } | changes  # fmt: skip
    return ds.Problem(**given)


def recipe(**changes: Any) -> ds.Recipe:
    given = {"optimizer": "sgd", "lr": 0.05, "batch_size": 25, "steps": 20, "precision": "float64"}
    return ds.Recipe(**given | changes)


def together(problems: Any, recipes: Sequence[ds.Recipe], **given: Any) -> list[ds.Run]:
    """The members, which did train together."""
    runs = ds.fit_population(problems, recipes, progress=False, way="together", **given)
    assert all(run.choices["population"].startswith("together") for run in runs), [
        run.choices["population"] for run in runs
    ]
    return runs


def off(run: ds.Run, alone: ds.Run, which: str = "last") -> float:
    """Largest distance of losses and weights, relative to the norm of the whole model."""
    ours, theirs = run.history.series("train_loss"), alone.history.series("train_loss")
    assert ours.steps.tolist() == theirs.steps.tolist()
    losses = abs(ours.values - theirs.values).max() / abs(theirs.values).max()
    flat = [
        torch.cat(
            [value.double().flatten() for name, value in each.weights[which].items() if "num_" not in name]
        )
        for each in (run, alone)
    ]
    return max(float(losses), float((flat[0] - flat[1]).norm() / flat[1].norm()))


def agree(problems: Any, recipes: Sequence[ds.Recipe], share: float = 1e-9) -> list[ds.Run]:
    """Train together and alone, and hold everything that a run says against the other."""
    runs = together(problems, recipes)
    each = problems if isinstance(problems, list) else [problems] * len(recipes)
    for run, one, how in zip(runs, each, recipes, strict=True):
        alone = ds.fit(one, how, folder=False, progress=False, observe=0.0)
        assert run.status == alone.status
        assert set(run.history) == set(alone.history)
        assert run.summary.keys() == alone.summary.keys()
        for name in set(alone.history) - {"step"}:
            ours, theirs = run.history.series(name), alone.history.series(name)
            assert ours.steps.tolist() == theirs.steps.tolist(), name
            assert ours.values.tolist() == pytest.approx(theirs.values.tolist(), rel=1e-7, nan_ok=True), name
        for name in set(alone.summary) - {"seconds"}:
            own = alone.summary[name]
            same = own if own is None or isinstance(own, str) else pytest.approx(own, rel=1e-7, nan_ok=True)
            assert run.summary[name] == same, name
        assert off(run, alone) <= share
        assert off(run, alone, "best") <= share
    return runs


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_every_elementwise_optimizer_with_settings_of_its_own_for_200_steps(name: str) -> None:
    own = OPTIMIZERS[name]
    recipes = [
        recipe(**own | {"lr": own["lr"] * (1 + i), "weight_decay": 0.01 * (1 + i), "seed": i},
               optimizer=name, steps=LONG)
        for i in range(3)
    ]  # fmt: skip
    agree([problem(model=mlp, arguments={"p": 0.1 * i}) for i in range(3)], recipes)


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("momentum", [{"momentum": 0.5}, {"momentum": 0.9}, {"momentum": 0.0}]),
        ("adamw", [{"betas": (0.8, 0.99)}, {"betas": (0.9, 0.999)}, {"eps": 1e-4, "amsgrad": True}]),
        ("rmsprop", [{"alpha": 0.9}, {"alpha": 0.99, "momentum": 0.5}, {"centered": True}]),
    ],
)
def test_settings_of_the_rule_are_the_members_own(name: str, own: list[dict[str, Any]]) -> None:
    agree(problem(), [recipe(optimizer=name, lr=5e-3, weight_decay=0.01, **each) for each in own])


def test_different_optimizers_go_side_by_side() -> None:
    recipes = [recipe(**own, optimizer=name, seed=7) for name, own in OPTIMIZERS.items() if name != "gd"]
    agree(problem(), recipes)


def test_channels_are_dropped_as_alone_and_convolutions_agree() -> None:
    problems = [problem(model=cnn, arguments={"p": p}) for p in (0.0, 0.3, 1.0)]
    agree(problems, [recipe(seed=i % 2, optimizer="adamw", lr=1e-2) for i in range(3)])


class Odd(nn.Module):
    """Draws twice through one module, once on a transposed tensor."""

    def __init__(self, p: float = 0.4) -> None:
        super().__init__()
        self.a, self.b, self.drop = nn.Linear(6, 5), nn.Linear(5, 3), nn.Dropout(p)
        self.noise = nn.AlphaDropout(p)

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(self.a(x).T).T
        return self.b(self.noise(self.drop(torch.tanh(h))))


def test_a_module_called_twice_draws_twice_at_its_own_addresses() -> None:
    agree([problem(model=Odd, arguments={"p": p}) for p in (0.2, 0.4)], [recipe(seed=3), recipe(seed=4)])


def test_augmentation_is_that_of_the_members_seed() -> None:
    x, y = data()
    images = (x.reshape(-1, 1, 2, 3), y)

    def net() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(6, 3))

    one = problem(model=net, train=images, valid=None, augment="flip, mixup(0.3)")
    agree(one, [recipe(seed=seed, lr=lr) for seed, lr in [(0, 0.1), (1, 0.1), (0, 0.2)]])


def test_schedules_warm_up_clips_averages_and_label_smoothing_are_the_members_own() -> None:
    hows = [
        recipe(schedule="cosine", warmup=4, clip_norm=0.3, seed=1),
        recipe(schedule="exponential", clip_value=0.01, average="ema", average_decay=0.8),
        recipe(warmup=3, clip_norm=1.0, clip_value=0.1, average="polyak", average_from=0.3),
        recipe(layer_decay=0.5, lr=0.1),
    ]
    smooth = [problem(objective=f"cross_entropy(label_smoothing={e})") for e in (0.0, 0.1, 0.3)]
    agree(smooth, hows[:3])


def test_rates_by_depth_and_groups_are_the_members_own() -> None:
    held = {"params": "1.*", "train": False}
    agree(problem(), [recipe(layer_decay=0.5, lr=lr) for lr in (0.1, 0.2)])
    agree(problem(), [recipe(groups=[held, {"params": "5.*", "lr": lr}]) for lr in (0.1, 0.2)])


def test_members_end_early_by_goal_by_patience_and_by_length_and_the_others_go_on() -> None:
    hows = [
        recipe(lr=0.3, epochs=12, patience=1, steps=None), recipe(lr=1e-5, epochs=12, patience=2, steps=None),
        recipe(lr=0.3, epochs=12, steps=None), recipe(lr=0.1, steps=7), recipe(lr=0.1, epochs=2, steps=None),
    ]  # fmt: skip
    runs = agree(problem(goal=0.9), hows)
    assert len({run.status for run in runs}) >= 2
    assert len({run.summary["steps"] for run in runs}) >= 3


def test_a_member_that_diverges_is_as_it_was_alone_and_the_others_do_not_notice() -> None:
    sharp = problem(model=lambda: nn.Linear(6, 1), objective="squared_error", metric=None, valid=None,
                    train=(TRAIN[0], TRAIN[0].sum(1, keepdim=True)))  # fmt: skip
    hows = [recipe(lr=0.05, steps=300), recipe(lr=1e3, steps=300), recipe(lr=0.02, steps=300)]
    runs = together(sharp, hows)
    alone = [ds.fit(sharp, how, folder=False, progress=False, observe=0.0) for how in hows]
    assert [run.status for run in runs] == ["done", "diverged", "done"]
    assert runs[1].facts["nonfinite"] == alone[1].facts["nonfinite"]
    assert runs[1].summary["steps"] == alone[1].summary["steps"]
    ours, theirs = (each.history.series("train_loss").values[:20] for each in (runs[1], alone[1]))
    assert ours == pytest.approx(theirs, rel=1e-9)
    assert off(runs[0], alone[0]) <= 1e-9
    assert off(runs[2], alone[2]) <= 1e-9


class Rooted(nn.Module):
    """A branch whose value is finite where its gradient is not: at a weight of zero."""

    def __init__(self, start: float = 1.0) -> None:
        super().__init__()
        self.a, self.branch = nn.Linear(6, 1), nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.branch.weight, start)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) + self.branch.weight.abs().sqrt()


def test_weights_that_broke_are_named_by_the_gradient_before_as_alone() -> None:
    target = (TRAIN[0], TRAIN[0].sum(1, keepdim=True))
    flat = problem(model=Rooted, objective="squared_error", train=target, valid=None, metric=None)
    both = [flat, flat.edit(**{"model.start": 0.0})]
    hows = [recipe(lr=1e-3)] * 2
    runs = together(both, hows)
    pairs = zip(both, hows, strict=True)
    alone = [ds.fit(one, how, folder=False, progress=False, observe=0.0) for one, how in pairs]
    assert [run.status for run in runs] == ["done", "diverged"]
    assert runs[1].facts["nonfinite"] == alone[1].facts["nonfinite"]
    assert runs[1].facts["nonfinite"]["gradients"]["sound"] == ["a"]
    assert off(runs[0], alone[0]) <= 1e-9


def test_mixed_shapes_are_grouped_by_themselves() -> None:
    widths = [4, 6, 4, 6, 5]
    problems = [problem(arguments={"width": width}) for width in widths]
    runs = ds.fit_population(problems, [recipe(seed=i) for i in range(5)], progress=False, way="together")
    told = [run.choices["population"] for run in runs]
    assert told[:4] == ["together with 1 others"] * 4
    assert told[4] == "one by one: no other member has its shape"
    assert [run.weights["last"]["1.weight"].shape[0] for run in runs] == widths
    for run, own, seed in zip(runs, problems, range(5), strict=True):
        alone = ds.fit(own, recipe(seed=seed), folder=False, progress=False, observe=0.0)
        assert off(run, alone) <= 1e-9


def test_penalties_adapted_targets_and_constraints_go_together() -> None:
    x, _ = TRAIN
    target = (x, 50.0 + 20.0 * x.sum(1, keepdim=True))
    plain: dict[str, Any] = {
        "model": lambda: nn.Linear(6, 1),
        "train": target,
        "valid": target,
        "metric": "r2",
    }
    penalised = problem(**plain | {"objective": ds.objectives.penalised("squared_error", l2=0.1, l1=0.01)})
    scaled = problem(**plain | {"objective": "squared_error"}).edit(
        ds.edits.StandardiseInputs(), ds.edits.StandardiseTargets()
    )
    bounded = problem(**plain | {"objective": "huber", "constraint": "non_negative"})
    for each in (penalised, scaled, bounded):
        agree(each, [recipe(lr=lr, seed=seed) for lr, seed in [(1e-3, 0), (3e-3, 1)]])


@pytest.mark.parametrize("risk", ["cross_entropy", "squared_error"])
def test_each_member_has_penalties_of_its_own_strength(risk: str) -> None:
    x, y = TRAIN
    target = (x, y if risk == "cross_entropy" else x[:, :3])
    one = problem(train=target, valid=target, objective=risk, metric=None)
    strengths = [(0.1, 1e-3), (0.01, 0.02), (1.0, 1e-4)]
    problems = [one.edit(**{"objective.l2": l2, "objective.l1": l1}) for l2, l1 in strengths]
    how = recipe(steps=12, patience=3)
    for own, run in zip(problems, together(problems, [how, how.edit(steps=5), how]), strict=True):
        given = how.edit(steps=run.summary["steps"])
        alone = ds.fit(own, given, folder=False, progress=False, observe=0.0)
        assert off(run, alone) <= 1e-9
        for column in ("train_l1", "train_l2", "train_objective"):
            ours, theirs = (each.history.series(column).values for each in (run, alone))
            assert ours == pytest.approx(theirs, rel=1e-9)


class Pair(nn.Module):
    """Two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.a(left) * self.b(right)


def line() -> nn.Module:
    return nn.Linear(6, 1)


def two_terms(output: Tensor, target: Tensor, inputs: Tensor) -> dict[str, Tensor]:
    """An objective of one's own, that asks for the inputs and names its parts."""
    return {
        "near": (output - target).square().mean(),
        "slope": 0.1 * (output * inputs[:, :1]).mean().abs(),
    }


def test_an_objective_of_ones_own_goes_together_with_its_terms() -> None:
    x, _ = TRAIN
    target = (x, x.sum(1, keepdim=True))
    own = problem(model=line, objective=two_terms, train=target, valid=target, metric=None)
    runs = agree(own, [recipe(lr=lr, seed=seed) for lr, seed in [(1e-2, 0), (3e-2, 1)]])
    assert {"train_near", "train_slope", "valid_near"} <= set(runs[0].history)


class Attending(nn.Module):
    """Torch's own attention, fused where it is alone."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(1, 12), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.a(x.unsqueeze(-1)).chunk(3, -1)
        return self.b(nn.functional.scaled_dot_product_attention(q, k, v).mean(1))


def test_attention_goes_together() -> None:
    agree(problem(model=Attending), [recipe(seed=seed) for seed in (0, 1)])


class Twofold(nn.Module):
    """Two tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 3), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"kind": self.a(x), "size": self.b(x)}


def test_several_tasks_go_together() -> None:
    x, y = TRAIN
    part = (x, {"kind": y, "size": x.sum(1)})
    objective = "composite({'kind': 'cross_entropy', 'size': 'squared_error'})"
    two = problem(model=Twofold, train=part, valid=part, objective=objective, metric=None)
    runs = agree(two, [recipe(seed=seed) for seed in (0, 1, 1)])
    assert "train_kind" in runs[0].history


def test_several_inputs_by_name_go_together() -> None:
    x, y = TRAIN
    part = {"left": x[:, :3], "right": x[:, 3:], "labels": y}
    agree(problem(model=Pair, train=part, valid=part), [recipe(seed=seed) for seed in (0, 1)])


def test_initialisations_are_the_members_own() -> None:
    agree(problem(), [recipe(init={"name": "he", "scale": scale}) for scale in (0.5, 1.0, 2.0)])


class Functional(nn.Module):
    """Draws outside of any module."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(nn.functional.dropout(x, 0.2, self.training))


class Counting(nn.Module):
    """Decides in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        out = self.a(x)
        return out if out.sum() > 0 else 2 * out


ALONE: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "functional dropout": ({"model": Functional}, {}, "torch.func cannot take them"),
    "a decision in Python": ({"model": Counting}, {}, "torch.func cannot take them"),
    "a second-order method": (
        {},
        {"optimizer": "newton_cg", "batch_size": "full", "lr": None},
        "more than once",
    ),
    "parts of a batch": ({}, {"accumulate": 2}, "accumulate=2"),
    "unfreezing": ({}, {"unfreeze": 1}, "unfreeze=1"),
}


@pytest.mark.parametrize("what", list(ALONE))
def test_what_cannot_go_together_goes_one_by_one_and_says_why(what: str) -> None:
    changes, how, why = ALONE[what]
    hows = [recipe(**{"steps": 3} | how, seed=seed) for seed in (0, 1)]
    one = problem(**changes)
    runs = ds.fit_population(one, hows, progress=False, way="together")
    for run, own in zip(runs, hows, strict=True):
        assert why in run.choices["population"]
        assert "\n" not in run.choices["population"]
        assert off(run, ds.fit(one, own, folder=False, progress=False, observe=0.0)) == 0.0


def test_nothing_is_warned_of_that_a_run_alone_does_not_warn_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "downslope"):
        together(problem(), [recipe(lr=0.1), recipe(lr=0.2)])
    assert not caplog.records
