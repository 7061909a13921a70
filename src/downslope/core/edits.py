"""Edits: remedies as things that can be applied, compared, saved and undone.

An edit says which of the three entities it touches: ``model``, ``objective`` or ``optimisation``. Every edit
gives a new Problem or Recipe; nothing is changed in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from torch import Tensor, nn

from downslope.core import names
from downslope.core.adapted import Adapted, Restore, Standardise, scale_of, unwrap
from downslope.core.errors import EditError, RecipeError
from downslope.core.modules import named_modules
from downslope.core.plain import plain, to_toml
from downslope.core.problem import Problem, reference
from downslope.core.recipe import Recipe, read_table
from downslope.core.samples import first_input, target_of

Entity = Literal["model", "objective", "optimisation"]
ModuleFactory = Callable[[], nn.Module]


@dataclass(frozen=True)
class Edit:
    """One change. Subclasses say what they touch, how they read, and what they do."""

    kind: ClassVar[str] = "edit"
    entity: ClassVar[Entity] = "model"
    provable: ClassVar[bool] = True

    def apply(self, problem: Problem, recipe: Recipe) -> tuple[Problem, Recipe]:
        """Problem and recipe with this edit; both new where touched.

        Raises:
            EditError: the edit does not fit.
        """
        return self.apply_to_problem(problem), recipe

    def apply_to_problem(self, problem: Problem) -> Problem:
        """The problem with this edit."""
        return replace(problem, edits=(*problem.edits, self))

    def adapt(self, model: nn.Module) -> nn.Module:
        """A freshly made model with this edit; called for every run."""
        return model

    def start(self, model: nn.Module) -> None:
        """Change the initial weights of a model to which all edits are applied."""

    def to_dict(self) -> dict[str, Any]:
        """``kind`` and the fields, plain; code becomes its import path."""
        return {"kind": self.kind} | {
            each.name: _saved(getattr(self, each.name)) for each in fields(self) if each.init and each.repr
        }


@dataclass(frozen=True)
class SetRecipe(Edit):
    """Change keys of the recipe: ``SetRecipe({"lr": 0.01})``."""

    kind: ClassVar[str] = "set-recipe"
    entity: ClassVar[Entity] = "optimisation"
    changes: Mapping[str, Any]
    before: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the keys were, for the diff; filled in where known."""

    def apply(self, problem: Problem, recipe: Recipe) -> tuple[Problem, Recipe]:
        """The recipe with the keys changed."""
        return problem, recipe.edit(**self.changes)

    def apply_to_problem(self, problem: Problem) -> Problem:
        """Refused: a recipe's edit."""
        raise EditError(f"{self}: an edit of the recipe; use recipe.edit(...) or edit.apply(problem, recipe)")

    def __str__(self) -> str:
        def word(key: str, value: Any) -> str:
            new = f"{value:g}" if isinstance(value, float) else str(value)
            if key not in self.before:
                return f"{key} = {new}"
            old = self.before[key]
            return f"{key} {f'{old:g}' if isinstance(old, float) else old} -> {new}"

        return ", ".join(word(key, value) for key, value in self.changes.items())


@dataclass(frozen=True)
class StandardiseInputs(Edit):
    """Standardise the inputs inside the model; raw inputs still go in.

    Mean and standard deviation come from the training data, per feature or per channel
    (`downslope.core.adapted.scale_of`), and are saved with the model.
    """

    kind: ClassVar[str] = "standardise-inputs"
    scale: tuple[Tensor, Tensor] | None = field(default=None, repr=False, compare=False)

    def apply_to_problem(self, problem: Problem) -> Problem:
        """The problem whose models standardise what they are given."""
        inputs = first_input(problem)
        if not inputs.is_floating_point():
            raise EditError(
                f"inputs of type {inputs.dtype} are indices, not measurements: they have no scale"
            )
        return super(StandardiseInputs, replace(self, scale=scale_of(inputs))).apply_to_problem(problem)

    def adapt(self, model: nn.Module) -> nn.Module:
        """`model` behind a standardising layer."""
        return model if self.scale is None else Adapted(model, before=Standardise(*_cloned(self.scale)))

    def __str__(self) -> str:
        return "standardise the inputs"


