"""Weights that a problem's models start from: where they are, how they fit, how a folder tells them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from downslope.core import names
from downslope.core.errors import WeightsError
from downslope.core.matched import Matched, load_weights, matched
from downslope.core.state_files import State, read_state
from downslope.core.weights import copied

__all__ = ["Weights", "as_described", "as_weights"]


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Where weights come from and how names are fitted; the arguments are those of `load_weights`.

    What is in memory is copied as it stands, so that a model which is trained on changes no later start.

    Args:
        path: What `load_weights` takes as its source; None for those of a run that no file holds any more.
        rename: Names there to names here; None leaves them out.
        prefix: What to take off the names there; found by itself if left out.
        part: Key of a training checkpoint; found by itself if left out.
        strict: Whether everything has to fit, or False for whatever does; None refuses a small part.
        known: What a Run's folder says of them, for when they cannot be read again.
    """

    path: Any
    rename: Mapping[str, str | None] | None = None
    prefix: str | None = None
    part: str | None = None
    strict: bool | None = None
    known: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.path is None or isinstance(self.path, (str, Path, State)):
            return
        state = read_state(self.path, self.part)
        own = isinstance(self.path, (Mapping, nn.Module))
        tensors = copied(state.tensors) if own else state.tensors
        object.__setattr__(self, "path", State(tensors, state.label, state.place, state.told))

    def fill(self, model: nn.Module) -> Matched:
        """Fill `model`; see `load_weights`."""
        return load_weights(
            model, self._there(), rename=self.rename, prefix=self.prefix, part=self.part, strict=self.strict
        )

    def compare(self, model: nn.Module) -> Matched:
        """What `fill` would take; the model stays as it is."""
        return matched(model, self._there(), rename=self.rename, prefix=self.prefix, part=self.part)

    def describe(self) -> dict[str, Any]:
        """Plain values from which `as_weights` makes the same again, with a hash of what was read."""
        try:
            state = read_state(self._there(), self.part)
        except WeightsError:
            if self.known is None:
                raise
            return dict(self.known)
        said = {key: getattr(self, key) for key in ("rename", "prefix", "part", "strict")}
        found: dict[str, Any] = {"path": state.place, "source": state.label, "fingerprint": state.fingerprint}
        return found | {key: value for key, value in said.items() if value or value is False}

    def _there(self) -> Any:
        if self.path is None:
            label = (self.known or {}).get("source", "weights")
            raise WeightsError(
                f"the weights that this run started from ({label}) were in memory, and no file holds them: "
                "give problem="
            )
        return self.path


def as_weights(given: Any) -> Weights | None:
    """What a user gave as a problem's weights: a source, a table with its ``path`` and options, or nothing.

    Raises:
        WeightsError: a table with a misspelt key, or nothing that weights can be read from.
    """
    if given is None or isinstance(given, Weights):
        return given
    if isinstance(given, Mapping) and "path" in given:
        table = {str(key): value for key, value in cast("Mapping[Any, Any]", given).items()}
        if not any(isinstance(value, Tensor) for value in table.values()):
            known = table if "fingerprint" in table else None
            table = {key: value for key, value in table.items() if key not in ("source", "fingerprint")}
            allowed = [each.name for each in fields(Weights) if each.name != "known"]
            for key in table:
                if key not in allowed:
                    raise WeightsError(f"weights: no key {key!r}{names.did_you_mean(key, allowed)}")
            return Weights(**table, known=known)
    right = isinstance(given, (str, Path, Mapping, nn.Module)) or hasattr(given, "summary")
    if not right:
        raise WeightsError(
            f"weights={given!r}: must be a path (safetensors, .pt, the folder of a Run), a Run, a module or "
            "a state dict"
        )
    return Weights(path=given)


def as_described(own: Weights | None, described: Mapping[str, Any] | None) -> Weights | None:
    """The weights that a run started from, as its folder tells them; `own` are those of its task today."""
    if described is None:
        return None
    if described.get("path") is None and own is not None:
        return replace(own, known=described)
    return as_weights({"path": None, **described})
