"""``downslope watch train.py [args]``: anybody's script, run as Python would run it, and observed."""

from __future__ import annotations

import importlib.util
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, NamedTuple

from downslope.core.errors import TaskError
from downslope.core.run import Run, Status
from downslope.diagnosis.among import tell
from downslope.diagnosis.audience import Audience
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.judge import judge
from downslope.diagnosis.leaving import Tell
from downslope.diagnosis.leaving import leaving as last_words
from downslope.diagnosis.replay import SECONDS, retry, wanted
from downslope.diagnosis.several import Verdict, settle
from downslope.diagnosis.taps import Taps
from downslope.training.facts import one_line

INTERRUPTED = 130
"""Exit status of a script that Ctrl-C ended, as a shell has it."""


def watch_script(
    path: str | Path,
    args: Sequence[str] = (),
    *,
    module: bool = False,
    leaving: Tell | None = None,
    trials: float = SECONDS,
    talk: Callable[[str], None] | None = None,
) -> tuple[Diagnosis | None, int]:
    """Run a script unedited, and diagnose the training that was seen in it.

    The script runs in this process as ``__main__``, with its own ``sys.argv`` and ``sys.path[0]``; its
    standard output is left to it, and so are its results, bit for bit. If it raises, its traceback goes to
    standard error as Python would print it; where it stopped and by what is noted, and what was seen until
    then is judged, though never called healthy.

    Args:
        path: A Python file, or with `module` the name of a module, run as ``python -m`` runs it.
        args: Its command line.
        module: Whether `path` names a module.
        leaving: Told of the diagnosis where the script ends this process by ``os._exit``; gives the status to
            leave with.
        trials: Seconds for trials after a script that learnt nothing, where nothing that was seen says why:
            copies of its model are trained on examples that were kept of it; 0 for none.
        talk: Told when they begin.

    Returns:
        The diagnosis, None where nothing was trained (no step, and no optimizer beside backward passes);
        and the script's own exit status: 0, what it gave to ``sys.exit``, 1 after an exception, 130 after
        Ctrl-C.

    Raises:
        TaskError: no such file or module, or one that is no Python.
    """
    spec = _found(str(path)) if module else None
    file = Path(path if spec is None else spec.origin or "")
    code = _compiled(file)
    started = time.perf_counter()
    audience = Audience()

    def diagnosed(ended: Ended, trials: float = 0.0) -> Diagnosis | None:
        audience.close()
        taps.close()
        found = _judged(audience, file, ended, taps.failures, Trials(trials, talk))
        if found is not None:
            found.seconds = time.perf_counter() - started
        return found

    def left(status: int) -> int:
        return leaving(diagnosed(_left(status)), status) if leaving is not None else status

    with Taps(audience) as taps, last_words(left):
        try:
            ended = _run(file, code, args, spec)
        finally:
            audience.close()
    return diagnosed(ended, trials), ended.code


class Ended(NamedTuple):
    """How a script ended."""

    code: int
    """Its exit status."""
    status: Status
    """What that means for its training."""
    error: str = ""
    """By what it was stopped, in one line; empty where it came to its end."""


def exit_status(found: Diagnosis | None, status: int) -> int:
    """The exit status of the verb: the script's own where it failed, so that what calls it sees no other.

    Returns:
        The script's own status where that is not 0; else 1 for a diagnosis that is not healthy (a warning or
        worse, or nothing could be judged, which must not pass for healthy), 2 for a script that trained
        nothing, and 0; so also for a training too short to tell, of which what can be judged is sound.
    """
    if status:
        return status
    if found is None:
        return 2
    return 0 if found.healthy else 1


def _compiled(file: Path) -> Any:
    try:
        source = file.read_bytes()
    except OSError as error:
        raise TaskError(f"{file}: {error.strerror}; give the path of a Python script") from None
    try:
        return compile(source, str(file.absolute()), "exec")
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise TaskError(f"{file}{line}: this is no Python script: {reason}") from None


