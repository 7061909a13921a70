"""Torch's own table of optimizer inputs, run against our classes of the same names.

What it holds to be valid must take torch's steps, what it holds to be wrong must raise the type that torch
raises. `EXCLUDED` says what does not and why; a row of it that is no longer needed fails.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from downslope import optim
from tests.optim.torch_database import DATABASE, STEP_ERROR, valid, wrong

STEPS = 12

NOT_OURS = {
    "ASGD": "an average is a link of any chain here, not an optimizer with a schedule built in",
    "LBFGS": "needs a closure and a line search: downslope.terrain has it",
    "Rprop": "for full batches only, and none of the methods that the catalogue is to hold",
}
"""Torch's optimizers that have no class here."""


OTHER_DEFAULTS = {"Muon": {"adjust_lr_fn": None, "ns_precision": "bfloat16"}}
"""Where ours has another default: "match_rms_adamw", so that one rate serves AdamW's share too."""

_TWICE = "torch warns of a parameter given twice in one group; ours refuses it, as across groups (ModelError)"
_CHOICE = "a limit of torch's foreach or fused implementation; ours takes it, the switch chooses nothing"

_PAIRS = "ours steps complex parameters as pairs of reals"
_EARLY = "ours says so at construction, by a ModelError"
_TENSOR_BETA = r"betas\[0\] as a Tensor is not supported for capturable=False and foreach=True"

EXCLUDED: dict[tuple[str, str, str], str] = {
    ("*", "wrong", "a param group cannot have duplicate parameters"): _TWICE,
    ("Adafactor", "wrong", "does not support complex parameters"): _EARLY,
    ("Adam", "wrong", "lr as Tensor doesn't work with foreach & not capturable"): _CHOICE,
    ("Adam", "wrong", "betas must be either both floats or both Tensors"): _CHOICE,
    ("Adam", "wrong", _TENSOR_BETA): _CHOICE,
    ("AdamW", "wrong", "lr as Tensor doesn't work with foreach & not capturable"): _CHOICE,
    ("AdamW", "wrong", "betas must be either both floats or both Tensors"): _CHOICE,
    ("AdamW", "wrong", _TENSOR_BETA): _CHOICE,
    ("Muon", "wrong", "does not support complex parameters"): _EARLY,
    ("Muon", "wrong", "only support 2D parameters"): "ours takes AdamW's step with what is no matrix",
    ("SparseAdam", "wrong", "complex not supported"): _PAIRS,
}
"""(class or "*", kind, the table's description or "*") to the reason, or to "" where there is none after all;
kinds are those of `rows`."""


def rows() -> Iterator[tuple[str, str, str, Any]]:
    """(class, kind, description, input), for the classes that are here."""
    for name, info in DATABASE.items():
        if not issubclass(getattr(optim, name, object), optim.Optimizer):
            continue
        for description, given in valid(name):
            yield name, "valid", description, given
        for each in wrong(name):
            yield name, "wrong", each.optimizer_error_input.desc, each
        if info.supports_sparse or info.only_supports_sparse_grads:
            yield name, "sparse", "metadata_for_sparse", info.metadata_for_sparse[0]
        if info.supports_complex:
            yield name, "complex", "default", {}
        for i, factories in enumerate(info.scheduler_inputs or ()):
            yield name, "schedule", f"scheduler_inputs[{i}]", factories
        yield name, "groups", "of their own settings", {}


ROWS = list(rows())


def reason(name: str, kind: str, description: str) -> str | None:
    keys = [(a, kind, b) for a in (name, "*") for b in (description, "*")]
    return next((EXCLUDED[key] for key in keys if key in EXCLUDED), None) or None


def drawn(dtype: torch.dtype, shapes: list[tuple[int, ...]]) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(shape, dtype=dtype, generator=draw) for shape in shapes]


