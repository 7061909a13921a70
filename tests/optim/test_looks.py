"""What changes between two steps is seen before it is read as something else: on every row and backend."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from downslope import optim
from downslope.core.errors import RecipeError
from downslope.optim import looks
from downslope.optim.kernel.store import missing

ROWS = {row.name: row for row in optim.catalogue()}
WAYS = [
    (name, way)
    for name, row in ROWS.items()
    for way in (None, *row.backends)
    if way in (None, "reference", "eager", "native", "kernel")
    and not (way == "kernel" and missing())
    and not (name in ("sam", "lookahead") and way is not None)
]
COUNTING = ("adam", "adamw", "nadam", "adafactor")
Change = Callable[[Tensor], Tensor]
LAZY = [(name, way) for name, way in WAYS if name != "sam"]
OWN = [("adafactor", "kernel"), ("muon", "kernel")]  # loops that read rows, and say so


def params() -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(6, 6)), nn.Parameter(torch.randn(5, 4)), nn.Parameter(torch.randn(6))]


def made(name: str, way: str | None, own: list[nn.Parameter]) -> Any:
    given = {} if way is None else {"backend": way}
    if name == "lookahead":
        return optim.Lookahead(own, base_optimizer=optim.Adam, **given)
    return ROWS[name].cls(own, lr=0.01, **given)


def stepped(optimizer: Any, own: list[nn.Parameter], t: int, change: Change) -> None:
    g = torch.Generator().manual_seed(t)
    for p in own:
        p.grad = change(torch.randn(p.shape, generator=g, dtype=torch.float64).to(p.dtype))
    optimizer.step()


def same(g: Tensor) -> Tensor:
    return g


def both(
    name: str, way: str | None, change: Callable[[Tensor], Tensor], plain: Callable[[Tensor], Tensor]
) -> None:
    """Three steps, of which `change` makes the gradients of the last two, end as with those `plain` makes."""
    found: list[list[nn.Parameter]] = []
    for each in (change, plain):
        own = params()
        optimizer = made(name, way, own)
        for t in range(3):
            stepped(optimizer, own, t, each if t else same)
        found.append(own)
    for p, q in zip(*found, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("name", "way"), LAZY)
def test_a_lazy_negative_is_a_gradient_like_any_other(name: str, way: str | None) -> None:
    both(name, way, lambda g: torch._neg_view(-g), same)


ZEROS = """
from tests.optim.test_looks import LAZY, both
import torch
for name, way in LAZY:
    print(name, way, flush=True)
    both(name, way, lambda g: torch._efficientzerotensor(g.shape), torch.zeros_like)
