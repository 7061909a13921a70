"""What ``downslope race`` says at its end, and leaves behind: the tables, the files, where it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from downslope.cli.guard import DONE, INTERRUPTED, complain
from downslope.cli.voice import Voice

if TYPE_CHECKING:
    from downslope.racing.batch_sizes import BatchRace
    from downslope.racing.board import Board
    from downslope.racing.result import Race


def told(voice: Voice, found: Race, board: Path | None, save: Path | None, report: Path | None) -> int:
    """Show a race and what to do next, write what was asked for, and give the exit status.

    Args:
        voice: Speaks.
        found: The race.
        board: Leaderboard to which a whole race is added.
        save: File of the race as JSON.
        report: File of its report.

    Raises:
        InputError: a file that cannot be written, or a board on which it does not belong; all else is shown
            and written before.
    """
    from downslope.cli.outcome import attempted, save_report
    from downslope.racing.board import add
    from downslope.reporting.rows import Row

    voice.show([Row(line, whole=True) for line in found.table().splitlines()])
    cut = found.status in ("interrupted", "time")
    folder = found.folder
    if not cut and folder is not None:
        found.save(folder / "race.json")
    saved, unsaved = attempted(lambda: found.save(save) if save else None)
    written, unwritten = attempted(lambda: save_report(report, found) if report else None)
    held, refused = attempted(lambda: add(board, found) if board and not cut else None)
    if board is not None and cut:
        voice.show([Row(f"nothing is added to {board} before the race is whole", label="board", whole=True)])
    _show_board(voice, board, held)
    _next(voice, folder, cut, saved, written)
    document = {"verb": "race", **found.to_dict(), "folder": folder, "report": written}
    voice.document(document | {"board": None if held is None else held.score()})
    if failure := unsaved or unwritten or refused:
        raise failure
    return INTERRUPTED if found.status == "interrupted" else DONE


def _show_board(voice: Voice, board: Path | None, held: Board | None) -> None:
    from downslope.reporting.rows import Row

    if held is not None:
        lines = [Row(line, whole=True) for line in held.table().splitlines()]
        voice.show([Row(f"{board}:", label="board"), *lines])


def _next(voice: Voice, folder: Path | None, cut: bool, saved: Path | None, written: Path | None) -> None:
    """Where all of it is, and the command that goes on, as `downslope tune` says it."""
    from downslope.reporting.console import said, shown
    from downslope.reporting.rows import LABEL, Row

    rows: list[Row] = []
    if folder is not None:
        verbs = [*(["resume"] if cut else []), *([] if written else ["report"])]
        commands = [f"downslope {verb} {said(folder)}" for verb in verbs]
        rows += [Row(each, label="next", whole=True) for each in commands[:1]]
        rows += [Row(each, indent=LABEL, whole=True) for each in commands[1:]]
        rows.append(Row(shown(folder), label="kept", whole=True))
    files = {"saved": saved, "report": written}
    rows += [Row(shown(path), label=what, whole=True) for what, path in files.items() if path is not None]
    voice.show(rows)


def batches_told(
    voice: Voice, found: BatchRace, sizes: Sequence[Any], save: Path | None, report: Path | None
) -> int:
    """Show a race of batch sizes, write what was asked for, and give the exit status.

    Args:
        voice: Speaks.
        found: The race, with the sizes that were done.
        sizes: All that were asked for.
        save: File of the race as JSON; not written where no size was done.
        report: File of its report; not written where no size was done.

    Raises:
        InputError: a file that cannot be written; the table is shown before.
    """
    from downslope.cli.outcome import attempted, save_report
    from downslope.reporting.rows import Row

    done = [each.size for each in found.curves]
    if done:
        voice.show([Row(line, whole=True) for line in found.table().splitlines()])
    saved, unsaved = attempted(lambda: found.save(save) if save and done else None)
    written, unwritten = attempted(lambda: save_report(report, found) if report and done else None)
    _next(voice, None, False, saved, written)
    voice.document({"verb": "race", "batch_sizes": found.to_dict(), "report": written})
    if failure := unsaved or unwritten:
        raise failure
    if found.status != "interrupted":
        return DONE
    left = ", ".join(str(each) for each in dict.fromkeys(sizes) if each not in done)
    of = f" before {left}" if done else ""
    but = " but these files" if saved or written else ""
    complain(f"interrupted{of}: nothing of a race of batch sizes is kept{but}")
    return INTERRUPTED
