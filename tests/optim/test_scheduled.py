"""Hyper-parameters on a schedule: each step takes its own value, and a resumed run goes on where it was."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from downslope import optim, schedules
from downslope.core.errors import RecipeError
from tests.optim.peers import agree, drawn_like, made, step


def falling(t: int) -> float:
    return 0.9**t


def rising(t: int) -> float:
    return 1 - 0.5 / (1 + t)


CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("SGD", {"momentum": 0.9, "weight_decay": 0.1}, {"momentum": rising, "weight_decay": falling}),
    ("Adam", {"betas": (0.9, 0.99)}, {"betas": (falling, None), "lr": falling}),
    ("AdamW", {"weight_decay": 0.1}, {"weight_decay": falling, "betas": (rising, rising), "eps": falling}),
    ("RMSprop", {"alpha": 0.9}, {"alpha": rising}),
    ("Adagrad", {"lr_decay": 0.1}, {"lr_decay": falling}),
]


def at(start: Any, schedule: Any, t: int) -> Any:
    if callable(schedule):
        return start * schedule(t)
    return tuple(value if f is None else value * f(t) for value, f in zip(start, schedule, strict=True))


@pytest.mark.parametrize(("name", "given", "on"), CASES, ids=[f"{n} {list(o)}" for n, _, o in CASES])
@pytest.mark.parametrize("backend", [None, "reference", "eager"])
def test_every_step_takes_the_value_that_torch_is_given_by_hand(
    name: str, given: dict[str, Any], on: dict[str, Any], backend: str | None
) -> None:
    ours, theirs = made("plain"), made("plain")
    rows = drawn_like(ours, 12)
    optimizer = getattr(optim, name)(ours, lr=0.1, backend=backend, schedules=on, **given)
    peer = getattr(torch.optim, name)(theirs, lr=0.1, foreach=False, **given)
    starts = dict(peer.param_groups[0])
    for t, row in enumerate(rows):
        peer.param_groups[0].update({key: at(starts[key], f, t) for key, f in on.items()})
        step(peer, theirs, [row])
        step(optimizer, ours, [row])
    agree(ours, theirs)
    for key in on:
        assert optimizer.param_groups[0][key] == pytest.approx(peer.param_groups[0][key], rel=1e-15)
        assert optimizer.param_groups[0][f"initial_{key}"] == starts[key]


@pytest.mark.parametrize("cut", [0, 5])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_resumed_run_goes_on_from_its_count(cut: int, groups: int) -> None:
    params = made("plain")
    rows = drawn_like(params, 10)

    def make(own: list[nn.Parameter], lr: float) -> optim.Adam:
        if groups == 1:
            return optim.Adam(own, lr=lr, schedules={"lr": falling, "betas": (rising, None)})
        split: Any = [{"params": own[:1]}, {"params": own[1:], "lr": lr / 3, "betas": (0.5, 0.9)}]
        return optim.Adam(split, lr=lr, schedules={"lr": falling, "betas": (rising, None)})

    optimizer = make(params, 0.1)
    step(optimizer, params, rows[:cut])
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    twins = [nn.Parameter(p.detach().clone()) for p in params]
    other = make(twins, 7.0)  # its own values give way to those that were saved
    other.load_state_dict(torch.load(file, weights_only=True))
    step(optimizer, params, rows[cut:])
    step(other, twins, rows[cut:])
    agree(params, twins, 0.0)


def test_a_state_of_torch_begins_at_its_step() -> None:
    params = made("plain")
    rows = drawn_like(params, 6)
    peer = torch.optim.Adam(params, lr=0.1)
    step(peer, params, rows[:4])
    ours = [nn.Parameter(p.detach().clone()) for p in params]
    optimizer = optim.Adam(ours, schedules={"lr": falling})
    optimizer.load_state_dict(copy.deepcopy(peer.state_dict()))
    for t in (4, 5):
        step(optimizer, ours, rows[t : t + 1])
        assert optimizer.param_groups[0]["lr"] == 0.1 * falling(t)


@pytest.mark.parametrize("how", ["copy", "pickle"])
def test_a_copy_keeps_its_schedules(how: str) -> None:
    params = made("plain")
    rows = drawn_like(params, 6)
    optimizer = optim.SGD(params, lr=0.1, schedules={"lr": falling})
    step(optimizer, params, rows[:3])
    twin: Any = copy.deepcopy(optimizer) if how == "copy" else pickle.loads(pickle.dumps(optimizer))
    own = twin.param_groups[0]["params"]
    step(optimizer, params, rows[3:])
    step(twin, own, rows[3:])
    agree(params, own, 0.0)
    assert twin.scheduled == ("lr",)


def test_schedules_of_this_package_serve_and_stateless_methods_count_too() -> None:
    p = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = optim.GD([p], lr=0.1, schedules={"lr": schedules.cosine(10)})
    step(optimizer, [p], [[torch.ones_like(p)]] * 3)
    assert p[0].item() == pytest.approx(-0.1 * sum(schedules.cosine(10)(t) for t in range(3)))


def test_a_group_that_joins_later_counts_from_its_own_start() -> None:
    early, late = made("without dimensions")
    optimizer = optim.SGD([early], lr=0.1, schedules={"lr": falling})
    step(optimizer, [early], [[torch.ones_like(early)]] * 3)
    optimizer.add_param_group({"params": [late], "lr": 1.0})
    step(optimizer, [early, late], [[torch.ones_like(early), torch.ones_like(late)]])
    assert [group["lr"] for group in optimizer.param_groups] == [0.1 * 0.9**3, 1.0]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"momentun": falling}, "no hyper-parameter 'momentun'; did you mean 'momentum'"),
        ({"nesterov": falling}, r"schedules\['nesterov'\].*a hyper-parameter that is a number"),
        ({"momentum": 0.9}, r"schedules\['momentum'\]=0.9: must be a function of the step"),
        ([falling], "schedules=.*must be a mapping"),
    ],
)
def test_what_cannot_be_scheduled_is_refused_in_one_line(given: Any, words: str) -> None:
    with pytest.raises(RecipeError, match=rf"^[^\n]*{words}[^\n]*$"):
        optim.SGD(made("plain"), schedules=given)


@pytest.mark.parametrize("given", [falling, (falling,), (falling, 0.9)])
def test_a_pair_takes_a_function_for_each_entry(given: Any) -> None:
    with pytest.raises(RecipeError, match="betas has 2 entries, so it takes 2 functions"):
        optim.Adam(made("plain"), schedules={"betas": given})


def test_a_value_that_leaves_its_domain_is_refused_at_its_step() -> None:
    params = made("plain")
    optimizer = optim.SGD(params, lr=0.1, momentum=0.5, schedules={"momentum": lambda t: 1.0 + t})
    rows = drawn_like(params, 2)
    step(optimizer, params, rows[:1])
    with pytest.raises(RecipeError, match=r"^momentum=1: must lie in \[0, 1\)"):
        step(optimizer, params, rows[1:])


def test_a_step_that_is_skipped_is_none_of_the_schedule() -> None:
    p = nn.Parameter(torch.ones(2))
    optimizer = optim.SGD([p], lr=0.1, nonfinite="skip", schedules={"lr": falling})
    step(optimizer, [p], [[torch.ones(2)], [torch.full((2,), torch.nan)], [torch.ones(2)]])
    assert p.tolist() == pytest.approx([1 - 0.1 - 0.09] * 2)
    assert optimizer.param_groups[0]["scheduled"] == 2


SCHEDULERS: dict[str, Any] = {
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.2, total_steps=20, cycle_momentum=True),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.2, step_size_up=3, cycle_momentum=True),
}


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "AdamW", "NAdam", "RAdam"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_torchs_schedulers_of_momentum_and_betas_survive_a_file(name: str, scheduler: str) -> None:
    given = {"momentum": 0.5} if name in ("SGD", "RMSprop") else {}
    found: list[list[nn.Parameter]] = []
    for module in (optim, torch.optim):
        params = made("plain")
        rows = drawn_like(params, 10)
        optimizer = getattr(module, name)(params, lr=0.1, **given)
        schedule = SCHEDULERS[scheduler](optimizer)
        for t, row in enumerate(rows):
            if t == 5:
                saved = copy.deepcopy((optimizer.state_dict(), schedule.state_dict()))
                optimizer = getattr(module, name)(params, lr=0.3, **given)
                schedule = SCHEDULERS[scheduler](optimizer)
                optimizer.load_state_dict(saved[0])
                schedule.load_state_dict(saved[1])
            step(optimizer, params, [row])
            schedule.step()
        found.append(params)
    agree(*found, 1e-8 if name == "NAdam" else 1e-11)  # torch keeps its product of momenta in float32


@pytest.mark.parametrize(
    "beside",
    [
        lambda o: lr_scheduler.ExponentialLR(o, 0.5),
        lambda o: lr_scheduler.LambdaLR(o, lambda t: 0.5 / (1 + t)),
        lambda o: lr_scheduler.OneCycleLR(o, 0.2, total_steps=20),
    ],
)
@pytest.mark.filterwarnings("ignore:Detected call of")
def test_one_of_torchs_schedulers_beside_a_schedule_of_the_same_setting_is_refused(beside: Any) -> None:
    """At the first step, wherever the scheduler stands."""
    for around in (lambda o: o, optim.Lookahead, optim.SAM):
        params, twins = made("plain"), made("plain")
        optimizer = around(optim.SGD(params, lr=1.0, momentum=0.5, schedules={"lr": falling}))
        scheduler = beside(optimizer)
        with pytest.raises(RecipeError, match=r"lr is set by one of torch's schedulers .* schedules has it"):
            optimizer.first_step() if around is optim.SAM else step(optimizer, params, drawn_like(params, 1))
        agree(params, twins, 0.0)
        assert scheduler.last_epoch == 0


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_a_cycle_of_the_momentum_beside_a_schedule_of_it_is_refused() -> None:
    params = made("plain")
    optimizer = optim.Adam(params, schedules={"betas": (falling, None)})
    lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=20)
    with pytest.raises(RecipeError, match=r"betas is set by one of torch's schedulers"):
        step(optimizer, params, drawn_like(params, 1))


def test_what_is_set_by_hand_beside_a_schedule_is_refused() -> None:
    params = made("plain")
    rows = drawn_like(params, 3)
    optimizer = optim.SGD(params, lr=1.0, momentum=0.5, schedules={"lr": falling})
    step(optimizer, params, rows[:1])
    optimizer.param_groups[0]["lr"] = 0.3
    with pytest.raises(RecipeError, match=r"lr was set to .* from outside, and schedules has it"):
        step(optimizer, params, rows[1:])


def test_torchs_scheduler_of_another_setting_and_a_new_start_by_hand_count() -> None:
    params = made("plain")
    rows = drawn_like(params, 4)
    optimizer = optim.SGD(params, lr=1.0, momentum=0.5, schedules={"momentum": falling})
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.5)
    for row in rows:
        optimizer.param_groups[0]["initial_momentum"] = 0.8
        step(optimizer, params, [row])
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 1.0 * 0.5**4
    assert optimizer.param_groups[0]["momentum"] == 0.8 * falling(3)


def test_a_state_whose_rate_is_another_is_loaded_under_a_schedule() -> None:
    params = made("plain")
    rows = drawn_like(params, 4)
    first = optim.SGD(params, lr=1.0, schedules={"lr": falling})
    step(first, params, rows[:2])
    second = optim.SGD(params, lr=0.5, schedules={"lr": rising})
    step(second, params, rows[2:3])
    second.load_state_dict(first.state_dict())
    for optimizer in (second, copy.deepcopy(second), pickle.loads(pickle.dumps(second))):
        for row in rows[3:]:
            for group in optimizer.param_groups:
                for p, g in zip(group["params"], row, strict=True):
                    p.grad = g.clone()
            optimizer.step()
        assert optimizer.param_groups[0]["lr"] == rising(2)


@pytest.mark.parametrize("schedule", [lambda t: "a", lambda: 1, lambda t: None])
def test_a_schedule_that_gives_no_number_is_refused_in_one_line(schedule: Any) -> None:
    params = made("plain")
    optimizer = optim.SGD(params, lr=1.0, schedules={"lr": schedule})
    with pytest.raises(RecipeError, match=r"schedules\['lr'\] at step 0: .*must be a function of the step"):
        step(optimizer, params, drawn_like(params, 1))


def test_the_momentum_of_one_cycle_is_torchs_where_the_highest_is_the_setting() -> None:
    ours, theirs = made("plain"), made("plain")
    rows = drawn_like(ours, 20)
    cycle = {"lr": schedules.one_cycle(20), "momentum": schedules.one_cycle_momentum(20)}
    optimizer = optim.SGD(ours, lr=0.2, momentum=0.95, schedules=cycle)
    peer = torch.optim.SGD(theirs, lr=0.2, momentum=0.95)
    scheduler = lr_scheduler.OneCycleLR(peer, 0.2, total_steps=20)
    for t, row in enumerate(rows):
        step(optimizer, ours, [row])
        step(peer, theirs, [row])
        assert optimizer.param_groups[0]["momentum"] == pytest.approx(peer.param_groups[0]["momentum"])
        if t < 19:
            scheduler.step()
    agree(ours, theirs)
