"""The backend `compiled`: torch's compiler steps as the rules do, and is asked once."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from downslope import optim
from downslope.optim import Custom, ScaleByLr, chain, compiled

# Warnings of the compiler's own.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")

SHAPES = ((5, 3), (7,), (), (0,), (300,))

RULES = {
    "nadam": lambda p, backend: optim.NAdam(p, lr=0.01, weight_decay=0.1, maximize=True, backend=backend),
    "lion": lambda p, backend: optim.Lion(p, lr=0.01, backend=backend),
    "lamb": lambda p, backend: optim.LAMB(p, lr=0.01, weight_decay=0.1, backend=backend),
    "clip": lambda p, backend: Custom(
        p, chain(optim.ClipNormInf(max_norm=0.5), ScaleByLr(lr=0.1)), backend=backend
    ),
    "cautious": lambda p, backend: optim.CautiousAdamW(p, lr=0.01, backend=backend),
}


def after(make, backend, device, steps=4):
    draw = torch.Generator().manual_seed(5)
    params = [nn.Parameter(torch.randn(shape, generator=draw).to(device)) for shape in SHAPES]
    optimizer = make(params, backend)
    for t in range(steps):
        optimizer.param_groups[0]["lr"] = 0.01 / (1 + t)
        for p in params:
            p.grad = torch.randn(p.shape, generator=draw).to(device)
        optimizer.step()
    return [p.detach().cpu() for p in params]


def agree(make, device):
    ours, theirs = (after(make, backend, device) for backend in ("compiled", "reference"))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.slow  # torch's compiler takes ten seconds and more for each rule
@pytest.mark.parametrize("name", RULES)
def test_compiled_steps_equal_the_rule_on_the_cpu(name):
    agree(RULES[name], "cpu")


@pytest.mark.slow  # as above
def test_another_rate_is_not_compiled_anew():
    from torch._dynamo.utils import counters

    after(RULES["nadam"], "compiled", "cpu", steps=2)
    counters.clear()
    p = nn.Parameter(torch.ones(11))
    optimizer = optim.NAdam([p], lr=0.1, backend="compiled")
    for t in range(5):
        optimizer.param_groups[0]["lr"] = 0.1 / (1 + t)
        p.grad = torch.full((11,), 1.0 + t)
        optimizer.step()
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.gpu
@pytest.mark.parametrize("name", RULES)
def test_compiled_steps_equal_the_rule_on_a_gpu(name):
    agree(RULES[name], "cuda")


@pytest.mark.gpu
def test_a_gpu_takes_the_compiler_for_large_groups_without_a_fused_kernel():
    large = nn.Parameter(torch.zeros(200_000, device="cuda"))
    assert optim.NAdam([large]).plan().rows[0].backend == "compiled"
    assert optim.Adam([large]).plan().rows[0].backend == "native"
    assert optim.NAdam([nn.Parameter(large[:5].detach())]).plan().rows[0].backend == "eager"


@pytest.mark.parametrize("name", RULES)
def test_what_is_given_to_the_compiler_steps_as_the_rule(name, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda f, **how: f)
    agree(RULES[name], "cpu")


def test_a_compiler_that_fails_is_said_and_torch_steps(monkeypatch, caplog):
    def fails(function, **how):
        def run(*args):
            raise OSError("no C++ compiler")

        return run

    monkeypatch.setattr(torch, "compile", fails)
    monkeypatch.setattr("downslope.optim.plan.builds", lambda device: True)
    p = nn.Parameter(torch.ones(100_000))
    optimizer = optim.Lion([p], lr=0.5)
    assert optimizer.plan().rows[0].backend == "compiled"
    p.grad = torch.ones_like(p)
    with caplog.at_level(logging.WARNING, logger="downslope"):
        optimizer.step()
        optimizer.step()
    assert caplog.text.count("torch.compile failed (OSError)") == 1
    assert torch.equal(p.detach(), torch.zeros_like(p))
    forced = optim.Lion([p], lr=0.5, backend="compiled")
    with pytest.raises(OSError, match="no C"):
        forced.step()


def test_without_a_gpu_the_compiler_is_not_chosen():
    assert not compiled.builds(torch.device("cpu"))
