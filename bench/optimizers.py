"""One step of every optimizer beside torch's, pytorch_optimizer's, optimi's, heavyball's and optax's.

    pip install -c constraints.txt -e '.[kernels,bench-optimizers]'
    python bench/optimizers.py [--sets ...] [--methods ...] [--rounds 15] [--without heavyball]
    python bench/optimizers.py --publish      on an idle machine: the table and the picture of chapter 22
    python bench/optimizers.py --publish --update --methods muon      these anew, the others as published

A figure is the fraction of what memory can do: seconds of a probe that moves the fewest bytes a step can do
with (`_steps.METHODS`, `_probes`), over the seconds of the step, round by round in turns; median [quartiles].
Every method has a process of its own on every set; of the largest set one contestant is alive at a time.
Methods of matrices have milliseconds, mean and maximum, as some of their steps are long. Numba's import is
timed apart from what a kernel takes until it runs.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from _probes import PROBES, Others, probes
from _steps import MATRIX, METHODS, makers, missing, parameters
from _table import joined, publish, published, revision, shown
from _timing import interleaved, ratios

IDLE = 0.5
"""Load average before, and cores that others may take during, a run that is published."""

BUILT = ("rmsprop", "nadam", "lion", "adan", "lamb", "adafactor")
"""Methods whose kernels are timed until they run."""

PATIENCE = 1800
"""Seconds for one method on one set."""

ALONE = {"heavyball": 300}
"""Contestants with a process and a patience of their own: heavyball changes torch's settings when loaded,
and compiles every list of tensors, of a thousand for longer than anyone waits."""


def resnet() -> list[tuple[int, ...]]:
    """ResNet-18's: 11.7 M in 62 tensors."""
    shapes: list[tuple[int, ...]] = [(64, 3, 7, 7), (64,), (64,), *[(64, 64, 3, 3), (64,), (64,)] * 4]
    for inside in (64, 128, 256):
        wide = 2 * inside
        norm = [(wide,), (wide,)]
        shapes += [(wide, inside, 3, 3), *norm, (wide, wide, 3, 3), *norm, (wide, inside, 1, 1), *norm]
        shapes += [(wide, wide, 3, 3), *norm] * 2
    return [*shapes, (1000, 512), (1000,)]


def gpt2() -> list[tuple[int, ...]]:
    """GPT-2's: 124 M in 148 tensors."""
    norm, width = [(768,), (768,)], 768
    block = [*norm, (width, 3 * width), (3 * width,), (width, width), (width,)]
    block += [*norm, (width, 4 * width), (4 * width,), (4 * width, width), (width,)]
    return [(50257, width), (1024, width), *block * 12, *norm]


SETS = {
    "1 M in 20": [(316, 316), (316,)] * 10,
    "11.7 M in 62": resnet(),
    "124 M in 148": gpt2(),
    "1,000 of 50": [(50,)] * 1000,
    "ten 320 x 320": [(320, 320)] * 10,
}
"""The first, of 4 MB a tensor kind, may stay in a large last-level cache; the second and third do not."""

LARGE = "124 M in 148"


def sets_of(method: str) -> list[str]:
    """Matrices for the methods that multiply them, else everything that is none of matrices alone."""
    return ["ten 320 x 320"] if method in MATRIX else [name for name in SETS if name != "ten 320 x 320"]


def one(title: str, method: str, names: list[str], rounds: int) -> list[dict[str, object]]:
    """Contestants of a method on one set, in this process."""
    shapes, made = SETS[title], makers(method)
    beside = probes(shapes, METHODS[method].bytes)
    long = title == LARGE or method in MATRIX
    rows: list[dict[str, object]] = []
    for group in [[name] for name in names] if title == LARGE else [names]:
        steps, firsts = {}, {}
        for name in group:
            try:
                steps[name], firsts[name] = started(made[name], shapes)
            except Exception as error:  # noqa: BLE001  whatever a peer raises is its result
                said = (str(error).strip().splitlines() or [""])[0]
                rows.append({"contestant": name, "failed": f"{type(error).__name__}: {said[:200]}"})
        actions = [*steps.values(), *beside.values()]
        times = interleaved(actions, rounds * (3 if method in MATRIX else 1), 0.0 if long else 0.01)
        probed = dict(zip(PROBES, times[len(steps) :], strict=True))
        for name, seconds in zip(steps, times, strict=False):
            rows.append({"contestant": name, "first": firsts[name], **figures(seconds, probed)})
        del steps, actions
        gc.collect()
    return rows


def started(make, shapes):
    """What makes a step, and the seconds of its first; the second and third are made too."""
    params = parameters(shapes)
    start = time.perf_counter()
    step = make(params)
    step()
    first = time.perf_counter() - start
    for _ in range(2):
        step()
    return step, first


def figures(seconds: list[float], probed: dict[str, list[float]]) -> dict[str, object]:
    found: dict[str, object] = {
        "median": statistics.median(seconds),
        "mean": statistics.fmean(seconds),
        "maximum": max(seconds),
    }
    for name, other in probed.items():
        ratio = ratios(other, seconds)
        found[name] = [ratio.median, *ratio.quartiles]
    return found


