"""Who escapes, against the recurrences of the methods at a saddle and Kramers' law at a minimum."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from downslope.core.errors import DataError, InputError, ObjectiveError, RecipeError, UnknownNameError
from downslope.core.problem import Problem
from downslope.terrain.escapes.escape import escape
from downslope.terrain.escapes.sites import tilted
from downslope.terrain.escapes.trials import Trial, _line
from downslope.terrain.escapes.walkers import Batches


def saddle(points: torch.Tensor) -> torch.Tensor:
    return points[..., 0].square() - 1.5 * points[..., 1].square()


EPS, MINUS = 1e-4, 3.0  # the distance to start at, and the curvature -3 along y


def at_distance(function=saddle, **settings):
    """A saddle whose members all start at the distance EPS along y."""
    return tilted(
        lambda p: function(p + torch.tensor([0.0, EPS])),
        torch.zeros(2),
        name="shifted",
        inside=lambda p: (p[:, 1] + EPS).abs() < 1,
        **settings,
    )


@pytest.mark.parametrize("lr", [0.01, 0.1])
def test_descent_leaves_a_strict_saddle_when_its_growth_has_covered_the_distance(lr):
    found = escape(at_distance(), "gd", lr=lr, spread=0.0, seeds=3, steps=3000)
    expected = math.ceil(math.log(1 / EPS) / math.log(1 + lr * MINUS))
    assert found["gd"].left.tolist() == [expected] * 3


@pytest.mark.parametrize("method", ["momentum", "nesterov"])
@pytest.mark.parametrize("b", [0.5, 0.9])
def test_momentum_leaves_at_the_larger_root_of_its_recurrence(method, b):
    lr = 0.01
    found = escape(
        at_distance(), {method: {"momentum": b}}, lr=lr, batch_size="full", spread=0.0, seeds=1, steps=300,
        keep=1,
    )  # fmt: skip
    push = lr * MINUS
    recurrence = (
        [1, -(1 + b + push), b] if method == "momentum" else [1, -(1 + b) * (1 + push), b * (1 + push)]
    )
    root = max(np.roots(recurrence).real)
    last = int(found[method].median)
    y = found[method].paths[:, 0, 1] + EPS
    assert y[last] / y[last - 1] == pytest.approx(root, rel=1e-3)
    # Of the two roots' sum: y_0 = EPS and v_0 = 0 fix both parts.
    history = [EPS, EPS * (1 + push) if method == "momentum" else EPS * (1 + push * (1 + b))]
    while abs(history[-1]) < 1:
        history.append(-recurrence[1] * history[-1] - recurrence[2] * history[-2])
    assert last == len(history) - 1


def test_descent_on_the_stable_manifold_never_leaves_and_batches_do():
    found = escape("saddle", ["gd", "sgd", "momentum"], spread=0.0, steps=400, seeds=20)
    assert found["gd"].escaped == 0
    assert found["gd"].median == math.inf
    assert found["gd"].interval[1] == pytest.approx(3.8416 / 23.8416, rel=1e-3)  # Wilson: z^2/(n + z^2)
    assert found["sgd"].escaped == found["momentum"].escaped == 20
    assert found["momentum"].median < found["sgd"].median


def test_equal_units_are_never_told_apart_by_descent_however_long():
    found = escape("symmetric_mlp", "gd", lr=0.3, spread=0.0, steps=300, seeds=2)
    assert found.kind == "saddle"
    assert found["gd"].escaped == 0


def test_a_flat_saddle_holds_descent_for_one_over_the_distance():
    """y' = 3 y^2 from eps takes 1/(3 eps): ten times the distance, a tenth of the steps, not a log of it."""

    def along(eps):
        site = tilted(
            lambda p: p[..., 0] ** 3 - 3 * p[..., 0] * p[..., 1].square(),
            torch.tensor([-eps, 0.0]),
            name="monkey",
        )
        return escape(site, "gd", lr=0.01, spread=0.0, seeds=1, steps=9000)["gd"].median

    for eps in (0.01, 0.1):
        assert along(eps) == pytest.approx((1 / eps - 1) / 3 / 0.01, rel=0.1)


def test_a_minimum_is_left_at_the_rate_of_kramers():
    """log of the median time against barrier/temperature, T = lr noise^2 / 2B: slope 1 within its error."""
    lr, seeds = 0.05, 60
    times, inverse = [], []
    for noise in (1.6, 2.0, 2.6):
        trial = escape("x_cos_pi_x", "sgd", noise=noise, lr=lr, spread=0.0, seeds=seeds, steps=3000)["sgd"]
        times.append(trial.median * lr)
        inverse.append(0.3577 / (lr * noise**2 / 2))
    assert times == sorted(times, reverse=True)
    slope = np.polyfit(inverse, np.log(times), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.3)


def test_larger_batches_keep_a_minimum_longer_and_the_whole_data_for_ever():
    found = escape(
        "x_cos_pi_x", ["sgd"], noise=3.0, batch_size=[1, 4, "full"], spread=0.0, seeds=30, steps=1500
    )
    small, large, whole = found.trials
    assert small.median < large.median
    assert whole.escaped == 0


