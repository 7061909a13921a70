"""What every optimizer has to prove, whatever its rule: inherit `RuleContract`, give it cases.

    class TestHeavyBall(RuleContract):
        cases = (Case("mu .9", lambda p, b: Momentum(p, lr=0.1, backend=b), recurrence=heavy_ball),)

The recurrence is written from the paper, in float64, on numpy arrays, and shares no code with the rule.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from downslope.optim import Optimizer

__all__ = ["Case", "RuleContract", "gradients", "parameters", "run"]

Array = npt.NDArray[np.float64]

SHAPES = ((5, 3), (7,), (), (2, 3, 4))
STEPS = 100

# Relative to the largest element, after 100 steps; the largest seen are 2.6e-6 and 3.5e-15 (seeds 0 to 19).
TOLERANCE = {torch.float32: 5e-6, torch.float64: 1e-13}


@dataclass(frozen=True)
class Case:
    """One setting of one optimizer, with what it must agree with."""

    name: str
    make: Callable[[list[nn.Parameter], str | None], Optimizer]
    """(parameters, backend) to the optimizer."""
    recurrence: Callable[[Array, Sequence[Array]], Array]
    """(parameter, its gradient at every step) to the parameter after them."""
    peer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None = None
    """Another implementation with the same settings."""

    def backends(self) -> list[str]:
        """The backends that can run this case on the CPU."""
        row = self.make([nn.Parameter(torch.zeros(2))], None).plan().rows[0]
        return ["reference", "eager", *(["native"] if row.backend == "native" else [])]


def parameters(dtype: torch.dtype, seed: int = 0) -> list[nn.Parameter]:
    """Parameters of several shapes, drawn from N(0, 1)."""
    draw = torch.Generator().manual_seed(seed)
    return [
        nn.Parameter(torch.randn(shape, dtype=torch.float64, generator=draw).to(dtype)) for shape in SHAPES
    ]


def gradients(dtype: torch.dtype, steps: int = STEPS, seed: int = 1) -> list[list[Tensor]]:
    """For each step, a gradient for each of `parameters`, drawn from N(0, 1)."""
    draw = torch.Generator().manual_seed(seed)
    return [
        [torch.randn(shape, dtype=torch.float64, generator=draw).to(dtype) for shape in SHAPES]
        for _ in range(steps)
    ]


def run(optimizer: torch.optim.Optimizer, given: Sequence[Sequence[Tensor | None]]) -> None:
    """Steps with the gradients `given`, one list for each step; None leaves a parameter without one."""
    params: list[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
    for grads in given:
        for p, g in zip(params, grads, strict=True):
            p.grad = None if g is None else g.clone()
        optimizer.step()


def _assert_close(
    found: Sequence[Tensor], wanted: Sequence[Any], dtype: torch.dtype, slack: float = 1.0
) -> None:
    for ours, theirs in zip(found, wanted, strict=True):
        target = np.asarray(theirs.detach().double() if isinstance(theirs, Tensor) else theirs)
        error = np.abs(ours.detach().double().numpy() - target).max()
        assert error <= slack * TOLERANCE[dtype] * max(np.abs(target).max(), 1.0)


def _expected(case: Case, params: Sequence[Tensor], given: Sequence[Sequence[Tensor | None]]) -> list[Array]:
    columns = [[grads[i] for grads in given] for i in range(len(params))]
    return [
        case.recurrence(p.detach().double().numpy(), [g.double().numpy() for g in column if g is not None])
        for p, column in zip(params, columns, strict=True)
    ]


class RuleContract:
    """Tests that pytest collects in a subclass; each runs for every case, backend and dtype that it names."""

    cases: ClassVar[tuple[Case, ...]] = ()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Spreads the tests over cases, backends and dtypes."""
        if "backend" in metafunc.fixturenames:
            pairs = [(case, backend) for case in self.cases for backend in case.backends()]
            metafunc.parametrize(("case", "backend"), pairs, ids=[f"{c.name}, {b}" for c, b in pairs])
        elif "case" in metafunc.fixturenames:
            metafunc.parametrize("case", self.cases, ids=[case.name for case in self.cases])
        if "dtype" in metafunc.fixturenames:
            metafunc.parametrize(
                "dtype", list(TOLERANCE), ids=[str(d).removeprefix("torch.") for d in TOLERANCE]
            )

    def test_hundred_steps_equal_the_papers_recurrence(
        self, case: Case, backend: str, dtype: torch.dtype
    ) -> None:
        params, given = parameters(dtype), gradients(dtype)
        wanted = _expected(case, params, given)
        run(case.make(params, backend), given)
        _assert_close(params, wanted, dtype)

    def test_hundred_steps_equal_the_peer(self, case: Case, backend: str, dtype: torch.dtype) -> None:
        if case.peer is None:
            pytest.skip("no peer")
        ours, theirs, given = parameters(dtype), parameters(dtype), gradients(dtype)
        run(case.make(ours, backend), given)
        run(case.peer(theirs), given)
        _assert_close(ours, theirs, dtype)

    def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(self, case: Case, backend: str) -> None:
        given = gradients(torch.float32, 30)
        straight = parameters(torch.float32)
        run(case.make(straight, backend), given)

        first = parameters(torch.float32)
        before = case.make(first, backend)
        run(before, given[:13])
        saved = copy.deepcopy(before.state_dict())
        second = [nn.Parameter(p.detach().clone()) for p in first]
        after = case.make(second, backend)
        after.load_state_dict(saved)
        run(after, given[13:])
        for a, b in zip(second, straight, strict=True):
            assert torch.equal(a, b)

    def test_parameter_without_gradient_waits(self, case: Case, backend: str) -> None:
        params = parameters(torch.float64)
        given: list[list[Tensor | None]] = [list(grads) for grads in gradients(torch.float64, 40)]
        for t in range(40):
            given[t][1] = given[t][1] if t % 3 == 0 else None
            given[t][3] = given[t][3] if t >= 9 else None
        wanted = _expected(case, params, given)
        run(case.make(params, backend), given)
        _assert_close(params, wanted, torch.float64)

    def test_layout_in_memory_does_not_matter(self, case: Case, backend: str) -> None:
        if backend == "native":
            backend = "None"
        plain = parameters(torch.float64)
        # Transposed, with gaps, and as it was; gradients come contiguous, that is laid out otherwise.
        odd = [
            nn.Parameter(plain[0].detach().t().contiguous().t()),
            nn.Parameter(torch.stack([plain[1].detach()] * 2, -1)[:, 0]),
            *(nn.Parameter(p.detach().clone()) for p in plain[2:]),
        ]
        given = gradients(torch.float64, 20)
        run(case.make(plain, "reference"), given)
        run(case.make(odd, None if backend == "None" else backend), given)
        _assert_close(odd, plain, torch.float64)

    def test_learning_rate_set_by_a_torch_scheduler_counts(self, case: Case, backend: str) -> None:
        def ours(params: list[nn.Parameter]) -> torch.optim.Optimizer:
            return case.make(params, backend)

        def reference(params: list[nn.Parameter]) -> torch.optim.Optimizer:
            return case.make(params, "reference")

        results: list[list[nn.Parameter]] = []
        for make in (ours, case.peer or reference):
            params = parameters(torch.float64)
            optimizer = make(params)
            scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1.0 / (1 + t))
            for grads in gradients(torch.float64, 20):
                run(optimizer, [grads])
                scheduler.step()
            results.append(params)
        _assert_close(results[0], results[1], torch.float64)

    def test_state_of_the_peer_is_taken_over(self, case: Case, backend: str) -> None:
        if case.peer is None:
            pytest.skip("no peer")
        given = gradients(torch.float64, 30)
        theirs = parameters(torch.float64)
        peer = case.peer(theirs)
        run(peer, given[:11])
        ours = [nn.Parameter(p.detach().clone()) for p in theirs]
        optimizer = case.make(ours, backend)
        optimizer.load_state_dict(copy.deepcopy(peer.state_dict()))
        run(optimizer, given[11:])
        run(peer, given[11:])
        _assert_close(ours, theirs, torch.float64)

    def test_state_is_taken_over_by_the_peer(self, case: Case, backend: str) -> None:
        if case.peer is None:
            pytest.skip("no peer")
        given = gradients(torch.float64, 30)
        ours = parameters(torch.float64)
        optimizer = case.make(ours, backend)
        run(optimizer, given[:11])
        theirs = [nn.Parameter(p.detach().clone()) for p in ours]
        peer = case.peer(theirs)
        state = copy.deepcopy(optimizer.state_dict())["state"]
        peer.load_state_dict({"state": state, "param_groups": peer.state_dict()["param_groups"]})
        run(peer, given[11:])
        run(optimizer, given[11:])
        _assert_close(ours, theirs, torch.float64)
