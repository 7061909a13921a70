"""High bias. The model cannot say what the data asks for, however it is trained.

A user sees training and validation scores that are alike and too low, and no learning rate that helps. A
linear model of a bent function, two hidden units for ten classes: the best weights there are leave most of
the error. How we know: a plain network with two hidden layers of 64 comes much further in as many steps than
this model does, under the same sound recipe or under L-BFGS, which no rate and no ill condition holds up.
What looks like it and is not: a run that had too few steps, regularisation that holds a large model back, and
noise that no model can answer.
Source: Geman, Bienenstock and Doursat 1992, Neural networks and the bias/variance dilemma.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from downslope.core.adapted import unwrap
from downslope.core.edits import Advice, Combined, Edit, ReplaceModule, SetArgument, widening
from downslope.core.errors import DownslopeError
from downslope.core.finding import Evidence, Finding
from downslope.core.modules import named_modules, own_parameters
from downslope.core.problem import Problem
from downslope.core.run import Run
from downslope.diagnosis.lead import lead
from downslope.diagnosis.progress import progress, table
from downslope.diagnosis.proof import BLUNDER, CERTAIN, MATERIAL, answered, gain, proved, trial_of, tried
from downslope.diagnosis.reach import squashed
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom
from downslope.diagnosis.unfinished import unfinished

SIZES = ("width", "hidden", "hidden_size", "hidden_dim", "units", "channels", "dim", "d_model", "n_hidden")
"""Names by which factories usually call the size of a layer."""

TIMES = 8
"""How much larger the size is made in the remedy."""

_SOURCE = "Geman, Bienenstock and Doursat 1992"


@symptom(
    "high-bias",
    title="the model is too simple for the data",
    order=("generalisation", 2),
    needs=("references",),
    source=_SOURCE,
)
def high_bias(run: Run) -> Verdict:
    """A plain network comes much further than this model does under the same sound recipe."""
    gap = _gap(run)
    if not isinstance(gap, _Gap):
        return gap
    goal = _goal(run, run.facts["references"])
    bar = BLUNDER if goal else MATERIAL
    won = _won(run)
    said = f"a plain network comes {min(gap.short, 1.0):.0%} of the way further than the best of this model"
    if gap.short < bar and not won:
        return Clear(said)
    if not won and unfinished(run) and "too-few-steps" not in (run.facts.get("trials") or {}):
        return Clear(f"{said}, but the run was still falling")
    if by_heart := _by_heart(run, bar):
        return Clear(f"{said}, but {by_heart}")
    if answered(run, beside="high-bias"):
        return Clear(f"{said}, but another cause explains the run")
    simple = gap.short >= bar
    best = (
        f"{gap.best:.3g} under the best of recipes or under L-BFGS"
        if simple
        else f"{gap.trained:.3g} under the best of recipes ({gap.best:.3g} under L-BFGS, which none finds)"
    )
    return Finding(
        symptom="high-bias",
        title="the model is too simple for the data",
        severity="warning",
        evidence=Evidence(
            name="what a plain network reaches beyond the best of this model",
            value=gap.short if simple else gap.missed,
            threshold=bar,
            unit="share of the way from a constant guess",
            provenance="convention: what a remedy must win back to be worth a warning",
        ),
        message=f"Two hidden layers of 64 reach a loss of {gap.plain:.3g}; this model reaches {best}, and a "
        f"constant guess {gap.base:.3g}.{goal}{tried(run, 'high-bias') if won else ''}",
        also=proved(run, "high-bias") if won else (),
        remedies=_remedies(run),
        source=_SOURCE,
    )


def wider(run: Run) -> Edit | None:
    """The larger model that is worth a trial: a plain network comes much further than this one was trained.

    Whether L-BFGS finds weights of the small one that do as well is another question: few units are hard to
    train, and a larger model is the remedy of that too. None where nothing says so, or no edit makes it.
    """
    gap = _gap(run)
    if not isinstance(gap, _Gap) or gap.missed < MATERIAL or _by_heart(run, MATERIAL):
        return None
    edit = _remedies(run)[0]
    return edit if edit.provable else None


class _Gap(NamedTuple):
    """Losses in the user's units, and shares of the way from a constant guess to the plain network."""

    plain: float
    base: float
    trained: float
    """The best of this model in any run."""
    best: float
    """The same with what L-BFGS reached."""
    short: float
    """What the plain network reaches beyond `best`."""
    missed: float
    """The same beyond `trained`."""