BUILD = """
import json, sys, time
import torch
from downslope import optim
import downslope.optim.kernel.store, downslope.optim.kernel.table
given = json.loads(sys.argv[1])
params = [torch.nn.Parameter(torch.randn(128, 64, 3, 3)) for _ in range(2)]
for p in params:
    p.grad = torch.randn_like(p)
start = time.perf_counter()
if given["cold"]:
    import numba
imported = time.perf_counter() - start
times = []
for _ in range(2):
    optimizer = getattr(optim, given["class"])(params, **given["settings"], backend="kernel")
    start = time.perf_counter()
    optimizer.step()
    times.append(time.perf_counter() - start)
loaded = "numba" in sys.modules
print(json.dumps({"import": imported, "first": times[0], "again": times[1], "numba": loaded}))
"""


def builds(methods: list[str]) -> list[dict[str, object]]:
    """Seconds of a first step, and of the first of a second optimizer, whose kernel is there; in fresh
    processes, without and with its code on the disk."""
    rows: list[dict[str, object]] = []
    for method in methods:
        cls, settings = METHODS[method].ours
        with tempfile.TemporaryDirectory() as room:
            for cold in (True, False):
                given = json.dumps({"class": cls, "settings": settings, "cold": cold})
                done = subprocess.run(
                    [sys.executable, "-c", BUILD, given],
                    env={**os.environ, "DOWNSLOPE_CACHE": room},
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if done.returncode:
                    said = done.stderr.strip().splitlines()[-1:]
                    rows.append({"method": method, "cold": cold, "failed": "".join(said)[:200]})
                else:
                    rows.append({"method": method, "cold": cold, **json.loads(done.stdout)})
    return rows


def apart(title: str, method: str, given: argparse.Namespace) -> dict[str, object]:
    """`one` in processes of their own: for all contestants, and for each that must be alone."""
    there = [name for name in makers(method) if name not in given.without]
    together = [name for name in there if name not in ALONE]
    rows = _found(title, method, given, together, PATIENCE)
    for name in there:
        if name in ALONE:
            rows += _found(title, method, given, [name], ALONE[name])
    return {"set": title, "method": method, "rows": rows}


def _found(
    title: str, method: str, given: argparse.Namespace, names: list[str], patience: float
) -> list[dict[str, object]]:
    with tempfile.TemporaryDirectory() as room:
        out = Path(room) / "found.json"
        command = [sys.executable, __file__, "--one", title, method, *names, "--json", str(out)]
        command += ["--rounds", str(given.rounds), "--threads", str(given.threads)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=patience, check=False)
        except subprocess.TimeoutExpired:
            return [{"contestant": name, "failed": f"more than {patience} s"} for name in names]
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [""])[-1]
            return [{"contestant": name, "failed": said[:200]} for name in names]
        return json.loads(out.read_text())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="*", choices=list(SETS), default=list(SETS))
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--without", nargs="*", default=[], help="contestants to leave out")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--publish", action="store_true", help="write chapter 22's tables and picture")
    parser.add_argument("--update", action="store_true", help="keep what was published of the others")
    parser.add_argument("--one", nargs="+", help="a set, a method and contestants: in this process")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    torch.set_num_threads(given.threads)
    if given.one:
        given.json.write_text(json.dumps(one(*given.one[:2], given.one[2:], given.rounds)))
        return 0
    load = os.getloadavg()[0]
    if given.publish and load > IDLE:
        print(f"load {load:.1f}: figures are published from an idle machine, below {IDLE}", file=sys.stderr)
        return 2
    others = Others()
    print(f"torch {torch.__version__}, {given.threads} threads, load {load:.1f}")
    print(f"not installed: {', '.join(missing()) or 'none'}")
    results: list[dict[str, object]] = []
    for title in given.sets:
        for method in given.methods:
            if title in sets_of(method):
                results.append({**apart(title, method, given), "revision": revision()})
                print(shown(results[-1]), flush=True)
    built = builds([name for name in given.methods if name in BUILT])
    for row in built:
        print(row)
    found = {
        "torch": torch.__version__, "threads": given.threads, "load": load, "others": others.cores(),
        "cpu": cpu(), "results": results, "builds": built,
    }  # fmt: skip
    print(f"others took {found['others']:.2f} cores")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))
    if given.publish:
        if others.cores() > IDLE:
            print("others were at work meanwhile: nothing is published", file=sys.stderr)
            return 2
        publish(joined(published(), found) if given.update else found)
    return 0


def cpu() -> str:
    """Its name and the instructions that matrices are multiplied with."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    told = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines}
    kinds = [kind for kind in ("avx2", "avx512f", "amx_bf16") if kind in told.get("flags", "").split()]
    return f"{told.get('model name', '')}, {', '.join(kinds)}"


if __name__ == "__main__":
    sys.exit(main())
