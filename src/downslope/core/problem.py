"""The problem: what is to be learnt. Model, objective and data as three separate parts, and the metric."""

from __future__ import annotations

import functools
import inspect
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from downslope.core import batches, names, randomness
from downslope.core.arrays import framed
from downslope.core.batches import Split, default_split, whole_split
from downslope.core.errors import DataError, DownslopeError, InputError, ModelError, ObjectiveError, told
from downslope.core.feeding import Fed
from downslope.core.misspelt import meant
from downslope.core.modules import copied
from downslope.core.plain import plain
from downslope.core.pretrained import Weights, as_weights
from downslope.core.sources import Source, as_source, read_path
from downslope.core.starts import Init
from downslope.core.stated import bring_inside, goal_of, in_words, metric_of, reference, split_by
from downslope.core.torchscript import refuse_script

if TYPE_CHECKING:
    from downslope.core.edits import Edit

Direction = Literal["max", "min"]

_log = logging.getLogger("downslope")


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """What is to be learnt, and nothing about how.

    Args:
        model: Factory ``(**arguments) -> nn.Module`` called afresh for every run; a module class, a name
            such as "mlp" (sizes read from the data), or a module, which is then copied as it stands.
        objective: ``(output, target) -> scalar tensor``, a name such as "cross_entropy", or None where the
            model's output carries its own ``loss``. It may take ``inputs`` and ``model`` (for penalties) as
            well, and may return a dict of named terms, which are added.
        train: A tuple, list or dict of tensors or arrays with the target last (dict: key "labels", else
            "label", "target", "targets" or "y"), a Dataset, a DataLoader, the path of a file or folder
            (`downslope.data.load_path`), or the name of a standard set such as "digits". Inputs may be
            several, ``(x, mask, y)``, ``((x, mask), y)`` or ``({"ids": ids, "mask": mask}, y)``: see
            `downslope.core.feeding`.
        valid: The same for validation; None if there is none, and then a file's fifth is held out. Of two
            files both are used whole, and the second is read with the first's columns and classes.
        metric: What one really cares about: ``(output, target) -> float`` over all outputs joined, or a
            name such as "accuracy"; of several tasks a dict from task to either, whose mean is then the
            metric. None: the objective stands for it.
        goal: The level of the metric that is good enough; reaching it stops a run.
        metric_goal: "max" or "min"; left out, a named metric knows, and one's own is "max".
        maximize: Whether the objective is to be maximised.
        constraint: The set in which weights have to stay: a name ("non_negative"), a text ("box(0, 1) &
            l2_ball(2)"), a set of ``ds.constraints``, or a function of the model. The start is in it, and
            every step ends in it.
        augment: Changes of a training batch that leave the label as it is, or change it alike: a name
            ("flip"), a text or list of such ("flip, rotate(10)"), an augmentation of ``ds.augment``, a
            transform of kornia or torchvision, or ``batch -> batch``. Called on the device for every training
            batch; validation data, and the metric on training data, never see it.
        split: ``batch -> (args, kwargs, target)``; default: the last element is the target, and the rest goes
            to the model as its forward takes it.
        arguments: Keyword arguments of the factory; an edit reaches them as "model.width".
        target: Name of the target column, where `train` is a path or a data frame of numbers.
        weights: What models start from, where names and shapes fit; the rest stays as initialised. A path
            (safetensors, .pt, .pth; the folder of a Run), a Run, a module or a state dict; or a table of
            ``path`` and the options of `ds.models.load_weights`.
        name: For folders and reports.

    Raises:
        InputError: one of its kinds, in one line, saying what is allowed.
    """

    model: Any
    objective: Any
    train: Any
    valid: Any = None
    metric: Any = None
    goal: float | None = None
    metric_goal: Direction | None = None
    maximize: bool = False
    constraint: Any = None
    augment: Any = None
    split: Split | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    target: str | None = None
    weights: Any = None
    name: str = ""
    edits: tuple[Edit, ...] = ()
    task: str | None = None
    """Where the problem was read from ("file.py", "module:problem"), so that a Run can find it again."""

    def __new__(cls, *positional: Any, **given: Any) -> Self:
        """A problem of named fields.

        Raises:
            InputError: a field that is not named, or that no problem has; the nearest is told.
        """
        known = [each.name for each in fields(cls) if each.init]
        if positional:
            raise InputError(
                "a Problem takes its fields by name: Problem(model=..., objective=..., train=...)"
            )
        for key in given:
            if key not in known:
                raise InputError(f"{key!r} is no field of a Problem{names.did_you_mean(key, known)}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        put = object.__setattr__
        self._read()
        if isinstance(self.objective, str):
            put(self, "objective", names.resolve("objective", self.objective))
        elif self.objective is not None and not callable(self.objective):
            raise ObjectiveError(
                f"objective={self.objective!r}: must be a name or (output, target) -> scalar"
            )
        for what in ("objective", "metric"):
            given = getattr(self, what)
            if isinstance(given, type):
                raise InputError(f"{what}={given.__name__} is a class: make one, {given.__name__}()")
        put(self, "metric", metric_of(self.metric, self.objective))
        if self.goal is not None:
            put(self, "goal", goal_of(self.goal, self.metric))
        if self.metric_goal not in (None, "max", "min"):
            raise InputError(f"metric_goal={self.metric_goal!r}: must be 'max' or 'min'")
        put(self, "weights", as_weights(self.weights))
        if self.augment is not None:
            put(self, "augment", names.load("downslope.augment:read")(self.augment))
        if self.constraint is not None:
            put(self, "constraint", names.load("downslope.constraints:read")(self.constraint))
        self._check_kinds()
        self._check_target()
        if not isinstance(self.model, (str, nn.Module)) and not callable(self.model):
            raise ModelError(f"model={self.model!r}: must be a factory (**arguments) -> nn.Module, or a name")

    def _read(self) -> None:
        """Data as sources. A file alone is split; beside other validation data it is used whole.

        Raises:
            DataError: what `downslope.data.load_path` and `as_source` raise.
        """
        put = object.__setattr__
        held = self.valid
        if isinstance(self.train, (str, Path)):
            second = isinstance(held, (str, Path))
            loaded = _read_file(self.train, self.target, held if second else 0.2 if held is None else 0.0)
            put(self, "train", loaded.train)
            held = loaded.valid if second or held is None else held
        elif isinstance(held, (str, Path)):
            held = _read_file(held, self.target, 0.0).train
        first, held = self.train, framed(held, self.target, "valid", self.train)
        put(self, "train", as_source(framed(first, self.target, "train"), "train"))
        put(self, "valid", None if held is None else as_source(held, "valid"))

    def _check_kinds(self) -> None:
        """Refuse what would only fail in the first step, or never.

        Raises:
            InputError: naming the field.
        """
        maximize: Any = self.maximize
        if not isinstance(maximize, bool):
            raise InputError(f"maximize={maximize!r}: must be True or False (maximise the objective)")
        if self.split is not None and not callable(self.split):
            raise InputError(f"split={self.split!r}: must be a function batch -> (args, kwargs, target)")
        arguments: Any = self.arguments
        if not isinstance(arguments, Mapping):
            raise InputError(
                f"arguments={arguments!r}: must be a dict of keyword arguments, such as {{'width': 64}}"
            )

    def _check_target(self) -> None:
        """Refuse inputs alone under an objective of classes; elsewhere they are their own target.

        Raises:
            DataError: the target is missing.
        """
        given = self.objective
        if self.split is not None or not (
            getattr(given, "target", None) == "class" or isinstance(given, nn.CrossEntropyLoss)
        ):
            return
        for what, source in (("train", self.train), ("valid", self.valid)):
            batch = getattr(source, "batch", None)
            several = isinstance(batch, (tuple, list)) and len(cast("tuple[Any, ...]", batch)) > 1
            if isinstance(batch, (torch.Tensor, tuple, list)) and not several:
                raise DataError(
                    f"{what}: the target is missing, there are inputs alone; give a pair, {what}=(X, y)"
                )

    # -- reading ------------------------------------------------------------------------------------------

    @property
    def train_source(self) -> Source:
        """The training data."""
        return cast("Source", self.train)

    @property
    def valid_source(self) -> Source | None:
        """The validation data, if there is any."""
        return cast("Source | None", self.valid)

    @property
    def reading(self) -> dict[str, Any] | None:
        """How a file becomes examples like the training ones, in plain values; None where nobody knows."""
        found: Any = getattr(self.train, "reading", None)
        return plain(found) if found else None

    @property
    def splitter(self) -> Split:
        """``batch -> (args, kwargs, target)``; where the user has none, as the model's forward takes them."""
        if self.split is not None:
            return functools.partial(split_by, self.split)
        if "_fed" not in self.__dict__:
            own = whole_split if self.objective is None else default_split
            object.__setattr__(self, "_fed", Fed(own, self._sketch))
        return self.__dict__["_fed"]

    @property
    def direction(self) -> Direction:
        """Which way the metric is better; without a metric, which way the objective is."""
        if self.metric is None:
            return "max" if self.maximize else "min"
        return self.metric_goal or cast("Direction", getattr(self.metric, "goal", "max"))

    def better(self, a: float, b: float) -> bool:
        """Whether metric value `a` is better than `b`; a NaN is worse than anything."""
        if math.isnan(a) or math.isnan(b):
            return not math.isnan(a)
        return a > b if self.direction == "max" else a < b

    def reached(self, value: float | None) -> bool:
        """Whether `value` of the metric is at the goal or beyond; False without a goal."""
        if self.goal is None or value is None or math.isnan(value):
            return False
        return value >= self.goal if self.direction == "max" else value <= self.goal

    def build(self, seed: int = 0, init: Init | None = None, *, weights: bool = True) -> nn.Module:
        """A fresh model with the weights that `seed` gives, the edits applied, in training mode.

        Args:
            seed: Of the initial weights.
            init: Initialisation of the whole model, as a recipe has it; None keeps the factory's own.
            weights: Whether to take over the problem's `weights`; False for a model that is filled next.

        Raises:
            ModelError: the factory fails, or gives something that is no module.
            WeightsError: the problem's weights cannot be read, or fit nothing of the model.
        """
        with randomness.seeded(seed, "init"):
            model = self._made()
            for edit in sorted(self.edits, key=lambda each: each.outermost):
                model = edit.adapt(model)
            if init is not None:
                names.load("downslope.init:start")(model, init, self, seed)
            if weights and self.weights is not None:
                cast("Weights", self.weights).fill(model)
            for edit in self.edits:
                edit.start(model, self)
            if self.constraint is not None:
                bring_inside(model, self.constraint)
        return model.train()

    def _sketch(self) -> nn.Module:
        """A model that only tells its forward."""
        with randomness.seeded(0, "init"):
            return self._made()

    def _made(self) -> nn.Module:
        if isinstance(self.model, nn.Module):
            refuse_script(self.model)
            return copied(self.model)
        factory: Any = self.model
        arguments = dict(self.arguments)
        if isinstance(factory, str):
            factory = names.resolve("model", factory)
            arguments = names.load("downslope.models.sizes:from_data")(self, factory) | arguments
        elif names.catalogued("model", getattr(factory, "func", factory)):
            arguments = names.load("downslope.models.sizes:lacking")(self, factory) | arguments
        try:
            model = factory(**arguments)
        except DownslopeError:
            raise
        except Exception as error:
            given = f" with {arguments}" if arguments else ""
            hint = meant(error, factory)
            raise ModelError(f"the model factory failed{given}: {told(error)}{hint}") from error
        if not isinstance(model, nn.Module):
            raise ModelError(
                f"the model factory returned {type(model).__name__}: it must return an nn.Module"
            )
        refuse_script(model)
        if isinstance(split := self.splitter, Fed):
            split.learn(model)
        if any(is_lazy(each) for each in (*model.parameters(), *model.buffers())):
            self._materialise(model)
        return model

    def _materialise(self, model: nn.Module) -> None:
        """Give lazy modules their shapes by a look at two examples."""
        batch = next(iter(self.train_source.stored(2)))
        args, kwargs, _ = self.splitter(batches.to(batch, torch.device("cpu"), torch.get_default_dtype()))
        try:
            with torch.no_grad():
                model.eval()(*args, **kwargs)
        except Exception as error:
            raise ModelError(f"the model's lazy modules cannot take the data: {told(error)}") from error

    def argument(self, name: str) -> Any:
        """The value of factory argument `name`: as given, or the factory's default.

        Raises:
            ModelError: the factory has no such argument.
        """
        if name in self.arguments:
            return self.arguments[name]
        factory: Any = names.resolve("model", self.model) if isinstance(self.model, str) else self.model
        parameters = {} if isinstance(factory, nn.Module) else dict(inspect.signature(factory).parameters)
        if name not in parameters:
            raise ModelError(
                f"the model factory has no argument {name!r}{names.did_you_mean(name, parameters)}"
            )
        return parameters[name].default

    # -- edits --------------------------------------------------------------------------------------------

    def edit(self, *edits: Edit, **changes: Any) -> Problem:
        """A new problem with `edits` applied, and these fields changed.

        Args:
            *edits: Edits of the problem, such as ``ds.edits.StandardiseInputs()``.
            **changes: Fields of the problem (``objective="huber"``, ``goal=0.9``), or factory arguments
                as ``**{"model.width": 64}``, or settings of the objective as
                ``**{"objective.label_smoothing": 0.1}``.

        Raises:
            EditError: an edit of the recipe, or one that does not fit.
            InputError: a field that no problem has.
        """
        problem = self
        for edit in edits:
            problem = edit.apply_to_problem(problem)
        fields = {k: v for k, v in changes.items() if not k.startswith(("model.", "objective."))}
        allowed = set(self.__dataclass_fields__) - {"edits"}
        for key in fields:
            if key not in allowed:
                raise InputError(f"{key!r} is no field of a problem{names.did_you_mean(key, allowed)}")
        settings = {k.removeprefix("objective."): v for k, v in changes.items() if k.startswith("objective.")}
        if settings:
            given = fields.get("objective", problem.objective)
            given = names.resolve("objective", given) if isinstance(given, str) else given
            fields["objective"] = names.load("downslope.objectives.make:edited")(given, settings)
        arguments = {key.removeprefix("model."): v for key, v in changes.items() if key.startswith("model.")}
        for key in arguments:
            problem.argument(key)
        if arguments:
            fields["arguments"] = {**problem.arguments, **arguments}
        return replace(problem, **fields) if fields else problem

    def describe(self) -> dict[str, Any]:
        """Plain values that say what this problem is, for a Run's folder."""
        return {
            "name": self.name,
            "task": self.task,
            "model": reference(self.model),
            "arguments": dict(self.arguments),
            "objective": reference(self.objective),
            "metric": reference(self.metric),
            "metric_goal": self.direction,
            "maximize": self.maximize,
            "goal": self.goal,
            "augment": in_words(self.augment),
            "constraint": in_words(self.constraint),
            "train": self.train_source.size,
            "valid": None if self.valid_source is None else self.valid_source.size,
            "edits": [edit.to_dict() for edit in self.edits],
            **({} if self.reading is None else {"data": self.reading}),
            **({"metrics": self.metric.columns} if hasattr(self.metric, "columns") else {}),
            **({} if self.weights is None else {"weights": cast("Weights", self.weights).describe()}),
        }


def _read_file(path: str | Path, target: str | None, valid: float | str | Path) -> Any:
    """What `read_path` gives; where it had to guess how the file is to be read, a warning says so."""
    loaded = read_path(path, target, valid)
    for doubt in loaded.doubts:
        _log.warning("%s: %s", Path(path).name, doubt)
    return loaded
