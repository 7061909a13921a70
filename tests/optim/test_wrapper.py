"""What wrappers have in common beside torch's contract: hooks on saving and loading, groups added later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from downslope import optim
from downslope.core.errors import RecipeError
from downslope.optim import SAM, Lookahead, Wrapper

MADE: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "torch's own": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.5),
    "sam(sgd)": lambda params: SAM(params, base_optimizer="sgd", lr=0.1, momentum=0.5),
    "sam around torch's": lambda params: SAM(torch.optim.SGD(params, lr=0.1, momentum=0.5)),
    "lookahead(sgd)": lambda params: Lookahead(params, base_optimizer="sgd", lr=0.1, momentum=0.5),
    "sam(lookahead(sgd))": lambda params: SAM(Lookahead(optim.SGD(params, lr=0.1, momentum=0.5))),
}


def made(name: str, *shapes: tuple[int, ...]) -> tuple[torch.optim.Optimizer, list[nn.Parameter]]:
    torch.manual_seed(0)
    params = [nn.Parameter(torch.randn(*shape)) for shape in shapes]
    return MADE[name](params), params


def stepped(optimizer: torch.optim.Optimizer) -> None:
    def closure() -> float:
        optimizer.zero_grad()
        params: list[nn.Parameter] = [p for group in optimizer.param_groups for p in group["params"]]
        loss = torch.cat([p.flatten() for p in params]).square().sum()
        loss.backward()
        return loss.item()

    optimizer.step(closure)


@pytest.mark.parametrize("name", MADE)
def test_hooks_on_saving_and_loading_are_called_as_torch_calls_them(name: str) -> None:
    optimizer, _ = made(name, (3,))
    stepped(optimizer)
    seen: list[tuple[str, bool]] = []

    def note(said: str, answer: Callable[[Any], Any] = lambda given: None) -> Callable[..., Any]:
        def hook(of: torch.optim.Optimizer, *given: Any) -> Any:
            seen.append((said, of is optimizer))
            return answer(given[0]) if given else None

        return hook

    optimizer.register_state_dict_pre_hook(note("before saving"))
    optimizer.register_state_dict_post_hook(note("after saving", lambda d: {**d, "mark": 1}))
    removed = optimizer.register_state_dict_post_hook(note("removed"))
    removed.remove()
    saved = optimizer.state_dict()
    assert saved["mark"] == 1

    def halved(given: dict[str, Any]) -> dict[str, Any]:
        groups = [{**group, "lr": group["lr"] / 2} for group in given["param_groups"]]
        return {key: value for key, value in given.items() if key != "mark"} | {"param_groups": groups}

    optimizer.register_load_state_dict_pre_hook(note("before loading", halved))
    optimizer.register_load_state_dict_post_hook(note("after loading"))
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["lr"] == 0.05
    assert saved["mark"] == 1  # the caller's own is as it was
    said = ["before saving", "after saving", "before loading", "after loading"]
    assert seen == [(each, True) for each in said]


def test_a_hook_sees_what_the_wrapper_keeps_beside_its_base() -> None:
    optimizer, params = made("lookahead(sgd)", (3,))
    before = params[0].detach().clone()
    stepped(optimizer)
    kept: list[dict[str, Any]] = []
    optimizer.register_state_dict_post_hook(lambda _, saved: kept.append(saved))
    optimizer.state_dict()
    (entries,) = kept[0]["state"].values()
    assert any(isinstance(each, torch.Tensor) and torch.equal(each, before) for each in entries.values())


@pytest.mark.parametrize("name", [name for name in MADE if name != "torch's own"])
def test_a_group_added_later_has_the_defaults_of_both(name: str) -> None:
    optimizer, params = made(name, (3,))
    stepped(optimizer)
    late, own = nn.Parameter(torch.randn(2)), nn.Parameter(torch.randn(2))
    optimizer.add_param_group({"params": [late]})
    optimizer.add_param_group({"params": [own], "lr": 0.025})
    first, second, third = optimizer.param_groups
    for key, value in first.items():
        if key != "params":
            assert second[key] == value
            assert third[key] == (0.025 if key == "lr" else value)
    start = [p.detach().clone() for p in (params[0], late, own)]
    stepped(optimizer)
    assert all(not torch.equal(p, q) for p, q in zip((params[0], late, own), start, strict=True))


@pytest.mark.parametrize("base", ["sgd", "adam", "muon", "schedule_free_adamw"])
def test_a_wrappers_own_settings_in_a_group_added_later_count(base: str) -> None:
    p, q = (nn.Parameter(torch.full((2, 2), 3.0)) for _ in range(2))
    optimizer = SAM([p], base_optimizer=base, rho=0.1)
    optimizer.add_param_group({"params": [q], "rho": 0.5, "adaptive": True})
    assert [group["rho"] for group in optimizer.param_groups] == [0.1, 0.5]
    assert [group["adaptive"] for group in optimizer.param_groups] == [False, True]
    stepped(optimizer)


def test_what_a_group_added_later_may_not_have_is_refused_and_leaves_all_as_it_was() -> None:
    p, q = (nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = SAM([p], base_optimizer="sgd", lr=0.1)
    group = {"params": [q], "rho": 0.5, "momentun": 0.9}
    with pytest.raises(RecipeError, match=r"'momentun'.*did you mean 'momentum'"):
        optimizer.add_param_group(group)
    assert group["rho"] == 0.5
    with pytest.raises(RecipeError, match=r"^rho=-1"):
        optimizer.add_param_group({"params": [q], "rho": -1.0})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("name", ["sam(sgd)", "sam around torch's", "lookahead(sgd)"])
def test_a_group_added_to_the_base_is_stepped_by_the_wrapper(name: str) -> None:
    optimizer, _ = made(name, (3,))
    late = nn.Parameter(torch.randn(2))
    before = late.detach().clone()
    assert isinstance(optimizer, Wrapper)
    optimizer.base_optimizer.add_param_group({"params": [late]})
    stepped(optimizer)
    assert not torch.equal(late, before)