def compare(
    name: str,
    given: dict[str, Any],
    *,
    dtype: torch.dtype = torch.float64,
    sparse: bool = False,
    grouped: Callable[[list[nn.Parameter]], Any] = list,
    schedulers: Any = (),
) -> None:
    """Steps ours and torch's single-tensor implementation with the same gradients."""
    matrices, sparse = name == "Muon", sparse or DATABASE[name].only_supports_sparse_grads
    starts = drawn(dtype, [(5, 3), (4, 6)] if matrices or sparse else [(5, 3), (7,), (), (2, 3, 4)])
    both = [[nn.Parameter(p.clone()) for p in starts] for _ in range(2)]
    plain = {**copy.deepcopy(given)} | ({"foreach": False} if "foreach" in _arguments(name) else {})
    plain |= {flag: False for flag in ("fused",) if flag in plain}
    made = [
        getattr(optim, name)(grouped(both[0]), **OTHER_DEFAULTS.get(name, {}), **copy.deepcopy(given)),
        DATABASE[name].optim_cls(grouped(both[1]), **plain),
    ]
    advance = [[factory(each) for factory in schedulers] for each in made]
    draw = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        for p, q in zip(*both, strict=True):
            g = torch.randn(p.shape, dtype=dtype, generator=draw)
            if sparse:
                g = (g * (torch.rand(p.shape[0], 1, generator=draw) < 0.5)).to_sparse(1)
            p.grad, q.grad = g.clone(), g.clone()
        for optimizer, pending in zip(made, advance, strict=True):
            with torch.sparse.check_sparse_tensor_invariants():
                optimizer.step()
            for scheduler in pending:
                plateau = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
                scheduler.step(1.0) if plateau else scheduler.step()
    # Torch's NAdam keeps mu_product in float32, its SparseAdam takes a float32 lr as it is, and its Muon
    # works in bfloat16, so that a step of lr may round otherwise.
    rough = name == "NAdam" or any(isinstance(value, Tensor) for value in given.values())
    tolerance = 1e-8 if rough else 1e-12
    if matrices:
        tolerance = 0.3 * max(float(group["lr"]) for group in made[1].param_groups)
    for p, q in zip(*both, strict=True):
        torch.testing.assert_close(p.detach(), q.detach(), rtol=tolerance, atol=tolerance)


def _arguments(name: str) -> tuple[str, ...]:
    return DATABASE[name].supported_impls


def refuses(name: str, each: Any) -> None:
    """Ours must raise what torch raises, at construction or at the step."""
    given = each.optimizer_error_input
    params = [nn.Parameter(torch.randn(2, 3))] if given.params is None else given.params

    def attempt() -> None:
        optimizer = getattr(optim, name)(params, **given.kwargs)
        if each.error_on == STEP_ERROR:
            for group in optimizer.param_groups:
                for p in group["params"]:
                    p.grad = torch.rand_like(p)
            optimizer.step()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(each.error_type):
            attempt()


def two_groups(name: str) -> Callable[[list[nn.Parameter]], Any]:
    decays = "weight_decay" in inspect.signature(DATABASE[name].optim_cls).parameters
    own = {"lr": 0.03, **({"weight_decay": 0.2} if decays else {})}
    return lambda params: [{"params": params[:1], **own}, {"params": params[1:]}]


def check(name: str, kind: str, given: Any) -> None:
    if kind == "valid":
        compare(name, given)
    elif kind == "wrong":
        refuses(name, given)
    elif kind == "sparse":
        compare(name, given, sparse=True)
    elif kind == "complex":
        compare(name, given, dtype=torch.complex128)
    elif kind == "schedule":
        compare(name, {}, schedulers=given)
    else:
        compare(name, given, grouped=two_groups(name))


@pytest.mark.parametrize(
    ("name", "kind", "description", "given"), ROWS, ids=[f"{n} {k} {d}" for n, k, d, _ in ROWS]
)
def test_torchs_table_holds_for_ours(name: str, kind: str, description: str, given: Any) -> None:
    why = reason(name, kind, description)
    try:
        check(name, kind, given)
    except (Exception, pytest.fail.Exception):
        if why is None:
            raise
    else:
        assert why is None, f"{name} agrees with torch here: take the row out of EXCLUDED ({why})"


def test_every_exclusion_names_something_in_the_table():
    for (name, kind, description), why in EXCLUDED.items():
        named = [r for r in ROWS if name in (r[0], "*") and kind == r[1] and description in (r[2], "*")]
        assert any((reason(*row[:3]) or "") == why for row in named), (name, kind, description)


def test_every_class_of_torch_is_here_or_has_a_reason():
    for name in DATABASE:
        assert hasattr(optim, name) != (name in NOT_OURS), name
