"""What every optimizer has to prove, whatever its rule: inherit `RuleContract`, give it cases.

    class TestHeavyBall(RuleContract):
        cases = (Case("mu .9", lambda p, b: Momentum(p, lr=0.1, backend=b), heavy_ball, hand=(0.8, 0.72)),)

The recurrence is written from the paper, in float64, on numpy arrays, and shares no code with the rule. What
else a case may hold, and what is proved with it, is told in `downslope.testing.rules.case`.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from downslope.core.errors import RecipeError
from downslope.testing.rules.bad_input import BadInput
from downslope.testing.rules.case import (
    STEPS_OF_16_BITS,
    Case,
    Make,
    assert_close,
    gradients,
    parameters,
    run,
)
from downslope.testing.rules.descent import Descents
from downslope.testing.rules.hand import HandSteps
from downslope.testing.rules.interchange import Interchange
from downslope.testing.rules.invariance import Invariances
from downslope.testing.rules.proofs import backends, needs, peer_after, recurrence_after, stepped
from downslope.testing.rules.symbolic import SymbolicStep

__all__ = ["RuleContract"]

_LACKING = "give the case a recurrence, a joint recurrence or a peer"


class RuleContract(HandSteps, SymbolicStep, Invariances, Interchange, Descents, BadInput):
    """Tests that pytest collects in a subclass; each runs for every case, backend and dtype that it names."""

    def test_case_names_something_independent(self, case: Case) -> None:
        named = (case.recurrence, case.joint, case.peer)
        assert any(named), _LACKING

    def test_hundred_steps_equal_the_papers_recurrence_and_the_peer(
        self, case: Case, backend: str, dtype: torch.dtype
    ) -> None:
        found = stepped(case, backend, dtype)
        for wanted in (recurrence_after(case, dtype), peer_after(case, dtype)):
            if wanted is not None:
                assert_close(found, wanted, case.bound(dtype))

    @backends(never=("reference",))
    def test_backend_equals_the_reference(self, case: Case, backend: str, dtype: torch.dtype) -> None:
        assert_close(stepped(case, backend, dtype), stepped(case, "reference", dtype), case.bound(dtype))

    def test_large_parameter_is_stepped_as_the_reference_does(self, case: Case) -> None:
        shapes = ((300, 301),)  # which torch's operations step in pieces
        ends: list[list[nn.Parameter]] = []
        for backend in ("eager", "reference"):
            params = parameters(torch.float64, shapes=shapes)
            run(case.make(params, backend), gradients(torch.float64, 3, shapes=shapes))
            ends.append(params)
        assert_close(ends[0], ends[1], case.bound(torch.float64))

    def test_rule_is_made_of_operators(self, case: Case) -> None:
        try:
            case.make([nn.Parameter(torch.zeros(2, 2))], "kernel").plan()
        except RecipeError as error:
            pytest.skip(f"no kernel is made of it: {error}")

    @needs("sixteen_bits")
    @backends(never=("native",))  # torch's own kernels may be wrong on half precision
    def test_bfloat16_steps_within_its_rounding(self, case: Case, backend: str) -> None:
        params = parameters(torch.bfloat16, shapes=case.shapes)
        given = gradients(torch.bfloat16, STEPS_OF_16_BITS, shapes=case.shapes)
        exact = [nn.Parameter(p.detach().double()) for p in params]
        run(case.make(params, backend), given)
        run(case.make(exact, "reference"), [[g.double() for g in row] for row in given])
        assert all(p.dtype == torch.bfloat16 for p in params)
        assert_close(params, exact, case.bound(torch.bfloat16))

    def test_parameter_without_gradient_waits(self, case: Case, backend: str) -> None:
        params = parameters(torch.float64, shapes=case.shapes)
        given: list[list[Tensor | None]] = [
            list(grads) for grads in gradients(torch.float64, 24, shapes=case.shapes)
        ]
        for t, row in enumerate(given):
            row[-1] = row[-1] if t >= 9 else None
            row[1:2] = row[1:2] if t % 3 == 0 else [None] * len(row[1:2])
        twins = parameters(torch.float64, shapes=case.shapes)
        wanted = case.expected(params, given)
        if wanted is None and case.peer is not None:
            run(case.peer(twins), given)
            wanted = [p.detach().numpy() for p in twins]
        run(case.make(params, backend), given)
        assert wanted is not None, _LACKING
        assert_close(params, wanted, case.bound(torch.float64))

    def test_gradients_stay_as_they_were(self, case: Case, backend: str) -> None:
        params = parameters(torch.float64, shapes=case.shapes)
        optimizer = case.make(params, backend)
        for grads in gradients(torch.float64, 3, shapes=case.shapes):
            run(optimizer, [grads])
            left = [p.grad for p in params]
            same = (g is None or torch.equal(g, given) for g, given in zip(left, grads, strict=True))
            assert all(same), "a step changed the gradients, which are not its own: work on copies"

    def test_layout_in_memory_does_not_matter(self, case: Case, backend: str) -> None:
        plain = parameters(torch.float64, shapes=case.shapes)
        # Transposed and with gaps in turn; gradients come contiguous, that is laid out otherwise.
        odd = [nn.Parameter(_laid_otherwise(p.detach(), i)) for i, p in enumerate(plain)]
        given = gradients(torch.float64, 12, shapes=case.shapes)
        run(case.make(plain, "reference"), given)
        flat = backend in {"native", "kernel"}  # they refuse gaps
        run(case.make(odd, None if flat else backend), given)  # these read flat memory
        assert_close(odd, plain, case.bound(torch.float64))

    def test_learning_rate_set_by_a_torch_scheduler_counts(self, case: Case, backend: str) -> None:
        results: list[list[nn.Parameter]] = []
        for ours in (True, False):
            params = parameters(torch.float64, shapes=case.shapes)
            if ours or case.peer is None:
                optimizer = case.make(params, backend if ours else "reference")
            else:
                optimizer = case.peer(params)
            scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1.0 / (1 + t))
            for grads in gradients(torch.float64, 12, shapes=case.shapes):
                run(optimizer, [grads])
                scheduler.step()
            results.append(params)
        assert_close(results[0], results[1], case.bound(torch.float64))

    @needs("equals")
    def test_identity_of_the_method_holds(self, case: Case, item: str) -> None:
        twin: Make = case.equals[item]
        params = parameters(torch.float64, shapes=case.shapes)
        run(twin(params, "reference"), gradients(torch.float64, shapes=case.shapes))
        assert_close(stepped(case, "reference", torch.float64), params, case.bound(torch.float64))


def _laid_otherwise(p: Tensor, turn: int) -> Tensor:
    if p.ndim == 2:
        return p.t().contiguous().t()
    return torch.stack([p] * 2, -1)[..., 0] if p.ndim == 1 or turn % 2 else p.clone()
