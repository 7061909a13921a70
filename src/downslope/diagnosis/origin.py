"""Where a gradient that is not finite came from, of a step whose loss still was; seen in what it left behind.

In the step after it every value is NaN, and the gradients themselves are mostly cleared. But what an
optimizer keeps of each element (a momentum, a mean of squares) is not finite exactly where the gradient was
not, and so are the weights of a method that keeps nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from downslope.core.run import Run
from downslope.diagnosis.early import sudden
from downslope.training.nonfinite import parted
from downslope.training.probes import Observer

_RECURRENT = ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell")
"""Modules that form products over many steps: there a gradient may overflow without any such operation."""


@dataclass(frozen=True)
class Origin:
    """What is known of the first gradient that was not finite."""

    module: str
    """The module nearest to the loss whose own gradient is not finite: that of its output was not."""
    last: bool
    """Whether nothing that is trained comes after it: the gradient came so out of the objective."""
    certain: bool
    """Whether any element stayed finite: where none did, clipping by the norm of all may have spread it."""


def left_behind(
    observers: Mapping[str, Observer], optimizers: Sequence[torch.optim.Optimizer]
) -> dict[str, Any]:
    """The modules of the models parted by whether the gradient of the latest step was finite.

    Args:
        observers: Of the models, prefix to observer; their weights are not all finite any more.
        optimizers: That took the step.

    Returns:
        As `training.nonfinite.parted`.
    """
    states: dict[int, Iterable[Any]] = {}
    for each in optimizers:
        held = cast("Mapping[Tensor, Mapping[str, Any]]", each.state)
        states |= {id(p): list(row.values()) for p, row in held.items()}

    def kept() -> Iterator[tuple[str, Tensor]]:
        for prefix, observer in observers.items():
            for name, p in observer.inner.named_parameters():
                if not p.requires_grad or (states and id(p) not in states):
                    continue
                own = [t for t in states.get(id(p), ()) if _of_elements(t, p)]
                spoilt = not bool(torch.isfinite(p).all())
                if own and spoilt and all(bool(torch.isfinite(t).all()) for t in own):
                    elsewhere.append(name)
                for tensor in own or [p]:
                    yield prefix + name, tensor

    elsewhere: list[str] = []  # spoilt by the method itself, such as 0 / 0 without an eps
    found = parted(kept())
    return {"bad": [], "sound": [], "every": False} if elsewhere else found


def _of_elements(kept: Any, parameter: Tensor) -> bool:
    return isinstance(kept, Tensor) and kept.shape == parameter.shape and kept.is_floating_point()


def origin(run: Run) -> Origin | None:
    """Where the first gradient that was not finite came from; None where that is not known.

    Not known either where a large step led up to it, in half precision, which overflows, and where a
    recurrence stands between: its products may overflow.
    """
    lost: Mapping[str, Any] = run.facts.get("nonfinite") or {}
    found: Mapping[str, Any] = lost.get("gradients") or {}
    bad: Sequence[str] = found.get("bad") or ()
    modules: Mapping[str, Mapping[str, Any]] = run.facts.get("modules") or {}
    if not bad or not modules or not sudden(run):
        return None
    order = [name for name, row in modules.items() if row.get("called")]
    known = [name for name in order if name in bad]
    if not known:
        return None
    module = known[-1]
    later = [name for name in order[order.index(module) + 1 :] if name in found["sound"]]
    if later and modules[module].get("type") in _RECURRENT:
        return None
    return Origin(module, not later, not found["every"])
