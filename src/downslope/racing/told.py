"""A race as text: a table for each problem, what is decided, what it cost."""

from __future__ import annotations

import itertools
import math

from downslope.racing.entry import Entry
from downslope.racing.result import Paired, Race
from downslope.tuning.price import told

_WIDE = 110


def lines(race: Race) -> list[str]:
    """The race, line by line, of no more than 110 columns but for long names."""
    made: list[str] = []
    for name in race.problems:
        made += [*_problem(race, name), ""]
    made += [verdict(race), *(f"  {each}" for each in sure(race))]
    return [*made, *(f"note: {each}" for each in race.notes)]


def sure(race: Race) -> list[str]:
    """What is decided of each pair, how stable the order is, and what it took."""
    raced = race.seeds and len(race.racing) > 1
    return [*(_pairs(race) if raced else ()), *(_stable(race) if raced else ()), *_cost(race)]


def verdict(race: Race) -> str:
    """Who won, in one sentence."""
    planned, by = (
        race.protocol.seeds,
        {"level": "final level"}.get(race.protocol.by, f"{race.protocol.by} to target"),
    )
    cut = {"time": "; the time is up", "interrupted": "; interrupted"}.get(race.status, "")
    if len(race.racing) < 2:
        return f"undecided: fewer than two contestants could be trained{cut}"
    if not race.seeds:
        return f"undecided: no seed was raced by all{cut}"
    of = f"{race.seeds} of {planned} seeds" if race.seeds < planned else f"{planned} seeds"
    if (won := race.winner) is not None:
        early = ", decided early" if race.status == "decided" else ""
        behind = [name for name in race.undertuned if name != won]
        but = f"; but {' and '.join(behind)} may be undertuned, see the notes" if behind else ""
        return f"winner: {won}, by {by}, on {of}{early}{cut}{but}"
    fewest = race.protocol.test(len(race.contestants)).fewest
    few = f"; fewer than {fewest} seeds cannot decide" if planned < fewest else ""
    shares = race.ranking().first
    ahead = max(shares, key=lambda name: shares[name])
    led = f"; {ahead} is ahead" if shares[ahead] > 1 / 2 else ""
    return f"undecided: by {by}, on {of}, no one is better than all others beyond chance{led}{few}{cut}"


def _problem(race: Race, name: str) -> list[str]:
    rows = [race.entry(who, name) for who in race.contestants]
    measure, target = rows[0].measure, rows[0].target
    aim = target.said if math.isnan(target.level) else f"target {target.level:.4g} ({target.said})"
    wide = max(10, *(len(each.contestant) for each in rows))
    head = f"{name}: {measure}, {'higher' if measure.up else 'lower'} is better; {aim}"
    made = [
        head,
        f"{'':{wide}}  {'level':>8}  {'95 %':>19}  {'lost':>4}  {'steps':>8}  {'seconds':>8}  "
        f"{'tuning':<16}  tuned to",
    ]
    return made + [_row(each, wide) for each in rows]


def _row(of: Entry, wide: int) -> str:
    if of.error:
        return f"{of.contestant:{wide}}  out: {of.error}"
    if not of.raced:
        return f"{of.contestant:{wide}}  {_tuned(of)}"
    level = of.level
    span = f"{level.low:.4g} to {level.high:.4g}" if math.isfinite(level.low) else "-"
    cost = of.tuning_cost
    spent = f"{cost['runs']:.0f} runs {_seconds(cost['seconds'])}" if cost["runs"] else "none"
    values = ", ".join(f"{key} {_value(value)}" for key, value in of.values.items()) or "as given"
    return (
        f"{of.contestant:{wide}}  {_number(level.mean):>8}  {span:>19}  {of.lost:>4}  "
        f"{_steps(of.median_steps):>8}  {_seconds(of.median_seconds):>8}  {spent:<16}  {values}"
    )


def _tuned(of: Entry) -> str:
    """The best of its tuning so far."""
    if not of.tuning:
        return "has not run yet"
    best = min(of.measure.cost(one.level) for one in of.tuning)
    level = "all lost" if math.isinf(best) else f"{of.measure.level(best):.4g}"
    values = ", ".join(f"{key} {_value(value)}" for key, value in of.values.items()) or "as given"
    return f"tuned by {len(of.tuning)} runs: {of.measure} {level}, {values}"


