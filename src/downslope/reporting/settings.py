"""What is needed to do it again: recipe, problem, choices and environment, folded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from downslope.core.errors import RecipeError
from downslope.core.run import Run
from downslope.reporting import facts
from downslope.reporting.markup import Section, pairs, text
from downslope.reporting.numerals import numeral


def section(run: Run, *, key: str = "settings", title: str = "To do it again") -> Section:
    """Recipe, problem, choices and environment of a run."""
    folds = [_fold("Recipe", code(f"{key}-recipe", recipe_text(run), "recipe.toml"), shown=False)]
    for name, table in (
        ("Problem", _problem(run)),
        ("Convexity", run.facts.get("convexity") or {}),
        ("Weights at the start", _weights(run)),
        ("Initialisation", _init(run)),
        ("Weights of the tasks, as learnt", run.facts.get("task_weights") or {}),
        ("Depths", _depths(run)),
        ("Chosen by device and timing", run.choices),
        ("Environment", run.environment),
        ("Layers", _layers(run)),
    ):
        rows = list(_flat(table))
        if rows:
            folds.append(_fold(name, pairs(rows)))
    source = str(cast("Mapping[str, Any]", run.facts.get("init") or {}).get("source") or "")
    if source:
        folds.append(_fold("Source of the initialisation", code(f"{key}-init", source, "init")))
    if run.folder is not None:
        folds.append(f'<p class="muted">Kept in <code>{text(run.folder)}</code></p>')
    body = f'<div class="card">{"".join(folds)}</div>'
    return Section(id=key, title=title, body=body, rank=90, short="Recipe")


def recipe_text(run: Run) -> str:
    """The recipe as TOML, or one line where its optimizer or initialisation is code."""
    if run.recipe is None:
        return f"# a loop of the user's own: {facts.recipe(run) or 'nothing was seen of its optimizer'}"
    try:
        return run.recipe.to_toml()
    except RecipeError:
        which = " and ".join(run.recipe.coded) or "optimizer"
        return f"# what is code, no file holds: {which}\n# {run.recipe.describe()}"


def code(key: str, content: str, name: str) -> str:
    """A text to be copied, with its file name."""
    return (
        f'<div class="pre-head"><code class="muted">{text(name)}</code>'
        f'<button type="button" class="copy" data-copies="{key}">Copy</button></div>'
        f'<pre id="{key}" tabindex="0">{text(content.rstrip())}</pre>'
    )


def _fold(title: str, body: str, *, shown: bool = False) -> str:
    return f"<details{' open' if shown else ''}><summary>{text(title)}</summary>{body}</details>"


def _problem(run: Run) -> dict[str, Any]:
    """What the problem is; objective and metric by the names that one gives them."""
    said = dict(facts.described(run))
    if said.get("objective"):
        said["objective"] = facts.objective_name(run)
    if said.get("metric"):
        said["metric"] = facts.metric_name(run)
    return said


def _weights(run: Run) -> dict[str, Any]:
    found = cast("Mapping[str, Any]", run.facts.get("weights") or {})
    kept = ("line", "place", "missing", "unexpected", "fingerprint")
    shapes = cast("Mapping[str, Any]", found.get("reshaped") or {})
    return {key: found.get(key) for key in kept} | {"other shapes": ", ".join(shapes)}


def _init(run: Run) -> dict[str, Any]:
    """An initialisation that is code: its name and where it stands; the source has a box of its own."""
    found = cast("Mapping[str, Any]", run.facts.get("init") or {})
    place = f"{found['file']}, line {found['line']}" if found.get("file") else ""
    return {"name": found.get("name"), "place": place}


def _depths(run: Run) -> dict[str, Any]:
    rows = cast("Sequence[Mapping[str, Any]]", run.facts.get("depth") or ())
    return {
        str(row["name"]): f"rate times {row['factor']:.3g}, from epoch {row['from_epoch'] + 1}, "
        f"{row['parameters']} parameters"
        for row in rows
    }


def _layers(run: Run) -> dict[str, Any]:
    modules = cast("Mapping[str, Mapping[str, Any]]", run.facts.get("modules") or {})
    return {
        name: f"{table.get('type', '?')}, {table.get('parameters', 0)} parameters"
        for name, table in modules.items()
    }


def _flat(table: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for key, value in table.items():
        if value is None or value in ("", [], {}):
            continue
        if isinstance(value, Mapping):
            named = cast("Mapping[str, Any]", value)
            yield key.replace("_", " "), ", ".join(f"{k}={v}" for k, v in named.items())
        elif isinstance(value, (list, tuple)):
            listed = cast("list[Any]", value)
            yield key.replace("_", " "), " ".join(_word(each) for each in listed)
        else:
            yield key.replace("_", " "), _word(value)


def _word(value: Any) -> str:
    if isinstance(value, float):
        return numeral(value)
    if isinstance(value, Mapping):
        named = cast("Mapping[str, Any]", value)
        return " ".join(f"{k}={v}" for k, v in named.items())
    return str(value)
