"""One step of one method by every library that has it; a library not installed is left out.

    pip install -c constraints.txt -e '.[bench-optimizers]'

The settings are those of `METHODS`, under each library's own names; where its method is another in more than
rounding, `Method.note` says so. Each maker takes parameters with gradients and returns what makes a step.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from downslope import optim

Step = Callable[[], object]
Make = Callable[[list[Tensor]], Step]
Settings = Mapping[str, Any]

LIBRARIES = {
    "pytorch_optimizer": "pytorch_optimizer",
    "optimi": "optimi",
    "heavyball": "heavyball",
    "optax": "optax",
}
"""Column of the table to module."""

LR = 1e-6
"""Small, so that a thousand steps along one gradient stay finite."""


@dataclass(frozen=True)
class Method:
    """A method, what its step has to read and write, and its settings in every library."""

    title: str
    states: float
    """Tensors of state of p's size, each read and written."""
    ours: tuple[str, Settings]
    """Class and settings of `downslope.optim`."""
    torch: tuple[str, Settings] | None = None
    fused: bool = False
    """Whether torch has a fused kernel for it."""
    peers: Mapping[str, tuple[str, Settings]] = field(default_factory=dict)
    """By library: class, or optax's function, and settings."""
    again: float = 0.0
    """Bytes of a parameter that have to be read once more, for sums that the step needs first."""
    note: str = ""

    @property
    def bytes(self) -> float:
        """The fewest a float32 parameter costs: g read, p and its states read and written."""
        return 12.0 + 8.0 * self.states + self.again


def _same(cls: str, **settings: Any) -> tuple[str, Settings]:
    return cls, {"lr": LR, **settings}


def _optax(name: str, **settings: Any) -> tuple[str, Settings]:
    return name, {"learning_rate": LR, **settings}


_BETAS = {"betas": (0.9, 0.999)}
_MU = {"momentum": 0.9}

METHODS = {
    "sgd": Method("SGD", 0, _same("SGD"), _same("SGD"), True, {
        "optimi": _same("SGD"), "optax": _optax("sgd"),
    }),
    "momentum": Method("momentum", 1, _same("SGD", **_MU), _same("SGD", **_MU), True, {
        "pytorch_optimizer": _same("SGDW", **_MU), "optimi": _same("SGD", **_MU),
        "heavyball": _same("SGD", beta=0.9), "optax": _optax("sgd", momentum=0.9),
    }),
    "nesterov": Method(
        "Nesterov", 1, _same("SGD", **_MU, nesterov=True), _same("SGD", **_MU, nesterov=True), True, {
            "pytorch_optimizer": _same("SGDW", **_MU, nesterov=True),
            "optax": _optax("sgd", momentum=0.9, nesterov=True),
        },
    ),
    "adagrad": Method("AdaGrad", 1, _same("Adagrad"), _same("Adagrad"), True, {"optax": _optax("adagrad")}),
    "adadelta": Method("AdaDelta", 2, _same("Adadelta"), _same("Adadelta"), False, {
        "optax": _optax("adadelta"),
    }),
    "rmsprop": Method("RMSProp", 1, _same("RMSprop"), _same("RMSprop"), False, {
        "heavyball": _same("RMSprop"), "optax": _optax("rmsprop"),
    }, note="heavyball debiases"),
    "adam": Method("Adam", 2, _same("Adam"), _same("Adam"), True, {
        "optimi": _same("Adam", **_BETAS), "optax": _optax("adam"),
    }),
    "adamw": Method("AdamW", 2, _same("AdamW"), _same("AdamW"), True, {
        "pytorch_optimizer": _same("StableAdamW", kahan_sum=False), "optimi": _same("AdamW", **_BETAS),
        "heavyball": _same("AdamW", **_BETAS), "optax": _optax("adamw"),
    }, note="pytorch_optimizer: StableAdamW"),
    "adamax": Method("AdaMax", 2, _same("Adamax"), _same("Adamax"), False, {
        "pytorch_optimizer": _same("AdaMax"), "optax": _optax("adamax"),
    }),
    "nadam": Method("NAdam", 2, _same("NAdam"), _same("NAdam"), False, {
        "heavyball": _same("NAdam"), "optax": _optax("nadam"),
    }),
    "radam": Method("RAdam", 2, _same("RAdam"), _same("RAdam"), False, {
        "pytorch_optimizer": _same("RAdam"), "optimi": _same("RAdam", **_BETAS), "optax": _optax("radam"),
    }),
    "adabelief": Method("AdaBelief", 2, _same("AdaBelief"), None, False, {
        "pytorch_optimizer": _same("AdaBelief"), "optax": _optax("adabelief"),
    }),
    "adan": Method("Adan", 4, _same("Adan"), None, False, {
        "pytorch_optimizer": _same("Adan"), "optimi": _same("Adan"), "optax": _optax("adan"),
    }),
    "ademamix": Method("AdEMAMix", 3, _same("AdEMAMix"), None, False, {
        "pytorch_optimizer": _same("AdEMAMix"), "heavyball": _same("AdEMAMix"),
        "optax": _optax("contrib.ademamix"),
    }),
    "lion": Method("Lion", 1, _same("Lion"), None, False, {
        "pytorch_optimizer": _same("Lion"), "optimi": _same("Lion"), "optax": _optax("lion"),
    }),
    "signum": Method("Signum", 1, _same("Signum"), None, False, {
        "pytorch_optimizer": _same("SignSGD"), "optax": _optax("signum"),
    }),
    "lamb": Method("LAMB", 2, _same("LAMB"), None, False, {
        "pytorch_optimizer": _same("Lamb"), "optax": _optax("lamb"),
    }, again=16.0),
    "lars": Method("LARS", 1, _same("LARS", **_MU), None, False, {
        "pytorch_optimizer": _same("LARS"), "optax": _optax("lars"),
    }, again=8.0),
    "prodigy": Method("Prodigy", 3.5, ("Prodigy", {"lr": 1.0}), None, False, {
        "pytorch_optimizer": ("Prodigy", {"lr": 1.0}),
        "optax": ("contrib.prodigy", {"learning_rate": 1.0}),
    }, again=16.0),
    "schedule_free_adamw": Method("Schedule-Free AdamW", 2, _same("ScheduleFreeAdamW"), None, False, {
        "pytorch_optimizer": _same("ScheduleFreeAdamW"), "heavyball": _same("SFAdamW"),
        "optax": _optax("contrib.schedule_free_adamw"),
    }),
    "adafactor": Method("Adafactor", 0, _same("Adafactor"), _same("Adafactor"), False, {
        "pytorch_optimizer": ("AdaFactor", {"lr": None, "betas": (None, 0.999)}),
        "optax": _optax("adafactor", multiply_by_parameter_scale=True),
    }, again=8.0, note="optax factors the two largest dimensions, from 128 on"),
    "muon": Method("Muon", 1, _same("Muon", matrices=True), _same("Muon"), False, {
        "pytorch_optimizer": _same("Muon"), "heavyball": _same("Muon"), "optax": _optax("contrib.muon"),
    }),
    "shampoo": Method("Shampoo", 1, _same("Shampoo", precondition_frequency=10), None, False, {
        "pytorch_optimizer": _same("Shampoo", preconditioning_compute_steps=10),
    }),
    "soap": Method("SOAP", 2, _same("SOAP"), None, False, {
        "pytorch_optimizer": _same("SOAP"), "heavyball": _same("SOAP", precondition_frequency=10),
    }),
}  # fmt: skip
"""By the name in the table of names. Those from Muon on are made of products of matrices."""

