"""The recipe: how a problem is trained. Validated, immutable, to and from TOML without loss."""

from __future__ import annotations

import logging
import math
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from downslope.core import names, rates, starts
from downslope.core.errors import RecipeError
from downslope.core.groups import RATES, Group, scaled
from downslope.core.keys import DOMAINS, normalised
from downslope.core.method import Lost, is_named, known_of, optimizer_defaults, whom
from downslope.core.plain import to_toml
from downslope.core.recipe_file import read_table, write_text
from downslope.core.wrapped import innermost

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Lost", "Recipe", "optimizer_defaults", "read_table"]

_log = logging.getLogger("downslope")
_SQUARE_ROOT_SCALED = {
    "adam", "adamw", "rmsprop", "adagrad", "nadam", "radam", "adamax", "adadelta", "muon",
    "lamb", "lars", "cautious_adamw", "cautious_lion", "adafactor",
    "adabelief", "adan", "ademamix", "lion", "signum", "schedule_free_adamw",
    "shampoo", "soap",
}  # fmt: skip
UNSCALED = {"prodigy"}
"""Methods that find their rate: lr is a factor of it."""

_TOLD = (
    "layer_decay", "unfreeze", "schedule", "schedules", "warmup", "clip_norm", "clip_value", "average",
    "average_from", "average_every", "average_decay", "init", "patience",
)  # fmt: skip
"""Fields that the line about a recipe tells where they are set, in this order."""


