"""The recipe: how a problem is trained. Validated, immutable, to and from TOML without loss."""

from __future__ import annotations

import inspect
import logging
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from downslope.core import names
from downslope.core.errors import RecipeError
from downslope.core.plain import to_toml

Factory = Callable[[Iterable[Any]], Any]

_log = logging.getLogger("downslope")
_SQUARE_ROOT_SCALED = {"adam", "adamw", "rmsprop", "adagrad", "nadam", "radam", "adamax", "adadelta"}
_DEFAULT_EPOCHS = 20


class Recipe(BaseModel):
    """How to train: optimizer, rate, schedule, batches, length, start, stopping, precision, seed.

    Args:
        optimizer: A name (``ds.optim.catalogue()``), ``"module:Class"``, or a factory
            ``params -> torch.optim.Optimizer``. Torch's own classes are recognised in a factory and become
            a name plus settings. Default "adam".
        lr: Learning rate, in (0, inf); the optimizer's own default if left out. 0 is allowed: nothing moves.
        batch_size: Examples a step, in [1, inf), or "full". Changing it by `edit` rescales `lr`.
        epochs: Passes over the data, in [1, inf). Default 20 when neither it nor `steps` is given.
        steps: Optimizer steps, in [1, inf); exclusive with `epochs`.
        schedule: Name of a schedule of the learning rate over the run; None keeps it constant.
        warmup: Steps of linear warm-up, in [0, inf).
        weight_decay: In [0, inf), as the optimizer means it (coupled or decoupled); its own default if left
            out.
        decay: "weights" leaves biases and norm layers out of the decay, "all" decays what torch decays.
        clip_norm: Largest global gradient norm, in (0, inf); None clips nothing.
        clip_value: Largest gradient entry, in (0, inf); None clips nothing.
        average: "ema" keeps an exponential average of the weights and hands it out as the model.
        init: Name of an initialisation for the whole model; None keeps the model's own.
        patience: Epochs without improvement of the validation metric (or loss) before stopping; None never.
        precision: "auto", "float32", "float64" or "bfloat16" (autocast).
        device: "auto" or a torch device.
        seed: Of initialisation, order, dropout and augmentation, in [0, 2**63).
        **settings: The optimizer's own settings as torch spells them: ``momentum``, ``betas``, ``eps``.

    Raises:
        RecipeError: one line; what was given, what is allowed, the nearest key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    optimizer: Any = "adam"
    lr: float | None = Field(None, ge=0, allow_inf_nan=False)
    batch_size: int | Literal["full"] = 64
    epochs: int | None = Field(None, ge=1)
    steps: int | None = Field(None, ge=1)
    schedule: str | None = None
    warmup: int = Field(0, ge=0)
    weight_decay: float = Field(0.0, ge=0, allow_inf_nan=False)
    decay: Literal["weights", "all"] = "weights"
    clip_norm: float | None = Field(None, gt=0)
    clip_value: float | None = Field(None, gt=0)
    average: Literal["ema"] | None = None
    init: str | None = None
    patience: int | None = Field(None, ge=1)
    precision: Literal["auto", "float32", "float64", "bfloat16"] = "auto"
    device: str = "auto"
    seed: int = Field(0, ge=0, lt=2**63)
    settings: dict[str, Any] = Field(default_factory=dict)

    def __init__(self, **given: Any) -> None:
        values, said = _normalised(given)
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise RecipeError(_one_line(error)) from None
        self.__pydantic_fields_set__.intersection_update(said)

    def __getattr__(self, name: str) -> Any:
        settings = cast("dict[str, Any]", self.__dict__.get("settings", {}))
        if name in settings:
            return settings[name]
        raise AttributeError(f"a Recipe has no {name!r}{names.did_you_mean(name, self.keys())}")

    def keys(self) -> list[str]:
        """Every key that this recipe takes: its fields and its optimizer's settings."""
        return sorted({*_FIELDS, *optimizer_defaults(self.optimizer)})

    @property
    def opaque(self) -> bool:
        """Whether the optimizer is code that no file can hold."""
        return not isinstance(self.optimizer, str)

    @property
    def said(self) -> frozenset[str]:
        """The keys that were given; the others are defaults."""
        return frozenset(self.model_fields_set) | frozenset(self.settings)

    def to_dict(self) -> dict[str, Any]:
        """Field to value, settings flat among them, what is None left out.

        Raises:
            RecipeError: the optimizer is code that no file can hold.
        """
        if self.opaque:
            raise RecipeError(
                f"optimizer {self.optimizer!r} is code, a recipe file holds names: "
                "give a name, a torch.optim class, or a function that can be imported"
            )
        flat = self.plain_fields()
        return flat | {key: _listed(value) for key, value in self.settings.items()}

    def plain_fields(self) -> dict[str, Any]:
        """Field to value, without the settings and what is None."""
        return {key: getattr(self, key) for key in _FIELDS if getattr(self, key) is not None}

    def to_toml(self) -> str:
        """The recipe as TOML; `from_toml` reads back an equal one.

        Raises:
            RecipeError: the optimizer, or one of its settings, is code that no file can hold.
        """
        try:
            return to_toml(self.to_dict())
        except TypeError as error:
            raise RecipeError(str(error)) from None

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Self:
        """The recipe of a table of keys.

        Raises:
            RecipeError: a key that no recipe has, or a value outside its domain.
        """
        return cls(**dict(table))

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """The recipe that a TOML text holds.

        Raises:
            RecipeError: not TOML, a misspelt key (the nearest is told), a value outside its domain.
        """
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(f"not a recipe: {error}") from None
        return cls.from_dict(table)

    def save(self, path: str | Path) -> Path:
        """Write the recipe as TOML to `path`."""
        target = Path(path)
        target.write_text(self.to_toml(), encoding="utf-8")
        return target

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The recipe in the TOML file at `path`.

        Raises:
            RecipeError: no such file, or what `from_toml` raises.
        """
        return cls.from_dict(read_table(path))

    def edit(self, **changes: Any) -> Self:
        """A new recipe with these keys changed; None takes a key back to its default.

        A change of `batch_size` rescales `lr` unless `lr` is changed too: in proportion for gradient
        descent with and without momentum (Goyal et al. 2017), by the square root for methods that divide by
        the gradient's size (Malladi et al. 2022). It says so in the log.

        Raises:
            RecipeError: a key that no recipe has, or a value outside its domain.
        """
        kept = {key: getattr(self, key) for key in self.said if key not in changes}
        if "optimizer" in changes and changes["optimizer"] != self.optimizer:
            kept = {key: value for key, value in kept.items() if key not in self.settings}
        if "epochs" in changes:
            kept.pop("steps", None)
        if "steps" in changes:
            kept.pop("epochs", None)
        kept |= self._rescaled(changes)
        return type(self)(**kept, **{key: value for key, value in changes.items() if value is not None})

    def _rescaled(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        new, old = changes.get("batch_size"), self.batch_size
        if new is None or new == old or "lr" in changes or "optimizer" in changes:
            return {}
        if not isinstance(new, int) or not isinstance(old, int) or self.lr is None:
            _log.warning("batch_size %s -> %s: the learning rate stays; give lr to change it", old, new)
            return {}
        if new < 1:
            return {}
        rooted = str(self.optimizer).rpartition(":")[2].lower() in _SQUARE_ROOT_SCALED
        lr = self.lr * (math.sqrt(new / old) if rooted else new / old)
        law = "square-root" if rooted else "linear"
        _log.warning(
            "batch_size %d -> %d: lr %g -> %g (%s scaling; give lr to keep it)", old, new, self.lr, lr, law
        )
        return {"lr": lr}

    def __str__(self) -> str:
        return self.describe()

    def describe(self) -> str:
        """One line: optimizer, rate, settings, batch, what differs from the defaults."""
        name = (
            self.optimizer
            if isinstance(self.optimizer, str)
            else getattr(self.optimizer, "__name__", "own code")
        )
        rate = "" if self.lr is None else f" lr {self.lr:g}"
        settings = "".join(f" {key} {value}" for key, value in self.settings.items())
        decay = ""
        if self.weight_decay:
            decay = f" decay {self.weight_decay:g}" + (
                " (not on biases and norms)" if self.decay == "weights" else ""
            )
        rest = [
            f"{key} {getattr(self, key)}"
            for key in ("schedule", "warmup", "clip_norm", "clip_value", "average", "init", "patience")
            if getattr(self, key)
        ]
        default = "" if "optimizer" in self.said else " (the default)"
        return ", ".join([f"{name}{rate}{settings}{decay}{default}", f"batch {self.batch_size}", *rest])


_FIELDS = tuple(name for name in Recipe.model_fields if name != "settings")


def read_table(path: str | Path) -> dict[str, Any]:
    """The TOML table in the file at `path`.

    Raises:
        RecipeError: no such file, or not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise RecipeError(f"recipe file {path}: {reason}") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"recipe file {path} is not TOML: {error}") from None


