"""Several optimizers that train by one loss, put together as if one optimizer held all of their parameters.

Each has a track of its own, because nobody knows before the first step that they belong together. Afterwards
their modules stand in one run, in the order of the forward pass: the objective is that of the model whose
output is judged, the data that of the model which is handed it. What was sampled at other steps than those of
the first optimizer is taken from the nearest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from downslope.core.history import History, Probe, Probes
from downslope.core.run import Run, Status
from downslope.diagnosis.culprit import Moves, culprit
from downslope.diagnosis.early import thrown
from downslope.diagnosis.role import Role
from downslope.diagnosis.settings import parameters_of, rates_of


def together(team: Sequence[Role], status: Status) -> Run:
    """One run of optimizers that step on one loss.

    Args:
        team: The optimizer that steps first comes first; it counts the steps.
        status: How the script ended.
    """
    runs = [role.track.conclude(status) for role in team]
    if len(team) == 1:
        return runs[0]
    order = sorted(range(len(team)), key=lambda i: team[i].met)
    names = _Names([team[i] for i in order])
    lead = runs[0]
    run = replace(lead, facts=dict(lead.facts), probes=Probes(), history=_copied(lead.history))
    sorted_runs = [runs[i] for i in order]
    facts = run.facts
    for fact in ("modules", "activations"):
        facts[fact] = _table(fact, sorted_runs, names)
    if not facts["modules"]:
        del facts["modules"], facts["activations"]
    if any("start" in each.facts for each in runs):
        facts["start"] = _start(lead, sorted_runs, names)
    _kept_facts(facts, runs, sorted_runs, names)
    _probes(run, team, order, names)
    facts["optimizers"] = [
        each.facts["optimizer"] | {"used": _used(each), "on": role.models}
        for role, each in zip(team, runs, strict=True)
    ]
    facts["climbs"] = all(each.facts["climbs"] for each in runs)
    facts["rates_left"] = rates_of(*(each for role in team for each in role.track.optimizers))
    if thrown(run):
        moves = [_moves(run, role, names, order.index(i)) for i, role in enumerate(team)]
        _blame(run, runs, culprit(moves))
    return run


def _moves(run: Run, role: Role, names: _Names, index: int) -> Moves:
    """What is known of the updates of one optimizer."""
    own = names.owned(index)

    def part(statistic: str) -> Probe | None:
        if statistic not in run.probes:
            return None
        probe = run.probes[statistic]
        columns = [column for column, name in enumerate(probe.modules) if name in own]
        named = tuple(probe.modules[column] for column in columns)
        return Probe(probe.steps, named, probe.values[:, columns]) if columns else None

    modules: Mapping[str, Mapping[str, Any]] = run.facts.get("modules") or {}
    sizes = {name: int(row.get("parameters") or 1) for name, row in modules.items()}
    return Moves(part("update_ratio"), part("weight_norm"), sizes, role.left)


def _blame(run: Run, runs: Sequence[Run], found: int | None) -> None:
    """Let the rate of the run be that of the optimizer whose step was too large; unknown, none."""
    run.facts["culprit"] = found
    steps = run.history.series("lr").steps.tolist()
    if found is None:
        run.history.extend("lr", steps, [math.nan] * len(steps))
    elif found and (rates := runs[found].history.series("lr").values).size:
        run.facts["optimizer"] = runs[found].facts["optimizer"]
        run.history.extend("lr", steps, [float(rates[min(i, len(rates) - 1)]) for i in range(len(steps))])


class _Names:
    """The names of modules in a run of several optimizers: with the class of their model in front."""

    def __init__(self, team: Sequence[Role]) -> None:
        self.team = team
        self._prefixes: list[dict[str, str]] = []
        models: dict[int, str] = {}
        inner: list[nn.Module] = [o.inner for role in team for o in role.track.eye.observers.values()]
        self.distinct = list({id(each): each for each in inner}.values())
        for role in team:
            row: dict[str, str] = {}
            for prefix, observer in role.track.eye.observers.items():
                found = models.get(id(observer.inner))
                if found is None:
                    found = self._unused(observer.inner, models) if len(self.distinct) > 1 else ""
                    models[id(observer.inner)] = found
                row[prefix] = found
            self._prefixes.append(row)

    @staticmethod
    def _unused(model: nn.Module, taken: Mapping[int, str]) -> str:
        number, kind = 2, type(model).__name__
        found = f"{kind}."
        while found in taken.values():
            found, number = f"{kind}{number}.", number + 1
        return found

    def of(self, index: int, name: str) -> str:
        """The name of what optimizer `index`, in forward order, calls `name`."""
        fits = [each for each in self._prefixes[index] if name.startswith(each)]
        longest = max(fits, key=len, default=None)
        return name if longest is None else self._prefixes[index][longest] + name[len(longest) :]

    def owned(self, index: int) -> set[str]:
        """The modules of which optimizer `index` holds parameters."""
        role = self.team[index]
        held = {id(p) for p in parameters_of(*role.track.optimizers)}
        return {
            self._prefixes[index][prefix] + (name or "model")
            for prefix, observer in role.track.eye.observers.items()
            for name, own in observer.own.items()
            if any(id(p) in held for p in own)
        }


def _table(fact: str, runs: Sequence[Run], names: _Names) -> dict[str, dict[str, Any]]:
    """The rows of a fact by module, in forward order."""
    found: dict[str, dict[str, Any]] = {}
    for i, run in enumerate(runs):
        rows: Mapping[str, dict[str, Any]] = run.facts.get(fact) or {}
        for name, row in rows.items():
            after = {"after": names.of(i, row["after"])} if row.get("after") else {}
            found.setdefault(names.of(i, name), row | after)
    return found


def _start(lead: Run, runs: Sequence[Run], names: _Names) -> dict[str, Any]:
    """What the first forward pass showed, layers in the order of all models."""
    layers: dict[str, Any] = {}
    for i, run in enumerate(runs):
        start: Mapping[str, Any] = run.facts.get("start") or {}
        rows: Sequence[dict[str, Any]] = start.get("layers") or ()
        for each in rows:
            name = names.of(i, each["name"] or ("model" if len(names.distinct) > 1 else ""))
            # What a later model is handed is no input of the whole.
            own = {k: v for k, v in each.items() if k != "entry" or not layers}
            layers.setdefault(name, own | {"name": name})
    starts = [each.facts["start"] for each in runs if "start" in each.facts]
    norms = max if len(names.distinct) == 1 else sum
    loss = (lead.facts.get("start") or starts[0]).get("loss")
    return {"loss": loss, "layers": [*layers.values()], "norms": norms(each["norms"] for each in starts)}


def _kept_facts(facts: dict[str, Any], runs: Sequence[Run], ordered: Sequence[Run], names: _Names) -> None:
    """The facts that one of the optimizers tells for all of them."""
    stale = [each.facts["leftover"] for each in runs if each.facts.get("leftover")]
    if stale:
        facts["leftover"] = max(stale, key=lambda each: each["late"])
    flows = [(i, each.facts["flow"]) for i, each in enumerate(ordered) if each.facts.get("flow") is not None]
    if flows:
        facts["flow"] = _flow(flows, names)
    seen = [each.facts.get("resting") for each in runs]
    facts["resting"] = None if "modules" in facts else next((each for each in seen if each), None)
    reasons = [each.facts.get("not_measured") or {} for each in runs]
    facts["not_measured"] = {
        need: why for need, why in reasons[0].items() if all(need in each for each in reasons)
    }
    broken: dict[int, dict[str, Any] | None] = {}
    for i, each in enumerate(ordered):
        lost = each.facts.get("nonfinite")
        if lost and lost.get("module"):
            broken[i] = lost.get("gradients")
            if not (facts.get("nonfinite") or {}).get("module"):
                facts["nonfinite"] = lost | {"module": names.of(i, lost["module"])}
    if broken:
        facts["nonfinite"] |= {"gradients": _broken(broken, names)}


def _broken(found: Mapping[int, dict[str, Any] | None], names: _Names) -> dict[str, Any] | None:
    """Which modules of all models had a gradient that was not finite; None where that is not known of all."""
    known = {i: each for i, each in found.items() if each is not None}
    if len(known) < len(found):
        return None

    def of_all(key: str) -> list[str]:
        return [names.of(i, name) for i, each in known.items() for name in each[key]]

    every = all(each["every"] for each in known.values())
    return {"bad": of_all("bad"), "sound": of_all("sound"), "every": every}


def _flow(flows: Sequence[tuple[int, dict[str, Any]]], names: _Names) -> dict[str, Any]:
    """What is trained, and what is held: of what some are sure, the others say nothing beside it."""
    sure = [each for each in flows if each[1]["sure"]] or list(flows)
    held: dict[str, Any] = {}
    for i, flow in sure:
        for row in flow["held"]:
            name = names.of(i, row["name"])
            held.setdefault(name, row | {"name": name})
    whole = max if len(names.distinct) == 1 else sum
    count = whole(flow["parameters"] for _, flow in flows)
    trained = count - sum(row["parameters"] for row in held.values())
    found = {"parameters": count, "trained": max(trained, 0), "held": [*held.values()], "watched": True}
    outside: list[dict[str, Any]] = []
    for _, flow in flows:  # all of them meet the same modules
        known = list(outside)
        for row in flow.get("outside", ()):
            if row in known:
                known.remove(row)
            else:
                outside.append(row)
    told = {"outside": outside} if outside else {}
    return found | {"sure": any(flow["sure"] for _, flow in flows)} | told


def _probes(run: Run, team: Sequence[Role], order: Sequence[int], names: _Names) -> None:
    """Every module's statistics from the optimizer that holds it, at the steps of the first one."""
    clocks = [_clock(team[0], team[i]) for i in order]
    owned = [names.owned(k) for k in range(len(order))]
    every = set[str]().union(*owned)
    steps = {name: each.steps for name, each in team[0].track.run.probes.items()}
    for k, i in enumerate(order):
        for statistic, probe in team[i].track.run.probes.items():
            at = clocks[k](probe.steps)
            wanted = steps.setdefault(statistic, at.round().astype(np.int64))
            nearest = [int(np.abs(at - step).argmin()) for step in wanted] if len(at) else []
            for column, module in enumerate(probe.modules):
                name = names.of(k, module)
                if name in every and name not in owned[k]:
                    continue
                for step, row in zip(wanted, nearest, strict=True):
                    value = float(probe.values[row, column])
                    if not math.isnan(value):
                        run.probes.log(int(step), statistic, {name: value})
    if "grad_norm" in run.probes:
        norms = run.probes["grad_norm"]
        for step, row in zip(norms.steps, norms.values, strict=True):
            run.history.log(int(step), grad_norm=float(np.sqrt(np.nansum(row * row))))


def _clock(lead: Role, role: Role) -> Callable[[Any], Any]:
    """Steps of `role` counted in those of `lead`: the same where they take turns from first to last."""
    if role.track.step == lead.track.step:
        return lambda steps: np.asarray(steps, dtype=np.float64)
    (first, last), (begin, end) = role.span, lead.span

    def turned(steps: Any) -> Any:
        own = first + (np.asarray(steps, dtype=np.float64) - 1) * (last - first) / max(role.track.step - 1, 1)
        return 1 + (own - begin) * (lead.track.step - 1) / max(end - begin, 1)

    return turned


def _used(run: Run) -> list[float]:
    """The smallest and the largest rate in use; empty where none was seen."""
    rates = run.history.series("lr").values
    known = rates[np.isfinite(rates)]
    return [float(known.min()), float(known.max())] if len(known) else []


def _copied(history: History) -> History:
    made = History()
    for name in history:
        if name != "step":
            series = history.series(name)
            made.extend(name, series.steps.tolist(), series.values.tolist())
    return made