MATRIX = ("muon", "shampoo", "soap")


def makers(name: str) -> dict[str, Make]:
    """Contestant to its maker, ours first, for method `name`; those that are not installed are left out."""
    method = METHODS[name]
    cls, settings = method.ours
    found: dict[str, Make] = {}
    if hasattr(optim, cls):
        found["ours"] = functools.partial(_torch_like, getattr(optim, cls), settings)
    if method.torch is not None:
        kind, given = getattr(torch.optim, method.torch[0]), method.torch[1]
        if name == "muon":
            found["torch loop"] = functools.partial(_torch_like, kind, given)
        else:
            found["torch loop"] = functools.partial(_torch_like, kind, {**given, "foreach": False})
            found["torch foreach"] = functools.partial(_torch_like, kind, {**given, "foreach": True})
        if method.fused:
            found["torch fused"] = functools.partial(_torch_like, kind, {**given, "fused": True})
    for library, (what, given) in method.peers.items():
        if importlib.util.find_spec(LIBRARIES[library]):
            make = _of_optax if library == "optax" else functools.partial(_of_library, library)
            found[library] = functools.partial(make, what, given)
    return found


def missing() -> list[str]:
    """The libraries that are not installed."""
    return [name for name, module in LIBRARIES.items() if not importlib.util.find_spec(module)]


def parameters(shapes: list[tuple[int, ...]]) -> list[Tensor]:
    """Parameters with a gradient each, drawn from N(0, 1)."""
    params = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    for p in params:
        p.grad = torch.randn_like(p)
    return params


def _torch_like(cls: type[torch.optim.Optimizer], settings: Settings, params: list[Tensor]) -> Step:
    return cls(params, **settings).step


def _of_library(library: str, what: str, settings: Settings, params: list[Tensor]) -> Step:
    given: Any = params
    if (library, what) == ("pytorch_optimizer", "Muon"):
        matrices = [p for p in params if p.ndim > 1]
        others = [p for p in params if p.ndim < 2]
        given = [{"params": matrices, "use_muon": True}, {"params": others, "use_muon": False}]
        given = [group for group in given if group["params"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = getattr(importlib.import_module(LIBRARIES[library]), what)(given, **settings)
    grads = [p.grad for p in params]

    def step() -> None:
        for p, g in zip(params, grads, strict=True):  # heavyball takes gradients away
            p.grad = g
        made.step()

    return step


def _of_optax(what: str, settings: Settings, params: list[Tensor]) -> Step:
    """Compiled, with parameters and state donated: they are written where they were."""
    import jax
    import jax.numpy as jnp

    kind: Any = importlib.import_module("optax")
    for part in what.split("."):
        kind = getattr(kind, part)
    method = kind(**settings)
    grads = [jnp.asarray(p.grad.numpy()) for p in params if p.grad is not None]
    held = [jnp.array(p.detach().numpy()) for p in params]
    params.clear()  # so that two copies are not kept

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def stepped(now: Any, state: Any, given: Any) -> Any:
        updates, state = method.update(given, state, now)
        return jax.tree.map(lambda p, u: p + u, now, updates), state

    memory = [
        held,
        jax.tree.map(jnp.copy, method.init(held)),
    ]  # Prodigy's start is the parameters' own buffer

    def step() -> None:
        memory[:] = stepped(memory[0], memory[1], grads)
        jax.block_until_ready(memory)

    return step
