"""Linear and convolution layers as one matrix times rows, which is what a Kronecker-factored block needs.

A layer that maps each row ``a`` of its input to ``W a`` has the gradient ``sum g a^T`` of W, g the gradient
of the output's row. A convolution does so with patches for rows (Grosse and Martens 2016, section 3), its
groups
each with a matrix of their own. A bias is a column of W whose input is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

_Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d


class Layer:
    """The modules that share one weight, as matrices W of shape (groups, outputs, inputs).

    Args:
        name: Of the first of them.
        module: The first of them.

    Attributes:
        params: Those of weight and bias that are trained.
    """

    def __init__(self, name: str, module: nn.Module) -> None:
        self.name, self.modules = name, [module]
        weight, bias = cast(Tensor, module.weight), cast("Tensor | None", module.bias)
        self._weight = weight if weight.requires_grad else None
        self._bias = bias if bias is not None and bias.requires_grad else None
        self.params = [p for p in (self._weight, self._bias) if p is not None]
        self.groups = int(getattr(module, "groups", 1))

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs of one group's matrix, a bias among the inputs."""
        first: Any = self.modules[0]
        inputs = 0 if self._weight is None else self._weight[0].numel()
        return first.weight.shape[0] // self.groups, inputs + (self._bias is not None)

    def batched(self, module: nn.Module, x: Tensor) -> Tensor:
        """`x`, which entered or left `module`, with an axis of examples, where it was a single one."""
        alone = len(module.kernel_size) + 1 if isinstance(module, _Conv) else 1
        return x.unsqueeze(0) if x.dim() == alone else x

    def rows(self, module: nn.Module, x: Tensor) -> Tensor:
        """The rows that W is applied to, shape (groups, examples, positions, inputs)."""
        patches = _patches(module, x) if isinstance(module, _Conv) else x.reshape(1, len(x), -1, x.shape[-1])
        parts = [] if self._weight is None else [patches]
        if self._bias is not None:
            parts.append(patches.new_ones(*patches.shape[:-1], 1))
        return torch.cat(parts, dim=-1)

    def slopes(self, module: nn.Module, g: Tensor) -> Tensor:
        """The gradients of the output's rows, shape (groups, examples, positions, outputs)."""
        if not isinstance(module, _Conv):
            return g.reshape(1, len(g), -1, g.shape[-1])
        cut = g.reshape(len(g), self.groups, g.shape[1] // self.groups, -1)
        return cut.permute(1, 0, 3, 2)

    def matrix(self, parts: Sequence[Tensor]) -> Tensor:
        """Tensors in the shapes of `params` as W, shape (groups, outputs, inputs)."""
        outputs = self.shape[0]
        return torch.cat([part.reshape(self.groups, outputs, -1) for part in parts], dim=-1)

    def parts(self, matrix: Tensor) -> list[Tensor]:
        """W cut into the shapes of `params`."""
        widths = [p.numel() // (self.groups * self.shape[0]) for p in self.params]
        cut = torch.split(matrix, widths, dim=-1)
        return [part.reshape(p.shape) for part, p in zip(cut, self.params, strict=True)]


def layers_of(model: nn.Module) -> list[Layer]:
    """The linear and convolution layers of `model` that are trained; those that share a weight are one.

    Left out are layers of which something else of the model holds the weight or bias too (an embedding tied
    to the output layer), as its part in the gradient is no such product.
    """
    found: dict[int, Layer] = {}
    elsewhere: set[int] = set()
    modules: Any = model.named_modules()
    every: list[tuple[str, nn.Module]] = list(modules)
    for name, module in every:
        own: list[Tensor] = [p for p in module.parameters(recurse=False) if p.requires_grad]
        if not _is_layer(module):
            elsewhere |= {id(p) for p in own}
            continue
        if not own:
            continue
        held = next((found[id(p)] for p in own if id(p) in found), None)
        if held is None:
            made = Layer(name, module)
            found |= {id(p): made for p in own}
        elif _alike(held.modules[0], module):
            held.modules.append(module)
        else:
            elsewhere |= {id(p) for p in [*own, *held.params]}
    distinct = {id(each): each for each in found.values()}.values()
    return [each for each in distinct if not any(id(p) in elsewhere for p in each.params)]


def why_without(model: nn.Module, parameter: Tensor) -> str:
    """Why a parameter of `model` has no block: what holds it, in words that end before its name."""
    own = [module for module in model.modules() if _is_layer(module)]
    holders = [module for module in own if any(p is parameter for p in module.parameters(recurse=False))]
    if not holders:
        return "of no linear or convolution layer"
    times: dict[int, int] = {}
    for module in model.modules():
        for p in module.parameters(recurse=False):
            times[id(p)] = times.get(id(p), 0) + 1
    if any(times[id(p)] > 1 for module in holders for p in module.parameters(recurse=False)):
        return "tied, and not used alike in every place"
    return "of a layer too wide for factors, or used otherwise than by its call"


def _is_layer(module: nn.Module) -> bool:
    """Whether it is linear or a convolution, with a weight that is a parameter (no weight norm)."""
    return isinstance(module, nn.Linear | _Conv) and isinstance(cast(object, module.weight), nn.Parameter)


def _alike(one: nn.Module, other: nn.Module) -> bool:
    """Whether both apply the same weight and bias in the same way."""
    return type(one) is type(other) and one.weight is other.weight and one.bias is other.bias


def _patches(module: _Conv, x: Tensor) -> Tensor:
    """What each position of a convolution sees, shape (groups, examples, positions, channels * kernel)."""
    dims = len(module.kernel_size)
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padding = module._reversed_padding_repeated_twice  # pyright: ignore[reportPrivateUsage]
    x = functional.pad(x, padding, mode=mode)
    for axis in range(dims):
        span = (module.kernel_size[axis] - 1) * module.dilation[axis] + 1
        x = x.unfold(2 + axis, span, module.stride[axis])[..., :: module.dilation[axis]]
    examples, places = len(x), list(range(2, 2 + dims))
    kernel = list(range(2 + dims, 2 + 2 * dims))
    x = x.reshape(examples, module.groups, -1, *x.shape[2:])
    order = [1, 0, *(each + 1 for each in places), 2, *(each + 1 for each in kernel)]
    x = x.permute(*order)
    positions = 1
    for each in x.shape[2 : 2 + dims]:
        positions *= each
    return x.reshape(module.groups, examples, positions, -1)
