"""The README and every chapter of the guide are executed: block after block, one namespace for each file; a
block of the README in one of its own, since that is how it is copied.

A block ```python is run; ```python no-run: REASON is compiled only; commands in console blocks must exist.
A block ```text that follows with nothing between shows what it prints, and so does a comment beside a print,
unless it stands in brackets, which is an explanation.
"""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from downslope.core import names
from tests.docs.commands import DOCS, ROOT, anchors, unknown_commands
from tests.docs.shown import difference, told

PAGES = [*sorted(ROOT.glob("README*.md")), *sorted(DOCS.glob("guide/*.md")), DOCS / "symptoms" / "README.md"]
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```[ ]*$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A fenced block: what its fence says, its text, and the line on which that text starts."""

    info: str
    body: str
    line: int
    after: bool = False
    """Whether nothing stands between it and the block before."""


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a Markdown text, in order."""
    found: list[Block] = []
    end = None
    for each in FENCE.finditer(text):
        line = text.count("\n", 0, each.start("body")) + 1
        after = end is not None and not text[end : each.start()].strip()
        found.append(Block(each["info"].strip(), each["body"], line, after))
        end = each.end()
    return found


class Prints:
    """Stands for `print` on a page, and keeps what every line of the page printed."""

    def __init__(self) -> None:
        self.lines: dict[int, str] = {}

    def __call__(self, *words: object, sep: str = " ", end: str = "\n") -> None:
        caller = sys._getframe(1)
        text = sep.join(map(str, words)) + end
        self.lines[caller.f_lineno] = self.lines.get(caller.f_lineno, "") + text
        sys.stdout.write(text)


def run_page(text: str, name: str, *, alone: bool = False) -> int:
    """Execute the Python blocks of `text`, whose tracebacks show the lines of the page; how many ran.

    With `alone` no block knows what another has imported or made.

    Raises:
        AssertionError: a block prints other than the page shows.
    """
    prints = Prints()
    namespace: dict[str, object] = {"__name__": "__main__", "print": prints}
    found = blocks(text)
    ran = 0
    faults: list[str] = []
    for block, following in zip(found, [*found[1:], None], strict=True):
        language, _, option = block.info.partition(" ")
        if language != "python":
            continue
        code = compile("\n" * (block.line - 1) + block.body, name, "exec", dont_inherit=True)
        if option.startswith("no-run"):
            reason = option.removeprefix("no-run").lstrip(": ")
            assert reason, f"{name}:{block.line}: a block that is not run says why: ```python no-run: REASON"
            continue
        assert not option, f"{name}:{block.line}: unknown option {option!r} on the fence"
        if alone:
            namespace = {"__name__": "__main__", "print": prints}
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(code, namespace)
        ran += 1
        shows = following is not None and following.info == "text" and following.after
        if shows and (other := difference(following.body, out.getvalue())):
            faults.append(f"{name}:{following.line}: {other}")
        faults += [f"{name}:{line}: {other}" for line, other in _comments(block, prints.lines)]
    assert not faults, "\n".join(["the page does not show what is printed", *faults])
    return ran


def _comments(block: Block, printed: dict[int, str]) -> Iterator[tuple[int, str]]:
    """Lines of which a comment beside a print says other than what was printed."""
    reader = io.StringIO(block.body).readline
    for token in tokenize.generate_tokens(reader):
        line, comment = token.start[0] + block.line - 1, token.string.lstrip("# ")
        claims = token.type == tokenize.COMMENT and line in printed and not comment.startswith("(")
        if claims and not told(comment, printed[line]):
            yield line, f"the comment {comment!r}, printed {printed[line]!r}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_of_a_page_runs_and_prints_what_the_page_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    alone = page.parent == ROOT
    run_page(page.read_text(encoding="utf-8"), str(page), alone=alone)


