"""Several tasks on one trunk: shared low layers, and a head for each task (Caruana 1997)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from downslope.core import batches, names
from downslope.core.errors import ModelError
from downslope.models.parts import activation_of, sizes


class MultiTask(nn.Module):
    """``{task: h_task(phi(x))}``, phi the trunk, computed once.

    Args:
        trunk: phi; of an output with several tensors the first floating one is handed on.
        heads: Task to h.
    """

    def __init__(self, trunk: nn.Module, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleDict(heads)

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The output of every head, by task."""
        given: Any = self.trunk(*args, **kwargs)
        shared = given
        if not isinstance(given, Tensor):
            shared = next((leaf for leaf in batches.tensors(given) if leaf.is_floating_point()), given)
        return {task: head(shared) for task, head in self.heads.items()}


def multi_task(
    trunk: str | nn.Module | Callable[..., nn.Module] = "mlp",
    heads: Mapping[str, int | nn.Module] | None = None,
    *,
    shared: int = 64,
    activation: str = "relu",
    **arguments: Any,
) -> nn.Module:
    """A trunk that all tasks share, and a head for each; train it with `downslope.objectives.composite`.

    In a problem, ``model="multi_task"``, sizes of the trunk are read from the data, and heads that are left
    out from the tasks of a composite objective and their targets.

    Args:
        trunk: What the tasks share: a module; or a name of the catalogue ("mlp", "cnn") or a factory, which
            is called with `arguments` and ``outputs=shared`` and followed by `activation`.
        heads: task to its head: a module on the shared features, or a number of outputs, at least 1, for an
            affine map. At least one; names without a dot.
        shared: number of features that the tasks share, at least 1, for a trunk that is made here.
        activation: after a trunk that is made here, a name such as "relu", "tanh", "gelu".
        **arguments: of the trunk's factory: ``inputs``, ``width``, ``depth``.

    Returns:
        A module from what the trunk takes to a dict, task to (n, outputs), without activations at the ends.

    Raises:
        ModelError: no head, a size below 1, a name that is not known, or a factory that fails.
    """
    if not heads:
        raise ModelError("heads is empty: give each task its head, such as heads={'digit': 10, 'odd': 1}")
    for task, head in heads.items():
        if "." in task or not task:
            raise ModelError(f"heads: {task!r} is no name of a task: it must be a word without a dot")
        if not isinstance(head, nn.Module):
            sizes(**{f"heads[{task}]": head})
    sizes(shared=shared)
    if isinstance(trunk, nn.Module):
        if arguments:
            raise ModelError(
                f"{', '.join(arguments)}: a trunk that is a module is made already; leave it out"
            )
        return MultiTask(
            trunk, {t: h if isinstance(h, nn.Module) else nn.LazyLinear(h) for t, h in heads.items()}
        )
    factory: Callable[..., nn.Module] = names.resolve("model", trunk) if isinstance(trunk, str) else trunk
    try:
        body = factory(outputs=shared, **arguments)
    except TypeError as error:
        raise ModelError(
            f"multi_task: the trunk {trunk!r} could not be made: {error}; give it beside the heads, such as "
            "inputs=64, or take ds.Problem(model='multi_task', ...), which reads it from the data"
        ) from None
    made = {t: h if isinstance(h, nn.Module) else nn.Linear(shared, h) for t, h in heads.items()}
    return MultiTask(nn.Sequential(body, activation_of(activation)), made)
