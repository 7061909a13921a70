"""What a watched loop let us see of its data and its objective, turned into the facts that symptoms read.

Kept are the first few thousand examples at most. Nothing is measured before a diagnosis is asked for, and
then on copies, so that the loop goes on as if nobody had looked.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from downslope.core import batches, randomness
from downslope.core.fixed_sample import SCORED
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.data import inspect
from downslope.diagnosis.company import Company
from downslope.diagnosis.early import little, short
from downslope.diagnosis.inquest import placed
from downslope.diagnosis.judge import judge
from downslope.diagnosis.measure import heard, signal, spans, telling
from downslope.diagnosis.nodes import made_of
from downslope.diagnosis.progress import progress
from downslope.diagnosis.shown import Shown
from downslope.diagnosis.weighed import Weights
from downslope.objectives.meaning import Meaning, meaning
from downslope.training.facts import constant, data, output, record

BATCHES = 16
"""Batches of which the inputs are kept."""

LARGEST = 4_000_000
"""Numbers that are kept of the inputs, and of the targets."""

SLOW = ("learning-rate-too-low", "too-few-steps", "high-bias", "plateau")
"""What a run without anything to learn looks like."""

FADED = 1e-3
"""Gradient of the first steps of a sequence in that of the last from which it is asked which steps matter."""

Function = Callable[..., Tensor]


@dataclass
class Gathered:
    """A sample of what went through a loop.

    Attributes:
        inputs: The first input tensor of some training batches.
        targets: The targets of some training batches, as one objective was handed them.
        like: One example's output, as that objective was handed it.
        function: The objective, with everything but output and target bound.
        now: The step that is being taken, so that the place of a value can be told.
    """

    inputs: list[Tensor] = field(default_factory=list[Tensor])
    targets: list[Tensor] = field(default_factory=list[Tensor])
    like: Tensor | None = None
    function: Function | None = None
    meaning: Meaning | None = None
    scale: float = 1.0
    """Loss that the loop reports in the value of the function."""
    now: Callable[[], int] | None = None
    made: list[Any] = field(default_factory=list[Any])
    """Nodes of the graph that made the model's outputs in the latest sampled step."""
    foreign: bool | None = None
    """Whether the objective is handed something else than the model's output, such as the residual of an
    equation or the judgement of another model: its targets are then none of the model's."""
    crossed: tuple[int, ...] | None = None
    """Shape of an output that a loss written out by hand compared with every target."""
    first: tuple[Function, Tensor, Tensor] | None = None
    """The objective, and the output and the target that it was first heard with."""
    company: Company = field(default_factory=Company)
    """Whole calls of the models."""
    shown: Shown = field(default_factory=Shown)
    """Calls of the model with what its loss compared."""
    bad: dict[str, Any] = field(default_factory=dict[str, Any])
    """Values that are not finite, by where they are, as first met."""
    partial: bool = False
    """Whether the inputs that are kept are not all that the model is given."""
    several: bool = False
    """Whether the model is given more tensors than one."""
    weights: Weights = field(default_factory=Weights)
    """What the losses count that the script summed up itself."""
    _numbers: int = 0
    _rows: int = 0
    _asked: tuple[int, dict[str, Any] | None] = (0, None)
    """Rows of which the signal was asked, and the answer."""
    _steps: tuple[list[int], list[int]] = field(default_factory=lambda: (list[int](), list[int]()))
    """The steps of the inputs that are kept, and of the targets."""

    def forwarded(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any], made: Any) -> None:
        """A forward pass of the model in a sampled step: its first input is kept."""
        self.company.note(module, args, kwargs, 1 if self.now is None else self.now())
        self.shown.called(module, args, kwargs, made)
        if self.foreign is None:
            self.made = [output.last_node(each) for each in batches.tensors(made) if each.grad_fn is not None]
        given = batches.tensors((args, dict(kwargs)))
        self.several |= len(given) > 1
        if given:
            self.given(given[0])

    def given(self, found: Tensor) -> None:
        """Keep the inputs of the step that is being taken, where they are of use."""
        if not found.dim() or len(self.inputs) >= BATCHES:
            return
        self._numbers += found.numel()
        if self._numbers <= LARGEST and _alike(found, self.inputs):
            step = 1 if self.now is None else self.now()
            self.inputs.append(found.detach().clone())
            self._steps[0].append(step)
            self._examine("non_finite", found, step)

    def scored(
        self, function: Function, made: Tensor, target: Tensor, step: int, weights: Tensor | None = None
    ) -> None:
        """A call of the objective in training, for `step`: its targets are kept."""
        if self.foreign or not made.dim() or made.shape[:1] != target.shape[:1]:
            return
        self.shown.scored(made, target)
        if not self.wanting or not _alike(target, self.targets):
            return
        if self.like is None:
            self.like, self.function, self.meaning = made.detach()[0].clone(), function, meaning(function)
            few = made.detach()[: heard.ROWS], target.detach()[: heard.ROWS]
            if max(each.numel() for each in few) <= LARGEST // BATCHES:
                self.first = function, few[0].clone(), few[1].clone()
        if made.shape[1:] == self.like.shape and target.numel() * len(self.targets) <= LARGEST:
            self._rows += len(target)
            self.targets.append(target.detach().clone())
            self._steps[1].append(step)
            if weights is not None:
                self.weights.take(weights, target)
            self._examine("target_non_finite", target, step)

    def _examine(self, where: str, kept: Tensor, step: int) -> None:
        found = inspect.non_finite(kept.detach()) if where not in self.bad else {}
        if found.get("count"):
            self.bad[where] = placed(found, step)

    def judged(self, handed: Tensor) -> None:
        """An objective was called: learn whether on the model's output, where that is not known yet."""
        if self.foreign is None and self.made and handed.grad_fn is not None:
            self.foreign = not made_of(handed.grad_fn, self.made)
        self.made.clear()

    def forget(self) -> None:
        """Take the targets for none of the model's."""
        self.targets.clear()
        self._steps[1].clear()
        self.bad.pop("target_non_finite", None)
        self.function = self.like = self.first = None

    @property
    def wanting(self) -> bool:
        """Whether more targets are of use: of a step whose inputs are kept they always are."""
        if self.foreign or self._rows < SCORED:
            return not self.foreign
        # Asked before the step is taken and after it, when the next one is being taken.
        return bool(self._steps[0]) and self.now is not None and self.now() - self._steps[0][-1] <= 1

    @property
    def open(self) -> bool:
        """Whether anything more is kept of what a loss is handed."""
        return self.wanting or not (self.foreign or self.shown.full or self.shown.first is None)

    @property
    def batch_size(self) -> int | None:
        """Examples of the first batch."""
        first = next(iter(self.targets or self.inputs), None)
        steps = next((each.shape[1] for each in self.shown.passes[:1] if each.folded and self.targets), 1)
        return None if first is None else len(first) // steps

    def measure(self, run: Run, seen: Mapping[str, Any] | None, bad: Mapping[str, Any] | None = None) -> None:
        """Put facts of data, features, output and constant into `run`.

        Args:
            run: The run; facts that it has already are kept.
            seen: What the output was (`Eye.look`), or None.
            bad: Values that are not finite, met where no sample was kept.
        """
        facts = run.facts
        facts["foreign"] = self.foreign
        if self.batch_size is not None:
            facts["batch_size"] = self.batch_size
        target = torch.cat(self.targets) if self.targets else None
        given = "data" in facts
        if self.inputs and "data" not in facts:
            inputs = torch.cat(self.inputs)
            record(run, "data", lambda: inspect.facts(inputs, target) | {"size": None, "sampled": True})
            held = Problem(model=nn.Identity(), objective=functional.mse_loss, train=(inputs,))
            record(run, "features", lambda: data.features(held))
        if seen is not None and self.meaning is not None and "output" not in facts:
            facts["output"] = dict(seen) | described(self.meaning)
            facts["output"] |= output.outside(self.meaning.expects, target)
            if "activation" in seen:
                facts["output"]["clipped"] = output.clipped(seen["activation"], target)
        if not given and not self.several and (pairs := self._pairs()):
            facts.get("data", {})["same"] = inspect.same(*pairs)
        self._question(run)
        with undisturbed():
            record(run, "mixed", lambda: self.company.measure(self._sizes()))
        if (facts.get("reach") or {}).get("ratio", 1.0) < FADED:
            record(run, "telling", lambda: self._told(telling.measure))
            profile: list[float] = facts["reach"]["profile"]
            record(run, "spans", lambda: self._told(lambda x, y: spans.of_profile(x, y, profile)))
        if not given:
            self._look(facts, target, bad)
        if target is not None and self.function is not None and self.like is not None:
            record(run, "constant", lambda: self._constant(target))

    def ask_the_data(self, run: Run) -> None:
        """Put ``signal`` into a run that learnt nothing and has no cause: whether there is anything to learn.

        Last of all, since it takes a second or two, and since a fault of the loop comes before the data's.
        What is `SLOW` may have nothing to learn.
        """
        if self.foreign or run.facts.get("rivals") or not progress(run).standing or run.status == "diverged":
            return
        if little(run) or short(run):
            return
        if all(each.severity == "info" or each.symptom in SLOW for each in judge(run).findings):
            with undisturbed():
                record(run, "signal", self._signal)

    def _told(self, by: Callable[[Tensor, Tensor], dict[str, Any] | None]) -> dict[str, Any] | None:
        """Which steps of the sequences tell the targets."""
        return None if (pairs := self._pairs()) is None else by(*pairs)

    def _signal(self) -> dict[str, Any] | None:
        """Whether the inputs say anything about the targets."""
        pairs = self._pairs()
        if pairs is None:
            return None
        given, target = pairs
        if len(given) != self._asked[0]:
            # A row that comes again in a later epoch would be known by heart where it is held out.
            _, first = np.unique(given.reshape(len(given), -1).numpy(), axis=0, return_index=True)
            once = given[first], target[first]
            found = signal.measure(Problem(model=nn.Identity(), objective=functional.mse_loss, train=once))
            self._asked = len(given), None if found is None else found | {"watched": True}
        return self._asked[1]

    def _pairs(self) -> tuple[Tensor, Tensor] | None:
        """Inputs and targets of the steps whose both are kept, row by row; None of no such step."""
        mine, theirs = self._steps
        if self.partial:
            return None
        pairs = [
            (self.inputs[i], self.targets[theirs.index(step)])
            for i, step in enumerate(mine)
            if mine.count(step) == theirs.count(step) == 1
        ]
        pairs = [(given, target) for given, target in pairs if len(given) == len(target)]
        if not pairs:
            return None
        given, target = (torch.cat(each).cpu() for each in zip(*pairs, strict=True))
        return given, target

    def _sizes(self) -> dict[int, torch.Size]:
        """The sizes of the targets by step, of the steps in which one was heard."""
        steps = self._steps[1]
        return {s: each.shape for s, each in zip(steps, self.targets, strict=True) if steps.count(s) == 1}

    def _question(self, run: Run) -> None:
        """What the objective does with an output and a target of this loop."""
        if self.first is not None:
            function, made, wanted = self.first
            with torch.enable_grad(), undisturbed():
                record(run, "objective", lambda: heard.measure(function, made, wanted))
        elif self.crossed is not None:
            run.facts["objective"] = {"crossed": self.crossed, "watched": True}

    def _look(self, facts: dict[str, Any], target: Tensor | None, bad: Mapping[str, Any] | None) -> None:
        """The facts of the data where its inputs were not seen, and what is not finite in it."""
        found = {**self.bad}
        for where, what in (bad or {}).items():
            if where not in found or what["first"]["step"] < found[where]["first"]["step"]:
                found[where] = what
        if "data" not in facts and target is not None:
            alone = inspect.facts(target, target)
            facts["data"] = {"n": None, "kind": "other", "target": alone["target"], "sampled": True}
        size = None if target is not None else _size(facts)
        if size is not None:
            told = facts.setdefault("data", {"n": None, "kind": "other", "sampled": True})
            told["target"] = {"kind": "real", "rms": size, "std": size, "mean": 0.0, "inferred": True}
        if found:
            facts["data"] = facts.get("data", {"n": None, "kind": "other", "target": None}) | found
            facts["data"]["sampled"] = True

    def _constant(self, target: Tensor) -> dict[str, float | None] | None:
        plain, like, said = self.function, self.like, self.meaning
        function = plain and self.weights.of(plain)
        if function is None or like is None or said is None or like.numel() > constant.WIDEST:
            return None
        if said.reduction != "mean" or "outside" in output.outside(said.expects, target):
            return None

        def value(made: Tensor) -> Tensor:
            return function(made, target)

        with torch.enable_grad(), undisturbed():
            row = constant.best_row(value, said.expects, like, target, len(target), name=said.name)
            if row is None:
                return None
            loss = self.scale * float(value(row.expand(len(target), *row.shape)))
        return {"loss": loss, "metric": None, "valid_loss": None, "valid_metric": None}


