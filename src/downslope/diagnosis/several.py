"""Several trainings in one script: each is judged, and the one that went worst is told of.

A search is no alarm as long as it finds something: of trainings that one loop makes with other settings,
those that went badly by their settings stand back behind one that went well and took as many steps. Folds,
seeds and models one after another are no search: a fault in any of them is one of the script.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import numpy as np
from torch import Tensor

from downslope.core.run import Run
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.early import short
from downslope.diagnosis.held_out import Place
from downslope.diagnosis.judge import judge
from downslope.diagnosis.replay import Kept
from downslope.diagnosis.role import Role
from downslope.diagnosis.settings import parameters_of
from downslope.diagnosis.trainings import AS_MANY, Training
from downslope.diagnosis.unjudged import by_the_end

FEWEST = 20
"""Steps of a training, at least, that is judged beside a longer one: fewer are a trial of the code."""

HELD = 4
"""Parameters by which a training that goes on with the model of another is known."""

RISEN = 100.0
"""Last rate of a training in its first from which it looks for a rate; a warm-up from less comes down again.
Convention; Smith 2017 (cyclical rates, section 3.3) goes through four orders of magnitude and more."""

FELL = 0.9
"""End of a loss in its start above which a training that has to make room is judged before. Convention."""


class Kind(NamedTuple):
    """What tells a training from another one of the same search."""

    place: Place
    """Lines of the script where its optimizer was made, the innermost first."""
    model: tuple[str, tuple[tuple[int, ...], ...]]
    """Classes of its models, and the shapes of what is trained."""
    settings: str
    """Optimizer, rate and all the rest."""

    def searches(self, other: Kind) -> bool:
        """Whether both come from one search: the same lines with other settings, or another model."""
        if self.place == other.place:
            return self[1:] != other[1:]
        inside = self.place[:1] == other.place[:1]
        return inside and self.model == other.model and self.settings != other.settings


class Candidate(NamedTuple):
    """A training that can be judged."""

    training: Training
    kind: Kind
    held: tuple[weakref.ref[Tensor], ...]
    """Some of the parameters that it trained."""
    run: Callable[[], Run] | None
    """Gives its run; None where that was not kept."""
    kept: Callable[[], Kept] | None = None
    """Gives what it takes to take it up again; None where that was not kept."""

    @classmethod
    def of(
        cls, role: Role, run: Callable[[], Run] | None, kept: Callable[[], Kept] | None = None
    ) -> Candidate:
        """What `role` trains.

        Args:
            role: The optimizer.
            run: Gives its run.
            kept: Gives what it takes to take it up again.
        """
        own = parameters_of(*role.track.optimizers)
        model = role.models, tuple(tuple(p.shape) for p in own)
        kind = Kind(role.place, model, repr(role.track.run.facts["optimizer"]))
        held = tuple(weakref.ref(p) for p in own[:HELD])
        return cls(Training.of(role), kind, held, run, kept)

    def same_model(self, other: Candidate) -> bool:
        """Whether both trained the same parameters, one after the other."""
        theirs = [found for each in other.held if (found := each()) is not None]
        return any(each() is one for each in self.held for one in theirs)


class Verdict(NamedTuple):
    """A training, and what was found of it."""

    candidate: Candidate
    found: Diagnosis

    @property
    def sick(self) -> bool:
        """Whether anything is wrong with it."""
        return self.found.root is not None or self.found.lost

    @property
    def sound(self) -> bool:
        """Whether enough of it was seen to say that nothing is."""
        return not (self.sick or self.found.blind or short(self.found.run))

    @property
    def why(self) -> str:
        """What is wrong, in a few words."""
        root = self.found.root
        return root.symptom if root is not None else "it learnt nothing"

    @property
    def loss(self) -> float:
        """Where it ended; infinite where that is not known."""
        ended = self.found.run.summary.get("train_loss")
        return float("inf") if ended is None else float(cast("float", ended))


class Several(NamedTuple):
    """The trainings of a script."""

    told: Verdict
    """The one to be told of."""
    judged: list[Verdict]
    alarms: list[Verdict]
    excused: list[Verdict]
    """Of a search that found something better."""
    apart: list[Candidate]
    """All that do not overlap with the one that is told of, itself among them, in order of time."""
    beside: list[Candidate]
    """Those that took turns with it."""


def settle(ranking: Sequence[Candidate], known: Callable[[Run], Run]) -> Several:
    """Judge the trainings of a script.

    Args:
        ranking: One at least, the one that would be judged if only one could be first.
        known: Adds to a run what is known of the script.
    """
    leads: list[Candidate] = []
    for each in ranking:
        if not any(_overlap(each.training, other.training) for other in leads):
            leads.append(each)
    chosen = _of_chains(leads)
    judged = [Verdict(each, judge(known(each.run()))) for each in chosen if each.run is not None]
    excused = [
        each for each in judged if each.sick and any(_answers(other, each, judged) for other in judged)
    ]
    alarms = [each for each in judged if each.sick and each not in excused]
    told = _told(judged, alarms, excused)
    own = told.candidate.training
    beside = [each for each in ranking if each is not told.candidate and _overlap(each.training, own)]
    apart = sorted((each for each in ranking if each not in beside), key=lambda each: each.training)
    return Several(told, judged, alarms, excused, apart, beside)


def _overlap(one: Training, other: Training) -> bool:
    return one.began < other.ended and one.ended > other.began


def _of_chains(leads: Sequence[Candidate]) -> list[Candidate]:
    """Of trainings that go on with one model the first in rank, or the last in time that lost the numbers."""
    chains: list[list[Candidate]] = []
    for each in leads:
        found = next((chain for chain in chains if any(each.same_model(one) for one in chain)), None)
        if found is None:
            chains.append([each])
        else:
            found.append(each)
    last = [max(chain, key=lambda each: each.training.ended) for chain in chains]
    picked = [end if end.training.lost else chain[0] for chain, end in zip(chains, last, strict=True)]
    return [each for i, each in enumerate(picked) if not i or each.training.steps >= FEWEST]


def _answers(good: Verdict, bad: Verdict, judged: Sequence[Verdict]) -> bool:
    """Whether `good` is what a search found in which `bad` was tried.

    Every training with the settings of `good` has to be sound, as many as there are folds.
    """
    root, kind = bad.found.root, good.candidate.kind
    if not good.sound or (root is not None and not by_the_end(root.symptom)):
        return False
    swept = kind.model == bad.candidate.kind.model and _sweeps(bad.found.run)
    if not (swept or kind.searches(bad.candidate.kind)):
        return False
    if good.candidate.training.steps < AS_MANY * bad.candidate.training.steps:
        return False
    return not any(each.sick for each in judged if each.candidate.kind == kind)


def _sweeps(run: Run) -> bool:
    """Whether the rate rose all along: a search for the rate at which the loss leaves."""
    rates = run.history.series("lr").values
    rates = rates[np.isfinite(rates)]
    return len(rates) > 1 and bool(rates[0] > 0) and bool(rates[-1] == rates.max() > RISEN * rates[0])


def _told(judged: Sequence[Verdict], alarms: Sequence[Verdict], excused: Sequence[Verdict]) -> Verdict:
    if alarms:
        return min(alarms, key=_badness)
    if judged[0] not in excused:
        return judged[0]
    first = judged[0]
    return min((each for each in judged if _answers(each, first, judged)), key=lambda each: each.loss)


def _badness(each: Verdict) -> tuple[bool, bool, int, int]:
    root, own = each.found.root, each.candidate.training
    return root is None or root.severity != "critical", not own.lost, -own.steps, own.began


def suspect(role: Role) -> bool:
    """Whether a training has to be judged before it makes room for another one: it lost, or did not fall."""
    values = role.track.losses()
    if role.lost or len(values) < FEWEST:
        return role.lost
    part = max(len(values) // 10, 5)
    return bool(np.mean(values[-part:]) > FELL * np.mean(values[:5]))
