"""``downslope watch train.py [args]``: anybody's training script, unedited, with a diagnosis at its end."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from downslope.cli import options as ask
from downslope.cli.guard import UNUSABLE, complain, guarded
from downslope.cli.streams import Streams
from downslope.cli.voice import Voice
from downslope.core.names import did_you_mean

if TYPE_CHECKING:
    from downslope.diagnosis.diagnosis import Diagnosis


def watch(
    script: Annotated[
        Path, typer.Argument(metavar="SCRIPT", show_default=False, help="A training script, as it is.")
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ARGS]...", show_default=False, help="Handed to the script, all of them."),
    ] = None,
    trials: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="Time to try causes on copies, after a script that learnt little and shows none. 0: none.",
        ),
    ] = 20.0,
    report: ask.ReportPath = None,
    json: Annotated[
        bool, typer.Option("--json", help="The diagnosis as JSON, the last line of standard output.")
    ] = False,
    quiet: ask.Quiet = False,
    debug: ask.Debug = False,
) -> int:
    """Run a training script as it is, watch it from outside, and diagnose it at its end.

    -m package.module in the place of SCRIPT runs a module as python -m does.
    Options of downslope stand before SCRIPT; what follows it goes to the script. Standard output stays the
    script's own: the diagnosis goes to standard error, with --json to the last line of standard output.
    The exit status is the script's own where that is not 0; else 1 after a warning or worse, and where
    nothing of the training could be judged; 2 where nothing was trained; 0 for a healthy run, and for one
    that is too short to tell and shows nothing wrong.
    After a script that learnt nothing, or little in a few seconds, and shows no cause, causes are tried on
    copies of its model and of the examples that were kept; the script is not run again.
    """
    module = str(script) == "-m" and bool(arguments)
    if module and arguments:
        script, arguments = Path(arguments[0]), arguments[1:]
    if str(script).startswith("-"):  # what follows a script is its own, so that the parser refuses no option
        near = did_you_mean(str(script), ("--trials", "--report", "--json", "--quiet", "--debug", "--help"))
        complain(f"No such option: {script}{near} (downslope watch --help shows what there is)")
        return UNUSABLE
    if not 0 <= trials < math.inf:
        complain(f"--trials {trials:g}: must be seconds, 0 or more; 0 for none")
        return UNUSABLE
    voice = Voice(json=json, quiet=quiet, aside=True)

    def act() -> int:
        from downslope.cli.outcome import check_writable
        from downslope.diagnosis.script import watch_script

        check_writable(report)
        tell = _Telling(voice, script, report, module=module)

        def leaving(found: Diagnosis | None, ended: int) -> int:
            return guarded(lambda: tell(found, ended, apart=True), debug=debug)

        def talk(text: str) -> None:
            voice.note(f"watch     {text}")

        own = arguments or []
        return tell(*watch_script(script, own, module=module, leaving=leaving, trials=trials, talk=talk))

    return guarded(act, debug=debug)


class _Telling:
    """Tells of a watched script where results go, whatever the script did with its streams."""

    def __init__(self, voice: Voice, script: Path, report: Path | None, *, module: bool) -> None:
        self.voice, self.script, self.report, self.module = voice, script, report, module
        self.place = report and report.absolute()  # the script may change the folder
        self.streams = Streams(document=voice.json)

    def __call__(self, found: Diagnosis | None, ended: int, *, apart: bool = False) -> int:
        """Show the diagnosis, and give the exit status of the verb."""
        with self.streams.speaking(apart=apart and self.voice.json):
            self.streams.end_line()
            status = self._tell(found, ended)
            if self.voice.json and self.streams.lost:
                complain(f"{self.streams.lost}: the JSON is not written")
            return status

    def _tell(self, found: Diagnosis | None, ended: int) -> int:
        from downslope.cli.outcome import attempted, diagnosis_document, save_report
        from downslope.diagnosis.script import exit_status
        from downslope.reporting import console

        voice, place = self.voice, self.place
        if found is None:
            voice.document({"verb": "watch", "script_exit": ended, "findings": None})
            complain(f"{self.script}: {_nothing(ended)}, so there is nothing to diagnose")
            return exit_status(found, ended)
        if self.module:
            found.run.facts["script"] = str(self.script)  # a package is known by its name, not as __main__.py
        voice.show([*console.header(found.run), *console.of_run(found.run), *console.of_diagnosis(found)])
        written, failure = attempted(lambda: place and save_report(place, found.run, found) and self.report)
        voice.show(console.opened(written))
        voice.document({"verb": "watch", "script_exit": ended} | diagnosis_document(found, written))
        if failure is not None and not ended:
            raise failure
        return exit_status(found, ended)


def _nothing(ended: int) -> str:
    """Why there is no training to tell of, by the script's own status."""
    if ended:
        return f"the script itself ended with status {ended} before any step of an optimizer"
    return (
        "no step of a torch optimizer was seen, nor of parameters that change by hand after backward, "
        "torch.autograd.grad or torch.func.grad"
    )
