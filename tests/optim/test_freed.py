"""Memory that was freed, or cut to a part, is refused wherever an optimizer would read or write it.

Each table runs in a process of its own: where nobody looks, reading what is not there ends it.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

START = """
import torch
from torch import nn
from downslope import optim
from downslope.core.errors import RecipeError
from downslope.optim.kernel.store import missing

ways = ["reference", "eager", None] + ([] if missing() else ["kernel"])


def made(make):
    torch.manual_seed(0)
    own = [nn.Parameter(torch.randn(64, 64)), nn.Parameter(torch.randn(64))]
    optimizer = make(own)
    graded(own)
    return own, optimizer


def graded(own):
    for p in own:
        p.grad = torch.randn_like(p)


def refused(own, memory, nbytes, attempt):
    before, kept, size = [p.detach().clone() for p in own], memory.clone(), memory.nbytes()
    memory.resize_(nbytes)
    try:
        attempt()
    except RecipeError as error:
        assert "memory" in str(error) and chr(10) not in str(error), error
    else:
        raise SystemExit("it was taken")
    memory.resize_(size)
    memory.copy_(kept)
    assert all(map(torch.equal, before, own)), "something moved"
"""

COUNTS = """
for name in ("Adam", "NAdam", "Adafactor", "Prodigy"):
    for way in ways:
        if (name, way) == ("Adam", "kernel"):
            continue
        print(name, way, flush=True)
        own, optimizer = made(lambda own: getattr(optim, name)(own, backend=way))
        for _ in range(3):
            optimizer.step()
        held = [v for v in optimizer.state[own[0]].values() if not v.ndim]
        refused(own, held[0].untyped_storage(), 0, optimizer.step)
        optimizer.step()
"""

PARTS = """
for name in ("SGD", "RMSprop", "Muon", "Shampoo", "LAMB", "Prodigy"):
    for way in ways:
        if (name, way) in (("SGD", "kernel"), ("Shampoo", "kernel")):
            continue
        for stepped in (False, True):
            for what in ("p", "s"):
                print(name, way, stepped, what, flush=True)
                own, optimizer = made(lambda own: getattr(optim, name)(own, backend=way))
                for _ in range(2 * stepped):
                    optimizer.step()
                held = [v for v in optimizer.state[own[0]].values() if v.ndim] if what == "s" else [own[0]]
                if held:
                    refused(own, held[-1].untyped_storage(), 32, optimizer.step)
                    optimizer.step()
"""

ELSEWHERE = """
def halves(optimizer, own):
    optimizer.first_step()
    graded(own)
    return own[0], optimizer.second_step


def shown(optimizer, own):
    optimizer.step()
    return own[0], optimizer.eval


def evaluated(optimizer, own):
    optimizer.step()
    return optimizer.state[own[0]]["z"], lambda: optimizer.evaluated(own[0])


def pulled(optimizer, own):
    optimizer.step()
    return optimizer.slow.held[own[0]], optimizer.step


def loaded(optimizer, own):
    optimizer.step()
    saved = optimizer.state_dict()
    return saved["state"][0]["exp_avg"], lambda: optimizer.load_state_dict(saved)


def slow_loaded(optimizer, own):
    optimizer.step()
    saved = optimizer.state_dict()
    return saved["state"][0]["slow"], lambda: optimizer.load_state_dict(saved)


for make, begin in (
    (optim.SAM, halves), (optim.ScheduleFreeSGD, shown), (optim.ScheduleFreeSGD, evaluated),
    (lambda own: optim.Lookahead(own, k=2), pulled), (optim.Lookahead, shown), (optim.Adam, loaded),
    (optim.Lookahead, slow_loaded),
):
    print(begin, flush=True)
    own, optimizer = made(make)
    given, attempt = begin(optimizer, own)
    refused(own, given.untyped_storage(), 0, attempt)
    attempt()
"""


SPARSE = """
for way in ("reference", None):
    for part in ("_indices", "_values"):
        print(way, part, flush=True)
        p = nn.Parameter(torch.ones(4, 3))
        optimizer = optim.SGD([p], backend=way)
        for stepped in (False, True):
            g = torch.sparse_coo_tensor([[1, 1, 2]], torch.ones(3, 3), (4, 3))
            p.grad = g
            if stepped:
                optimizer.step()
            refused([p], getattr(g, part)().untyped_storage(), 0, optimizer.step)
"""


@pytest.mark.parametrize(
    "table", [COUNTS, PARTS, ELSEWHERE, SPARSE], ids=["counts", "parts", "elsewhere", "sparse"]
)
def test_memory_that_is_gone_is_refused_in_one_line_and_nothing_moves(table: str) -> None:
    code = textwrap.dedent(START + table)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.returncode} {done.stdout[-60:]} {done.stderr[-600:]}"
