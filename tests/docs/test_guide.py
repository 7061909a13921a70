"""The README and every chapter of the guide are executed: block after block, one namespace for each file.

A block ```python is run; ```python no-run: REASON is compiled only; commands in console blocks must exist.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docs.commands import DOCS, ROOT, unknown_commands

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


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a Markdown text, in order."""
    return [
        Block(found["info"].strip(), found["body"], text.count("\n", 0, found.start("body")) + 1)
        for found in FENCE.finditer(text)
    ]


def run_page(text: str, name: str) -> int:
    """Execute the Python blocks of `text`, whose tracebacks show the lines of the page; how many ran."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    ran = 0
    for block in blocks(text):
        language, _, option = block.info.partition(" ")
        if language != "python":
            continue
        code = compile("\n" * (block.line - 1) + block.body, name, "exec")
        if option.startswith("no-run"):
            reason = option.removeprefix("no-run").lstrip(": ")
            assert reason, f"{name}:{block.line}: a block that is not run says why: ```python no-run: REASON"
            continue
        assert not option, f"{name}:{block.line}: unknown option {option!r} on the fence"
        exec(code, namespace)
        ran += 1
    return ran


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(page.read_text(encoding="utf-8"), str(page))


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
    text = (
        "```python\nx = [1]\n```\n\n```text\nx = 0/0\n```\n\n```python\nx += [2]\nassert x == [1, 2]\n```\n"
    )
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