def test_plain_newton_stays_at_the_saddle_that_its_damped_form_leaves():
    """Newton's plain step on a quadratic goes to its critical point, whatever that is: here the saddle."""
    methods = {"plain": {"optimizer": "newton", "line_search": None}, "newton": {}, "gd": {}}
    found = escape("saddle", methods, spread=0.1, seeds=5, steps=40, keep=5)
    assert found["plain"].escaped == 0
    assert np.abs(found["plain"].paths[2]).max() < 1e-12
    assert found["newton"].escaped == 5
    assert found["newton"].batch_size == 1024
    assert found["newton"].median < found["gd"].median


def test_every_seed_walks_as_it_would_alone():
    together = escape("double-well", ["adam", "sgd"], seeds=6, batch_size=4, steps=200)
    alone = escape("double-well", ["adam", "sgd"], seeds=[4], batch_size=4, steps=200)
    for method in ("adam", "sgd"):
        assert together[method].left[4] == alone[method].left[0]


def test_wilsons_interval_covers_the_probability():
    """Of binomial draws with p = 0.3 it covers about 95 %, and more than Wald's near the edge."""
    draws = np.random.default_rng(0).binomial(40, 0.3, 400)
    covered = 0
    for count in draws:
        left = np.full(40, np.inf)
        left[:count] = 1.0
        low, high = Trial("gd", 0.1, 1, left, 10).interval
        covered += low <= 0.3 <= high
    assert 0.92 <= covered / 400 <= 0.98


def test_those_that_did_not_leave_count_as_the_last():
    trial = Trial("gd", 0.1, 1, np.array([5.0, np.inf, 7.0, 6.0, np.inf]), 10)
    assert (trial.escaped, trial.censored, trial.median) == (3, 2, 7.0)
    assert trial.quartiles == (6.0, math.inf)
    assert trial.row()["q75"] is None
    assert _line(trial, 10).endswith(" 7 (6 to > 10)")


