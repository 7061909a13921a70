"""A race as text: a table for each problem, what is decided, what it cost."""

from __future__ import annotations

import itertools
import math

from downslope.racing.entry import Entry
from downslope.racing.ranking import DRAWS, Ranking
from downslope.racing.result import Paired, Race
from downslope.racing.times import looks
from downslope.tuning.price import told


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
    columns = (
        f"{'':{wide}}  {'level':>8}  {'95 %':>19}  {'lost':>4}  {'there':>5}  {'steps':>8}  {'seconds':>8}"
    )
    made = [head, f"{columns}  {'tuning':<18}  tuned to", *(_row(each, wide) for each in rows)]
    every = looks([one for each in rows for one in each.raced])
    if every is None or math.isnan(target.level):
        return [*made, "level: mean over the seeds that ended"] if race.seeds else made
    return [
        *made,
        f"level: mean of the seeds that ended; there: seeds that got to the target; steps, seconds: their "
        f"medians, known to {every} step{'s' * (every > 1)}: from one evaluation to the next",
    ]


def _row(of: Entry, wide: int) -> str:
    if of.error:
        return f"{of.contestant:{wide}}  out: {of.error}"
    if not of.raced:
        return f"{of.contestant:{wide}}  {_tuned(of)}"
    level = of.level
    span = f"{level.low:.4g} to {level.high:.4g}" if math.isfinite(level.low) else "-"
    cost = of.tuning_cost
    spent = f"{cost['runs']:.0f} runs, {cost['steps']:.0f} steps" if cost["runs"] else "none"
    there = "-" if math.isnan(of.target.level) else f"{of.arrived}/{len(of.raced)}"
    values = _chosen(of)
    return (
        f"{of.contestant:{wide}}  {_number(level.mean):>8}  {span:>19}  {of.lost:>4}  {there:>5}  "
        f"{_steps(of.median_steps):>8}  {_seconds(of.median_seconds):>8}  {spent:<18}  {values}"
    )


def _tuned(of: Entry) -> str:
    """The best of its tuning so far."""
    if not of.tuning:
        return "has not run yet"
    best = min(of.measure.cost(one.level) for one in of.tuning)
    level = "all lost" if math.isinf(best) else f"{of.measure.level(best):.4g}"
    values = _chosen(of)
    return f"tuned by {len(of.tuning)} runs: {of.measure} {level}, {values}"


def _chosen(of: Entry) -> str:
    """What the tuning chose, in words."""
    if of.anew:
        return "other values for every seed"
    return ", ".join(f"{key} {_value(value)}" for key, value in of.values.items()) or "as given"


def _pairs(race: Race) -> list[str]:
    made: list[str] = []
    for a, b in itertools.combinations(race.racing, 2):
        found = race.paired(a, b)
        lost = found.lost[1] - found.lost[0]
        ahead = lost if math.isnan(found.mean) or not found.mean else found.mean
        if found.verdict == "second" or (found.verdict == "undecided" and ahead < 0):
            found, ahead = race.paired(b, a), -ahead
        gone = f"; {_lost(race, found)}" if any(found.lost) else ""
        said = f"{_gap(race, found)}{_span(race, found)}{gone}; {_evidence(found)}"
        if found.verdict == "first":
            made.append(f"{found.first} beats {found.second}: {said}")
        else:
            which = f"{found.first} is ahead: " if ahead else ""
            made.append(f"{found.first} against {found.second}: undecided; {which}{said}")
    return [*made, _bar(race)] if made else []


def _bar(race: Race) -> str:
    """What it takes to decide a pair."""
    test = race.protocol.test(len(race.contestants))
    soon = f"evidence of {test.threshold:.4g} at any seed, or " if race.protocol.early else ""
    each = f", of each of the {len(race.racing)} contestants' pairs" if len(race.racing) > 2 else ""
    return f"to decide a pair it takes {soon}p of {test.level:.2g} at most at the last seed{each}"


def _evidence(found: Paired) -> str:
    return f"evidence {found.evidence.first:.3g}, p {found.evidence.p_first:.2g}"


def _gap(race: Race, found: Paired) -> str:
    """How much better, in words."""
    got = {"level": "ended"}.get(race.protocol.by, "got there")
    if math.isnan(found.mean):
        return f"there is no seed on which both {got}"
    if not found.mean:
        return "on average no difference"
    if len(race.problems) > 1:
        return f"it wins {found.mean:.3g} problems more than it loses, of {len(race.problems)}"
    name = race.entries[0].measure.name
    unit = {"level": f" in {name}", "steps": " steps", "seconds": " s"}[race.protocol.by]
    way = "better" if found.mean > 0 else "worse"
    part = f" where both {got}" if any(found.lost) else ""
    return f"{way} by {abs(found.mean):.4g}{unit}{part}"


def _span(race: Race, found: Paired) -> str:
    """The interval that the test leaves; nothing of what has no width or no end."""
    if found.low == found.high or (math.isinf(found.low) and math.isinf(found.high)):
        return ""
    digits = 3 if len(race.problems) > 1 else 4
    low = f"{found.low:.{digits}g}" if math.isfinite(found.low) else "any"
    high = f"{found.high:.{digits}g}" if math.isfinite(found.high) else "any"
    return f" ({100 * found.sure:.3g} %: {low} to {high})"


def _lost(race: Race, found: Paired) -> str:
    what = {"level": "lost"}.get(race.protocol.by, "never there")
    return f"{what} on {found.lost[0]} seeds, {found.second} on {found.lost[1]}"


def _stable(race: Race) -> list[str]:
    found = race.ranking()
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
    many = len(race.problems) > 1
    by = {"level": "mean level"}.get(race.protocol.by, f"median {race.protocol.by} to the target")
    made.append(f"order, by {'mean rank over the problems' if many else by}: {_in_order(found)}")
    made += _drawn_anew(race, found)
    over = f"the medians of {len(race.problems)} problems" if many else f"the {race.seeds} seeds"
    return made + ([f"score over {over}, in steps / seconds, 1 is best: {scores}"] if aimed else [])


def _in_order(found: Ranking) -> str:
    """Best first; with an equals sign between those that nothing tells apart."""
    ahead = found.behind
    said = found.order[0]
    for i, name in enumerate(found.order[1:], 1):
        said += f"{' =' if ahead[i] == ahead[i - 1] else ','} {name}"
    return said


def _drawn_anew(race: Race, found: Ranking) -> list[str]:
    """How often each comes first among the same seeds drawn anew; nothing of fewer than can decide anything.

    Draws of two or three seeds nearly always agree, whatever other seeds would have shown.
    """
    if race.seeds < race.protocol.test(len(race.contestants)).fewest:
        return []
    first = ", ".join(f"{name} {_share(found.first[name])}" for name in found.order)
    said = f"first where these {race.seeds} seeds are drawn anew, {DRAWS} times: {first}"
    tied = len(set(found.behind)) < len(found.order)
    return [said if tied else f"{said}; this order {_share(found.same)}"]


def _share(of: float) -> str:
    """A share of draws; what is all of them or none is no hundred per cent, nor zero, of what may come."""
    if of >= 1.0 or of <= 0.0:
        return "always" if of >= 1.0 else "never"
    return f"{min(max(100 * of, 1.0), 99.0):.0f} %"


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
    clock = "" if math.isnan(race.elapsed) else f"{told(race.elapsed)} on the clock this time, with timing; "
    return [f"it took {clock}{', '.join(said)}"] if said else []


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
