"""What was recorded while training went on: columns by step, and statistics by module and step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Series(NamedTuple):
    """One column where it was recorded."""

    steps: Ints
    """Optimizer steps taken when the value was recorded, ascending, shape (k,)."""
    values: Floats
    """The values, shape (k,)."""


class Probe(NamedTuple):
    """One statistic of several modules at sampled steps."""

    steps: Ints
    """Steps at which it was sampled, shape (k,)."""
    modules: tuple[str, ...]
    """Qualified names, in the order of the forward pass, length m."""
    values: Floats
    """Shape (k, m); NaN where a module gave nothing at that step."""

    def of(self, module: str) -> Floats:
        """The column of one module, shape (k,)."""
        return self.values[:, self.modules.index(module)]


class History(Mapping[str, Floats]):
    """Columns by step: ``history["train_loss"]``, aligned with ``history["step"]``, NaN where not recorded.

    ``history.series("valid_loss")`` gives one column without its gaps. ``dict(history)`` is what a table
    library takes. `step` counts optimizer steps taken; 0 is before the first.
    """

    def __init__(self) -> None:
        self._steps: dict[str, list[int]] = {}
        self._values: dict[str, list[float]] = {}
        self._aligned: dict[str, Floats] | None = None

    def extend(self, name: str, steps: Sequence[int], values: Sequence[float]) -> None:
        """Append `values` of column `name`, recorded at `steps`."""
        self._steps.setdefault(name, []).extend(steps)
        self._values.setdefault(name, []).extend(values)
        self._aligned = None

    def log(self, step: int, **values: float) -> None:
        """Append one value to each of several columns."""
        for name, value in values.items():
            self.extend(name, (step,), (float(value),))

    def series(self, name: str) -> Series:
        """Column `name` where it was recorded; empty if it never was. A step said twice keeps the later."""
        steps = np.asarray(self._steps.get(name, ()), dtype=np.int64)
        values = np.asarray(self._values.get(name, ()), dtype=np.float64)
        if bool((steps[1:] > steps[:-1]).all()):
            return Series(steps, values)
        kept, last = np.unique(steps[::-1], return_index=True)
        return Series(kept, values[::-1][last])

    def last(self, name: str) -> float | None:
        """The latest value of column `name`; None if there is none."""
        values = self._values.get(name)
        return values[-1] if values else None

    def truncate(self, step: int) -> None:
        """Forget what was recorded after `step` (a resumed run records it again)."""
        for name, steps in self._steps.items():
            keep = [i for i, each in enumerate(steps) if each <= step]
            self._steps[name] = [steps[i] for i in keep]
            self._values[name] = [self._values[name][i] for i in keep]
        self._aligned = None

    def _columns(self) -> dict[str, Floats]:
        if self._aligned is None:
            named = {name: self.series(name) for name in self._steps}
            every = [each.steps for each in named.values()]
            joined = np.concatenate(every) if every else np.empty(0, dtype=np.int64)
            index, _ = np.unique(joined, return_index=True)  # without, it loads numpy.ma
            columns: dict[str, Floats] = {"step": index.astype(np.float64)}
            for name, each in named.items():
                column = np.full(index.shape, np.nan)
                column[np.searchsorted(index, each.steps)] = each.values
                columns[name] = column
            self._aligned = columns
        return self._aligned

    def __getitem__(self, name: str) -> Floats:
        columns = self._columns()
        if name not in columns:
            raise KeyError(f"{name!r} was not recorded; recorded: {', '.join(columns)}")
        return columns[name]

    def __contains__(self, name: object) -> bool:
        return name == "step" or name in self._steps

    def __iter__(self) -> Iterator[str]:
        return iter(("step", *self._steps))

    def __len__(self) -> int:
        return 1 + len(self._steps)

    def __repr__(self) -> str:
        rows = len(self["step"])
        return f"History({rows} steps: {', '.join(self)})"


class Probes(Mapping[str, Probe]):
    """Statistics by module: ``probes["grad_norm"]`` is a `Probe`."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[int, dict[str, float]]] = {}
        self._order: dict[str, None] = {}

    def log(self, step: int, statistic: str, values: Mapping[str, float]) -> None:
        """Record `values` (module to number) of `statistic` at `step`."""
        self._rows.setdefault(statistic, {}).setdefault(step, {}).update(values)
        self._order.update(dict.fromkeys(values))

    def truncate(self, step: int) -> None:
        """Forget what was recorded after `step`."""
        for rows in self._rows.values():
            for late in [each for each in rows if each > step]:
                del rows[late]

    def __getitem__(self, statistic: str) -> Probe:
        rows = self._rows[statistic]
        present = {name for row in rows.values() for name in row}
        modules = tuple(name for name in self._order if name in present)
        steps = np.asarray(sorted(rows), dtype=np.int64)
        values = np.asarray([[rows[int(s)].get(m, np.nan) for m in modules] for s in steps], dtype=np.float64)
        return Probe(steps, modules, values.reshape(len(steps), len(modules)))

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def encode(kind: str, **content: Any) -> dict[str, Any]:
    """One line of a Run's append-only file."""
    return {"kind": kind, **content}


def retold(history: History, probes: Probes, facts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The lines from which `replay` makes the same three again; `facts` hold plain values."""
    for name, value in facts.items():
        yield encode("fact", name=name, value=value)
    for name in history:
        if name != "step":
            series = history.series(name)
            yield encode("columns", steps=series.steps.tolist(), values={name: series.values.tolist()})
    for statistic, probe in probes.items():
        for step, row in zip(probe.steps.tolist(), probe.values.tolist(), strict=True):
            told = {m: value for m, value in zip(probe.modules, row, strict=True) if value == value}
            yield encode("probe", step=step, statistic=statistic, values=told)


def replay(
    lines: Sequence[Mapping[str, Any]], history: History, probes: Probes, facts: dict[str, Any]
) -> None:
    """Read the lines of a Run's file back, in order.

    Kinds: ``columns`` (steps, and per column a list), ``probe`` (step, statistic, values by module),
    ``fact`` (name, value), ``rewind`` (a resumed run starts again after `step`).
    """
    for line in lines:
        match line["kind"]:
            case "columns":
                for name, values in line["values"].items():
                    history.extend(name, line["steps"], values)
            case "probe":
                probes.log(line["step"], line["statistic"], line["values"])
            case "fact":
                facts[line["name"]] = line["value"]
            case "rewind":
                history.truncate(line["step"])
                probes.truncate(line["step"])
            case _:
                continue