def _normalised(given: Mapping[str, Any]) -> tuple[dict[str, Any], frozenset[str]]:
    """Values with names canonical, factories recognised, settings gathered; and the keys that were said."""
    flat = cast("dict[str, Any]", given.get("settings") or {}) | {**given}
    values = {k: _number(v) for k, v in flat.items() if v is not None and k != "settings"}
    settings: dict[str, Any] = {}
    values["optimizer"], known = _optimizer_of(values.get("optimizer", "adam"))
    values = known | values
    said = frozenset(values if "optimizer" in given else values.keys() - {"optimizer"})
    defaults = optimizer_defaults(values["optimizer"])
    allowed = defaults.keys() - _FIELDS
    for key in [key for key in values if key not in _FIELDS]:
        if key not in allowed:
            raise RecipeError(
                f"{key!r} is no key of a recipe{_with(values)}{_meant(key, [*_FIELDS, *allowed])}"
            )
        settings[key] = values.pop(key)
    if isinstance(values["optimizer"], str) and ":" not in values["optimizer"]:
        settings = {key: _checked(key, value) for key, value in settings.items()}
    if isinstance(values.get("batch_size"), bool) or _below_one(values.get("batch_size")):
        raise RecipeError(f"batch_size={values['batch_size']!r}: must be an integer in [1, inf), or 'full'")
    if isinstance(values.get("lr"), bool):
        raise RecipeError(f"lr={values['lr']!r}: must be a number in [0, inf)")
    if "schedule" in values:
        values["schedule"] = names.canonical("schedule", values["schedule"])
    if "init" in values:
        values["init"] = names.canonical("init", values["init"])
    values.setdefault("lr", defaults.get("lr"))
    values.setdefault("weight_decay", defaults.get("weight_decay", 0.0))
    _full_batch(values)
    if "epochs" not in values and "steps" not in values:
        values["epochs"] = _DEFAULT_EPOCHS
    elif "epochs" in values and "steps" in values:
        raise RecipeError(
            f"epochs={values['epochs']} and steps={values['steps']}: give one of them, not both"
        )
    return values | {"settings": {key: _tupled(value) for key, value in settings.items()}}, said


