"""Constraints as text, so that a file and a command line can hold them, and back."""

from __future__ import annotations

import ast
from typing import Any

from downslope.constraints.constraint import Constraint
from downslope.core import names
from downslope.core.errors import DownslopeError, InputError


def read(given: Any) -> Any:
    """The constraint that `given` stands for.

    Args:
        given: A constraint; a name ("non_negative"); a text of names with arguments, joined by ``&`` and
            ``|`` ("box(0, 1) & l2_ball(2)", the form that ``str(constraint)`` has); or a function of the
            model, which comes back as it is.

    Raises:
        UnknownNameError: a name that no table holds; the nearest is told.
        InputError: a text that is no such thing, or an argument that the set does not have.
    """
    if isinstance(given, Constraint) or given is None:
        return given
    if isinstance(given, str):
        if ":" in given and "(" not in given:
            return read(names.load(given))
        try:
            return _made(ast.parse(given.strip(), mode="eval").body, given)
        except SyntaxError:
            raise _no_set(given) from None
    if isinstance(given, type):
        raise InputError(f"constraint={given.__name__} is a class: make one, {given.__name__}()")
    if not callable(given):
        raise InputError(
            f"constraint={given!r}: must be a function of the model, called after every step, a name such as "
            "'non_negative', or a set of ds.constraints"
        )
    return given


def _made(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitAnd, ast.BitOr)):
        left, right = _made(node.left, text), _made(node.right, text)
        return left & right if isinstance(node.op, ast.BitAnd) else left | right
    if isinstance(node, ast.Name):
        return _called(node.id, [], {}, text)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        arguments = [_value(each, text) for each in node.args]
        return _called(
            node.func.id, arguments, {str(each.arg): _value(each.value, text) for each in node.keywords}, text
        )
    raise _no_set(text)


def _value(node: ast.expr, text: str) -> Any:
    said = ast.unparse(node).replace("float('inf')", "inf")
    if said in ("inf", "-inf"):
        return float(said)
    if isinstance(node, ast.Name):  # a word needs no quotes: by=parametrisation
        return node.id
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise _no_set(text) from None


def _called(name: str, arguments: list[Any], named: dict[str, Any], text: str) -> Any:
    make = names.resolve("constraint", name)
    try:
        return make(*arguments, **named)
    except DownslopeError:
        raise
    except TypeError as error:
        said = str(error).replace(f"{make.__name__}()", name)
        raise InputError(f"constraint={text!r}: {said}") from None


def _no_set(text: str) -> InputError:
    return InputError(
        f"constraint={text!r}: must be a name with its arguments, such as 'non_negative' or 'box(0, 1) & "
        "l2_ball(2)'"
    )