@dataclass(frozen=True)
class StandardiseTargets(Edit):
    """Let the objective see standardised targets; the model's output stays in the user's units."""

    kind: ClassVar[str] = "standardise-targets"
    entity: ClassVar[Entity] = "objective"
    scale: tuple[Tensor, Tensor] | None = field(default=None, repr=False, compare=False)

    def apply_to_problem(self, problem: Problem) -> Problem:
        """The problem whose objective is computed in standard units."""
        target = target_of(problem)
        if not target.is_floating_point():
            raise EditError(
                f"targets of type {target.dtype} are classes, not measurements: they have no scale"
            )
        mean, std = scale_of(target)
        if target.dim() <= 1 or target.shape[1:] == (1,):
            mean, std = mean.reshape(()), std.reshape(())
        return super(StandardiseTargets, replace(self, scale=(mean, std))).apply_to_problem(problem)

    def adapt(self, model: nn.Module) -> nn.Module:
        """`model` before a layer that restores the units, its targets standardised in training."""
        if self.scale is None:
            return model
        after, target = Restore(*_cloned(self.scale)), Standardise(*_cloned(self.scale))
        return Adapted(model, after=after, target=target)

    def __str__(self) -> str:
        return "standardise the targets"


@dataclass(frozen=True)
class SetObjective(Edit):
    """Swap the objective for another: a name, or ``(output, target) -> scalar``."""

    kind: ClassVar[str] = "set-objective"
    entity: ClassVar[Entity] = "objective"
    objective: Any

    def apply_to_problem(self, problem: Problem) -> Problem:
        """The problem with the objective swapped."""
        return problem.edit(objective=self.objective)

    def __str__(self) -> str:
        return f"objective -> {_label(self.objective)}"


@dataclass(frozen=True)
class ReplaceModule(Edit):
    """Replace the module with a qualified name by another.

    Args:
        name: Qualified name in the user's model, such as "features.3".
        factory: ``() -> nn.Module``, or an import path such as "torch.nn:ReLU".
        arguments: Keyword arguments of the factory.
    """

    kind: ClassVar[str] = "replace-module"
    name: str
    factory: str | ModuleFactory
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def apply_to_problem(self, problem: Problem) -> Problem:
        """The problem whose models have the module replaced."""
        _check_modules(problem, (self.name,))
        return super().apply_to_problem(problem)

    def adapt(self, model: nn.Module) -> nn.Module:
        """`model` with the module replaced, in place in this fresh model."""
        owner, _, leaf = self.name.rpartition(".")
        setattr(unwrap(model).get_submodule(owner), leaf, _make(self.factory, self.arguments))
        return model

    def __str__(self) -> str:
        return f"{self.name} -> {_label(self.factory)}"


@dataclass(frozen=True)
class WrapModel(Edit):
    """Put a module before or after the whole model; what is after changes what the user reads."""

    kind: ClassVar[str] = "wrap-model"
    before: str | ModuleFactory | None = None
    after: str | ModuleFactory | None = None

    def adapt(self, model: nn.Module) -> nn.Module:
        """`model` with the modules before and after it."""
        ends = (("before", self.before), ("after", self.after))
        return Adapted(model, **{key: _make(each, {}) for key, each in ends if each})

    def __str__(self) -> str:
        ends = (("before", self.before), ("after", self.after))
        said = [f"{_label(each)} {where}" for where, each in ends if each]
        return f"put {' and '.join(said)} the model"


@dataclass(frozen=True)
class SetArgument(Edit):
    """Change an argument of the model factory: ``SetArgument("width", 128)``."""

    kind: ClassVar[str] = "set-argument"
    name: str
    value: Any

    def apply_to_problem(self, problem: Problem) -> Problem:
        """The problem with the argument changed."""
        return problem.edit(**{f"model.{self.name}": self.value})

    def __str__(self) -> str:
        return f"model.{self.name} -> {self.value}"


@dataclass(frozen=True)
class Reinitialise(Edit):
    """Draw the initial weights anew by a named rule, for the whole model or for some modules.

    Args:
        init: A name such as "he"; "auto" reads the activation that follows.
        modules: Qualified names in the user's model; none means all.
    """

    kind: ClassVar[str] = "reinitialise"
    init: str
    modules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "init", names.canonical("init", self.init))

    def apply_to_problem(self, problem: Problem) -> Problem:
        """The problem whose models start from other weights."""
        _check_modules(problem, self.modules)
        return super().apply_to_problem(problem)

    def start(self, model: nn.Module) -> None:
        """The weights of `model` drawn anew."""
        inner = unwrap(model)
        draw = names.load("downslope.init:initialise")
        for name in self.modules or ("",):
            draw(inner.get_submodule(name), self.init, None)

    def __str__(self) -> str:
        where = f" of {', '.join(self.modules)}" if self.modules else ""
        return f"initialise the weights{where} by {self.init}"


@dataclass(frozen=True)
class Combined(Edit):
    """Several edits as one."""

    kind: ClassVar[str] = "combined"
    edits: tuple[Edit, ...]

    def apply(self, problem: Problem, recipe: Recipe) -> tuple[Problem, Recipe]:
        """Each in turn."""
        for edit in self.edits:
            problem, recipe = edit.apply(problem, recipe)
        return problem, recipe

    def apply_to_problem(self, problem: Problem) -> Problem:
        """Each in turn."""
        return problem.edit(*self.edits)

    def to_dict(self) -> dict[str, Any]:
        """The edits, each plain."""
        return {"kind": self.kind, "edits": [edit.to_dict() for edit in self.edits]}

    def __str__(self) -> str:
        return " and ".join(str(edit) for edit in self.edits)