def _checked(key: str, value: Any) -> Any:
    """A setting of one of our optimizers, inside its domain."""
    return names.load("downslope.optim.domains:check")(key, _tupled(value))


def _with(values: Mapping[str, Any]) -> str:
    """The optimizer whose settings were looked through, for a message."""
    return f" with {values['optimizer']}" if isinstance(values["optimizer"], str) else ""


class Lost:
    """Stands for an optimizer that was code when its run was kept; no file holds it."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, params: Iterable[Any]) -> Any:
        """Refused.

        Raises:
            RecipeError: always.
        """
        del params
        raise RecipeError(
            f"the optimizer of this run was code ({self.__name__}), which no file holds: "
            "say it again, recipe.edit(optimizer=...)"
        )


def _meant(key: str, known: Iterable[str]) -> str:
    """The hint after an unknown key: what it is called here, or the nearest."""
    near = names.nearest(key, names.RECIPE_KEYS, 1)
    if near and not names.nearest(key, known := list(known), 1):
        return f"; did you mean {names.RECIPE_KEYS[near[0]]!r}?"
    return names.did_you_mean(key, known)


def _full_batch(values: dict[str, Any]) -> None:
    """Full-batch methods take the whole training set at every step, and nothing else."""
    target = names.resolve("optimizer", values["optimizer"]) if isinstance(values["optimizer"], str) else None
    if getattr(target, "batch", None) == "full" and values.setdefault("batch_size", "full") != "full":
        raise RecipeError(
            f"batch_size={values['batch_size']!r}: {values['optimizer']} sees the whole training set at "
            "every step, so it must be 'full'; 'sgd' is the same method on mini-batches"
        )


def _optimizer_of(given: Any) -> tuple[Any, dict[str, Any]]:
    """The optimizer as a name where it has one, and the keys that a factory settles."""
    if isinstance(given, str) and ":" not in given:
        return names.canonical("optimizer", given), {}
    if isinstance(given, Lost):
        return given, {}
    factory = names.load(given) if isinstance(given, str) else given
    if not callable(factory):
        raise RecipeError(f"optimizer={given!r}: must be a name or a factory params -> torch.optim.Optimizer")
    if isinstance(given, str) and isinstance(factory, type):
        return given, {"decay": "all"}  # stays: with other settings ours may differ
    found = names.load("downslope.optim.recognise:recognise")(factory)
    known = dict(found.settings) | {"lr": found.lr, "decay": "all"}
    return (given if found.name is None else found.name), {k: v for k, v in known.items() if v is not None}


def optimizer_defaults(optimizer: Any) -> dict[str, Any]:
    """Settings that an optimizer's class takes, with their defaults; none for a factory.

    Args:
        optimizer: As a recipe holds it: a name, ``"module:attribute"``, or a factory.
    """
    target = names.resolve("optimizer", optimizer) if isinstance(optimizer, str) else optimizer
    if not isinstance(target, type):
        return {}
    taken = inspect.signature(target).parameters
    skipped = {"params", "backend", "self"}
    return {
        key: None if each.default is each.empty else each.default
        for key, each in taken.items()
        if key not in skipped and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    }


def _below_one(value: Any) -> bool:
    return isinstance(value, (int, float)) and not (value >= 1 and float(value).is_integer())


def _number(value: Any) -> Any:
    """Scalars of numpy as Python's own."""
    return value.item() if isinstance(value, np.generic) else value


def _tupled(value: Any) -> Any:
    return tuple(cast("list[Any]", value)) if isinstance(value, list) else value


def _listed(value: Any) -> Any:
    return list(cast("tuple[Any, ...]", value)) if isinstance(value, tuple) else value


def _one_line(error: ValidationError) -> str:
    """The first of pydantic's complaints as one line of ours."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][:1]) or "recipe"
    return f"{where}={first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"
