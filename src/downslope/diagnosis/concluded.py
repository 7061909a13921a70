"""The run of a watched script's optimizer, with the facts of what went through it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from downslope.core.run import Run, Status
from downslope.diagnosis import unseen
from downslope.diagnosis.gathered import Gathered, described
from downslope.diagnosis.hand import Hand
from downslope.diagnosis.held_out import HeldOut
from downslope.diagnosis.replay import Kept
from downslope.diagnosis.role import Role
from downslope.diagnosis.second_look import look, recognise
from downslope.diagnosis.several import Candidate
from downslope.diagnosis.together import together
from downslope.diagnosis.uphill import rises
from downslope.objectives.meaning import Meaning


def conclude(role: Role, team: Sequence[Role], rivals: int, status: Status, held_out: HeldOut) -> Run:
    """The run of `role`, and of those that train by the same loss, with the facts of what went through it.

    Args:
        role: The optimizer.
        team: All that step on its loss, itself first.
        rivals: Optimizers that step beside it on losses of their own.
        status: How the script ended.
        held_out: What was scored without gradients.
    """
    run = together(team, status)
    if isinstance(hand := role.track.optimizers[0], Hand):
        run.facts["optimizer"] = hand.described()
    run.facts["turned"] = role.signs.measured()
    judged = _judged(role, team)
    gathered = _gathered(judged, team)
    reasons = run.facts["not_measured"]
    if role.mixed and gathered.meaning is not None:
        gathered.forget()
        gathered.meaning = Meaning(None, None, "a sum of several terms", None)
    if rivals:
        reason = "several optimizers with losses of their own: a loss that does not fall says nothing"
        gathered.forget()
        gathered.meaning = Meaning(None, None, "one of several losses", None)
        reasons["constant"] = reason
        run.facts["rivals"] = rivals
    if gathered.meaning is None and judged.meaning is not None and not rivals:
        seen = judged.track.eye.output
        if seen is not None:
            run.facts["output"] = dict(seen) | described(judged.meaning) | {"clipped": None}
    bad = {where: what for each in (*team[1:], role) for where, what in each.track.bad.items()}
    gathered.measure(run, judged.seen or judged.track.eye.output, bad)
    run.described["maximize"] = rises(run)
    if not rivals and not gathered.foreign and (order := role.served.measured()) is not None:
        run.facts["order"] = order
    if rivals:
        reasons["ending"] = "several optimizers with losses of their own: none says what was learnt"
    else:
        held_out.conclude(run, role.span, role.trained or judged.trained)
        look(run, gathered, held_out.kept, held_out.shown.announced)
        recognise(run, gathered, held_out.tally.of(held_out.chosen))
    unseen.in_script(run)
    gathered.ask_the_data(run)
    return run


def candidate(role: Role, team: Sequence[Role], run: Callable[[], Run], held_out: HeldOut) -> Candidate:
    """The training of `role`, which `run` concludes, with what it takes to take it up again after that."""

    def kept() -> Kept:
        found = _judged(role, team).gathered
        function = found.function and found.weights.of(found.function)
        return Kept(found.shown, function, held_out.kept, [o for r in team for o in r.track.optimizers])

    return Candidate.of(role, run, kept)


def _judged(role: Role, team: Sequence[Role]) -> Role:
    """Whose model's output the objective is handed; that of the model which was called last, if unknown."""
    if len(team) == 1:
        return role
    known = [each for each in team if each.gathered.foreign is False]
    if known:
        return max(known, key=lambda each: (each.gathered.function is not None, each.met))
    open_ = [each for each in team if each.gathered.foreign is None]
    return max(open_, key=lambda each: each.met, default=role)


def _gathered(judged: Role, team: Sequence[Role]) -> Gathered:
    """What the judged model's objective was handed, and the inputs of the model that is handed the data."""
    found = judged.gathered
    fed = [each for each in team if each.gathered.inputs and not each.fed]
    first = min(fed, key=lambda each: each.met, default=judged)
    if first is not judged:
        found.inputs = first.gathered.inputs
        found.bad.pop("non_finite", None)
        found.bad |= {where: what for where, what in first.gathered.bad.items() if where == "non_finite"}
    return found
