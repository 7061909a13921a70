"""What a run says about itself in words: its task, machine, data, recipe and numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from downslope.core.modules import called
from downslope.core.run import Run
from downslope.core.sources import Loader
from downslope.core.stated import without_module
from downslope.diagnosis.progress import final_loss
from downslope.reporting.numerals import loss as told
from downslope.reporting.numerals import numeral
from downslope.training.facts.convexity import told as told_convexity


def described(run: Run) -> Mapping[str, Any]:
    """What `Problem.describe` said, from the problem or from the folder."""
    return run.problem.describe() if run.problem is not None else run.described


def name(run: Run) -> str:
    """What the user calls it: the task, the problem's name, or the folder's."""
    said = described(run)
    task = str(said.get("task") or run.facts.get("script") or "")
    if task and ("/" in task or "\\" in task):
        task = Path(task).name
    folder = run.folder.name if run.folder is not None else ""
    return task or str(said.get("name") or "") or folder or "run"


def machine(run: Run) -> str:
    """Device and threads, such as "CPU 2 cores"; "" where nothing was recorded."""
    device = str(run.choices.get("device") or run.environment.get("device") or "")
    if not device:
        return ""
    if not device.startswith("cpu"):
        return str((run.environment.get("gpus") or [device])[0])
    threads = run.choices.get("threads") or run.environment.get("threads")
    if not isinstance(threads, int):
        return "CPU"
    return f"CPU {threads} thread{'' if threads == 1 else 's'}"


def convex(run: Run) -> str:
    """How far a run of a convex problem ended from the minimum, and how fast it came; "" for others."""
    return told_convexity(run.facts.get("convexity") or {})


def task_weights(run: Run) -> str:
    """What the losses of the tasks are multiplied by where that was learnt; "" else."""
    found = cast("Mapping[str, float]", run.facts.get("task_weights") or {})
    told = ", ".join(f"{key} {value:.3g}" for key, value in found.items())
    return f"weights of the tasks, as learnt: {told}" if told else ""


def shape(run: Run) -> str:
    """One word: convex or non-convex; empty where that is not known."""
    found = cast("Mapping[str, Any]", run.facts.get("convexity") or {}).get("convex")
    return "" if found is None else "convex" if found else "non-convex"


def sizes(run: Run) -> str:
    """Examples, such as "1437 train / 360 valid"; "" where unknown."""
    said = described(run)
    train, valid = said.get("train"), said.get("valid")
    parts = [f"{number} {part}" for number, part in ((train, "train"), (valid, "valid")) if number]
    return " / ".join(parts)


def recipe(run: Run) -> str:
    """The recipe in one line; for a watched loop, what was seen of its optimizer."""
    if run.recipe is not None:
        return run.recipe.describe(_own_batch(run))
    seen = run.facts.get("optimizer")
    several = cast("list[Mapping[str, Any]]", run.facts.get("optimizers") or [])
    if several:  # all of them train by one loss
        told = [f"{_title(each)}{_between(each['used'])}" for each in several]
        return ", ".join(
            each if (count := told.count(each)) == 1 else f"{count} x {each}" for each in dict.fromkeys(told)
        )
    if isinstance(seen, Mapping):
        table = cast("Mapping[str, Any]", seen)
        return f"{_title(table)}{_rates(run, table.get('lr'))}{_clips(run)}"
    return str(seen) if seen else ""


def _title(optimizer: Mapping[str, Any]) -> str:
    """What steps: "lookahead(adam)" where a wrapper was seen around it."""
    return str(optimizer.get("title") or optimizer.get("name", "optimizer"))


def _clips(run: Run) -> str:
    """What the optimizer clips by itself: ", clip norm 1"; "" for nothing."""
    found = cast("Mapping[str, Any]", run.facts.get("clips") or {})
    return f", {found['told']}" if found else ""


def _own_batch(run: Run) -> int | str | None:
    """The batch size of the user's own DataLoader, which wins over the recipe's; None for other data."""
    source = run.problem.train_source if run.problem is not None else None
    if isinstance(source, Loader):
        return source.batch_size or "of the DataLoader's sampler"
    return None if source is not None else run.choices.get("own_batch")


def _rates(run: Run, made_with: Any) -> str:
    """The rates that were in use, smallest to largest; unseen, the one that the optimizer was made with."""
    used = [float(each) for each in run.history.series("lr").values if math.isfinite(each)]
    return _between(used or ([made_with] if isinstance(made_with, float) else []))


def _between(used: Sequence[float]) -> str:
    if not used:
        return ""
    low, high = min(used), max(used)
    ends = f"{low:.3g}", f"{high:.3g}"
    return f" lr {ends[0]}" if ends[0] == ends[1] else f" lr {ends[0]} to {ends[1]}"


def metric_name(run: Run) -> str:
    """Name of the metric: "accuracy"; "loss" where the objective stands for it."""
    told = described(run).get("metric")
    if not told:
        return "loss"
    if columns := by_task(run):
        kinds = {title.rpartition(" ")[2] for title in columns.values()}
        return f"mean {kinds.pop()}" if len(kinds) == 1 else "mean metric"
    return str(told).rpartition(":")[2].rpartition(".")[2].strip("<>") or "metric"


def by_task(run: Run) -> dict[str, str]:
    """Of a metric for each of several tasks, column to title: "digit_accuracy" to "digit accuracy"."""
    columns = cast("Mapping[str, str]", described(run).get("metrics") or {})
    return {column: f"{task} {column.removeprefix(f'{task}_')}" for task, column in columns.items()}


def objective_name(run: Run) -> str:
    """Name of the objective: "cross_entropy", "CrossEntropyLoss"; "" where it is not known."""
    told = described(run).get("objective")
    head, bracket, rest = without_module(str(told or "")).removesuffix("()").partition("(")
    return head.rpartition(".")[2] + bracket + rest


def planned(run: Run) -> int | None:
    """Steps that the recipe asked for; None where that is not known."""
    for table in (run.facts, run.choices):
        for key in ("planned_steps", "total_steps"):
            if isinstance(table.get(key), int):
                return int(table[key])
    if run.recipe is None:
        return None
    if run.recipe.steps is not None:
        return run.recipe.steps
    if run.recipe.epochs is None:
        return None
    if run.problem is not None and isinstance(source := run.problem.train_source, Loader):
        each = source.steps(1)
        return None if each is None else run.recipe.epochs * each
    size, batch = described(run).get("train"), run.choices.get("own_batch") or run.recipe.batch_size
    if not isinstance(size, int) or (isinstance(batch, str) and batch != "full"):
        return None
    return run.recipe.epochs * (1 if batch == "full" else -(-size // int(batch)))


def steps(run: Run) -> int:
    """Steps taken."""
    said = run.summary.get("steps")
    if isinstance(said, int):
        return said
    taken = run.history.series("train_loss").steps
    return int(taken[-1]) if len(taken) else 0


def result(run: Run) -> str:
    """What came out in words: "train loss 2.31  valid accuracy 0.10"."""
    summary, parts = run.summary, list[str]()
    metric = metric_name(run)
    for part in ("train", "valid"):
        loss, value = summary.get(f"{part}_loss"), summary.get(f"{part}_metric")
        if part == "train" or metric == "loss":
            if loss is not None and part == "valid" and (own := valid_apart(run)):
                parts.append(f"valid {own} {told(loss)} (on a scale of its own)")
            elif loss is not None:
                of = _of_part(run) if part == "train" else ""
                parts.append(f"{part} loss {with_error(run, f'{part}_loss', told(loss))}{of}")
            elif part == "train" and run.status == "diverged":
                parts.append("train loss not finite")
        if metric != "loss" and value is not None and (part == "valid" or "valid_metric" not in summary):
            parts.append(f"{part} {metric} {with_error(run, f'{part}_metric', fixed(value))}")
            parts += _of_tasks(run, part)
    return "  ".join(parts) + _ending(run, metric)


def _of_part(run: Run) -> str:
    """How many of the training examples the training loss is of, where it is of a drawn part of them."""
    count, size = run.summary.get("train_n"), described(run).get("train")
    return f" (on {count:,} of {size:,})" if count and isinstance(size, int) else ""


def _of_tasks(run: Run, part: str) -> list[str]:
    """Of a metric for each of several tasks, each by its name."""
    values = {title: run.summary.get(f"{part}_{column}") for column, title in by_task(run).items()}
    said = [f"{title} {fixed(value)}" for title, value in values.items() if value is not None]
    return [f"({', '.join(said)})"] if said else []


def with_error(run: Run, key: str, value: str, sign: str = "+-") -> str:
    """A number of the summary as it is told, with its standard error to the same decimals: "0.97 +- 0.01".

    An error that would round to none has one digit of its own. Without a known error the number alone; the
    training loss too, whose error says nothing of how far it is from that of others, unless it is that of a
    drawn part of the data.
    """
    error = run.summary.get(f"{key}_stderr")
    if error is None or not math.isfinite(error):
        return value
    if not key.startswith("valid") and "train_n" not in run.summary:
        return value
    decimals = len(value.partition(".")[2])
    shown = f"{error:.{decimals}f}" if "e" not in value else f"{error:.2g}"
    return f"{value} {sign} {shown if float(shown) else f'{error:.1g}'}"


def valid_apart(run: Run) -> str:
    """The function that a watched script's held-out data was scored by, where its values lie on another scale
    than the training loss by construction; "" where both can stand side by side.
    """
    return str(run.facts.get("valid_apart") or "")


def _ending(run: Run, metric: str) -> str:
    """What the last model gives, where the summary is about an earlier and better one; by what a diagnosis
    judges, where that is another number.
    """
    best, final = run.summary.get("best_step"), final_loss(run)
    if run.summary.get("model") != "best" or best in (None, steps(run)):
        return _judged(run, final)
    ending: Mapping[str, Any] = run.facts.get("ending") or {}
    scored = final is not None and final == ending.get("train_loss")
    parts = [] if final is None else [f"{'train' if scored else 'batch'} loss {told(final)}"]
    last = run.history.last("valid_loss" if metric == "loss" else "valid_metric")
    if last is not None and not valid_apart(run):
        parts.append(f"valid {metric} {told(last) if metric == 'loss' else fixed(last)}")
    return f" at step {best}" + (f"; at the end {', '.join(parts)}" if parts else "")


def _judged(run: Run, final: float | None) -> str:
    """The loss that a verdict names, where it is not that of the model in eval mode on all of the data."""
    ending: Mapping[str, Any] = run.facts.get("ending") or {}
    own = run.summary.get("train_loss")
    if final is None or own is None or ending.get("train_loss") is None or told(final) == told(own):
        return ""
    scored = told(final) == told(float(ending["train_loss"]))
    return f"  ({told(final)} {'on the examples that are scored' if scored else 'in the last batches'})"


def fixed(value: float) -> str:
    """A metric: two decimals below 0.995, three above, where "0.99" would hide the difference."""
    if not math.isfinite(value) or abs(value) >= 10 or 0 < abs(value) < 0.01:
        return numeral(value)
    return f"{value:.3f}" if 0.99 <= abs(value) < 1 else f"{value:.2f}"


def no_better(run: Run) -> str:
    """That the run ended no better than a constant guess, in words; "" where it did, or nothing is known."""
    level = cast("Mapping[str, Any]", run.facts.get("constant") or {}).get("loss")
    end = run.summary.get("train_loss")
    if run.status == "diverged" or run.maximize or level is None or end is None:
        return ""
    known = math.isfinite(level) and math.isfinite(end)
    lost = known and end >= level - 1e-3 * abs(level)
    return f"no better than a constant guess, whose training loss is {told(level)}" if lost else ""


def bad(run: Run) -> bool:
    """Whether the way the run ended, or was kept, is a fault."""
    return run.status in ("diverged", "failed") or "cut_short" in run.facts


def status(run: Run) -> str:
    """How the run ended, in words; "" where it simply ended."""
    lost = cast("Mapping[str, Any]", run.facts.get("nonfinite") or {})
    if run.status == "diverged":
        if not lost:
            return "diverged"
        where = f" in {called(run.facts, lost['module'])}" if lost.get("module") else ""
        return f"diverged: {lost.get('what', 'loss')}{where} not finite at step {lost.get('step')}"
    stopped = cast("Mapping[str, Any]", run.facts.get("stopped") or {})
    if run.status == "failed" and stopped:
        return f"stopped at step {stopped['step']} by {stopped['error']}"
    if cut := run.facts.get("cut_short"):
        return f"damaged: {cut}"
    killed = cast("Mapping[str, Any]", run.facts.get("killed") or {})
    if killed:
        kept = "its last checkpoint is kept" if killed["weights"] else "no weights are kept, only its history"
        return f"killed at step {killed['step']}; {kept}"
    if run.status == "interrupted" and "script" in run.facts:
        return f"interrupted at step {steps(run)}"
    words = {
        "goal": "stopped at the goal",
        "early-stopped": "stopped early: no better for the recipe's patience",
        "stopped": "stopped by the search that it was part of",
        "converged": "converged: no step lowers the loss within rounding",
        "stalled": "stalled: its method found no step",
        "interrupted": "interrupted; what was done is kept",
        "failed": "failed",
        "running": "still running",
    }
    return words.get(run.status, "")
