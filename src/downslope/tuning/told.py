"""A search in words, as a table, and as plain values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from downslope.core.plain import plain
from downslope.core.space import Space
from downslope.tuning.compared import reached
from downslope.tuning.confirmed import Confirmed
from downslope.tuning.failures import diverged, where_diverged
from downslope.tuning.life import said
from downslope.tuning.schedule import stairs
from downslope.tuning.trial import Trial

if TYPE_CHECKING:
    from downslope.tuning.search import Best, Search


def told(search: Search) -> list[tuple[str, str]]:
    """Label and text: the best, what mattered, what lies at an edge, what failed, what it cost."""
    found: list[tuple[str, str]] = []
    if search.found:
        found += best(search)
        if search.schedule is not None:
            whole = search.schedule.along(search.plan.recipe) is not None
            how = "" if whole else "; a fit has its beginning only, downslope.tuning.replay trains along it"
            found.append(("schedule", search.schedule.told(number) + how))
        found += _mattered(search)
    else:
        found.append(("nothing", search.nothing))
    found += [("edge", str(each)) for each in search.edges]
    found += [("widened", each) for each in search.widenings]
    found += _further(search)
    found += _early(search)
    found += _wrong(search)
    if others := elsewhere(search.trials):
        found.append(("running", f"{others}; `downslope resume` looks again when they have ended"))
    found.append(("spent", _spent(search)))
    return found


def elsewhere(trials: Sequence[Trial]) -> str:
    """Which trials of a search other processes are training; "" where none does."""
    running = [each for each in trials if each.state == "running"]
    if not running:
        return ""
    workers = list(dict.fromkeys(said(each.worker) for each in running if each.worker))
    who = ", ".join(workers[:3]) + (f" and {len(workers) - 3} more" if len(workers) > 3 else "")
    one = len(running) == 1
    what = f"{len(running)} trial{'' if one else 's'} {'is' if one else 'are'} still being trained"
    return what + (f" by {who}" if who else "")


def configuration(values: Mapping[str, Any]) -> str:
    """``lr 0.0123, momentum 0.97``."""
    return ", ".join(f"{key} {number(value)}" for key, value in values.items())


def number(value: Any) -> str:
    """A value of a key, short; what is near 1 by what it lacks to it."""
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    if 0.99 <= value < 1:
        return f"{value:.{max(3, 2 - math.floor(math.log10(1 - value)))}f}".rstrip("0")
    return f"{value:.3g}"


def table(trials: Sequence[Trial], space: Space, measure: str) -> str:
    """Trials as rows: number, measure, key by key."""
    keys = list(space)
    head = ["trial", measure, *keys]
    rows = [
        [str(each.number), "-" if each.value is None else f"{each.value:.4g}"]
        + [cell(each, key) for key in keys]
        for each in trials
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return "\n".join(
        "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, *rows]
    )


def cell(trial: Trial, key: str) -> str:
    """The value of a key, or the first and the last of those that it took on the way."""
    if rows := stairs(trial):
        ends = list(dict.fromkeys(number(row[key]) for row in (rows[0], rows[-1]) if key in row))
        return " .. ".join(ends)
    return number(trial.values[key]) if key in trial.values else ""


def document(search: Search) -> dict[str, Any]:
    """A search for machines: what it found, and what there is to learn from all of its trials."""
    return result(search) | plain(
        {
            "importance": [
                {"key": each.key, "share": each.share, "p": each.p, "mattered": each.mattered}
                for each in search.importances
            ],
            "edges": [
                {
                    "key": each.key,
                    "side": each.side,
                    "at": each.at,
                    "space": each.dimension.text(),
                    "wider": None if each.wider is None else each.wider.text(),
                }
                for each in search.edges
            ],
            "finer": {key: each.text() for key, each in search.finer.items()},
        }
    )


def result(search: Search) -> dict[str, Any]:
    """What a search found, as its folder keeps it."""
    best = search.best if search.found else None
    return plain(
        {
            "measure": search.measure,
            "direction": search.direction,
            "space": {key: each.text() for key, each in search.space.items()},
            "sampler": search.plan.sampler,
            "seed": search.plan.seed,
            "best": None
            if best is None
            else {
                "trial": best.number,
                "values": best.values,
                "value": best.value,
                "fresh": best.fresh,
                "seeds": best.seeds,
                "mean": best.mean,
                "interval": best.interval,
                "recipe": None if best.recipe.coded else best.recipe.to_dict(),
            },
            "confirmed": [_confirmed(each) for each in search.confirmed],
            "widened": search.widenings,
            "failures": [{"cause": each.cause, "trials": each.trials} for each in search.failures],
            "diverged": [each.number for each in diverged(search.trials)],
            "trials": [_trial(each) for each in search.trials],
            "seconds": search.seconds,
            "steps": search.steps,
            "interrupted": search.interrupted,
            "stopped": search.stopped,
            "folder": search.folder,
            "journal": search.journal,
        }
    )


def _trial(each: Trial) -> dict[str, Any]:
    return {
        "number": each.number,
        "state": each.state,
        "value": each.value,
        "values": each.values,
        "cause": each.cause,
        "retry_of": each.retry_of,
    } | ({"schedule": stairs(each)} if stairs(each) else {})


def _confirmed(each: Confirmed) -> dict[str, Any]:
    return {
        "trial": each.number,
        "values": each.values,
        "seen": each.seen,
        "fresh": each.fresh,
        "seeds": each.seeds,
        "mean": each.mean,
        "interval": each.interval,
    }


def in_short(best: Best) -> str:
    """A configuration, what it gives, and over how many fresh seeds."""
    what = f"{configuration(best.values)}: {best.measure} {best.mean:.4g}"
    if not best.fresh:
        return what
    low, high = best.interval
    gone = sum(not math.isfinite(each) for each in best.fresh)
    over = f"{len(best.fresh)} fresh seed{'s' * (len(best.fresh) > 1)}"
    if gone:
        return f"{what}; {gone} of {over} diverged"
    span = "" if math.isnan(low) else f"95 % {low:.4g} to {high:.4g} "
    return f"{what} ({span}over {over})"


def best(search: Search) -> list[tuple[str, str]]:
    """The best, and how much of it was luck."""
    best = search.best
    text = in_short(best)
    if not best.fresh:
        unsure = f"as the search saw it, trial {best.number}; not confirmed{_unconfirmed(search)}"
        return [("best", f"{text} {unsure}")]
    lines = [("best", text)]
    if not all(math.isfinite(each) for each in best.fresh):
        return lines
    seen = max(search.confirmed, key=lambda each: -each.seen if search.direction == "min" else each.seen)
    if (seen.curse > 0) == (search.direction == "max") and seen.curse:
        lines.append(
            (
                "luck",
                f"the best value that the search saw, {seen.seen:.4g}, is {seen.mean:.4g} with fresh seeds",
            )
        )
    return [*lines, *_kept_seed(search)]


def _kept_seed(search: Search) -> list[tuple[str, str]]:
    """What the seed that the recipe keeps gives, where fresh ones give something else."""
    best = search.best
    (low, high), value = best.interval, best.value
    if search.plan.seeds > 1 or search.schedule is not None or math.isnan(low) or low <= value <= high:
        return []
    better = value > high if search.direction == "max" else value < low
    how = "luckier" if better else "less lucky"
    text = f"{best.recipe.seed}, which the recipe keeps, gives {value:.4g} again: {how} than fresh ones"
    return [("seed", text)]


def _unconfirmed(search: Search) -> str:
    """Why no fresh seeds were trained."""
    plan = search.plan
    if not plan.confirm:
        return ", as confirm=0 asks"
    if search.interrupted:
        return ", as it was interrupted"
    if plan.steps is None and plan.seconds is None:
        return ""
    budget = f"{plan.seconds:g} s" if plan.seconds is not None else f"{plan.steps} steps"
    return f": the budget of {budget} left no two runs for it"


def _mattered(search: Search) -> list[tuple[str, str]]:
    found = search.importances
    if len(found) < 2:
        return []
    parts = [", ".join(str(each) for each in found if each.mattered)]
    for which, doubt in ((False, "no more than chance"), (True, "too few trials to tell")):
        keys = [each.key for each in found if not each.mattered and each.open is which]
        parts += [f"{doubt}: {', '.join(keys)}"] if keys else []
    text = "; ".join(part for part in parts if part)
    if search.compared_at is not None:
        text += f" (as of step {search.compared_at}, to which all came)"
    return [("mattered", text)]


def _early(search: Search) -> list[tuple[str, str]]:
    """How many trials the pruner ended, and after how many steps."""
    if not search.early:
        return []
    total = len([each for each in search.trials if each.counts])
    after = Counter(reached(each) for each in search.early)
    where = ", ".join(f"{count} after {step} steps" for step, count in sorted(after.items())[:4])
    return [
        ("early", f"{len(search.early)} of {total} ended early" + (f": {where}" if len(after) <= 4 else ""))
    ]


def _further(search: Search) -> list[tuple[str, str]]:
    """What to search next, where there were enough trials to tell."""
    if not search.further:
        return []
    rest = [key for key in search.space if key not in search.finer]
    text = ", ".join(f"{key} {each}" for key, each in search.finer.items())
    return [("finer", text + (f"; leave {', '.join(rest)} as the best has it" if rest else ""))]


def _wrong(search: Search) -> list[tuple[str, str]]:
    total = len([each for each in search.trials if each.counts])
    found = [("failed", f"{len(each.trials)} of {total}: {each}") for each in search.failures[:3]]
    gone = diverged(search.trials)
    if gone:
        where = where_diverged(search.trials)
        found.append(("diverged", f"{len(gone)} of {total}" + (f", at {where}" if where else "")))
    lost = [each for each in search.trials if each.state == "lost"]
    if lost:
        found.append(("lost", f"{len(lost)} with a worker that died, trained again"))
    return found


def _spent(search: Search) -> str:
    ended = [each for each in search.trials if each.state in ("done", "pruned", "failed")]
    again = search.steps - sum(int(each.attrs.get("steps") or 0) for each in search.trials)
    sure = f" ({again} of them to confirm the best)" if search.confirmed and again > 0 else ""
    text = f"{len(ended)} trials, {search.steps} steps{sure}, {search.seconds:.3g} s"
    if search.interrupted:
        text += ", interrupted: what there is is kept"
    if search.stopped and search.found:
        text += f"; {search.stopped}"
    return text
