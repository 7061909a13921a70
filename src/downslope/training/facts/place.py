"""Where in the user's own code the last activation is called, and the change that takes the call out.

The change is told as certain only where ``forward`` of the model's own class holds the one call of that name
and hands its result out at once: then nothing else can have made the output.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple, cast

from torch import nn

from downslope.core.adapted import unwrap

_SPACES = ("torch", "F", "functional", "special", "nn.functional", "torch.nn.functional", "torch.special")
"""Names under which the functions of torch are called; before the dot of a call anything else is a tensor."""


class _Call(NamedTuple):
    node: ast.Call
    inner: ast.expr
    """What goes into the activation."""
    handed_out: bool
    """Whether its result is returned by the statement itself, or by the one after it."""


def place(model: nn.Module, activation: str) -> dict[str, Any] | None:
    """The line of the model's own ``forward`` that calls `activation`; None where it is not exactly one.

    Returns:
        ``class``, ``file`` (short where it lies below the working directory), ``line``, ``old`` (the line as
        it stands), and ``new`` (the line without the call; None where that is not certain).
    """
    kind = type(unwrap(model))
    try:
        lines, first = inspect.getsourcelines(kind.forward)
        file = inspect.getsourcefile(kind.forward)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):  # typed at a prompt, compiled, or no Python
        return None
    if file is None or kind.__module__.startswith("torch."):
        return None
    calls = list(_calls(tree, activation))
    if len(calls) != 1:
        return None
    [call] = calls
    at = call.node.lineno - 1
    old = str(lines[at]).rstrip("\n")
    indent = len(lines[0]) - len(lines[0].lstrip())
    new = _without(old, indent, call) if call.handed_out else None
    return {"class": kind.__name__, "file": _short(file), "line": first + at, "old": old, "new": new}


def _calls(tree: ast.Module, name: str) -> Iterator[_Call]:
    """Calls of the function `name` in a ``forward``, what goes in, and whether it comes out as it is."""
    for owner in ast.walk(tree):
        given: Any = getattr(owner, "body", None)
        body = cast("list[ast.stmt]", given if isinstance(given, list) else [])
        for statement, follows in zip_longest(body, body[1:]):
            whole = statement.value if isinstance(statement, ast.Return | ast.Assign) else None
            for node in _own(cast("ast.stmt", statement)):
                if isinstance(node, ast.Call) and (inner := _inner(node, name)) is not None:
                    yield _Call(node, inner, node is whole and _returned(statement, follows))


def _own(statement: ast.stmt) -> Iterator[ast.AST]:
    """The nodes of a statement that belong to no statement inside it."""
    for child in ast.iter_child_nodes(statement):
        if not isinstance(child, ast.stmt):
            yield from ast.walk(child)


def _returned(statement: ast.stmt | None, follows: ast.stmt | None) -> bool:
    """Whether `statement` returns its value, or sets a name that the next one returns."""
    if isinstance(statement, ast.Return):
        return True
    if not isinstance(statement, ast.Assign) or not isinstance(follows, ast.Return):
        return False
    names = [each.id if isinstance(each, ast.Name) else "" for each in statement.targets]
    return isinstance(follows.value, ast.Name) and names == [follows.value.id]


def _inner(node: ast.Call, name: str) -> ast.expr | None:
    """What goes into a call of `name`; None of another call, and of a module that bears that name."""
    if isinstance(node.func, ast.Attribute) and node.func.attr == name:
        before = ast.unparse(node.func.value)
        if before == "self":
            return None
        if before not in _SPACES:
            return node.func.value
    elif not (isinstance(node.func, ast.Name) and node.func.id == name):
        return None
    named = next((each.value for each in node.keywords if each.arg == "input"), None)
    return node.args[0] if node.args else named


def _without(line: str, indent: int, call: _Call) -> str | None:
    """`line` with what goes into the call in the place of the call; None of one over several lines."""
    node, inner = call.node, call.inner
    if node.end_lineno != node.lineno or node.end_col_offset is None or inner.end_col_offset is None:
        return None
    told = line.encode()  # columns count bytes
    head, tail = told[: indent + node.col_offset], told[indent + node.end_col_offset :]
    kept = told[indent + inner.col_offset : indent + inner.end_col_offset]
    return (head + kept + tail).decode()


def _short(file: str) -> str:
    """A path below the working directory as it is said there."""
    path, here = Path(file).resolve(), Path.cwd().resolve()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
