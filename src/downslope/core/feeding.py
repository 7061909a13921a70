"""How the inputs of a batch reach a model: by place, by name, or as they stand, as its forward takes them.

Of ``((x, mask), y)`` a model gets ``forward(x, mask)``, of ``({"ids": ids, "mask": mask}, y)`` or of
``{"ids": ids, "mask": mask, "labels": y}`` ``forward(ids=ids, mask=mask)``; a forward of one argument gets
the tuple, or the dict, as a whole, and of a dict with one input that input.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

from downslope.core.adapted import unwrap
from downslope.core.batches import Parts, Split, whole_split
from downslope.core.errors import DataError


class Fed:
    """A split whose inputs are arranged as a model's forward takes them.

    Args:
        split: ``batch -> (args, kwargs, target)``.
        made: Gives a model, of which only the forward is looked at; called once at most, and only for inputs
            of which the batch alone does not say how they go.
    """

    def __init__(self, split: Split, made: Callable[[], nn.Module]) -> None:
        self.split, self.made = split, made
        self.form: inspect.Signature | None = None
        self.name = ""
        self._asking = False

    def __call__(self, batch: Any) -> Parts:
        """Arguments, keyword arguments and target.

        Raises:
            DataError: the forward takes no such inputs.
        """
        parts = Parts(*self.split(batch))
        args, kwargs, _ = parts
        if not kwargs and len(args) == 1 and not isinstance(args[0], (tuple, list, Mapping)):
            return parts
        if self.form is None:
            if self._asking:  # a model of the catalogue looks at the data for its sizes, and at no order
                return parts
            self._asking = True
            try:
                self.learn(self.made())
            finally:
                self._asking = False
        args, kwargs = self._arranged(args, kwargs)
        return parts._replace(args=args, kwargs=kwargs)

    def learn(self, model: nn.Module) -> None:
        """Look at the forward of `model`."""
        inner = unwrap(model)
        self.name = type(inner).__name__
        forward: Any = inner.forward
        if isinstance(forward, types.MethodType) and isinstance(forward.__func__, types.FunctionType):
            self.form = _written(forward.__func__)
        else:
            self.form = _form(forward)

    def __deepcopy__(self, memo: dict[int, Any]) -> Fed:
        del memo  # what makes a model holds the data
        return self

    def _arranged(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        nested: Any = args[0] if len(args) == 1 and not kwargs else None
        if isinstance(nested, Mapping):
            kwargs = {str(key): value for key, value in cast("Mapping[Any, Any]", nested).items()}
        if kwargs and (not args or nested is not None):
            return self._named(kwargs)
        if isinstance(nested, (tuple, list)):
            return self._placed(tuple(cast("Sequence[Any]", nested)))
        if not self._takes(*args, **kwargs):
            raise DataError(self._refusal(f"{len(args)} inputs ({_shapes(args)})"))
        return args, kwargs

    def _named(self, inputs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if self._takes(**inputs):
            return (), inputs
        values = tuple(inputs.values())
        whole = values if len(values) == 1 else (inputs,)
        if self._takes(*whole):
            return whole, {}
        raise DataError(self._refusal(f"inputs named {', '.join(inputs)}"))

    def _placed(self, inputs: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if self._takes(*inputs):
            return inputs, {}
        if self._takes(inputs):
            return (inputs,), {}
        raise DataError(self._refusal(f"{len(inputs)} inputs ({_shapes(inputs)})"))

    def _takes(self, *args: Any, **kwargs: Any) -> bool:
        try:
            (self.form or inspect.signature(_anything)).bind(*args, **kwargs)
        except TypeError:
            return False
        return True

    def _refusal(self, given: str) -> str:
        takes = f"the data gives {given}, and {self.name}.forward takes {self.form}"
        if self.split is whole_split:
            return f"{takes}: without an objective the whole batch goes to the model, which returns a loss"
        return f"{takes}: name or count them alike, or give split=, batch -> (args, kwargs, target)"


def fed(model: nn.Module, inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments and keyword arguments of inputs that stand alone, without a target.

    Raises:
        DataError: the forward takes no such inputs.
    """
    split = Fed(lambda batch: ((batch,), {}, None), lambda: model)
    args, kwargs, _ = split(inputs)
    return args, kwargs


def _form(forward: Callable[..., Any]) -> inspect.Signature:
    """How `forward` takes its arguments, without annotations."""
    try:
        form = inspect.signature(forward)
    except (TypeError, ValueError):  # compiled code may tell nothing
        form = inspect.signature(_anything)
    bare = [each.replace(annotation=each.empty) for each in form.parameters.values()]
    return form.replace(parameters=bare, return_annotation=form.empty)


@functools.lru_cache(maxsize=64)
def _written(method: types.FunctionType) -> inspect.Signature:
    """`_form` of a method, which many models share."""
    return _form(types.MethodType(method, object()))


def _anything(*args: Any, **kwargs: Any) -> None:
    """Stands for a forward of which nothing is known."""


def _shapes(inputs: Sequence[Any]) -> str:
    return ", ".join(
        str(tuple(each.shape)) if isinstance(each, Tensor) else type(each).__name__ for each in inputs
    )