def test_a_problem_is_left_on_its_own_examples_whatever_the_model():
    """A net with dropout, batch norm and an LSTM's states beside: frozen, and each member on its own rows."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(2, 3, batch_first=True)
            self.head = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3), nn.Linear(3, 1))

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    torch.manual_seed(0)
    problem = Problem(model=Net, objective="squared_error", train=(torch.randn(40, 5, 2), torch.randn(40, 1)))
    found = escape(problem, ["sgd", "adam"], inside=0.3, batch_size=8, steps=30, seeds=3, lr=0.05)
    assert found.kind == "slope"
    assert found["adam"].escaped == 3


def test_a_large_model_is_judged_by_the_ends_of_its_spectrum_and_bad_data_are_refused():
    """8,010 parameters: a dense Hessian would take as many products, and 500 MB."""
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(32, 800, generator=draw), torch.randint(0, 10, (32,), generator=draw)
    problem = Problem(model=lambda: nn.Linear(800, 10), objective="cross_entropy", train=(x, y))
    found = escape(problem, "gd", seeds=2, steps=2)
    assert found.kind == "slope"
    assert found.lowest > -1e-6  # the cross-entropy of a linear model is convex
    broken = Problem(
        model=nn.Linear(2, 1), objective="squared_error", train=(x[:, :2] / 0, y[:, None].float())
    )
    with pytest.raises(DataError, match="not finite"):
        escape(broken, "gd")
    with pytest.raises(ObjectiveError, match="the loss is inf at the point"):
        escape(lambda p: 1 / p.square().sum(-1), "gd", point=[0.0, 0.0])


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "said"),
    [
        (("sadle",), {}, UnknownNameError, "did you mean 'saddle'"),
        (("saddle", "adma"), {}, UnknownNameError, "adam"),
        (("saddle", []), {}, InputError, "optimizers is empty"),
        (("saddle",), {"seeds": 0}, InputError, "seeds is empty"),
        (("saddle",), {"steps": 0}, InputError, "steps=0"),
        (("saddle",), {"spread": -1.0}, InputError, "spread=-1.0"),
        (("saddle",), {"batch_size": 5000}, InputError, "from 1 to 1024"),
        (("saddle",), {"noise": -1.0}, InputError, "noise=-1.0"),
        (("saddle",), {"examples": 2}, InputError, "examples=2"),
        (("saddle",), {"lr": -1.0}, RecipeError, "lr"),
        (("saddle",), {"point": [0.0]}, InputError, "not critical at"),
        (("saddle",), {"point": [0.3, 0.0]}, InputError, "it is at: saddle"),
        (("saddle",), {"point": "minimum"}, InputError, "saddle has no minimum"),
        (("saddle",), {"point": "top"}, InputError, "'saddle', 'minimum', or coordinates"),
        (("tanh",), {}, InputError, "no saddle and no minimum"),
        (("symmetric_mlp",), {"noise": 1.0}, InputError, "noise= does not belong"),
        (("deep_linear(dept=3)",), {}, InputError, "'dept' is no setting of deep_linear"),
        (("deep_linear(depth=1)",), {}, InputError, "depth=1"),
        ((saddle,), {}, InputError, "needs point="),
        ((lambda p: p,), {"point": [0.0, 0.0]}, ObjectiveError, r"shape \(3, 2\)"),
        ((3,), {}, InputError, "cannot escape from int"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(arguments, settings, error, said):
    with pytest.raises(error, match=said) as caught:
        escape(*arguments, **settings)
    assert "\n" not in str(caught.value)


def test_the_table_names_what_was_left_and_tells_of_those_that_stayed():
    told = str(escape("saddle", ["gd", "adam"], spread=0.0, steps=60, seeds=4))
    assert "saddle, saddle at (0, 0): eigenvalues -2 to 2; inside: within 1 of it" in told
    assert "0/4" in told
    assert "none in 60" in told


def test_a_budget_and_ctrl_c_keep_what_was_measured_and_tell_what_is_missing(monkeypatch) -> None:
    found = escape("saddle", ["gd", "adam"], spread=0.0, noise=0.0, steps=10**9, seeds=2, seconds=0.3)
    (only,) = found
    assert 1 <= only.budget < 10**9
    assert only.escaped == 0
    assert found.notes[0] == f"the budget ended gd after {only.budget} of 1000000000 steps"
    assert found.notes[1] == "the budget left out adam"
    assert "note: the budget left out adam" in str(found)

    step, count = Batches.rows, iter(range(10**6))

    def interrupted(self):
        if next(count) == 45:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Batches, "rows", interrupted)
    found = escape("saddle", ["gd", "adam", "sgd"], spread=0.0, noise=0.0, steps=40, seeds=2)
    assert found.interrupted
    assert [(each.method, each.budget) for each in found] == [("gd", 40), ("adam", 5)]
    assert found.notes == ("Ctrl-C ended adam after 5 of 40 steps", "Ctrl-C left out sgd")
    assert found.to_dict()["interrupted"]


def test_those_that_leave_uphill_are_counted_and_what_is_watched_stands_still_far_away(monkeypatch) -> None:
    """A step of -3 times the place throws each member up and out; Ctrl-C in the step of leaving undoes it."""
    arguments = {"lr": 1.0, "point": [0.0], "noise": 0.0, "spread": 0.1, "seeds": 1, "steps": 30, "keep": 1}

    def thrown():
        return escape(lambda p: 2 * p[..., 0].square(), "gd", **arguments)["gd"]

    whole = thrown()
    last = int(whole.median)
    assert whole.uphill == 1
    assert whole.paths.shape == (31, 1, 1)
    assert 10 <= abs(whole.paths[-1, 0, 0]) < 30
    asked = iter(range(1, 10**6))

    def cut(self):
        if next(asked) == last:
            raise KeyboardInterrupt
        return self.interrupted

    monkeypatch.setattr("downslope.terrain.escapes.escape._Clock.cut", property(cut))
    undone = thrown()
    assert (undone.escaped, undone.uphill, undone.budget, len(undone.paths)) == (0, 0, last - 1, last)


def test_trials_of_one_method_are_told_apart_by_what_differs():
    several = {"lr": [0.05, 0.1], "batch_size": [1, 4], "steps": 2, "seeds": 1}
    found = escape("saddle", ["gd", "sgd"], **several)
    labels = [found.label(each) for each in found]
    assert labels[:2] == ["gd, lr 0.05", "gd, lr 0.1"]
    assert labels[2:] == [f"sgd, lr {lr}, batch {size}" for lr in (0.05, 0.1) for size in (1, 4)]
    with pytest.raises(UnknownNameError, match="'sdg' was not tried"):
        found["sdg"]
    own = escape(lambda p: p[..., 0] ** 2 - p[..., 1] ** 2, "gd", point=[0.0, 0.0], steps=1, seeds=1)
    assert str(own).startswith("<lambda>: saddle, eigenvalues -2 to 2")


def test_every_example_comes_once_an_epoch():
    batches = Batches(at_distance(examples=8), [0], 0.0, 4)
    rows = torch.cat([batches.rows(), batches.rows()], dim=1)
    assert sorted(rows[0].tolist()) == list(range(8))


def test_rates_are_each_methods_own_and_progress_is_told(monkeypatch):
    told = []
    found = escape(
        "saddle", {"gd": {"lr": [0.1, 0.2]}, "newton": {}, "prodigy": {}, "sam": {}}, lr=0.05, steps=2,
        seeds=1,
        progress=lambda done, of: told.append((done, of)),
    )  # fmt: skip
    assert [(each.method, each.lr) for each in found] == [
        ("gd", 0.1), ("gd", 0.2), ("newton", 1.0), ("prodigy", 1.0), ("sam(sgd)", 0.05),
    ]  # fmt: skip
    assert told == [(0, 5), (1, 5), (2, 5), (3, 5), (4, 5)]

    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Batches, "rows", interrupted)
    with pytest.raises(KeyboardInterrupt):  # before there is anything to keep
        escape("saddle", "gd", steps=2, seeds=1)
