"""Names of weights as a model has them: changed as the caller says, or freed of wrappers and prefixes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from torch import Tensor

from downslope.core import names
from downslope.core.errors import WeightsError
from downslope.core.state_files import State

WRAPPERS = ("module.", "_orig_mod.", "_forward_module.", "model/")
"""What DataParallel, `torch.compile`, Fabric and our own resume state put before or inside names."""

Shape = tuple[int, ...]


def renamed(
    state: State, rename: Mapping[str, str | None], prefix: str | None
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The names as the caller wants them, before anything is guessed."""
    tensors, told = state.tensors, ()
    if prefix is not None:
        kept = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
        if not kept:
            near = names.did_you_mean(prefix, {k.rpartition(".")[0] + "." for k in tensors})
            raise WeightsError(f"weights {state.label}: no name begins with {prefix!r}{near}")
        left = len(tensors) - len(kept)
        told = (f"prefix {prefix!r} taken off" + (f", {left} others left out" if left else ""),)
        tensors = kept
    for old, new in rename.items():
        hit = {k for k in tensors if k == old or k.startswith(old.removesuffix(".") + ".")}
        if not hit:
            near = names.did_you_mean(old, {part for k in tensors for part in (k, k.rpartition(".")[0])})
            raise WeightsError(f"weights {state.label}: nothing there is called {old!r}{near}")
        stem = old.removesuffix(".")
        tensors = {
            (str(new).removesuffix(".") + k[len(stem) :] if k in hit else k): v
            for k, v in tensors.items()
            if k not in hit or new is not None
        }
        told = (*told, f"{old} -> {new}" if new is not None else f"{old} left out")
    return tensors, told


def fitted(there: dict[str, Tensor], here: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The names there as they fit most of the model: as they are, without wrappers, or below a prefix."""
    best, said, score = there, "", _fit(there, here)
    if score[1] == len(here):
        return best, said
    bare = {_unwrapped(key): value for key, value in there.items()}
    if len(bare) == len(there) and (own := _fit(bare, here)) > score:
        best, said, score = bare, _wrappers(there), own
    for (off, on), _ in _prefixes(bare, here).most_common(4):
        moved = {on + k[len(off) :]: v for k, v in bare.items() if k.startswith(off)}
        moved |= {k: v for k, v in bare.items() if not k.startswith(off) and k not in moved}
        if (own := _fit(moved, here)) > score:
            steps = [_wrappers(there)] * (bare.keys() != there.keys())
            steps += [f"prefix {off!r} taken off"] * bool(off) + [f"prefix {on!r} put before"] * bool(on)
            best, said, score = moved, ", ".join(steps), own
    return best, said


def _unwrapped(name: str) -> str:
    for each in WRAPPERS:
        name = name.removeprefix(each).replace(f".{each}", ".")
    return name


def _wrappers(there: Mapping[str, Tensor]) -> str:
    gone = [each for each in WRAPPERS if any(each in key for key in there)]
    return f"{' and '.join(map(repr, gone))} taken out of the names"


def _fit(there: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> tuple[int, int]:
    """Numbers that fit by name and shape; then names that fit, so that another head is seen as such."""
    both = [key for key in there if key in here]
    return sum(here[k].numel() for k in both if there[k].shape == here[k].shape), len(both)


def _prefixes(there: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> Counter[tuple[str, str]]:
    """How many names agree in shape once a prefix there is taken off and one here is put before."""
    ends: dict[tuple[str, Shape], list[str]] = {}
    for key, value in here.items():
        for stem, rest in _cuts(key):
            ends.setdefault((rest, tuple(value.shape)), []).append(stem)
    votes: Counter[tuple[str, str]] = Counter()
    for key, value in there.items():
        for off, rest in _cuts(key):
            for on in ends.get((rest, tuple(value.shape)), ()):
                if off != on:
                    votes[off, on] += 1
    return votes


def _cuts(name: str) -> list[tuple[str, str]]:
    """Every prefix with what follows it, of at least a module and the name of its tensor."""
    parts = name.split(".")
    return [(".".join(parts[:i]) + "." * bool(i), ".".join(parts[i:])) for i in range(max(len(parts) - 1, 1))]