class Recipe(BaseModel):
    """How to train: optimizer, rate, schedule, batches, length, start, stopping, precision, seed.

    Args:
        optimizer: A name (``ds.optim.catalogue()``, ``ds.methods.catalogue()``), one around another
            (``"sam(adamw)"``), ``"module:Class"``, or a factory ``params -> torch.optim.Optimizer``, whose
            argument may be named ``model`` or ``named_parameters`` to be given that. Torch's own classes are
            recognised in a factory and become a name plus settings and groups. Default "adam".
        lr: Learning rate, in (0, inf); the optimizer's own default if left out. 0 is allowed: nothing moves.
        batch_size: Examples a step, in [1, inf), or "full". Changing it by `edit` rescales `lr`.
        accumulate: Parts in which each batch goes through the model, in [1, inf): the gradient of the whole
            batch in the memory of a part.
        epochs: Passes over the data, in [1, inf). Default 20 when neither it nor `steps` is given.
        steps: Optimizer steps, in [1, inf); exclusive with `epochs`.
        schedule: Of the learning rate over the run: a name or one with settings (``"cosine(final=0.1)"``), a
            scheduler of torch's (``"torch.optim.lr_scheduler:StepLR(step_size=30)"``, stepped after every
            step) or a factory of one, ``lambda optimizer: ...``, or a function of one's own, ``total_steps ->
            (step -> factor)``; None keeps it constant.
        schedules: Of other settings, as a table: ``{"momentum": "cosine(final=0.9)"}`` multiplies momentum by
            what falls from 1 to 0.9 over the run; of a pair a list, ``["constant", "exponential"]``.
        warmup: Steps of linear warm-up of the rate, in [0, inf).
        weight_decay: In [0, inf), as the optimizer means it (coupled or decoupled); its own default if left
            out.
        decay: "weights", the default of names and classes, leaves biases and norm layers out of the decay,
            "all" decays what torch decays, as a factory does whose code makes no groups.
        groups: Parameters with settings of their own, as tables: ``{"params": "backbone.*", "lr": 1e-4}``,
            ``{"ndim": [0, 1], "weight_decay": 0.0}``, ``{"params": "embedding.*", "train": False}``. The
            first that fits counts; the rest takes the recipe's own. With groups, `decay` is "all".
        layer_decay: What the rate is multiplied by from one depth of the model to the next below, in (0, 1];
            the last layer has `lr` (Howard and Ruder 2018: 1/2.6; Clark et al. 2020: 0.8). None: one rate.
        unfreeze: Epochs after which one more depth is trained, from the last layer down, in [1, inf); None
            trains all from the start.
        frozen: "eval" holds what groups or `unfreeze` hold fixed in eval mode (statistics of batch norm stay,
            no dropout), "train" leaves it in training mode as torch does.
        clip_norm: Largest global gradient norm, in (0, inf); None clips nothing.
        clip_value: Largest gradient entry, in (0, inf); None clips nothing.
        average: The average of the weights that is judged and handed out: "ema" (exponential), "polyak"
            (plain mean of every step's), "swa" (plain mean of every epoch's in the last quarter); None for
            the last weights. With batch norm, each evaluation costs one more pass over the training data.
        average_from: Share of the run after which the average begins, in [0, 1); 0.75 for "swa", else 0.
        average_every: Steps from one set of weights in the average to the next, in [1, inf); an epoch for
            "swa" (the length of the cycle, where the rate is cyclic), else 1.
        average_decay: Decay of "ema" once it is warm, in [0, 1): a window of 1 / (1 - average_decay) steps;
            0.999 if left out.
        init: Name of an initialisation for the whole model, or a table of its name and settings:
            ``{"name": "normal", "std": 0.01}``. Each setting is a key of its own, ``init.std``; every one has
            ``init.scale``, a factor on what it draws. Or a function of your own that changes weights in
            place: ``(model)``, or ``(module)`` as for `torch.nn.Module.apply`, or ``(weight, generator)``;
            the run keeps its name and source. None keeps the model's own.
        patience: Epochs without improvement of the validation metric (or loss) before stopping; None never.
        precision: "auto" (float32 as it stands; a long run tries what is faster, bfloat16 only within
            the noise of float32), "float32", "float64" or "bfloat16" (autocast; weights stay float32).
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
    accumulate: int = Field(1, ge=1)
    epochs: int | None = Field(None, ge=1)
    steps: int | None = Field(None, ge=1)
    schedule: Any = None
    schedules: dict[str, Any] | None = None
    warmup: int = Field(0, ge=0)
    weight_decay: float = Field(0.0, ge=0, allow_inf_nan=False)
    decay: Literal["weights", "all"] = "weights"
    groups: tuple[Group, ...] = ()
    layer_decay: float | None = Field(None, gt=0, le=1)
    unfreeze: int | None = Field(None, ge=1)
    frozen: Literal["eval", "train"] = "eval"
    clip_norm: float | None = Field(None, gt=0, allow_inf_nan=False)
    clip_value: float | None = Field(None, gt=0, allow_inf_nan=False)
    average: Literal["ema", "polyak", "swa"] | None = None
    average_from: float | None = Field(None, ge=0, lt=1)
    average_every: int | None = Field(None, ge=1)
    average_decay: float | None = Field(None, ge=0, lt=1)
    init: Any = None
    patience: int | None = Field(None, ge=1)
    precision: Literal["auto", "float32", "float64", "bfloat16"] = "auto"
    device: str = "auto"
    seed: int = Field(0, ge=0, lt=2**63)
    settings: dict[str, Any] = Field(default_factory=dict)

    def __init__(self, **given: Any) -> None:
        values, said = normalised(given, _FIELDS)
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise RecipeError(_one_line(error)) from None
        self.__pydantic_fields_set__.intersection_update(said)

    def __setattr__(self, name: str, value: Any) -> None:
        raise RecipeError(f"a recipe stays as it is: recipe.edit({name}={value!r}) gives a new one")

    def __getattr__(self, name: str) -> Any:
        settings = cast("dict[str, Any]", self.__dict__.get("settings", {}))
        if name in settings:
            return settings[name]
        raise AttributeError(f"a Recipe has no {name!r}{names.did_you_mean(name, self.keys())}")

    def keys(self) -> list[str]:
        """Every key that this recipe takes: its fields and its optimizer's settings."""
        return sorted({*_FIELDS, *optimizer_defaults(self.optimizer), *starts.keys(self.init)})

    @property
    def opaque(self) -> bool:
        """Whether the optimizer is code that no file can hold."""
        return not isinstance(self.optimizer, str)

    @property
    def coded(self) -> tuple[str, ...]:
        """The keys that hold code, which no file can: among "optimizer", "schedule" and "init"."""
        return tuple(key for key in ("optimizer", "schedule", "init") if callable(getattr(self, key)))

    @property
    def said(self) -> frozenset[str]:
        """The keys that were given; the others are defaults."""
        return frozenset(self.model_fields_set) | frozenset(self.settings)

    def to_dict(self) -> dict[str, Any]:
        """Field to value, settings flat among them, what is None left out.

        Raises:
            RecipeError: optimizer or init is code that no file can hold.
        """
        if callable(self.init):
            raise RecipeError(
                f"init {starts.said(self.init)} is code, a recipe file holds names: put it into a module and "
                "give its place, init='module:function'"
            )
        rates.check_filed(self.schedule)
        if self.opaque:
            raise RecipeError(
                f"optimizer {self.optimizer!r} is code, a recipe file holds names: give a name, a "
                "torch.optim class, or a function that can be imported; groups that hang on the model are "
                "known from recipe.settled(model) on"
            )
        flat = self.plain_fields()
        return flat | {key: _listed(value) for key, value in self.settings.items()}

    def plain_fields(self) -> dict[str, Any]:
        """Field to value, without the settings and what is None."""
        plain = {key: getattr(self, key) for key in _FIELDS if getattr(self, key) is not None}
        groups = [group.to_dict() for group in plain.pop("groups")]
        return plain | ({"groups": groups} if groups else {})

    def settled(self, model: nn.Module) -> Self:
        """This recipe with the groups that its factory makes of `model` as data, by names of parameters.

        A recipe without a factory, or whose factory makes an optimizer that is not known, comes back as it
        is. `fit`, `diagnose` and `repair` settle their recipe by themselves.

        Raises:
            RecipeError: the factory fails on the model.
        """
        if isinstance(self.optimizer, Lost) or is_named(self.optimizer):
            return self
        factory = names.load(self.optimizer) if isinstance(self.optimizer, str) else self.optimizer
        found = names.load("downslope.optim.recognise:recognise_on")(factory, model)
        if not found.editable:
            return self
        kept = {key: getattr(self, key) for key in self.said if key not in ("optimizer", *RATES)}
        made = type(self)(**kept | known_of(found), optimizer=found.name)
        return made.edit(**{key: getattr(self, key) for key in RATES if key in self.said})

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
        """Write the recipe as TOML to `path`; folders on the way are made.

        Raises:
            RecipeError: the optimizer is code that no file can hold, or the file cannot be written.
        """
        return write_text(path, self.to_toml())

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

        A change of `lr` or `weight_decay` changes it in all groups: those with their own keep their ratio to
        the recipe's, so that what does not decay still does not. At 0 there is no ratio: all groups but those
        at 0 take the recipe's own from then on. Other settings of groups stay; another optimizer drops them,
        and the rate between methods of which one searches for its step by curvature and one does not.

        Raises:
            RecipeError: a key that no recipe has, a value outside its domain, or groups with an lr or
                weight_decay of their own where the recipe's is 0.
        """
        changes = starts.gathered(changes, self.init)
        kept = {key: getattr(self, key) for key in self.said if key not in changes}
        if "optimizer" in changes and changes["optimizer"] != self.optimizer:
            kept = {key: value for key, value in kept.items() if key not in self.settings}
            kept.pop("schedules", None)
            if "large" in (_needs(self.optimizer), _needs(changes["optimizer"])):
                kept.pop("lr", None)  # of one a length, of the other a share of a step that is searched for
        if "epochs" in changes:
            kept.pop("steps", None)
        if "steps" in changes:
            kept.pop("epochs", None)
        kept |= self._rescaled(changes)
        said = {key: value for key, value in changes.items() if value is not None}
        if "groups" in changes and "decay" not in said:
            kept.pop("decay", None)
        groups = () if "groups" in changes else kept.pop("groups", ())
        made = type(self)(**kept, **said)
        return type(self)(**kept, **said, groups=self._regrouped(groups, made)) if groups else made

    def _regrouped(self, groups: tuple[Group, ...], made: Self) -> tuple[Group, ...]:
        """`groups` with their rates in the ratio that they had, as `made` has no groups yet."""
        if made.optimizer != self.optimizer:
            taken = set(RATES) & optimizer_defaults(made.optimizer).keys()
            groups = tuple(
                replace(each, settings={k: v for k, v in each.settings.items() if k in taken})
                for each in groups
            )
        for key in RATES:
            groups = scaled(groups, key, getattr(self, key), getattr(made, key))
        return groups

    def _rescaled(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        new, old = changes.get("batch_size"), self.batch_size
        if new is None or new == old or "lr" in changes or "optimizer" in changes:
            return {}
        if _needs(self.optimizer) == "large":
            return {}  # its rate is where a line search begins
        if not isinstance(new, int) or not isinstance(old, int) or self.lr is None:
            _log.warning("batch_size %s -> %s: the learning rate stays; give lr to change it", old, new)
            return {}
        if new < 1:
            return {}
        spelt = innermost(str(self.optimizer)).rpartition(":")[2].lower()
        if spelt in UNSCALED:
            return {}
        rooted = spelt in _SQUARE_ROOT_SCALED
        lr = self.lr * (math.sqrt(new / old) if rooted else new / old)
        law = "square-root" if rooted else "linear"
        _log.warning(
            "batch_size %d -> %d: lr %g -> %g (%s scaling; give lr to keep it)", old, new, self.lr, lr, law
        )
        return {"lr": lr}

    def __str__(self) -> str:
        return self.describe()

    def describe(self, batch: int | str | None = None) -> str:
        """One line: optimizer, rate, settings, batch, what differs from the defaults.

        Args:
            batch: Examples a step where the data's own batches win; None for those of the recipe.
        """
        name = (
            self.optimizer
            if isinstance(self.optimizer, str)
            else getattr(self.optimizer, "__name__", "own code")
        )
        rate = "" if self.lr is None else f" lr {self.lr:g}"
        settings = "".join(f" {key} {value}" for key, value in self.settings.items())
        whose = whom(self.optimizer, self.decay, bool(self.groups))
        decay = f" decay {self.weight_decay:g}{whose}" if self.weight_decay else ""
        rest = [f"{key} {_worded(key, getattr(self, key))}" for key in _TOLD if getattr(self, key)]
        default = "" if "optimizer" in self.said else " (the default)"
        n = len(self.groups)
        groups = f" {n} group{'s' * (n > 1)}{self._spans()}" if n else ""
        parts = f" in {self.accumulate} parts" if self.accumulate > 1 else ""
        method = f"{name}{default}{rate}{settings}{decay}{groups}"
        return ", ".join([method, f"batch {batch or self.batch_size}{parts}", *rest])

    def _spans(self) -> str:
        """From where to where the groups' rates go, where they differ from the recipe's."""
        spans: list[str] = []
        for key in RATES:
            own = [float(group.settings[key]) for group in self.groups if key in group.settings]
            if own:
                spans.append(f"{key} {min(own):g}" + (f" to {max(own):g}" if min(own) != max(own) else ""))
        return f" ({', '.join(spans)})" if spans else ""


def _needs(optimizer: Any) -> str | None:
    """The batches that an optimizer needs, as its class says."""
    named = isinstance(optimizer, str) and ":" not in optimizer
    return getattr(names.resolve("optimizer", optimizer), "batch", None) if named else None


_FIELDS = tuple(name for name in Recipe.model_fields if name != "settings")


def _worded(key: str, value: Any) -> Any:
    """A field's value in the line about a recipe."""
    return starts.said(value) if key == "init" else rates.said(value) if key == "schedule" else value


def _listed(value: Any) -> Any:
    return list(cast("tuple[Any, ...]", value)) if isinstance(value, tuple) else value


def _one_line(error: ValidationError) -> str:
    """The first of pydantic's complaints as one line of ours."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][:1]) or "recipe"
    if where in DOMAINS:
        return f"{where}={first['input']!r}: must be {DOMAINS[where]}"
    said = f"{first['msg'][0].lower()}{first['msg'][1:]}".replace("input should be", "must be")
    return f"{where}={first['input']!r}: {said}"
