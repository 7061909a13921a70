"""States through files and other hands: dtypes stay, torch's own states of any age go in and out."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict as helpers

from downslope import optim
from downslope.core import names
from downslope.core.errors import RecipeError
from tests.optim.peers import agree, drawn_like, made, step

TOLERANCE = {"Muon": 2e-2, "Adafactor": 1e-10}


def twins() -> list[str]:
    """Names of torch's optimizers that are ours too, step for step."""
    found: list[str] = []
    for name in names.TABLE["optimizer"]:
        cls: Any = names.resolve("optimizer", name)
        if isinstance(cls, type) and issubclass(cls, optim.Optimizer) and hasattr(torch.optim, cls.__name__):
            found.append(cls.__name__)
    return found


DENSE = [name for name in twins() if name != "SparseAdam"]


def parameters(name: str) -> list[nn.Parameter]:
    params = made("plain")
    return [p for p in params if p.dim() == 2] if name == "Muon" else params


def settings(name: str) -> dict[str, Any]:
    return {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("way", ["to torch", "from torch"])
@pytest.mark.parametrize("old", [False, True], ids=["", "step as int"])
def test_every_optimizer_of_torch_goes_on_from_ours_and_ours_from_it(name: str, way: str, old: bool) -> None:
    makers: list[Any] = [getattr(optim, name), getattr(torch.optim, name)]
    first, second = makers if way == "to torch" else makers[::-1]
    params = parameters(name)
    rows = drawn_like(params, 9)
    begun = first(params, lr=0.01, **settings(name))
    step(begun, params, rows[:4])
    saved = copy.deepcopy(begun.state_dict())
    for state in saved["state"].values():
        if old and "step" in state:
            state["step"] = int(state["step"])
    others = [nn.Parameter(p.detach().clone()) for p in params]
    taken = second(others, lr=0.5)
    taken.load_state_dict(saved)
    step(begun, params, rows[4:])
    step(taken, others, rows[4:])
    agree(params, others, TOLERANCE.get(name, 1e-11))


def filed(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


class Memory(optim.Rule[Any]):
    """A mean of g, with a number that it remembers and states of other dtypes than the parameter's."""

    tally: ClassVar[Mapping[str, float]] = {"seen": 0.1}
    keys: ClassVar[tuple[str, ...]] = ("mean", "fine", "climbing")

    def init(self, p: Tensor) -> Any:
        return torch.zeros_like(p), torch.zeros_like(p, dtype=torch.float32), torch.zeros_like(p).bool()

    def remember(self, tensors: Any) -> Any:
        return tuple(tensors)

    def advance(self, t: int, tally: Any) -> Any:
        return optim.Scalars(gain=tally["seen"]), {"seen": tally["seen"] / 3}

    def update(self, g: Tensor, state: Any, p: Tensor, k: Any) -> Any:
        mean, fine, _ = state
        m = 0.9 * mean + k.gain * g
        return m, (m, fine + 1e-3 * g, g > 0)


def test_dtypes_that_a_rule_declares_survive_the_loading_of_a_bfloat16_model() -> None:
    """torch casts float states to the parameter's dtype (pytorch#43706), numbers in float64 too."""
    p = nn.Parameter(torch.ones(40, dtype=torch.bfloat16))
    chain = optim.chain(Memory(), optim.ScaleByLr(lr=0.01))
    optimizer = optim.Custom([p], chain)
    rows = [[torch.randn(40, generator=torch.Generator().manual_seed(t)).bfloat16()] for t in range(6)]
    step(optimizer, [p], rows[:3])
    q = nn.Parameter(p.detach().clone())
    other = optim.Custom([q], chain)
    other.load_state_dict(filed(optimizer))
    for key, value in optimizer.state[p].items():
        assert other.state[q][key].dtype == value.dtype
        assert torch.equal(other.state[q][key], value)
    assert other.state[q]["seen"].item() == 0.1 / 3 / 3 / 3
    assert {str(v.dtype) for v in other.state[q].values()} >= {
        "torch.float64",
        "torch.bool",
        "torch.bfloat16",
    }
    step(optimizer, [p], rows[3:])
    step(other, [q], rows[3:])
    assert torch.equal(p, q)


def test_a_hook_on_loading_has_the_last_word() -> None:
    params = made("plain")
    optimizer = optim.Adam(params, lr=0.1)
    step(optimizer, params, drawn_like(params, 2))
    others = made("plain")
    other = optim.Adam(others)

    def zeroed(_: Any, given: dict[str, Any]) -> dict[str, Any]:
        state = {n: {k: torch.zeros_like(v) for k, v in each.items()} for n, each in given["state"].items()}
        return {**given, "state": state}

    other.register_load_state_dict_pre_hook(zeroed)
    other.load_state_dict(optimizer.state_dict())
    assert all(not v.any() for state in other.state.values() for v in state.values())
    other.load_state_dict(optimizer.state_dict())  # and the watch on it is gone


def test_the_master_copy_of_another_rounding_is_no_strange_state() -> None:
    p = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    optimizer = optim.Adam([p], rounding="master")
    step(optimizer, [p], [[torch.ones_like(p)]])
    saved = filed(optimizer)
    del saved["param_groups"][0]["rounding"], saved["optimizer"]
    plain = optim.Adam([nn.Parameter(p.detach().clone())])
    plain.load_state_dict(saved)
    own = plain.param_groups[0]["params"]
    step(plain, own, [[torch.ones(3, dtype=torch.bfloat16)]])
    assert plain.state[own[0]]["exp_avg"].dtype == torch.bfloat16
    with pytest.raises(RecipeError, match="the state_dict holds exp_avg, exp_avg_sq"):
        optim.SGD([nn.Parameter(p.detach().clone())]).load_state_dict(saved)


KINDS: dict[str, Any] = {
    "Adam": optim.Adam,
    "SGD without state": optim.SGD,
    "master": lambda p: optim.Adam(p, rounding="master"),
    "stochastic": lambda p: optim.SGD(p, momentum=0.9, rounding="stochastic"),
    "scheduled": lambda p: optim.Adam(p, schedules={"lr": lambda t: 0.9**t}),
    "named": optim.Adagrad,
}


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize("kind", KINDS)
def test_the_helpers_of_distributed_checkpoints_carry_the_state(kind: str, tmp_path: Path) -> None:
    from torch.distributed import checkpoint

    def fresh(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        model = nn.Linear(3, 2).to(torch.bfloat16 if kind in ("master", "stochastic") else torch.float32)
        given = model.named_parameters() if kind == "named" else model.parameters()
        return model, KINDS[kind](given)

    def trained(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for t in steps:
            x = torch.randn(4, 3, generator=torch.Generator().manual_seed(t)).to(model.weight.dtype)
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()

    model, optimizer = fresh(0)
    trained(model, optimizer, range(4))
    saved = helpers.get_optimizer_state_dict(model, optimizer)
    checkpoint.save({"optim": saved}, checkpoint_id=tmp_path, no_dist=True)
    twin, other = fresh(1)
    twin.load_state_dict(model.state_dict())
    blank = {"optim": helpers.get_optimizer_state_dict(twin, other)}
    checkpoint.load(blank, checkpoint_id=tmp_path, no_dist=True)
    helpers.set_optimizer_state_dict(twin, other, blank["optim"])
    trained(model, optimizer, range(4, 8))
    trained(twin, other, range(4, 8))
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q)
