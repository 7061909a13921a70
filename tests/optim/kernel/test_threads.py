"""Kernels run on torch's threads, or on Python's where torch's are not known."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from downslope import optim
from downslope.optim.kernel import threads


def after(steps=2):
    draw = torch.Generator().manual_seed(7)
    params = [nn.Parameter(torch.randn(n, generator=draw)) for n in (40_000, 3, 250_001)]
    optimizer = optim.LAMB(params, lr=0.1, weight_decay=0.1, backend="kernel")
    for _ in range(steps):
        for p in params:
            p.grad = torch.randn(p.shape, generator=draw)
        optimizer.step()
    return [p.detach() for p in params]


@pytest.fixture
def four():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_a_team_of_another_openmp_gives_the_same_bits(four, monkeypatch):
    ours = after()
    seen = set()

    class Watched(ThreadPoolExecutor):
        def map(self, run, places):
            return super().map(lambda place: (seen.add(threading.get_ident()), run(place)), places)

    monkeypatch.setattr(threads, "team", lambda: None)
    monkeypatch.setattr(threads, "ThreadPoolExecutor", Watched)
    threads._pool.cache_clear()
    try:
        theirs = after()
    finally:
        threads._pool.cache_clear()
    assert seen
    assert threading.get_ident() not in seen
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_several_threads_of_python_may_step_at_once(four):
    wanted = after()
    with ThreadPoolExecutor(3) as pool:
        found = [each.result() for each in [pool.submit(after) for _ in range(6)]]
    for params in found:
        assert all(torch.equal(a, b) for a, b in zip(params, wanted, strict=True))


def test_small_work_stays_on_one_thread(four):
    assert threads.parts_for(threads.GRAIN - 1) == 1
    assert threads.parts_for(2 * threads.GRAIN) == 2
    assert threads.parts_for(100 * threads.GRAIN) == 4