def test_what_watch_prints_of_the_script_in_the_guide_is_shown_there_and_in_both_readmes(
    tmp_path: Path,
) -> None:
    script, *others = blocks((DOCS / "guide" / "05-your-own-script.md").read_text(encoding="utf-8"))
    sample = next(block.body for block in others if block.info == "text" and block.after)
    (tmp_path / "train.py").write_text(script.body, encoding="utf-8")
    command = [sys.executable, "-m", "downslope", "watch", "train.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert difference(sample, done.stdout + done.stderr) == ""
    for page in ROOT.glob("README*.md"):
        shown = [block.body for block in blocks(page.read_text(encoding="utf-8")) if block.info == "text"]
        assert shown == [sample.partition("\n")[2]]  # but for what the script itself prints


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        if "://" in path:
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_rule_of_the_guide_passes_the_contract_that_it_inherits(tmp_path: Path) -> None:
    text = (DOCS / "guide" / "22-optimizers.md").read_text(encoding="utf-8")
    section = text.partition('<a id="own-rule"></a>')[2].partition("<a id=")[0]
    code = [block.body for block in blocks(section) if block.info == "python"]
    (tmp_path / "test_usual.py").write_text("\n\n".join(code), encoding="utf-8")
    options = ["-q", "--disable-plugin-autoload", "-p", "no:cacheprovider", "test_usual.py"]
    command = [sys.executable, "-m", "pytest", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    (passed,) = re.findall(r"(\d+) passed", done.stdout)
    assert int(passed) > 30


def test_every_optimizer_and_schedule_by_name_is_told_in_its_chapter() -> None:
    for chapter, kind in (("22-optimizers.md", "optimizer"), ("04-descent.md", "schedule")):
        told = set(re.findall(r"[`\"](\w+)", (DOCS / "guide" / chapter).read_text(encoding="utf-8")))
        places = names.TABLE[kind].items()
        own = {name for name, place in places if place.startswith(("downslope.optim", "downslope.schedules"))}
        assert own - told == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_exist(page: Path) -> None:
    consoles = [
        block.body
        for block in blocks(page.read_text(encoding="utf-8"))
        if block.info.split(" ")[0] in ("console", "sh", "bash", "shell")
    ]
    assert unknown_commands("\n".join(consoles)) == []


def test_both_readmes_hold_the_same_code() -> None:
    english, chinese = ROOT / "README.md", ROOT / "README.zh-CN.md"

    def code(page: Path) -> list[str]:
        found = [block for block in blocks(page.read_text(encoding="utf-8")) if block.info]
        return [re.sub(r"\s*#.*", "", block.body) for block in found if block.info.startswith("python")]

    assert code(english) == code(chinese)


def test_blocks_share_one_namespace_and_run_in_order() -> None:
    text = "```python\nx = [1]\n```\n\nA formula:\n\n```text\nx = 0/0\n```\n\n"
    text += "```python\nx += [2]\nassert x == [1, 2]\n```\n"
    assert run_page(text, "page") == 2


def test_a_failing_block_is_shown_with_the_line_of_the_page() -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        run_page("# t\n\n```python\nx = 1\nx / 0\n```\n", "page.md")
    assert raised.traceback[-1].lineno + 1 == 5


def test_a_block_that_is_not_run_needs_a_reason() -> None:
    assert run_page("```python no-run: needs your own train.py\nimport absent\n```\n", "page") == 0
    with pytest.raises(AssertionError, match="says why"):
        run_page("```python no-run\nimport absent\n```\n", "page")


def test_prompts_and_modules_are_seen_as_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.docs.commands.command_exists", lambda verb: verb == "fit")
    lines = "$ downslope fit a.py\ndownslope levitate\npython -m downslope hover\nmake demo\n"
    assert unknown_commands(lines) == ["hover", "levitate"]


PRINTS = "```python\nprint(1 / 3, 'kept')\n```\n\n"


@pytest.mark.parametrize("shown", ["0.333  kept", "0.33\nkept", "0.3333333333333333 kept"])
def test_a_block_may_show_fewer_digits_and_other_line_breaks(shown: str) -> None:
    assert run_page(f"{PRINTS}```text\n{shown}\n```\n", "page") == 1


@pytest.mark.parametrize("shown", ["0.38 kept", "0.333 tried", "0.333", "0.333 kept KEPT"])
def test_a_block_that_shows_other_than_is_printed_is_told_with_its_line(shown: str) -> None:
    with pytest.raises(AssertionError, match=r"page\.md:6: "):
        run_page(f"{PRINTS}```text\n{shown}\n```\n", "page.md")


def test_a_block_behind_other_words_shows_no_output() -> None:
    assert run_page(f"{PRINTS}A formula:\n\n```text\ny = w x\n```\n", "page") == 1


@pytest.mark.parametrize(
    ("comment", "right"),
    [
        ("0.33 True", True),
        ("0.33 True, of three", True),
        ("0.33 ...", True),
        ("... True", True),
        ("(how much, and whether)", True),
        ("0.38 True", False),
        ("0.33 False", False),
        ("0.33", False),
        ("... False", False),
        ("how much, and whether", False),
    ],
)
def test_a_comment_beside_a_print_says_what_it_prints_or_stands_in_brackets(
    comment: str, right: bool
) -> None:
    page = f"```python\nx = 1 / 3\nprint(x, x < 1)  # {comment}\n```\n"
    if right:
        assert run_page(page, "page.md") == 1
    else:
        with pytest.raises(AssertionError, match=r"page\.md:3: the comment"):
            run_page(page, "page.md")


def test_times_and_threads_are_not_compared() -> None:
    shown, printed = (
        "train.py  CPU 1 thread\nfit 19 steps  0.2 s",
        "train.py  CPU 16 threads\nfit 19 steps  31 s",
    )
    assert difference(shown, printed) == ""
    assert difference(shown, printed.replace("19", "20")) != ""
