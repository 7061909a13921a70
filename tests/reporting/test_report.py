from __future__ import annotations

import base64
import gzip
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from torch import nn

import downslope as ds
from downslope.core import edits
from downslope.core.errors import InputError
from downslope.core.finding import Evidence, Finding, Where
from downslope.core.history import Series
from downslope.core.run import Run
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.paired import difference
from downslope.diagnosis.repair import Repair, Trial
from downslope.reporting.cards import bar
from downslope.reporting.curves import smoothed, thinned
from downslope.reporting.report import report

EVIL = "<script>alert(1)</script>\"'&"


class Page(HTMLParser):
    """Tags, their attributes, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text: list[str] = []
        self._inside = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        del tag
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def figures(self) -> dict[str, dict[str, Any]]:
        """What each picture draws, by its id."""
        found = [each for each in self.tags if each[0] == "script"]
        return {
            str(attributes["id"]): json.loads(body)
            for (_, attributes), body in zip(found, self.scripts, strict=True)
            if attributes.get("type") == "application/json"
        }


def run_of(steps: int = 40, **fields: Any) -> ds.Run:
    run = ds.Run(recipe=ds.Recipe(optimizer="sgd", lr=0.1, epochs=2), **({"status": "done"} | fields))
    for step in range(1, steps + 1):
        run.history.log(step, train_loss=2.0 / step)
    for step in (0, 20, 40)[: 3 if steps else 0]:
        run.history.log(step, valid_loss=2.5, valid_metric=0.5)
    for step in (1, 2, 30)[: 3 if steps else 0]:
        run.probes.log(step, "grad_norm", {"a": 1.0, "b": 0.0})
        run.probes.log(step, "dead_fraction", {"a+relu": 0.25 * step / 30})
    run.described = {"task": "task.py", "metric": "accuracy", "objective": "cross_entropy", "train": 10}
    run.summary = {"train_loss": 0.05, "valid_loss": 2.5, "valid_metric": 0.5, "steps": steps, "seconds": 1.5}
    return run


def finding(message: str = "lr is too high", value: float = 38.0) -> Finding:
    return Finding(
        symptom="learning-rate-too-high",
        title="learning rate too high",
        severity="critical",
        where=Where(steps=(3, 40)),
        evidence=Evidence(name="lr / stable limit", value=value, threshold=1.0, provenance="Polyak 1964"),
        message=message,
        remedies=(edits.SetRecipe({"lr": 0.01}, {"lr": 0.1}), edits.Advice("look at the data")),
        source="Cohen et al. 2021",
    )


def diagnosis_of(run: ds.Run, *findings: Finding) -> Diagnosis:
    return Diagnosis(
        run=run, findings=list(findings), verdict="NOT LEARNING", cleared=[("init-scale", "gain 1.0")],
        not_checked=[("high-variance", "no validation data")],
    )  # fmt: skip


def repair_of(found: Diagnosis) -> Repair:
    problem = ds.Problem(
        model=lambda: nn.Linear(2, 2), objective="cross_entropy", metric="accuracy",
        train=(torch.randn(4, 2), torch.tensor([0, 1, 0, 1])),
    )  # fmt: skip
    edit = found.findings[0].remedies[0]
    before, after = (0.1, 0.2, 0.1), (0.9, 0.95, 0.92)
    trial = Trial(edit=edit, before=before, after=after, gain=difference(after, before), verdict="kept")
    failed = Trial(edit=edits.SetRecipe({"clip_norm": 1.0}), verdict="failed", reason="it did not run")
    return Repair(
        problem=problem, recipe=ds.Recipe(optimizer="sgd", lr=0.01, epochs=2), diagnosis=found, kept=edit,
        trials=[trial, failed], before=0.13, after=0.92, measure="valid metric", seeds=(0, 1, 2),
        advice=[edits.Advice("look at the data")],
    )  # fmt: skip


@pytest.fixture(scope="module")
def full() -> str:
    return report(repair_of(diagnosis_of(run_of(), finding()))).html


def test_the_banner_counts_the_seeds_that_prove_and_dots_bear_their_names() -> None:
    repaired = repair_of(diagnosis_of(run_of(), finding()))
    more = tuple(0.9 + 0.01 * i for i in range(6))
    repaired.trials[0] = replace(repaired.trials[0], before=(0.1,) * 6, after=more, seeds=(1, 2, 3, 4, 5, 6))
    page = Page(report(repaired).html)
    assert any("mean of 6 seeds" in each for each in page.text)
    drawn = page.figures()["proof-seeds-data"]
    assert "seed 6" in json.dumps(drawn)
    assert "seed 0" not in json.dumps(drawn)


# -- one file, offline ------------------------------------------------------------------------------------


def test_the_page_loads_nothing_from_anywhere(full: str) -> None:
    page = Page(full)
    for tag, attributes in page.tags:
        assert "src" not in attributes, tag
        assert "srcset" not in attributes, tag
        assert tag not in ("link", "iframe", "object", "embed", "base"), tag
        assert not str(attributes.get("href", "#")).startswith(("http", "//")), attributes
    style = re.findall(r"<style>(.*?)</style>", full, flags=re.DOTALL)
    assert len(style) == 1
    assert not re.search(r"@import|url\s*\(", style[0])
    policy = [each for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy"]
    assert str(policy[0]["content"]).startswith("default-src 'none'")


def test_the_drawing_library_is_inside_once_and_whole_and_packed(full: str) -> None:
    library = [each for each in Page(full).scripts if len(each) > 1_000_000]
    assert len(library) == 1
    whole = Path(str(resources.files("plotly"))) / "package_data" / "plotly.min.js"
    assert gzip.decompress(base64.b64decode(library[0])) == whole.read_bytes()
    assert len(full) < whole.stat().st_size / 2


def test_every_link_and_label_of_the_page_has_its_target(full: str) -> None:
    page = Page(full)
    ids = [str(each["id"]) for _, each in page.tags if "id" in each]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        for name in ("aria-labelledby", "data-figure", "data-copies"):
            assert attributes.get(name, ids[0]) in ids
        href = attributes.get("href")
        assert href is None or href.removeprefix("#") in ids


# -- what stands in it ------------------------------------------------------------------------------------


def test_findings_evidence_checks_and_proof_stand_in_words(full: str) -> None:
    said = " ".join(" ".join(Page(full).text).split())
    for words in (
        "Learning rate too high", "lr is too high", "Polyak 1964", "Cohen et al. 2021", "limit 1", "38",
        "gain 1.0", "no validation data", "look at the data", "it did not run", "lr = 0.01",
        "Validation accuracy 0.13 \u2192 0.92, mean of 3 seeds", "steps 3 to 40",
    ):  # fmt: skip
        assert words in said, words


def test_every_figure_is_one_that_plotly_takes_and_is_told_in_words(full: str) -> None:
    page = Page(full)
    figures = page.figures()
    assert len(figures) == len(page.all("figcaption")) >= 4
    for figure in figures.values():
        for choice in figure["choices"]:
            painted = json.loads(re.sub(r'"@[a-z0-9-]+"', '"#123456"', json.dumps(choice)))
            go.Figure(data=painted["data"], layout=painted["layout"])
            assert choice["caption"].endswith(".")


def test_the_heat_map_is_log10_of_the_gradient_norms_with_zeros_told(full: str) -> None:
    heat = Page(full).figures()["layers-map-data"]["choices"][0]["data"]
    assert heat[0]["z"] == [[0.0, 0.0, 0.0], [None, None, None]]
    assert heat[0]["x"] == ["1", "2", "30"]
    numbers, zeros = heat[1:]
    assert (numbers["text"], numbers["y"]) == (["1", "1", "1"], ["a", "a", "a"])
    assert (zeros["text"], zeros["y"]) == (["0", "0", "0"], ["b", "b", "b"])
    assert zeros["textfont"]["color"] == "@ink"  # of the text on a card: the cell itself has no colour


def test_a_mark_stands_where_a_finding_begins(full: str) -> None:
    layout = Page(full).figures()["curves-loss-data"]["choices"][0]["layout"]
    assert [each["x0"] for each in layout["shapes"]] == [3]
    assert layout["annotations"][0]["text"] == "learning-rate-too-high"


def test_a_healthy_run_is_told_so() -> None:
    page = Page(report(diagnosis_of(run_of())).html)
    assert "Healthy, nothing to fix" in page.text
    assert any("good" in str(each.get("class")) for each in page.all("div"))


# -- hostile and broken content ---------------------------------------------------------------------------


def test_what_users_write_cannot_become_markup() -> None:
    run = run_of()
    run.described = {"task": EVIL, "metric": EVIL, "objective": EVIL, "name": EVIL, "train": 3}
    run.environment = {EVIL: EVIL, "torch": EVIL}
    run.probes.log(1, "grad_norm", {EVIL: 1.0})
    found = diagnosis_of(run, finding(EVIL))
    found.cleared, found.notes = [(EVIL, EVIL)], [EVIL]
    html = report(found).html
    assert "<script>alert" not in html
    scripts = Page(html).all("script")
    assert len([each for each in scripts if "type" not in each]) == 2
    assert len(scripts) - 3 == len(Page(html).figures())


def test_an_empty_run_says_why_there_is_nothing() -> None:
    run = ds.Run(status="failed")
    page = Page(report(run).html)
    assert "No curve: failed." in " ".join(page.text)
    assert [each["id"] for each in page.all("section")] == ["curves", "settings"]  # no empty section


def test_a_diverged_run_is_drawn_up_to_there_and_marked() -> None:
    run = run_of(status="diverged")
    run.history.log(41, train_loss=math.nan)
    run.history.log(42, train_loss=math.inf)
    run.facts["nonfinite"] = {"step": 41, "what": "loss", "module": "layer.3"}
    run.summary = {"train_loss": math.nan, "valid_metric": math.inf, "steps": 42}
    html = report(diagnosis_of(run, finding(value=math.inf))).html
    traces = Page(html).figures()["curves-loss-data"]["choices"][0]["data"]
    cross = next(each for each in traces if each["name"] == "last finite loss")
    assert (cross["x"], cross["y"]) == ([40], [0.05])
    assert traces[0]["y"][-2:] == [None, None]
    assert "loss in layer.3 not finite at step 41" in html
    assert ">nan<" in html


def test_a_run_without_validation_or_probes_is_drawn() -> None:
    run = ds.Run(status="done")
    run.history.log(1, train_loss=1.0)
    assert list(Page(report(run).html).figures()) == ["curves-loss-data"]


def test_two_runs_stand_on_one_page_with_ids_of_their_own() -> None:
    html = report(run_of(), run_of()).html
    ids = [str(each["id"]) for _, each in Page(html).tags if "id" in each]
    assert len(ids) == len(set(ids))
    assert "How training went: task.py, run 2" in html


def test_a_repair_that_found_nothing_says_so() -> None:
    repaired = repair_of(diagnosis_of(run_of(), finding()))
    repaired.kept = repaired.after = None
    said = " ".join(Page(report(repaired).html).text)
    assert "No remedy was proved." in said
    assert "nothing is changed" in said


def test_what_cannot_be_shown_is_refused() -> None:
    with pytest.raises(InputError, match="cannot show str: it takes Run, Diagnosis, Repair"):
        report("run")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"cannot show list: .*given apart: report\(\*things\)"):
        report([run_of()])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="something to show"):
        report()


# -- saving -----------------------------------------------------------------------------------------------


def test_a_link_is_followed_and_what_is_no_file_is_never_replaced(tmp_path: Path) -> None:
    page, link, away = report(Diagnosis(run=Run(), verdict="x")), tmp_path / "link", tmp_path / "away"
    (tmp_path / "real.html").write_text("old")
    link.symlink_to(tmp_path / "real.html")
    page.save(link)
    assert link.is_symlink()
    assert (tmp_path / "real.html").read_text().startswith("<!doctype html>")
    away.symlink_to("/dev/null")
    page.save(away)
    assert away.is_symlink()
    assert Path("/dev/null").is_char_device()
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    with pytest.raises(InputError, match="No space left"):
        page.save(full)


def test_saving_makes_folders_and_replaces_an_older_page(tmp_path: Path, full: str) -> None:
    page = report(run_of())
    path = tmp_path / "a" / "b" / "report.html"
    assert page.save(path) == path
    assert page.save(str(path)).read_text(encoding="utf-8") == page.html
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]
    assert path.stat().st_mode & 0o777 == (tmp_path / "a" / "b").stat().st_mode & 0o666


def test_a_path_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    page = report(run_of())
    with pytest.raises(InputError, match="is a folder"):
        page.save(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        page.save(tmp_path / "file" / "report.html")


# -- curves -----------------------------------------------------------------------------------------------


def test_smoothing_is_the_mean_of_the_latest_finite_values() -> None:
    values = np.array([1.0, 3.0, math.nan, 5.0, 7.0])
    assert smoothed(values, 3)[[0, 1, 3, 4]].tolist() == [1.0, 2.0, 4.0, 6.0]
    assert math.isnan(smoothed(values, 3)[2])


def test_a_heat_map_of_many_steps_keeps_the_first_and_the_last() -> None:
    run = ds.Run(status="done")
    for step in range(1, 1000):
        run.probes.log(step, "grad_norm", {"a": float(step)})
    heat = Page(report(run).html).figures()["layers-map-data"]["choices"][0]["data"][0]
    assert len(heat["x"]) <= 160
    assert (heat["x"][0], heat["x"][-1]) == ("1", "999")
    assert heat["z"][0][-1] == pytest.approx(math.log10(999), rel=1e-5)


def test_thinning_keeps_ends_and_extremes() -> None:
    values = np.sin(np.arange(50_000) / 50.0)
    values[31_234], values[777] = 40.0, -40.0
    series = thinned(Series(np.arange(50_000), values), 1000)
    assert len(series.steps) <= 1002
    assert (series.steps[0], series.steps[-1]) == (0, 49_999)
    assert (series.values.max(), series.values.min()) == (40.0, -40.0)
    assert (series.values == values[series.steps]).all()


def test_the_run_that_was_diagnosed_is_not_drawn_as_the_repaired_one() -> None:
    repaired = repair_of(diagnosis_of(run_of(), finding()))
    repaired.diagnosis.run.problem = repaired.problem
    assert "proof-over-data" not in Page(report(repaired).html).figures()
    after = run_of()
    after.problem, after.recipe = repaired.problem, repaired.recipe
    over = Page(report(repaired, after).html).figures()["proof-over-data"]["choices"][0]["data"]
    assert [each["name"] for each in over] == ["as it was", "after the repair"]


@pytest.mark.parametrize(
    ("value", "limit", "longer"),
    [
        (2.0, 1.0, True),
        (0.2, 1.0, False),
        (1e6, 1e-3, True),
        (1e-9, 1.0, False),
        (-0.5, 0.5, False),
        (0.0, 1.0, False),
    ],
)
def test_a_bar_is_longer_than_its_limit_where_the_value_is(value: float, limit: float, longer: bool) -> None:
    drawn = bar(value, limit, "words")
    length = float(re.findall(r'class="fill"[^>]*width="([\d.]+)"', drawn)[0])
    tick = float(re.findall(r'x1="([\d.]+)"', drawn)[0])
    assert (length > tick) is longer
    assert 0 <= min(length, tick) <= max(length, tick) <= 400


def test_no_bar_is_drawn_for_what_is_not_finite() -> None:
    assert "svg" not in bar(math.inf, 1.0, "words")
    assert "svg" not in bar(math.nan, 1.0, "words")


def test_the_best_step_and_the_level_of_a_constant_guess_are_marked() -> None:
    run = ds.Run(status="done")
    run.described = {"metric": "accuracy", "objective": "cross_entropy"}
    for step, (loss, score) in enumerate([(2.3, 0.1), (1.0, 0.8), (1.4, 0.7)]):
        run.history.log(step, train_loss=loss, valid_loss=loss, valid_metric=score)
    run.facts["constant"] = {"loss": 2.2, "valid_loss": 2.25, "metric": 0.11, "valid_metric": 0.12}
    figures = Page(report(run).html).figures()
    loss = {each["name"]: each for each in figures["curves-loss-data"]["choices"][0]["data"]}
    score = {each["name"]: each for each in figures["curves-metric-data"]["choices"][0]["data"]}
    assert (loss["best validation"]["x"], loss["best validation"]["y"]) == ([1], [1.0])
    assert (score["best accuracy"]["x"], score["best accuracy"]["y"]) == ([1], [0.8])
    assert loss["constant guess"]["y"] == [2.2, 2.2]
    assert score["constant guess"]["y"] == [0.12, 0.12]


def test_one_spike_does_not_lift_the_running_mean_of_a_logarithmic_axis() -> None:
    run = ds.Run(status="done")
    for step in range(1, 101):
        run.history.log(step, train_loss=1e6 if step == 50 else 1.0)
    choice = Page(report(run).html).figures()["curves-loss-data"]["choices"][0]
    assert choice["layout"]["yaxis"]["type"] == "log"
    mean = next(each for each in choice["data"] if each["name"] == "train, running mean")
    assert max(mean["y"]) == pytest.approx(10 ** (6 / 5), rel=1e-4)  # one of a window of five, in logarithms


def test_layers_are_named_with_their_kind() -> None:
    run = run_of()
    run.facts["modules"] = {"a": {"type": "Linear", "size": "4x8"}}
    figures = Page(report(run).html).figures()
    heat, lines = (figures[key]["choices"][0] for key in ("layers-map-data", "activations-lines-data"))
    assert heat["data"][0]["y"] == ["a (Linear 4x8)", "b"]
    assert lines["data"][0]["name"] == "ReLU after a (Linear 4x8)"
    assert "ReLU after a (Linear 4x8): 25 %" in lines["caption"]


def test_a_healthy_page_has_no_empty_section_and_shows_its_checks() -> None:
    page = Page(report(diagnosis_of(run_of())).html)
    assert "findings" not in [each["id"] for each in page.all("section")]
    assert "What else was checked: 1 cleared, 1 not judged" in page.text
    sick = Page(report(diagnosis_of(run_of(), finding())).html)
    folded = [each for each in sick.all("details") if each.get("class") == "fold"]
    assert not [each for each in page.all("details") if each.get("class") == "fold"]
    assert len(folded) == 1


def test_each_number_of_a_repaired_run_stands_beside_that_before() -> None:
    repaired = repair_of(diagnosis_of(run_of(), finding()))
    after = run_of()
    after.problem, after.recipe = repaired.problem, repaired.recipe
    after.summary = {**after.summary, "valid_metric": 0.92}
    html = report(repaired, after).html
    assert '0.50 <span class="now">\u2192 0.92</span>' in html
    assert '<tr class="kept"><td data-title="remedy">lr 0.1 \u2192 0.01</td>' in html


def test_an_axis_of_few_steps_has_whole_steps_only() -> None:
    for steps, wanted in ((3, 1), (40, None)):
        run = ds.Run(status="done")
        for step in range(1, steps + 1):
            run.history.log(step, train_loss=1.0 / step)
        layout = Page(report(run).html).figures()["curves-loss-data"]["choices"][0]["layout"]
        assert layout["xaxis"].get("dtick") == wanted


def test_what_was_measured_makes_a_page_without_a_run() -> None:
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    problem = ds.Problem(
        model="linear",
        objective="squared_error",
        train=(x[:30], x[:30].sum(1)),
        valid=(x[30:], x[30:].sum(1)),
    )
    run = ds.fit(problem, ds.Recipe(epochs=1), folder=False, progress=False)
    solved, sizes = ds.solve(problem), ds.batch_table(problem, sizes=[2, 8], rounds=1)
    assert "Bias and variance" in ds.report(ds.bias_variance(run)).html
    alone = ds.report(solved).html
    assert "The exact answer" in alone
    assert "strictly-convex" in alone
    drawn = ds.report(run, sizes, solved).html
    assert 'id="batches"' in drawn
    assert f"{sizes.rows[1].stderr:.3g}" in drawn


def test_nothing_and_what_cannot_be_shown_are_refused_with_the_same_list() -> None:
    said: list[str] = []
    for things in ((), ("run",)):
        with pytest.raises(InputError) as refused:
            ds.report(*things)  # pyright: ignore[reportArgumentType]
        said.append(str(refused.value).partition("it takes ")[2])
    assert said[0] == said[1]
    assert "BatchTable, Solution" in said[0]