def _gap(run: Run) -> _Gap | Clear | Unknown:
    rows: Sequence[Mapping[str, Any]] = run.facts.get("references") or ()
    plain, same = _loss(rows, "a plain network"), _loss(rows, "the same model")
    base: float | None = table(run, "constant").get("loss")
    sign = -1.0 if run.problem is not None and run.problem.maximize else 1.0
    if plain is None or base is None:
        return Unknown("no plain network could be trained beside the model")
    if not progress(run).ended_far:
        return Clear("the run came far enough")
    if end := squashed(table(run, "output")):
        return Unknown(f"the {end} at the end of the model keeps the loss up, whatever the model's size")
    capacity: float | None = table(run, "capacity").get("loss")
    if same is None or capacity is None:
        return Unknown("what the model can say was not measured: another cause came first")
    final = progress(run).final
    runs = [same, *_tried(run), *([] if final is None else [final])]
    trained = sign * min(sign * each for each in runs)
    best = sign * min(sign * trained, sign * capacity)
    way = sign * (base - plain)
    if not way > 0:
        return Clear("a plain network comes no further than a constant guess")
    short, missed = (sign * (each - plain) / way for each in (best, trained))
    if not math.isfinite(short) or not math.isfinite(missed):
        return Clear("what the model reached is no finite number")
    return _Gap(plain, base, trained, best, short, missed)


def _by_heart(run: Run, bar: float) -> str:
    """That the plain network learns its examples by heart; "" where it is as far ahead on held-out data."""
    beyond = lead(run)
    return (
        "" if beyond is None or beyond >= bar / 2 else f"only by heart: on held-out data {max(beyond, 0):.0%}"
    )


def _won(run: Run) -> bool:
    """Whether the trial of a larger model won back more than that of any other cause."""
    trial = trial_of(run, "high-bias")
    if trial is None or gain(trial) < MATERIAL:
        return False
    trials: Mapping[str, Mapping[str, Any]] = run.facts["trials"]
    return all(gain(each) < CERTAIN * gain(trial) for name, each in trials.items() if name != "high-bias")


def _loss(rows: Sequence[Mapping[str, Any]], what: str, score: str = "loss") -> float | None:
    found = [each.get(score) for each in rows if str(each.get("what", "")).startswith(what)]
    known = [float(each) for each in found if each is not None and math.isfinite(each)]
    return known[0] if known else None


def _goal(run: Run, rows: Sequence[Mapping[str, Any]]) -> str:
    """That the plain network reaches the goal on the training data and this model does not; "" else.

    What somebody asked for is worth a warning from a smaller gap on, as long as it is one.
    """
    problem = run.problem
    if problem is None or problem.goal is None or problem.metric is None:
        return ""
    plain, same = (_loss(rows, what, "metric") for what in ("a plain network", "the same model"))
    ending: Mapping[str, Any] = run.facts.get("ending") or {}
    own: float | None = ending.get("train_metric")
    if own is None or plain is None or not problem.reached(plain):
        return ""
    if problem.reached(same) or problem.reached(own):
        return ""
    return f" It reaches the goal of {problem.goal:.4g} on the training data, this model {own:.3g}."


def _tried(run: Run) -> list[float]:
    """What the model came to in trials: with more steps, other rates, another start."""
    trials: Mapping[str, Mapping[str, Any]] = run.facts.get("trials") or {}
    known = [each.get("loss") for name, each in trials.items() if name != "high-bias"]
    return [float(each) for each in known if each is not None and math.isfinite(each)]


def _remedies(run: Run) -> tuple[Edit, ...]:
    advice = Advice("a larger model: wider layers, one more hidden layer, features that bend")
    problem = run.problem
    edits: list[Edit] = []
    for name in SIZES if problem is not None else ():
        try:
            value = None if problem is None else problem.argument(name)
        except DownslopeError:
            continue
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            edits.append(SetArgument(name, value * TIMES))
    if problem is not None and not edits:
        edits += _in_modules(problem)
    whole = edits[0] if len(edits) == 1 else Combined(tuple(edits))
    return (whole, advice) if edits else (advice,)


def _in_modules(problem: Problem) -> list[Edit]:
    """Wider hidden layers where the factory has no argument for them; two of them where there is none."""
    if (wider := widening(problem)) is not None:
        return [wider]
    model = unwrap(problem.build())
    held = [(name, each) for name, each in named_modules(model) if own_parameters(each)]
    if len(held) != 1 or not isinstance(held[0][1], nn.Linear) or not held[0][0]:
        return []
    name, layer = held[0]
    sizes = {"inputs": layer.in_features, "outputs": layer.out_features}
    return [ReplaceModule(name, "downslope.models:mlp", sizes)]
