"""Runs in threads of one process give what each gives alone, bit for bit."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core import randomness
from tests.training.problems import classification, mlp, same_history, same_state

SEEDS = range(6)


class Noisy(nn.Module):
    """Draws twice from torch's global generator, and lets other threads in between."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(dropout=0.5, outputs=2)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.net(x)
        if self.training:
            time.sleep(1e-4)
        return scores * nn.functional.dropout(torch.ones(len(x), 2), 0.2, self.training)


def noisy() -> ds.Problem:
    """Initial weights, batch order and dropout all draw from torch's global generator."""
    return classification(model=Noisy)


def how(seed: int) -> ds.Recipe:
    return ds.Recipe(optimizer="adam", lr=0.01, batch_size=8, epochs=4, seed=seed)


def fit(seed: int) -> ds.Run:
    return ds.fit(noisy(), how(seed), folder=False, progress=False, observe=0.0)


def test_fits_in_threads_are_those_alone() -> None:
    alone = [fit(seed) for seed in SEEDS]
    with ThreadPoolExecutor(len(SEEDS)) as pool:
        together = list(pool.map(fit, SEEDS))
    for a, b in zip(alone, together, strict=True):
        assert same_history(a, b)
        assert same_state(a.model("last").state_dict(), b.model("last").state_dict())
    assert not same_history(alone[0], alone[1])


def test_models_made_in_threads_are_those_made_alone() -> None:
    many = [*SEEDS] * 20
    alone = {seed: noisy().build(seed).state_dict() for seed in SEEDS}
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda seed: noisy().build(seed).state_dict(), many))
    assert all(same_state(alone[seed], state) for seed, state in zip(many, made, strict=True))


def test_a_model_made_in_another_thread_does_not_disturb_a_run() -> None:
    alone, stop = fit(1), threading.Event()

    def build() -> None:
        while not stop.is_set():
            noisy().build(7)

    other = threading.Thread(target=build)
    other.start()
    try:
        run = fit(1)
    finally:
        stop.set()
        other.join()
    assert same_history(run, alone)
    assert same_state(run.model("last").state_dict(), alone.model("last").state_dict())


def test_the_generators_of_the_caller_come_back_after_threads_have_drawn() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()

    def draw(seed: int) -> Any:
        with randomness.seeded(seed, "init"):
            return torch.rand(3).tolist()

    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(draw, [*range(4)] * 50))
    assert torch.equal(torch.get_rng_state(), before)
    wanted = [torch.rand(3, generator=randomness.generator(seed, "init")).tolist() for seed in range(4)]
    assert drawn == wanted * 50
