"""Statistics by module of one training step: gradients, updates, activations.

Hooks exist only during a sampled step, so the steps between cost nothing. Activations called as functions
inside a custom forward are seen by a torch-function mode, again only during a sampled step, and only where
the first pass found any. At most `ROWS` examples enter the statistics of outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from downslope.core import batches
from downslope.core.adapted import unwrap
from downslope.core.modules import named_modules, own_parameters, size

ROWS = 64
"""Examples of a probed batch that enter the statistics of outputs."""

RECTIFIERS = {"relu", "relu6", "threshold"}
SQUASHERS = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0), "hardtanh": (-1.0, 1.0), "hardsigmoid": (0.0, 1.0)}
SMOOTH = {"gelu", "silu", "elu", "selu", "celu", "leaky_relu", "mish", "softplus", "hardswish", "softsign"}
KINDS = RECTIFIERS | set(SQUASHERS) | SMOOTH

_MODULES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu", nn.ReLU6: "relu6", nn.Threshold: "threshold", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid",
    nn.Hardtanh: "hardtanh", nn.Hardsigmoid: "hardsigmoid", nn.GELU: "gelu", nn.SiLU: "silu", nn.ELU: "elu",
    nn.SELU: "selu", nn.CELU: "celu", nn.LeakyReLU: "leaky_relu", nn.PReLU: "leaky_relu", nn.Mish: "mish",
    nn.Softplus: "softplus", nn.Hardswish: "hardswish", nn.Softsign: "softsign",
}  # fmt: skip
_NORMS = (
    nn.modules.batchnorm._BatchNorm,  # pyright: ignore[reportPrivateUsage] (the only base of all batch norms)
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.InstanceNorm1d,
)
_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,  # pyright: ignore[reportPrivateUsage] (the only base of all convolutions)
    nn.modules.batchnorm._BatchNorm,  # pyright: ignore[reportPrivateUsage]
    nn.GroupNorm,
)


class Observer:
    """Measures single steps of one model.

    Args:
        model: The model in training; names in what is measured are those of the user's own model inside.

    Attributes:
        values: Statistic to module to value, of the latest probed step.
        modules: Name to type, parameter count and whether it normalises, in forward order once `survey` ran.
        activations: Name to kind and the parametrised module before it, likewise.
        functional: Whether activations called as functions are looked for.
        failure: Why the statistics of an output could not be formed; None if all could.
    """

    def __init__(self, model: nn.Module) -> None:
        self.inner = unwrap(model)
        self.owners: dict[str, nn.Module] = {}
        self.own: dict[str, list[nn.Parameter]] = {}
        self.layers: dict[str, nn.Module] = {}
        self.names: dict[int, str] = {}
        self.renew()
        self.values: dict[str, dict[str, float]] = {}
        self.modules: dict[str, dict[str, Any]] = {}
        self.activations: dict[str, dict[str, Any]] = {}
        self.functional = True
        self.failure: str | None = None
        self._handles: list[RemovableHandle] = []
        self._mode: _Functions | None = None
        self._raw: list[tuple[str, str, Tensor]] = []
        self._before: dict[int, Tensor] = {}
        self._last = ""
        self._inside = 0
        self._positions: dict[str, int] = {}
        self._fused: set[str] = set()

    def renew(self) -> None:
        """Before a forward pass: learn anew which modules there are, since layers may have been replaced."""
        named = list(named_modules(self.inner))
        self.owners = {n: m for n, m in named if own_parameters(m)}
        self.own = {n: own_parameters(m) for n, m in self.owners.items()}
        self.layers = {n: m for n, m in named if type(m) in _MODULES}
        self.names = {id(m): n or "model" for n, m in named}

    # -- one step -----------------------------------------------------------------------------------------

    @contextmanager
    def forward(self) -> Generator[None]:
        """Around the forward pass of a probed step: outputs and activations are measured."""
        self.clear()
        self.attach()
        try:
            yield
        finally:
            self.detach()

    def clear(self) -> None:
        """Forget what was measured and not yet read; learn anew which parameters there are."""
        self.own = {n: own_parameters(m) for n, m in self.owners.items()}
        self._raw.clear()
        self._before = {}

    def exchange(self, new: Mapping[int, Tensor]) -> None:
        """Between `weights` and `updates`: parameters of these ids are followed by new tensors."""
        followed = cast("Mapping[int, nn.Parameter]", new)
        self._before = {id(new[key]) if key in new else key: value for key, value in self._before.items()}
        self.own = {name: [followed.get(id(p), p) for p in held] for name, held in self.own.items()}

    def measured(self) -> list[str]:
        """The modules whose outputs were measured and not yet read, in forward order."""
        return list(dict.fromkeys(name for name, statistic, _ in self._raw if statistic == "out_mean"))

    def attach(self) -> None:
        """From now on outputs and activations are measured; hooks exist until `detach`."""
        self._last, self._inside = "", 0
        for name, module in self.owners.items():
            self._handles.append(module.register_forward_hook(self._output_hook(name or "model")))
        for name, module in self.layers.items():
            hook = self._activation_hook(name, _MODULES[type(module)])
            self._handles.append(module.register_forward_pre_hook(self._enter))
            self._handles.append(module.register_forward_hook(hook))
        if self.functional:
            self._mode = _Functions(self)
            self._mode.__enter__()

    def detach(self) -> None:
        """The end of what `attach` began, in the same thread."""
        mode, self._mode = self._mode, None
        if mode is not None:
            mode.__exit__(None, None, None)
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def survey(self) -> None:
        """After a first pass: note the modules in forward order, and whether functions are used at all."""
        seen = dict.fromkeys([name for name, statistic, _ in self._raw if statistic == "out_mean"])
        for name in [*seen, *(n or "model" for n in self.owners if (n or "model") not in seen)]:
            module = self.owners[name if name in self.owners else ""]
            self.modules[name] = {
                "type": type(module).__name__,
                "size": size(module),
                "parameters": sum(p.numel() for p in own_parameters(module)),
                "trainable": any(p.requires_grad for p in own_parameters(module)),
                "norm": isinstance(module, _NORMS),
                "dtype": str(own_parameters(module)[0].dtype).removeprefix("torch."),
                "called": name in seen,
                "products": self._positions.get(name, 0) * sum(p.numel() for p in own_parameters(module)),
            }
        self.functional = any("+" in name and name not in self._fused for name in self.activations)

    def gradients(self, scale: float = 1.0) -> None:
        """After the backward pass: gradient norms, in `scale` (of a gradient scaler)."""
        with torch.no_grad():
            for name, held in self.own.items():
                own = [p for p in held if p.requires_grad]
                grads = [p.grad for p in own if p.grad is not None and not p.grad.is_sparse]
                if grads:
                    self._note(name, "grad_norm", _norm(grads) / scale)

    def weights(self) -> None:
        """Before the optimizer's step: weight norms; the weights are kept for `updates`."""
        with torch.no_grad():
            for name, held in self.own.items():
                self._note(name, "weight_norm", _norm(held))
            self._before = {id(p): p.detach().clone() for held in self.own.values() for p in held}

    def updates(self) -> None:
        """After the optimizer's step: the size of the update of each module; then all is read off.

        Without `weights` before the step only what was measured till then is read.
        """
        if not self._before:
            self.read()
            return
        before = self._before
        with torch.no_grad():
            for name, held in self.own.items():
                own = [p for p in held if p.requires_grad]
                if own:
                    self._note(name, "update_norm", _norm([p - before[id(p)] for p in own]))
        self._before = {}
        self.read()

    def read(self) -> None:
        """Bring what was measured from the device, once, into `values`."""
        self.values = {}
        if not self._raw:
            return
        values = [value.float() for _, _, value in self._raw]
        if len({value.device for value in values}) > 1:
            values = [value.cpu() for value in values]
        numbers = cast("list[float]", torch.stack(values).tolist())
        flat: dict[str, list[float]] = {}
        for (name, statistic, _), number in zip(self._raw, numbers, strict=True):
            self.values.setdefault(statistic, {}).setdefault(name, number)
            if statistic == "saturated_fraction":
                flat.setdefault(name, []).append(number)
        for name, calls in flat.items():  # a loop over steps calls it often, and starts from zeros
            self.values["saturated_fraction"][name] = sum(calls) / len(calls)
        self._derive()
        self._raw.clear()

    def _derive(self) -> None:
        means, squares = self.values.get("out_mean", {}), self.values.pop("out_square", {})
        if squares:
            self.values["out_std"] = {n: _std(means[n], squares[n]) for n in squares}
        means, squares = self.values.get("act_mean", {}), self.values.pop("act_square", {})
        if squares:
            self.values["act_std"] = {n: _std(means[n], squares[n]) for n in squares}
        updates, weights = self.values.pop("update_norm", {}), self.values.get("weight_norm", {})
        if updates:
            self.values["update_ratio"] = {n: updates[n] / max(weights[n], 1e-12) for n in updates}

    # -- hooks --------------------------------------------------------------------------------------------

    def _note(self, name: str, statistic: str, value: Tensor) -> None:
        self._raw.append((name or "model", statistic, value))

    def _output_hook(self, name: str) -> Any:
        owner = self.owners["" if name == "model" and name not in self.owners else name]
        # The states of a plain recurrence are outputs of a tanh that is called nowhere else.
        bends = isinstance(owner, (nn.RNN, nn.RNNCell)) and owner.nonlinearity == "tanh"

        def hook(module: nn.Module, args: Any, output: Any) -> None:
            del module, args
            self._last = name
            self._guarded(lambda: self._measure_output(name, output))
            if bends:
                self._fused.add(f"{name}+tanh")
                self._guarded(lambda: self.activated(f"{name}+tanh", "tanh", output))

        return hook

    def _guarded(self, measure: Callable[[], None]) -> None:
        """A statistic that cannot be formed (a sparse output, a nested one) must not end the training."""
        try:
            measure()
        except Exception as error:  # noqa: BLE001 (outputs are of any kind)
            self.failure = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120]}"

    def _measure_output(self, name: str, output: Any) -> None:
        whole = next((leaf for leaf in batches.tensors(output) if leaf.dim()), None)
        if whole is not None:
            self._positions[name] = whole.numel() // max(1, whole.shape[1 if whole.dim() == 4 else -1])
        found = _first(output)
        if found is not None:
            self._note(name, "out_mean", found.mean())
            self._note(name, "out_square", _mean_square(found))

    def _enter(self, module: nn.Module, args: Any) -> None:
        del module, args
        self._inside += 1

    def _activation_hook(self, name: str, kind: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            del module, args
            self._inside -= 1
            self._guarded(lambda: self.activated(name, kind, output))

        return hook

    def function(self, kind: str, output: Any) -> None:
        """A functional activation was called."""
        if not self._inside:
            name = f"{self._last or 'input'}+{kind}"
            self._guarded(lambda: self.activated(name, kind, output))

    def found(self, name: str, output: Tensor, positions: int) -> None:
        """Measure (part of) an output that no hook has seen; what is activated next comes after it.

        Args:
            name: Module that holds the weights.
            output: Units last; of a convolution as it makes it.
            positions: How often every weight was multiplied.
        """
        self._last = name
        self._guarded(lambda: self._measure_output(name, output))
        self._positions[name] = positions

    def activated(self, name: str, kind: str, output: Any) -> None:
        """Measure the output of an activation."""
        found = _first(output)
        if found is None:
            return
        self.activations.setdefault(name, {"kind": kind, "after": self._last or None})
        self._note(name, "act_mean", found.mean())
        self._note(name, "act_square", _mean_square(found))
        if kind in RECTIFIERS:
            units = _by_unit(found, self.owners.get(self._last))
            dead = 1.0 - _alive(units.amax(0)).mean()
            self._note(name, "zero_fraction", 1.0 - found.sign().mean() + 0.0 * dead)
            self._note(name, "dead_fraction", dead)
        elif kind in SQUASHERS:
            low, high = SQUASHERS[kind]
            middle, reach = (low + high) / 2, 0.49 * (high - low)
            self._note(name, "saturated_fraction", ((found - middle).abs() > reach).float().mean())


class _Functions(TorchFunctionMode):
    """Tells the observer of every activation called as a function."""

    def __init__(self, observer: Observer) -> None:
        super().__init__()
        self.observer = observer

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        kind = getattr(func, "__name__", "").rstrip("_")
        if kind in KINDS:
            self.observer.function(kind, output)
        return output


def _first(output: Any) -> Tensor | None:
    """The first floating tensor of an output, at most `ROWS` of its rows, without a gradient."""
    leaves = (output,) if isinstance(output, Tensor) else batches.tensors(output)
    for leaf in leaves:
        if leaf.is_floating_point() and leaf.numel():
            rows = leaf.detach()[:ROWS] if leaf.dim() else leaf.detach()
            return rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
    return None


def _alive(x: Tensor) -> Tensor:
    """1 where a rectified number is above 0, and NaN where it is NaN: that is no zero."""
    return torch.where(x.isnan(), x, x.sign())  # the sign of NaN is 0


def _mean_square(x: Tensor) -> Tensor:
    flat = x.reshape(-1)
    return torch.dot(flat, flat) / flat.numel()


def _by_unit(x: Tensor, after: nn.Module | None) -> Tensor:
    """Shape (examples and positions, units): the unit is the channel of a convolution, else the last axis.

    Args:
        x: The output of an activation.
        after: The parametrised module before it; tells channels from features where the shape does not.
    """
    if x.dim() == 4 or (x.dim() > 2 and isinstance(after, _CHANNELS_FIRST)):
        return x.movedim(1, -1).flatten(0, -2)
    return x.flatten(0, -2) if x.dim() > 1 else x.unsqueeze(0)


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    norms: list[Tensor] = [torch.linalg.vector_norm(each) for each in tensors]
    return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))


def _std(mean: float, square: float) -> float:
    variance = square - mean * mean
    return math.sqrt(max(variance, 0.0)) if math.isfinite(variance) else math.nan
