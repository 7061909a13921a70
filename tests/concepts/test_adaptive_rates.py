"""AdaGrad, RMSProp and Adam beside recurrences written by hand in float64, and what they are good for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import downslope as ds

WINE = ds.data.wine(standardise=True)
PROBLEM = ds.Problem(model="softmax", objective="cross_entropy", train=WINE.train)
LR, STEPS, EPS = 0.01, 100, 1e-8


def gradient(w: np.ndarray) -> np.ndarray:
    """Of the mean cross-entropy of softmax regression in its weights and intercepts, by hand."""
    inputs = np.column_stack([WINE.train[0].double().numpy(), np.ones(len(WINE.train[0]))])
    z = inputs @ w.T
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return (p - np.eye(3)[WINE.train[1].numpy()]).T @ inputs / len(inputs)


def adagrad(w: np.ndarray) -> np.ndarray:
    v = np.zeros_like(w)
    for _ in range(STEPS):
        g = gradient(w)
        v += g**2
        w = w - LR * g / (np.sqrt(v) + 1e-10)
    return w


def rmsprop(w: np.ndarray) -> np.ndarray:
    v = np.zeros_like(w)
    for _ in range(STEPS):
        g = gradient(w)
        v = 0.99 * v + 0.01 * g**2
        w = w - LR * g / (np.sqrt(v) + EPS)
    return w


def adam(w: np.ndarray) -> np.ndarray:
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t in range(1, STEPS + 1):
        g = gradient(w)
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        w = w - LR * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + EPS)
    return w


def joined(model: torch.nn.Module) -> np.ndarray:
    weight, bias = (p.detach().double().numpy() for p in model.parameters())
    return np.column_stack([weight, bias])


@pytest.mark.parametrize(("name", "by_hand"), [("adagrad", adagrad), ("rmsprop", rmsprop), ("adam", adam)])
def test_a_run_follows_the_recurrence(name: str, by_hand: Callable[[np.ndarray], np.ndarray]) -> None:
    recipe = ds.Recipe(optimizer=name, lr=LR, steps=STEPS, batch_size="full", precision="float64")
    run = ds.fit(PROBLEM, recipe, folder=False, progress=False, observe=0)
    start = joined(PROBLEM.build(recipe.seed))
    np.testing.assert_allclose(joined(run.model()), by_hand(start), rtol=1e-8, atol=1e-10)


RULES = [(ds.optim.Adagrad, adagrad), (ds.optim.RMSprop, rmsprop), (ds.optim.Adam, adam)]


@pytest.mark.parametrize(
    ("kind", "by_hand", "backend"),
    [
        (*rule, backend)
        for rule in RULES
        for backend in ("reference", "eager", "native")
        if (rule[0], backend) != (ds.optim.RMSprop, "native")  # torch has no fused RMSprop
    ],
)
def test_the_rule_follows_the_recurrence_however_it_is_computed(
    kind: type[torch.optim.Optimizer], by_hand: Callable[[np.ndarray], np.ndarray], backend: str
) -> None:
    start = joined(PROBLEM.build(0))
    w = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = kind([w], lr=LR, backend=backend)
    for _ in range(STEPS):
        w.grad = torch.from_numpy(gradient(w.detach().numpy()))
        optimizer.step()
    np.testing.assert_allclose(w.detach().numpy(), by_hand(start), rtol=1e-9, atol=1e-11)


def first_steps(optimizer: str, **settings: object) -> np.ndarray:
    """How far each of three weights moves in one step, its gradients of sizes 1, 1e-3 and 1e3."""
    w = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    w.grad = torch.tensor([1.0, 1e-3, 1e3], dtype=torch.float64)
    kind = {"sgd": ds.optim.SGD, "adam": ds.optim.Adam, "adagrad": ds.optim.Adagrad}[optimizer]
    kind([w], lr=0.1, **settings).step()
    return -w.detach().numpy()


def test_every_weight_has_a_step_of_its_own_and_the_correction_makes_the_first_one_lr() -> None:
    np.testing.assert_allclose(first_steps("sgd"), [0.1, 1e-4, 100.0])
    np.testing.assert_allclose(first_steps("adagrad"), 0.1, rtol=1e-6)
    np.testing.assert_allclose(first_steps("adam"), 0.1, rtol=1e-4)  # 0.1 g / sqrt(0.001 g²) without it


def test_eps_keeps_a_weight_without_gradient_where_it_is() -> None:
    w = torch.nn.Parameter(torch.ones(1))
    w.grad = torch.zeros(1)
    ds.optim.Adam([w], lr=0.1).step()
    assert float(w.detach()) == 1.0


def test_adagrads_steps_shrink_for_ever_and_rmsprops_do_not() -> None:
    moved: dict[str, list[float]] = {}
    for kind in (ds.optim.Adagrad, ds.optim.RMSprop):
        w = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer, former = kind([w], lr=0.1), 0.0
        for _ in range(900):
            w.grad = torch.ones_like(w)
            optimizer.step()
            moved.setdefault(kind.__name__, []).append(former - float(w.detach()))
            former = float(w.detach())
    t = np.arange(1, 901)
    np.testing.assert_allclose(moved["Adagrad"], 0.1 / np.sqrt(t), rtol=1e-9)
    assert moved["RMSprop"][-1] == pytest.approx(0.1, rel=1e-3)


def test_weights_of_rare_features_move_when_their_turn_comes() -> None:
    """Its gradient is small on average: plain steps leave it behind, adaptive ones do not."""
    shares = 0.5 ** np.arange(10)
    draw = (np.random.default_rng(0).random((4096, 10)) < shares).astype(np.float32)
    x = torch.from_numpy(draw)
    problem = ds.Problem(
        model=torch.nn.Linear(10, 1, bias=False), objective="squared_error", train=(x, x.sum(1))
    )
    rarest: dict[str, float] = {}
    for name, lr in (("sgd", 0.3), ("adagrad", 0.5), ("rmsprop", 0.01), ("adam", 0.01)):
        recipe = ds.Recipe(optimizer=name, lr=lr, batch_size=32, epochs=5, init="zeros")
        weights = ds.fit(problem, recipe, folder=False, progress=False).model().weight.detach()[0]
        assert float(weights[0]) == pytest.approx(1.0, abs=0.05), name
        rarest[name] = float(weights[-1])
    assert rarest["sgd"] < 0.7
    assert min(rarest["adagrad"], rarest["rmsprop"]) > 0.9
    assert rarest["adam"] > rarest["sgd"] + 0.1


def test_adam_does_not_feel_the_scale_of_the_objective_and_sgd_does() -> None:
    """What makes one rate fit many problems: the step is lr, whatever the gradient's unit."""

    def thousandfold(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return 1000 * ds.objectives.cross_entropy(output, target)

    ends: dict[str, list[np.ndarray]] = {}
    for name, lr in (("adam", 0.01), ("sgd", 0.5)):
        for what in (PROBLEM, PROBLEM.edit(objective=thousandfold)):
            recipe = ds.Recipe(optimizer=name, lr=lr, steps=100, precision="float64")
            run = ds.fit(what, recipe, folder=False, progress=False, observe=0)
            ends.setdefault(name, []).append(joined(run.model()))
    np.testing.assert_allclose(*ends["adam"], rtol=1e-4, atol=1e-4)
    assert np.abs(ends["sgd"][0] - ends["sgd"][1]).max() > 1.0


def wilson(examples: int = 120, seed: int = 0) -> tuple[ds.Problem, np.ndarray]:
    """The problem of Wilson et al. 2017, section 3.3: one feature is the label, two are always 1, and every
    example has features of its own, one if it is positive and five if not; with it, the labels held out.
    """
    labels = np.where(np.random.default_rng(seed).random(2 * examples) < 0.6, 1.0, -1.0)
    x = np.zeros((2 * examples, 3 + 5 * examples), dtype=np.float32)
    x[:, 0], x[:, 1:3] = labels, 1.0
    for i, label in enumerate(labels[:examples]):  # those held out have features that training never saw
        x[i, 3 + 5 * i : 3 + 5 * i + (1 if label > 0 else 5)] = 1.0
    inputs, targets = torch.from_numpy(x), torch.from_numpy(labels.astype(np.float32))
    return ds.Problem(
        model="linear",
        objective="squared_error",
        train=(inputs[:examples], targets[:examples]),
        valid=(inputs[examples:], targets[examples:]),
        metric=lambda z, y: float((z[:, 0].sign() == y).float().mean()),
    ), labels[examples:]


def test_where_wilson_et_al_say_so_momentum_generalises_and_adaptive_rates_do_not() -> None:
    problem, held_out = wilson()
    positives = float(np.mean(held_out > 0))
    for name, lr, expected in (
        ("momentum", 0.01, 1.0),
        ("adagrad", 0.05, positives),
        ("rmsprop", 0.001, positives),
        ("adam", 0.001, positives),
    ):
        recipe = ds.Recipe(optimizer=name, lr=lr, steps=1500, batch_size="full", init="zeros")
        run = ds.fit(problem, recipe, folder=False, progress=False, observe=0)
        assert run.history.last("train_loss") < 0.05, name  # all of them fit the training data
        assert run.history.last("valid_metric") == pytest.approx(expected), name