_ROOTS: dict[str, float] = {"mean of squares": 0.5, "mse_loss": 0.5, "mean of absolute values": 1.0}
"""Objectives of real numbers, and the power of their value that is a size of the errors."""

FAR = 20.0
"""Size of the targets, at least, that is read off the first loss: of smaller ones it says too little."""


def _size(facts: Mapping[str, Any]) -> float | None:
    """Root mean square of targets that nobody saw, at least, from the first loss and the outputs behind it.

    Where untrained outputs of size 1 are off by 10,000, the targets are that large.
    """
    output: Mapping[str, Any] = facts.get("output") or {}
    start: Mapping[str, Any] = facts.get("start") or {}
    loss, power = start.get("loss"), _ROOTS.get(str(output.get("objective")))
    if not loss or power is None or output.get("max") is None:
        return None
    size = float(loss) ** power - max(abs(output["min"]), abs(output["max"]))
    return size if size > FAR else None


def described(said: Meaning) -> dict[str, Any]:
    """The part of the output's facts that comes from the objective."""
    return {
        "expects": said.expects, "expects_target": said.target, "objective": said.name,
        "reduction": said.reduction,
    }  # fmt: skip


def of_problem(run: Run, model: nn.Module, objective: Any, given: Any) -> None:
    """Facts of data that was handed over, and of the objective on it where that was handed over too.

    Args:
        run: Gets ``data``, ``features`` and ``constant``.
        model: As it stands; only copies are called.
        objective: A callable or a name, or None.
        given: What a Problem takes as its training data.

    Raises:
        InputError: data or objective that no Problem takes.
    """
    problem = Problem(model=model, objective=objective or functional.mse_loss, train=given)
    with undisturbed(), torch.enable_grad():
        record(run, "data", lambda: data.measure(problem))
        record(run, "features", lambda: data.features(problem))
        if objective is not None:
            record(run, "constant", lambda: constant.measure(problem, Recipe()))


@contextmanager
def undisturbed() -> Generator[None]:
    """A block that warns of nothing, after which the random states of torch, numpy and Python are restored.

    What torch has to say of shapes or values the loop has been told already, of its own calls.
    """
    python, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002 (the user's own state is kept)
    try:
        with randomness.seeded(0, "probe", 0), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)  # noqa: NPY002


def _alike(found: Tensor, kept: Sequence[Tensor]) -> bool:
    """Whether `found` can be joined to what is kept."""
    if not found.dim() or found.is_sparse or found.is_nested:
        return False
    return not kept or (found.shape[1:] == kept[0].shape[1:] and found.dtype == kept[0].dtype)
