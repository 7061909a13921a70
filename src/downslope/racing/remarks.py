"""What has to be known beside the figures of a race: what was lost, cut, never reached, undertuned."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from downslope.racing.course import Course, common
from downslope.racing.entry import Entry
from downslope.racing.outcome import Outcome
from downslope.racing.result import Race
from downslope.racing.task import Task
from downslope.training.price import total_steps
from downslope.tuning.edges import TOP
from downslope.tuning.price import told


def remarked(found: Race, course: Course) -> Race:
    """The race with its notes."""
    found.notes += [*_late(found, course), *_left_out(course), *_protocol(course)]
    for task in course.live:
        found.notes += _task(task)
        rows = [found.entry(each.name, task.name) for each in task.contestants]
        found.notes += _target(rows, found)
        for each in rows:
            found.notes += _entry(each)
        if found.seeds:
            found.notes += _paces(rows)
    found.notes += _edges(found, course)
    if course.trials < 2:
        found.notes.append("untuned: recipes were compared as given, which says little of the optimizers")
    elif not course.protocol.retune:
        found.notes.append(
            "tuned once: what is compared are these recipes; retune=True compares the optimizers"
        )
    return found


def _late(found: Race, course: Course) -> Iterator[str]:
    """How much more time would have been enough, where there was too little to race at all."""
    if found.status == "time" and not found.seeds:
        need = f": without tuning they take about {told(course.need)}" if course.need else ""
        yield f"the time was up before the seeds were raced{need}; give more of it, or fewer seeds"


def _left_out(course: Course) -> Iterator[str]:
    for task in course.tasks:
        if task not in course.live:
            why = [course.out[task.name, each.name] for each in task.contestants]
            yield f"{task.name} is left out: nobody can be trained on it: {max(why, key=why.count)}"


def _protocol(course: Course) -> Iterator[str]:
    if course.protocol.by != "level" and all(task.target.source == "none" for task in course.live):
        yield f"no {course.protocol.by} to compare: {course.live[0].target.said}; give target=, or a goal"


def _task(task: Task) -> Iterator[str]:
    if task.measure.column == "train_loss":
        yield f"{task.name} has no validation data: judged by the training loss, blind to new data"
    lengths = {total_steps(task.problem, each.recipe) for each in task.contestants}
    if len(lengths) > 1:
        yield f"{task.name}: the contestants take {' or '.join(map(str, sorted(lengths, key=str)))} steps"


def _target(rows: list[Entry], found: Race) -> Iterator[str]:
    """Where a target tells nobody from anybody."""
    aim = rows[0].target.level
    times = [each for one in rows if not one.error for each in one.steps_to_target]
    if math.isnan(aim) or not times or not found.seeds:
        return
    if all(map(math.isinf, times)):
        yield f"nobody got to the target {aim:.4g} of {rows[0].problem}: its times and its scores say nothing"
    elif not any(times):
        yield (
            f"the target {aim:.4g} of {rows[0].problem} is reached before the first step: its times and its "
            "scores say nothing"
        )


def _entry(each: Entry) -> Iterator[str]:
    who, where, n = each.contestant, each.problem, len(each.raced)
    if each.error:
        yield f"{who} is out on {where}: {each.error}"
    elif each.repeated:
        yield (
            f"the seeds change nothing of {who} on {where}: they are one run; where that holds for both of a "
            "pair, one difference"
        )
    elif each.lost:
        yield f"{who} was lost on {each.lost} of {n} seeds of {where}: {_why(each.raced)}"
    stuck = sum(not one.lost and len(one.levels) > 1 and not _better(each, one) for one in each.raced)
    if stuck:
        yield f"{who} never got better than its start on {stuck} of {n} seeds of {where}"
    bad = [one for one in each.tuning if one.lost]
    if bad and not each.error:
        yield f"{who}: {len(bad)} of {len(each.tuning)} trials on {where} were lost: {_why(bad)}"


def _why(outcomes: Sequence[Outcome]) -> str:
    """How runs were lost, and the most frequent cause of those that failed."""
    lost = [one for one in outcomes if one.lost]
    failed = [one for one in lost if one.status == "failed"]
    return common(failed) if failed else "diverged"


def _better(entry: Entry, one: Outcome) -> bool:
    """Whether a run ended better than its first evaluation."""
    return entry.measure.cost(one.level) < entry.measure.cost(one.levels[0])


def _paces(rows: list[Entry]) -> Iterator[str]:
    """Whose steps take so nearly the same time that the measurement cannot tell them apart."""
    able = [each for each in rows if not each.error and not math.isnan(each.target.level)]
    paces = [each.step_seconds for each in able]
    for pace in sorted({each for each in paces if paces.count(each) > 1}):
        same = [each.contestant for each in able if each.step_seconds == pace]
        yield (
            f"{able[0].problem}: how long a step takes cannot be told apart here of {', '.join(same)}: they "
            "have one pace"
        )


def _edges(found: Race, course: Course) -> Iterator[str]:
    """Where the best trials of a contestant lie at the end of its space: it may be undertuned."""
    if course.trials < 2:
        return
    for task in course.live:
        for one in task.contestants:
            if (task.name, one.name) in course.out:
                continue
            for line in course.spaces.widenings(task, one, course.trials):
                yield f"{one.name} on {task.name}: {line}"
            for each in course.spaces.edges(task, one, course.trials):
                if each.wider is not None and one.name not in found.undertuned:
                    found.undertuned.append(one.name)
                yield f"{one.name} on {task.name}: {each}"
    if course.trials <= TOP:
        yield f"{course.trials} trials cannot show whether the best lie at the end of a range; {TOP + 1} can"