@dataclass(frozen=True)
class Advice(Edit):
    """What a person has to do in code or data; it cannot be applied, so it cannot be proved."""

    kind: ClassVar[str] = "advice"
    provable: ClassVar[bool] = False
    text: str

    def apply_to_problem(self, problem: Problem) -> Problem:
        """Refused."""
        raise EditError(f"{self.text!r} is advice: it has to be done by hand")

    def __str__(self) -> str:
        return self.text


KINDS: dict[str, type[Edit]] = {
    each.kind: each
    for each in (SetRecipe, StandardiseInputs, StandardiseTargets, SetObjective, ReplaceModule, WrapModel,
                 SetArgument, Reinitialise, Combined, Advice)
}  # fmt: skip


def from_dict(saved: Mapping[str, Any]) -> Edit:
    """The edit that `Edit.to_dict` saved.

    Raises:
        EditError: an unknown kind or field.
    """
    kind = saved.get("kind")
    skipped = {"kind"} if kind == "advice" else {"kind", "text"}  # of the others "text" is how they read
    values = {key: value for key, value in saved.items() if key not in skipped}
    if kind not in KINDS:
        raise EditError(f"edit kind {kind!r} is not known{names.did_you_mean(str(kind), KINDS)}")
    if kind == "combined":
        return Combined(tuple(from_dict(each) for each in values.get("edits", ())))
    values |= {"modules": tuple(values["modules"])} if "modules" in values else {}
    try:
        return KINDS[kind](**values)
    except TypeError as error:
        raise EditError(f"edit {kind!r}: {error}") from None


def save(path: str | Path, recipe: Recipe, edits: Sequence[Edit] = ()) -> Path:
    """Write a recipe and the edits of its problem to one TOML file; `load` and ``--recipe`` read it.

    Raises:
        RecipeError: code that no file can hold.
    """
    table = recipe.to_dict()
    rows = [plain(edit.to_dict()) for edit in edits]
    for row in rows:
        if (code := code_of(row)) is not None:
            raise RecipeError(f"the edit {row['kind']!r} holds code ({code}), a file holds names")
    Path(path).write_text(to_toml(table | ({"edit": rows} if rows else {})), encoding="utf-8")
    return Path(path)


def code_of(saved: Mapping[str, Any]) -> str | None:
    """The entry of a saved edit that stands for code which no import finds again; None if there is none."""
    if saved.get("kind") == "combined":
        return next(filter(None, map(code_of, saved["edits"])), None)
    entries = [saved.get(key) for key in ("factory", "before", "after", "objective")]
    texts = [each for each in entries if isinstance(each, str)]
    return next((each for each in texts if "<" in each or each.endswith(")")), None)


def load(path: str | Path) -> tuple[Recipe, tuple[Edit, ...]]:
    """The recipe, and the edits of the problem, in a file that `save` or a person wrote.

    Raises:
        RecipeError: no such file, not TOML, a misspelt key.
        EditError: an unknown edit.
    """
    table = read_table(path)
    rows = cast("list[Mapping[str, Any]]", table.pop("edit", []))
    return Recipe.from_dict(table), tuple(from_dict(row) for row in rows)


def _check_modules(problem: Problem, wanted: Sequence[str]) -> None:
    known = [name for name, _ in named_modules(unwrap(problem.build())) if name] if wanted else []
    for name in wanted:
        if name not in known:
            raise EditError(f"the model has no module {name!r}{names.did_you_mean(name, known)}")


def _make(factory: str | ModuleFactory, arguments: Mapping[str, Any]) -> nn.Module:
    made: Any = names.load(factory) if isinstance(factory, str) else factory
    try:
        module = made(**arguments)
    except Exception as error:
        reason = (str(error).strip().splitlines() or ["no message"])[0]
        raise EditError(f"{_label(factory)} could not be made: {type(error).__name__}: {reason}") from error
    if not isinstance(module, nn.Module):
        raise EditError(f"{_label(factory)} made {type(module).__name__}: it must make an nn.Module")
    return module


def _cloned(scale: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return scale[0].clone(), scale[1].clone()


def _label(thing: Any) -> str:
    return str(reference(thing)).rpartition(":")[2].removesuffix("()")


def _saved(value: Any) -> Any:
    if isinstance(value, (str, int, float, bool, Mapping, tuple)) or value is None:
        return cast("Any", value)
    return reference(value)