"""


def test_zeros_without_memory_are_zeros() -> None:
    done = subprocess.run([sys.executable, "-c", ZEROS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-60:]} {done.stderr[-600:]}"


@pytest.mark.parametrize(("name", "way"), LAZY)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_gradient_of_another_dtype_is_refused_at_every_step(
    name: str, way: str | None, dtype: torch.dtype
) -> None:
    own = params()
    optimizer = made(name, way, own)
    stepped(optimizer, own, 0, same)
    before = [p.detach().clone() for p in own]
    for p in own:
        p.grad = None
        p.grad_dtype = dtype
        p.grad = torch.ones(p.shape, dtype=dtype)
    with pytest.raises(RecipeError, match=f"has dtype {dtype}"):
        optimizer.step()
    assert all(map(torch.equal, own, before))


@pytest.mark.parametrize(("name", "way"), LAZY)
def test_a_gradient_that_turns_sparse_is_refused_or_stepped_as_at_the_first_step(
    name: str, way: str | None
) -> None:
    def sparse(g: Tensor) -> Tensor:
        return (g * (torch.arange(len(g)) % 2).view(-1, *[1] * (g.ndim - 1))).to_sparse(1)

    told: list[str] = []
    for dense in (0, 1):
        own = params()
        optimizer = made(name, way, own)
        for t in range(dense):
            stepped(optimizer, own, t, same)
        try:
            stepped(optimizer, own, 9, sparse)
            told.append("")
        except RecipeError as error:
            told.append(str(error))
    assert told[0] == told[1]


@pytest.mark.parametrize("name", [name for name in ROWS if name not in ("sam", "lookahead")])
def test_states_laid_out_otherwise_by_hand_count(name: str) -> None:
    found: list[list[nn.Parameter]] = []
    for turned in (False, True):
        own = params()
        optimizer = made(name, None, own)
        for t in range(4):
            stepped(optimizer, own, t, same)
            for key, value in list(optimizer.state[own[0]].items()) if turned and t == 1 else ():
                if isinstance(value, Tensor) and value.ndim == 2:
                    optimizer.state[own[0]][key] = value.t().contiguous().t()
        found.append(own)
    for p, q in zip(*found, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("exchange", [False, True])
@pytest.mark.parametrize(("name", "way"), [way for way in WAYS if way[0] in COUNTING])
def test_counts_of_steps_edited_by_hand_count(name: str, way: str | None, exchange: bool) -> None:
    own = params()
    optimizer = made(name, way, own)
    for t in range(3):
        stepped(optimizer, own, t, same)
    for p in own:
        if exchange:
            optimizer.state[p]["step"] = torch.zeros(())
        else:
            optimizer.state[p]["step"].zero_()
    stepped(optimizer, own, 3, same)
    assert [float(optimizer.state[p]["step"]) for p in own] == [1.0] * 3
    twins = params()
    other = made(name, way, twins)
    for t in range(3):
        stepped(other, twins, t, same)
    saved = other.state_dict()
    for state in saved["state"].values():
        state["step"] = torch.zeros(())
    other.load_state_dict(saved)
    stepped(other, twins, 3, same)
    for p, q in zip(own, twins, strict=True):
        torch.testing.assert_close(p, q, rtol=0.0, atol=0.0)


@pytest.mark.parametrize(("name", "way"), [way for way in LAZY if way not in OWN])
def test_weights_turned_where_they_lie_are_stepped_by_their_own_gradients(name: str, way: str | None) -> None:
    """``p.data.t()`` of a square matrix has the address, shape and size that it had."""
    found: list[list[nn.Parameter]] = []
    for lazily in (True, False):
        own = params()
        optimizer = made(name, way, own)
        stepped(optimizer, own, 0, same)
        turned = own[0].data.t()
        own[0].data = turned if lazily else turned.contiguous()
        stepped(optimizer, own, 1, same)
        found.append(own)
    for p, q in zip(*found, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_without_torchs_guards_tensors_are_asked_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "_guards", None)
    for name in ("adam", "lion", "sgd"):
        both(name, None, lambda g: torch._neg_view(-g), same)
        both(name, None, lambda g: g.t().contiguous().t() if g.ndim == 2 else g, same)


@pytest.mark.parametrize(("name", "way"), [way for way in WAYS if way[0] in ("adam", "nadam", "lion")])
def test_a_state_exchanged_by_another_of_the_same_numbers_is_stepped_on(name: str, way: str | None) -> None:
    """Tensors of one number, as counts are, compare equal where the numbers are."""
    found: list[list[Tensor]] = []
    for exchanged in (False, True):
        own = [*params(), nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(3))]
        optimizer = made(name, way, own)
        for t in range(6):
            stepped(optimizer, own, t, same)
            for p in own if exchanged and t == 2 else ():
                numbers = {key: v.clone() for key, v in optimizer.state[p].items() if v.numel() == 1}
                optimizer.state[p].update(numbers)
        found.append([*own, *(value for p in own for value in optimizer.state[p].values())])
    for x, y in zip(*found, strict=True):
        torch.testing.assert_close(x, y, rtol=0.0, atol=0.0)


@pytest.mark.parametrize(("name", "way"), [way for way in WAYS if way[0] in ("adam", "nadam", "lion")])
def test_a_state_put_in_the_place_of_another_is_stepped_on(name: str, way: str | None) -> None:
    own = params()
    optimizer = made(name, way, own)
    for t in range(3):
        stepped(optimizer, own, t, same)
    twins = [nn.Parameter(p.detach().clone()) for p in own]
    fresh = made(name, way, twins)
    for p in own:
        optimizer.state[p] = {}
    for each, those in ((optimizer, own), (fresh, twins)):
        stepped(each, those, 3, same)
        stepped(each, those, 4, same)
    found = [[*those, *(each.state[p] for p in those)] for each, those in ((optimizer, own), (fresh, twins))]
    torch.testing.assert_close(*found, rtol=0.0, atol=0.0)


def test_a_change_of_dtype_between_two_steps_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    own = params()
    optimizer = optim.Adam([{"params": own[:1]}, {"params": own[1:]}])
    stepped(optimizer, own, 0, same)
    stepped(optimizer, own, 1, same)
    assert not caplog.records
    for t, dtype in enumerate((torch.float64, torch.float32), 2):
        for p in own:
            p.grad, p.data = None, p.data.to(dtype)
        stepped(optimizer, own, t, same)
        assert optimizer.state[own[0]]["exp_avg"].dtype == dtype
    said = (
        "parameters changed from torch.float32 to torch.float64 between two steps; their states follow them"
    )
    assert [record.getMessage() for record in caplog.records] == [said]


def test_a_parameter_that_is_a_lazy_negative_is_refused() -> None:
    own = params()
    optimizer = optim.Lion(own, lr=0.01)
    stepped(optimizer, own, 0, same)
    own[0].data = torch._neg_view(own[0].data)
    with pytest.raises(RecipeError, match="lazy negative"):
        stepped(optimizer, own, 1, same)


FREED = """
import torch
from downslope.core.errors import RecipeError
from tests.optim.test_looks import WAYS, made, params, same, stepped

