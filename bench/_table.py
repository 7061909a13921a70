"""What `optimizers.py` shows and publishes: lines for people, chapter 22's tables, its picture's file."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from _steps import MATRIX, METHODS

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "bench" / "optimizers.json"
CHAPTER = ROOT / "docs" / "guide" / "22-optimizers.md"
BLOCK = re.compile(r"(<!-- bench/optimizers.py writes this -->\n).*?(<!-- until here -->)", re.DOTALL)

Found = dict[str, Any]

COLUMNS = (
    "ours",
    "torch loop",
    "torch foreach",
    "torch fused",
    "pytorch_optimizer",
    "optimi",
    "heavyball",
    "optax",
)


def shown(found: Found) -> str:
    """One line for each contestant of a method on a set."""
    lines = [f"{found['set']}, {found['method']}"]
    for row in found["rows"]:
        if "failed" in row:
            lines.append(f"  {row['contestant']:18} {row['failed']}")
            continue
        middle, low, high = row["add_"]
        fraction = f"{middle:.2f} [{low:.2f}, {high:.2f}] of add_, {row['out'][0]:.2f} of out"
        times = [f"{1e3 * row[name]:.3f}" for name in ("median", "mean", "maximum")]
        lines.append(
            f"  {row['contestant']:18} {fraction}, {times[0]} ms, mean {times[1]}, most {times[2]};"
            f" first {row['first']:.2f} s"
        )
    return "\n".join(lines)


def publish(found: Found) -> None:
    """Writes the figures, the table of the chapter and its picture."""
    FIGURES.write_text(json.dumps(_rounded(found), indent=1) + "\n")
    subprocess.run([sys.executable, "-m", "scripts.pictures", "optimizers"], cwd=ROOT, check=True)
    text = CHAPTER.read_text(encoding="utf-8")
    CHAPTER.write_text(BLOCK.sub(lambda it: it[1] + tables(found) + it[2], text), encoding="utf-8")


def published() -> Found:
    """What was published last; nothing where there is none."""
    return json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}


def revision() -> str:
    """The commit that is measured."""
    told = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return told.stdout.strip()


def joined(old: Found, new: Found) -> Found:
    """`new`, with what `old` has of other methods and sets, in the order of `old`.

    Raises:
        ValueError: they are of other processors, threads or releases of torch.
    """
    for name in ("cpu", "threads", "torch"):
        if old and old[name] != new[name]:
            raise ValueError(f"{name}: published {old[name]!r}, now {new[name]!r}; publish all anew")
    found = {(each["set"], each["method"]): each for each in (*old.get("results", ()), *new["results"])}
    builds = {(each["method"], each["cold"]): each for each in (*old.get("builds", ()), *new["builds"])}
    return {**new, "results": list(found.values()), "builds": list(builds.values())}


def _rounded(found: Any) -> Any:
    """All numbers to four digits."""
    if isinstance(found, float):
        return float(f"{found:.4g}")
    if isinstance(found, dict):
        return {key: _rounded(value) for key, value in found.items()}
    return [_rounded(each) for each in found] if isinstance(found, list) else found


def tables(found: Found) -> str:
    """All tables of the chapter, as markdown."""
    machine = f"{found['cpu']}; {found['threads']} threads, torch {found['torch']}; {_measured(found)}."
    head = (
        f"![Fractions of the bandwidth](../pictures/optimizers.svg)\n\n{machine} A figure is the fraction of"
        " torch's addition, in place, of as many bytes as a step must move: median [quartiles]; above 1 it"
        " moves them faster.\n"
    )
    parts = [head]
    titles = dict.fromkeys(each["set"] for each in found["results"])
    for title in titles:
        chosen = [each for each in found["results"] if each["set"] == title]
        matrix = all(each["method"] in MATRIX for each in chosen)
        parts.append(_of_matrices(title, chosen) if matrix else _of_elements(title, chosen))
    return "\n".join([*parts, _of_builds(found["builds"]), ""])


def _measured(found: Found) -> str:
    """At which commits what was measured: the most at the one that is named first."""
    at: dict[str, dict[str, list[str]]] = {}
    for each in found["results"]:
        at.setdefault(each["revision"], {}).setdefault(METHODS[each["method"]].title, []).append(each["set"])
    first, *others = sorted(at, key=lambda revision: -len(at[revision]))
    parts = [f"commit {first}"]
    for other in others:
        told = {name: ", ".join(at[first].get(name, ())) for name in at[other]}
        names = [name + f" (not of {rest})" * bool(rest) for name, rest in told.items()]
        parts.append(f"{', '.join(names)} at {other}")
    return "; ".join(parts)


def _of_elements(title: str, found: list[Found]) -> str:
    """Fractions; of thousand tiny tensors microseconds, as their bytes are not what they cost."""
    tiny = title.startswith("1,000")
    names = [
        name for name in COLUMNS if any(name == row["contestant"] for each in found for row in each["rows"])
    ]
    unit = "microseconds" if tiny else "fraction"
    lines = [f"**{title}** ({unit})\n", f"| method | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for each in found:
        rows = {row["contestant"]: row for row in each["rows"]}
        cells = [_cell(rows.get(name), name == "ours", tiny) for name in names]
        lines.append(f"| {METHODS[each['method']].title} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _cell(row: Found | None, ours: bool, tiny: bool) -> str:
    if row is None or "failed" in row:
        return "" if row is None else "fails"
    if tiny:
        return f"{1e6 * row['median']:.0f}"
    middle, low, high = row["add_"]
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]" if ours else f"{middle:.2f}"


def _of_matrices(title: str, found: list[Found]) -> str:
    lines = [
        f"**{title}** (milliseconds, mean and maximum)\n",
        "| method | contestant | mean | maximum |",
        "|---|---|---|---|",
    ]
    for each in found:
        for row in each["rows"]:
            if "failed" not in row:
                name = METHODS[each["method"]].title
                lines.append(
                    f"| {name} | {row['contestant']} | {1e3 * row['mean']:.1f} | {1e3 * row['maximum']:.1f} |"
                )
    return "\n".join([*lines, ""])


def _of_builds(rows: list[Found]) -> str:
    lines = [
        "**Until a kernel runs** (seconds, in fresh processes; numba's import apart)\n",
        "| method | code on the disk | numba's import | its build or load |",
        "|---|---|---|---|",
    ]
    for row in rows:
        if "failed" not in row:
            kept, own = ("no", f"{row['import']:.2f}") if row["cold"] else ("yes", "not needed")
            spent = row["first"] - row["again"]
            lines.append(f"| {METHODS[row['method']].title} | {kept} | {own} | {spent:.3f} |")
    return "\n".join([*lines, ""])