def _found(name: str) -> ModuleSpec:
    """Where a module is, seen from the current folder; of a package its ``__main__``."""
    kept = sys.path[:]
    sys.path[:1] = [str(Path.cwd())]
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except (ImportError, ValueError) as error:
        raise TaskError(f"-m {name}: {error}; give a module as python -m takes it") from None
    finally:
        sys.path[:] = kept
    if spec is None or not spec.has_location:
        raise TaskError(f"-m {name}: no such module, seen from {Path.cwd()}; give one as python -m takes it")
    return spec


def _run(file: Path, code: Any, args: Sequence[str], spec: ModuleSpec | None = None) -> Ended:
    """Execute the script as ``__main__``."""
    module = ModuleType("__main__")
    own = {"__file__": code.co_filename, "__builtins__": __builtins__, "__cached__": None, "__spec__": spec}
    module.__dict__.update(own)
    if spec is not None:
        module.__package__ = spec.parent
    kept = sys.argv, sys.path[:], sys.modules.get("__main__")
    sys.argv = [str(file), *args]
    sys.path[:1] = [str(file.resolve().parent if spec is None else Path.cwd())]
    sys.modules["__main__"] = module
    try:
        exec(code, module.__dict__)
    except SystemExit as exit_:
        return _left(_status_of(exit_))
    except KeyboardInterrupt:
        return Ended(INTERRUPTED, "interrupted")
    except BaseException as error:  # noqa: BLE001 (whatever it is, it is the script's own)
        return Ended(1, "failed", one_line(error) + _tell(error, code.co_filename))
    finally:
        sys.argv, sys.path[:] = kept[0], kept[1]
        if kept[2] is not None:
            sys.modules["__main__"] = kept[2]
    return Ended(0, "done")


def _left(status: int) -> Ended:
    """How a script ended that left with a status of its own."""
    return Ended(status, "failed", f"its own exit with status {status}") if status else Ended(0, "done")


def _status_of(left: SystemExit) -> int:
    """The exit status that Python would give; a text goes to standard error, as Python prints it."""
    if left.code is None or isinstance(left.code, int):
        return left.code or 0
    sys.stderr.write(f"{left.code}\n")
    return 1


def _tell(error: BaseException, script: str) -> str:
    """Print the script's own traceback, without our frames above it; the line of the script, in words."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != script:
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace, file=sys.stderr)
    return "" if trace is None else f" (line {trace.tb_lineno} of {Path(script).name})"


class Trials(NamedTuple):
    """What may be tried after a script."""

    seconds: float
    talk: Callable[[str], None] | None

    def __call__(self, told: Verdict) -> None:
        """Try where it is wanted."""
        kept = told.candidate.kept
        if self.seconds > 0 and kept is not None and wanted(told.found):
            retry(told.found, kept(), self.seconds, self.talk)


def _judged(
    audience: Audience, file: Path, ended: Ended, failures: Sequence[str], trials: Trials
) -> Diagnosis | None:
    if not audience.ranked():
        left = None if ended.code else audience.unstepped()
        if left is None:
            return None
        left.facts["script"] = str(file)
        return judge(left)

    def known(run: Run) -> Run:
        run.facts["script"] = str(file)
        if ended.error:
            run.facts["stopped"] = {"step": run.summary["steps"], "error": ended.error}
        return run

    several = settle(audience.candidates(ended.status), known)
    if not ended.code:
        trials(several.told)
    found = tell(several)
    run = found.run
    if ended.status == "interrupted":
        at = f"The script was interrupted at step {run.summary['steps']}"
        found.notes.append(f"{at}; what was seen until then is judged.")
    if failures:
        found.notes.append(f"Something could not be listened to: {failures[0]}")
    if ended.error:
        at = f"The script stopped at step {run.summary['steps']} by {ended.error}"
        found.notes.append(f"{at}; what was seen until then is judged.")
    return found
