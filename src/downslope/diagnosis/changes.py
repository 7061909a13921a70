"""What a repair changes, as code to read and to copy: a recipe file holds names, some changes are code."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from downslope.core import edits as core_edits
from downslope.core.edits import Edit, ReplaceModule
from downslope.core.plain import plain
from downslope.core.stated import reference

_HEAD = '''"""What a repair changes beside the recipe, as code.

`downslope fit TASK --recipe fixed.toml` applies what that file can hold by itself. To have all of it in the
task file, keep this file beside it, copy the settings of fixed.toml into recipe(), and train without it:

    from {module} import changed

    def problem():
        return changed(ds.Problem(...), recipe())[0]   # the ds.Problem(...) that is there now
"""

{imports}


def changed(problem, recipe):
'''


def changes(edits: Sequence[Edit], module: str) -> str:
    """A Python module whose ``changed(problem, recipe)`` applies `edits`; a comment says each in words.

    Its docstring says how a task file uses it, by the name `module`.

    An objective that is an adapter of the user's own is written out; other code cannot be, and its line
    raises, which says what to put there.
    """
    lines: list[str] = []
    for edit in edits:
        said = [f"    # in the model's own code: {line}" for line in in_model(edit)]
        means = textwrap.wrap(edit.meaning, 100, initial_indent="    #   ", subsequent_indent="    #   ")
        lines += [f"    # {edit}", *means, *said, f"    {_applied(edit)}"]
    body = "\n".join([*lines, "    return problem, recipe"]) + "\n"
    code = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    imports = ["import torch", ""] if "torch." in code else []
    return _HEAD.format(imports="\n".join([*imports, "import downslope as ds"]), module=module) + body


def holds_code(edit: Edit) -> bool:
    """Whether an edit is code that no recipe file can hold."""
    return core_edits.code_of(plain(edit.to_dict())) is not None


def in_model(edit: Edit) -> list[str]:
    """The changes to make where the model is written, a line each; none where no module changes."""
    if isinstance(edit, ReplaceModule):
        made = f"{reference(edit.factory) or edit.factory}".replace(":", ".")
        given = ", ".join(f"{key}={value!r}" for key, value in edit.arguments.items())
        return [f"model.get_submodule({edit.name!r}) becomes {made}({given})"]
    return list(getattr(edit, "in_code", ()))


def _applied(edit: Edit) -> str:
    if not holds_code(edit):
        return f"problem, recipe = {_made(edit)}.apply(problem, recipe)"
    way = getattr(getattr(edit, "objective", None), "in_code", None)
    if way is not None:
        return f"objective = problem.objective\n    problem = problem.edit(objective={way})"
    return f"raise NotImplementedError({f'{edit}: put your own code here, which has no name to import'!r})"


def _made(edit: Edit) -> str:
    """The call that makes an edit again."""
    saved: dict[str, Any] = edit.to_dict()
    given = [
        f"{each.name}={plain(saved[each.name])!r}"
        for each in fields(edit)
        if each.name in saved and getattr(edit, each.name) != each.default
    ]
    return f"ds.edits.{type(edit).__name__}({', '.join(given)})"
