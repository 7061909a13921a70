"""The report: what is known about runs, diagnoses and repairs, in one HTML file that works offline."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from downslope.core.errors import InputError
from downslope.core.run import Run
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.repair import Repair
from downslope.init import Measured
from downslope.racing.batch_sizes import BatchRace
from downslope.racing.result import Race
from downslope.reporting import (
    answers,
    cards,
    curves,
    escapes,
    facts,
    ground,
    landscape,
    layers,
    learning,
    page,
    probing,
    proof,
    races,
    rates,
    reaching,
    searching,
    settings,
    starts,
    terrain,
    verdict,
)
from downslope.reporting.animation import Animation, animate, escaping
from downslope.reporting.markup import Section, text
from downslope.terrain.escapes.trials import Escapes
from downslope.terrain.exact.solution import Solution
from downslope.terrain.expansion import Expansion
from downslope.terrain.modes.connect import Connection
from downslope.terrain.paths.paths import Paths
from downslope.terrain.recurrence.lags import Lags
from downslope.terrain.slices.slice import Slice
from downslope.terrain.surveys.terrain import Terrain
from downslope.training.batch_table import BatchTable
from downslope.training.bias_variance import BiasVariance
from downslope.training.environment import environment
from downslope.training.layer_probe import LayerProbes
from downslope.training.learning_curve import LearningCurve
from downslope.training.rate_range import RateRange
from downslope.tuning.search import Search


@dataclass(frozen=True)
class Report:
    """A page that can be saved.

    Attributes:
        html: The whole page; scripts and styles are inside, nothing is loaded from anywhere.
    """

    html: str = field(repr=False)

    def save(self, path: str | Path) -> Path:
        """Write the page to `path`, at once and whole: a reader never sees half of it.

        A link is followed; what is no file, such as a device, is written to and never replaced.

        Raises:
            InputError: `path` is a folder or cannot be written.
        """
        target = Path(path)
        if target.is_dir():
            raise InputError(
                f"report path {target} is a folder: name a file, such as {target / 'report.html'}"
            )
        partial = ""
        try:
            if target.is_symlink():
                target = target.resolve()
            if target.exists() and not target.is_file():
                target.write_text(self.html, encoding="utf-8")
                return target
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, partial = tempfile.mkstemp(dir=target.parent, prefix=".report-", suffix=".partial")
            with os.fdopen(handle, "w", encoding="utf-8") as opened:
                opened.write(self.html)
            Path(partial).chmod(0o666 & ~_umask())
            Path(partial).replace(target)
        except OSError as error:
            if partial:
                Path(partial).unlink(missing_ok=True)
            raise InputError(f"report path {target} cannot be written: {error.strerror or error}") from None
        return target

    def _repr_html_(self) -> str:
        from html import escape

        return f'<iframe srcdoc="{escape(self.html)}" width="100%" height="900" style="border:0"></iframe>'


@dataclass
class _Content:
    """What there is to show, sorted by kind; each thing brings what it was made from."""

    runs: list[Run] = field(default_factory=list[Run])
    diagnoses: list[Diagnosis] = field(default_factory=list[Diagnosis])
    repairs: list[Repair] = field(default_factory=list[Repair])
    starts: list[Measured] = field(default_factory=list[Measured])
    ranges: list[RateRange] = field(default_factory=list[RateRange])
    probes: list[LayerProbes] = field(default_factory=list[LayerProbes])
    others: list[Section] = field(default_factory=list[Section])

    def add_run(self, run: Run) -> None:
        if not any(_same(run, each) for each in self.runs):
            self.runs.append(run)

    def add_diagnosis(self, found: Diagnosis) -> None:
        if not any(found is each for each in self.diagnoses):
            self.diagnoses.append(found)
        self.add_run(found.run)

    def add_start(self, start: Measured) -> None:
        self.starts.append(start)

    def add_curve(self, curve: LearningCurve) -> None:
        self.others.append(learning.curve_section(curve))
        self.add_run(curve.runs[-1])

    def add_search(self, found: Search) -> None:
        key = f"search{len(self.others) or ''}"
        self.others.append(searching.section(found, key=key))

    def add_race(self, found: Race) -> None:
        self.others.append(races.section(found, key=f"race{len(self.others) or ''}"))

    def add_batch_race(self, found: BatchRace) -> None:
        self.others.append(races.batch_section(found, key=f"clock{len(self.others) or ''}"))

    def add_bias(self, found: BiasVariance) -> None:
        self.others.append(learning.bias_section(found))

    def add_solution(self, found: Solution) -> None:
        self.others.append(answers.solution_section(found, key=f"exact{len(self.others) or ''}"))

    def add_animation(self, found: Animation) -> None:
        self.others.append(found.section(f"moving{len(self.others) or ''}"))

    def add_escape(self, found: Escapes) -> None:
        self.others.append(escapes.section(found, f"escape{len(self.others) or ''}"))
        if any(len(each.paths) for each in found) and len(found.site.point) <= 2:
            self.add_animation(escaping(found))

    def add_batches(self, found: BatchTable) -> None:
        self.others.append(answers.batch_section(found, key=f"batches{len(self.others) or ''}"))

    def add_terrain(self, found: Terrain) -> None:
        self.others.append(terrain.section(found, key=f"terrain{len(self.others) or ''}"))

    def add_slice(self, found: Slice) -> None:
        self.others.append(landscape.slice_section(found, key=f"slice{len(self.others) or ''}"))

    def add_paths(self, found: Paths) -> None:
        self.others.append(landscape.paths_section(found, key=f"paths{len(self.others) or ''}"))
        if found.function.dimension <= 2:
            self.add_animation(animate(found))

    def add_connection(self, found: Connection) -> None:
        self.others.append(landscape.connection_section(found, key=f"connection{len(self.others) or ''}"))

    def add_lags(self, found: Lags) -> None:
        self.others.append(reaching.lags_section(found, key=f"lags{len(self.others) or ''}"))

    def add_expansion(self, found: Expansion) -> None:
        self.others.append(reaching.expansion_section(found, key=f"step{len(self.others) or ''}"))

    def add_repair(self, repaired: Repair) -> None:
        self.repairs.append(repaired)
        self.add_diagnosis(repaired.diagnosis)

    def add_range(self, found: RateRange) -> None:
        self.ranges.append(found)

    def add_probes(self, found: LayerProbes) -> None:
        self.probes.append(found)

    def after(self, repaired: Repair) -> Run | None:
        """The run that followed what a repair kept."""
        if repaired.kept is None:
            return None
        return next((each for each in self.runs if _follows(each, repaired)), None)

    def of(self, run: Run) -> Diagnosis | None:
        return next((each for each in self.diagnoses if _same(each.run, run)), None)


_ADDERS: dict[type, Callable[[_Content, Any], None]] = {
    Run: _Content.add_run,
    Diagnosis: _Content.add_diagnosis,
    Repair: _Content.add_repair,
    Measured: _Content.add_start,
    RateRange: _Content.add_range,
    LayerProbes: _Content.add_probes,
    LearningCurve: _Content.add_curve,
    BiasVariance: _Content.add_bias,
    Search: _Content.add_search,
    Race: _Content.add_race,
    BatchRace: _Content.add_batch_race,
    BatchTable: _Content.add_batches,
    Solution: _Content.add_solution,
    Terrain: _Content.add_terrain,
    Slice: _Content.add_slice,
    Paths: _Content.add_paths,
    Connection: _Content.add_connection,
    Animation: _Content.add_animation,
    Escapes: _Content.add_escape,
    Lags: _Content.add_lags,
    Expansion: _Content.add_expansion,
}
"""What the report can show; another kind is one line here and one in `_sections`."""


Shown = (
    Run
    | Diagnosis
    | Repair
    | Measured
    | RateRange
    | LayerProbes
    | LearningCurve
    | BiasVariance
    | Search
    | Race
    | BatchRace
    | BatchTable
    | Solution
    | Terrain
    | Slice
    | Paths
    | Connection
    | Animation
    | Escapes
    | Lags
    | Expansion
)


def report(*things: Shown) -> Report:
    """One page about runs, diagnoses, repairs, and whatever else was measured.

    That is starts, ranges, probes, learning curves, bias and variance, batch sizes, exact answers. A
    diagnosis brings its run, a repair its diagnosis. The first run is what the page is about; what was
    measured makes a page of its own where there is no run.

    Args:
        *things: What is to be shown; at least one.

    Raises:
        InputError: nothing, or something that cannot be shown.

    Example:
        >>> ds.report(run, diagnosis).save("report.html")  # doctest: +SKIP
    """
    content = _Content()
    for thing in things:
        adder = next((each for kind, each in _ADDERS.items() if isinstance(thing, kind)), None)
        if adder is None:
            apart = ", given apart: report(*things)" if isinstance(thing, list | tuple) else ""
            raise InputError(f"a report cannot show {type(thing).__name__}: it takes {_allowed()}{apart}")
        adder(content, thing)
    if not things:
        raise InputError(f"a report needs something to show: it takes {_allowed()}")
    drawn = [starts.section(content.starts)] if content.starts else []
    drawn += [rates.section(each, key=f"range{index or ''}") for index, each in enumerate(content.ranges)]
    drawn += [probing.section(each, index) for index, each in enumerate(content.probes)]
    drawn += content.others
    if not content.runs:
        return _without_run(content, sorted(drawn, key=lambda each: each.rank))
    run = content.runs[0]
    told = proof.sentence(content.repairs[0]) if content.repairs else ""
    after = content.after(content.repairs[0]) if content.repairs else None
    head = verdict.top(run, content.of(run), told, after)
    sections = sorted([*_sections(content), *drawn], key=lambda each: each.rank)
    return Report(page.page(facts.name(run), head, sections, run))


def _allowed() -> str:
    return ", ".join(kind.__name__ for kind in _ADDERS)


def _without_run(content: _Content, drawn: Sequence[Section]) -> Report:
    """A page of measurements alone, named by the first."""
    first = drawn[0]
    title = "Layer by layer" if content.probes and not content.ranges else first.page or first.title
    about = f'<p class="sub">{text(first.about)}</p>' if first.about else ""
    head = f'<div class="top"><h1>{text(title)}</h1>{about}</div>'
    if content.starts:
        title, head = "At the start", starts.top(content.starts)
    return Report(page.page(title, head, drawn, Run(environment=environment())))


def _sections(content: _Content) -> Iterator[Section]:
    first = content.runs[0]
    found = content.of(first)
    proved = proof.words(content.repairs[0]) if content.repairs else {}
    if found is not None:
        if found.findings:
            yield cards.section(found, proved)
        yield cards.checks(found)
    for index, repaired in enumerate(content.repairs):
        after = content.after(repaired) if index == 0 else None
        yield proof.section(repaired, after, key=f"proof{index or ''}")
    for index, run in enumerate(content.runs):
        for section in _of_run(run, content, index):
            yield section if index == 0 else replace(section, rank=section.rank + 100 * index)


def _of_run(run: Run, content: _Content, index: int) -> Iterator[Section]:
    """Curves, layers, activations and settings of one run; of later ones the heading says whose they are."""
    mark, found = str(index or ""), content.of(run)
    repaired = bool(content.repairs) and run is content.after(content.repairs[0])
    whose = (
        "" if index == 0 else ": after the repair" if repaired else f": {facts.name(run)}, run {index + 1}"
    )
    findings = found.findings if found is not None else ()
    drawn = [
        curves.section(run, findings, key=f"curves{mark}", title=f"How training went{whose}"),
        ground.section(run, key=f"ground{mark}", title=f"The ground under the run{whose}"),
        layers.section(run, key=f"layers{mark}", title=f"Layer by layer{whose}"),
        layers.activations(run, key=f"activations{mark}", title=f"Activations{whose}"),
        settings.section(run, key=f"settings{mark}", title=f"To do it again{whose}"),
    ]
    for section in drawn:
        if section is not None:
            yield replace(section, folded=repaired)


def _follows(run: Run, repaired: Repair) -> bool:
    """Whether a run is one of the repaired problem and recipe, and not the one that was diagnosed."""
    if _same(run, repaired.diagnosis.run):
        return False
    return run.problem is repaired.problem and run.recipe == repaired.recipe


def _same(a: Run, b: Run) -> bool:
    return a is b or (a.folder is not None and a.folder == b.folder)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