def _pairs(race: Race) -> list[str]:
    made: list[str] = []
    count = len(race.contestants)
    if count > 2:
        made.append(f"pairs, each by itself at {100 * race.protocol.test(count).alpha:.2g} %:")
    for a, b in itertools.combinations(race.racing, 2):
        found = race.paired(a, b)
        flipped = found.verdict == "second" or (found.verdict == "undecided" and found.mean < 0)
        found = race.paired(b, a) if flipped else found
        lost = "" if not any(found.lost) else f"; {_lost(found)}"
        gap = f"{_gap(race, found.mean)}{_span(race, found)}"
        if found.verdict == "first":
            made.append(f"{found.first} beats {found.second}: {gap}{lost}")
        else:
            which = f"{found.first} is ahead: {gap}" if found.mean else gap
            made.append(f"{found.first} against {found.second}: undecided; {which}{lost}")
    return made


def _gap(race: Race, mean: float) -> str:
    """How much better, in words."""
    if math.isnan(mean):
        return "there is no seed on which both ended"
    if not mean:
        return "on average no difference"
    if len(race.problems) > 1:
        return f"it wins {mean:.3g} problems more than it loses, of {len(race.problems)}"
    unit = {"level": "", "steps": " steps", "seconds": " s"}[race.protocol.by]
    return f"better by {mean:.4g}{unit}"


def _span(race: Race, found: Paired) -> str:
    if not math.isfinite(found.low) or found.low == found.high:
        return ""
    digits = 3 if len(race.problems) > 1 else 4
    return f" (95 %: {found.low:.{digits}g} to {found.high:.{digits}g})"


def _lost(found: Paired) -> str:
    return f"lost on {found.lost[0]} seeds, {found.second} on {found.lost[1]}"


def _stable(race: Race) -> list[str]:
    found = race.ranking()
    first = ", ".join(f"{name} {100 * found.first[name]:.0f} %" for name in found.order)
    steps, seconds = race.score_in("steps"), race.score
    scores = ", ".join(f"{name} {steps[name]:.3f} / {seconds[name]:.3f}" for name in found.order)
    aimed = any(not math.isnan(each.target.level) for each in race.entries)
    made: list[str] = []
    if len(race.problems) > 1:
        won: dict[str, list[str]] = {}
        for name in race.problems:
            won.setdefault(race.winner_on(name) or "undecided", []).append(name)
        each = "; ".join(f"{who} on {', '.join(where)}" for who, where in won.items())
        made.append(f"each problem by itself: {each if len(won) > 1 else f'{next(iter(won))} on all'}")
    made.append(f"first where seeds are drawn anew: {first}; the same order in {100 * found.same:.0f} %")
    return made + ([f"score in steps / seconds, 1 is best: {scores}"] if aimed else [])


def _cost(race: Race) -> list[str]:
    """What all of it took, as it was trained."""
    parts = {
        "tuning": [one for each in race.entries for one in each.tuning],
        "race": [one for each in race.entries for one in each.raced],
    }
    said = [
        f"{len(runs)} runs of the {name} {told(sum(one.seconds for one in runs))}"
        for name, runs in parts.items()
        if runs
    ]
    return [f"it took {', '.join(said)}"] if said else []


def _number(value: float) -> str:
    return "lost" if math.isnan(value) else f"{value:.4g}"


def _steps(value: float) -> str:
    return "-" if math.isnan(value) else "never" if math.isinf(value) else f"{value:.0f}"


def _seconds(value: float) -> str:
    if math.isnan(value):
        return "-"
    return "never" if math.isinf(value) else f"{value:.3g} s"


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def stage(race: Race) -> dict[str, str]:
    """What is new after a stage, one line each, by what it is about."""
    found: dict[str, str] = {}
    for each in race.entries:
        where = f"{each.problem}: " if len(race.problems) > 1 else ""
        if each.error:
            found[f"{each.problem}/{each.contestant}"] = f"{where}{each.contestant} out: {each.error}"
        elif each.tuning and not race.protocol.retune:
            found[f"{each.problem}/{each.contestant}"] = f"{where}{each.contestant} {_tuned(each)}"
    if race.seeds:
        rows: list[str] = []
        for name in race.problems:
            where = f"{name} " if len(race.problems) > 1 else ""
            each = [f"{who} {_number(race.entry(who, name).level.mean)}" for who in race.racing]
            rows.append(f"{where}{', '.join(each)}")
        sure = race.winner
        said = "undecided" if sure is None else f"{sure} is better"
        found["seeds"] = f"{race.seeds} of {race.protocol.seeds} seeds: {'; '.join(rows)}; {said}"
    return found