NAMES = ("adam", "nadam", "adafactor", "muon")
for name, way in [way for way in WAYS if way[0] in NAMES and way[1]]:
    for what in "gps":
        for half in (False, True):
            print(name, way, what, half, flush=True)
            own, twins = params(), params()
            if half and way != "native":  # some are stepped by float32 copies, in another bucket
                for p in (own[0], twins[0]):
                    p.data = p.data.bfloat16()
            optimizer, twin = (
                made(name, way, [{"params": each[1:]}, {"params": each[:1], "rounding": "master"}])
                for each in (own, twins)
            )
            for t in (0, 1):
                stepped(optimizer, own, t, same)
                stepped(twin, twins, t, same)
            held = [v for v in optimizer.state[own[0]].values() if v.ndim == 2]
            if what == "s" and not held:
                continue
            given = {"g": own[0].grad, "p": own[0].data, "s": held[0] if held else None}[what]
            before = [p.detach().clone() for p in own[1:]]
            states = [{k: v.clone() for k, v in optimizer.state[p].items()} for p in own[1:]]
            memory = given.untyped_storage()
            kept, size = memory.clone(), memory.nbytes()
            memory.resize_(0)
            for _ in range(2):
                try:
                    optimizer.step()
                except RecipeError as error:
                    assert "has no memory" in str(error), error
                else:
                    raise SystemExit(f"stepped without {what}")
            assert all(map(torch.equal, before, own[1:])), "half a step"
            memory.resize_(size)
            memory.copy_(kept)
            for p, state in zip(own[1:], states):
                assert all(torch.equal(optimizer.state[p][k], v) for k, v in state.items()), "half a state"
            for t in (2, 3):
                stepped(optimizer, own, t, same)
                stepped(twin, twins, t, same)
            assert all(map(torch.equal, own, twins)), "another step"
"""


def test_a_step_of_tensors_whose_memory_was_freed_is_refused_and_leaves_all_as_it_was() -> None:
    """In a process of its own: where nobody looks, reading at address 0 ends it."""
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.returncode} {done.stdout[-60:]} {done.stderr[-600:]}"


EARLY = """
import torch
from torch import nn
from downslope import optim
from downslope.core.errors import RecipeError

def skipping(own):
    return optim.SGD(own, nonfinite="skip")


for make in (optim.ScheduleFreeAdamW, optim.Lookahead, optim.SAM, skipping):
    for what in "gp":
        print(make, what, flush=True)
        own = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(4))]
        optimizer = make(own)
        for p in own:
            p.grad = torch.ones_like(p)
        (own[1].grad if what == "g" else own[1].data).untyped_storage().resize_(0)
        try:
            optimizer.first_step() if isinstance(optimizer, optim.SAM) else optimizer.step()
        except RecipeError:
            assert torch.equal(own[0], torch.ones(3)) and not optimizer.state, optimizer.state
        else:
            raise SystemExit(f"stepped without {what}")
"""


def test_memory_freed_before_the_first_step_is_refused_before_it_is_copied_or_added_up() -> None:
    done = subprocess.run([sys.executable, "-c", EARLY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.returncode} {done.stdout[-60:]} {done.stderr[-600:]}"


@pytest.mark.parametrize("way", ["reference", "eager", "native", "kernel"])
@pytest.mark.parametrize("how", ["data", "set_", "resize_"])
def test_a_parameter_given_other_memory_between_two_steps_is_stepped_where_it_lies(
    way: str, how: str
) -> None:
    name = "nadam" if way == "kernel" else "adam"
    if (name, way) not in WAYS:
        pytest.skip("kernels need numba")
    found: list[list[nn.Parameter]] = []
    for moved in (False, True):
        own = params()
        optimizer = made(name, way, own)
        for t in range(4):
            for p in own if moved and t else ():
                if how == "data":
                    p.data = p.detach().clone()
                elif how == "set_":
                    p.data.set_(p.detach().clone())
                else:
                    memory, kept = p.untyped_storage(), p.untyped_storage().clone()
                    memory.resize_(0)
                    memory.resize_(kept.nbytes())
                    memory.copy_(kept)
            stepped(optimizer, own, t, same)
        found.append(own)
    for p, q in zip(*found, strict=True):
        assert torch.equal(p, q)
