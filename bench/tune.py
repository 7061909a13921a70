"""A search of 32 configurations x 10 epochs beside Optuna and beside a plain loop, on scikit-learn's digits.

Each search is a process of its own, in turns; it is timed from its start, imports included (cold), and from
after its imports (warm), and its CPU seconds beside. Our modules are compiled before, as those of the peers
were when they were installed. The ratios are those within a round, with their quartiles. The peers train and
look at the validation data once; ours validate every epoch, keep history and best weights, and `tune` its
journal. What they find is compared: rank correlation of the validation losses.

    pip install -c constraints.txt -e .
    python bench/tune.py [--rounds 5] [--model mlp|cnn] [--members 32] [--epochs 10] [--threads 1]
                         [--only searches|ranking|seeds|trial|journal]
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from _searched import Work
from _timing import paired, ratios

import downslope as ds

HERE = Path(__file__).parent
PEERS = ("Optuna, in memory", "Optuna, DataLoader", "sequential, fused AdamW")
OURS = ("population", "one by one", "tune")


def written(room: Path, model: str, members: int, epochs: int, seeds: int = 8) -> Path:
    """The data and the configurations of all searches."""
    table = ds.data.digits()
    draw = np.random.default_rng(0)
    parts = {"x": table.train[0], "y": table.train[1], "vx": table.valid[0], "vy": table.valid[1]}
    file = room / f"{model}-{members}.npz"
    np.savez(
        file, **{key: part.numpy() for key, part in parts.items()},
        lr=10 ** draw.uniform(-4, -1, members), weight_decay=10 ** draw.uniform(-6, -1, members),
        model=model, epochs=epochs, seeds=seeds,
    )  # fmt: skip
    return file


def searched(name: str, file: Path) -> dict[str, Any]:
    """One process: what it says, and ``cold``, the seconds from its start to its end."""
    start = time.perf_counter()
    command = [sys.executable, str(HERE / "_searched.py"), name, str(file)]
    said = subprocess.run(command, check=True, capture_output=True, text=True)
    cold = time.perf_counter() - start
    return {**json.loads(said.stdout.splitlines()[-1]), "cold": cold}


def correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's, of what is finite in both."""
    x, y = np.asarray(a), np.asarray(b)
    both = np.isfinite(x) & np.isfinite(y)
    places = [np.argsort(np.argsort(each[both])) for each in (x, y)]
    return float(np.corrcoef(*places)[0, 1])


def searches(file: Path, members: int, rounds: int) -> None:
    """All searches in turns: configurations a second, and ours over each peer's time."""
    names = [*PEERS, *OURS]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for turn in range(rounds):
        for place in range(len(names)):
            name = names[(turn + place) % len(names)]
            found[name].append(searched(name, file))
    for name in names:
        cold, warm, cpu = (
            statistics.median(each[key] for each in found[name]) for key in ("cold", "seconds", "cpu")
        )
        print(
            f"{name:<24} {members / cold:6.1f} configurations a second cold, {members / warm:6.1f} warm, "
            f"{members / cpu:6.1f} a CPU second"
        )
    for ours in OURS:
        for peer in PEERS:
            shares = [
                ratios([each[key] for each in found[peer]], [each[key] for each in found[ours]])
                for key in ("cold", "seconds", "cpu")
            ]
            print(f"{ours:<12} faster than {peer:<24} {shares[0]} cold, {shares[1]} warm, {shares[2]} CPU")
    first = {name: found[name][0]["values"] for name in names}
    for peer in ("Optuna, in memory", "one by one"):
        print(f"ranks against {peer}: correlation {correlation(first['population'], first[peer]):.4f}")


def ranking(file: Path) -> None:
    """Together and one by one in float64; in float32 beside what another order of the features does to `fit`.

    At the upper end of these rates a unit that hardly ever fires takes a whole step of AdamW on a rounding.
    """
    for precision in ("float64", "float32"):
        problem, recipe = _problem(file)
        recipes = [recipe.edit(precision=precision, **config) for config in Work(file).configs]
        others = problem.edit(model=lambda own=problem.model: Turned(own()))
        trained = {
            name: [
                float(run.history.last("valid_loss") or "nan")
                for run in ds.fit_population(given, recipes, progress=False, way=way)
            ]
            for name, given, way in (
                ("together", problem, "together"),
                ("one by one", problem, "one by one"),
                ("with its features turned round", others, "one by one"),
            )
        }
        alone = np.argsort(trained["one by one"])
        for name in ("together", "with its features turned round"):
            same = int((np.argsort(trained[name]) == alone).sum())
            share = correlation(trained[name], trained["one by one"])
            print(
                f"{precision}: {name} against one by one, {same} of {len(alone)} ranks the same, "
                f"rank correlation {share:.4f}"
            )


class Turned(torch.nn.Module):
    """The same model, its sums over the features in the other order."""

    def __init__(self, inside: Any) -> None:
        super().__init__()
        self.inside = inside
        inside[0].weight.data = inside[0].weight.data.flip(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inside(x.flip(1))


def several_seeds(file: Path, rounds: int) -> None:
    """Eight seeds of one recipe over one fit, both in this process."""
    problem, recipe = _problem(file)
    eight = lambda: ds.fit_population(problem, recipe, seeds=list(range(8)), progress=False)  # noqa: E731
    one = lambda: ds.fit(problem, recipe, folder=False, progress=False, observe=0.0)  # noqa: E731
    print(f"8 seeds / one: {paired(eight, one, rounds)}")


def _problem(file: Path, steps: int | None = None) -> tuple[ds.Problem, ds.Recipe]:
    work = Work(file)
    problem = ds.Problem(
        model=work.make, objective="cross_entropy", train=work.train, valid=work.valid, metric="accuracy"
    )
    length: dict[str, int] = {"epochs": work.epochs} if steps is None else {"steps": steps}
    return problem, ds.Recipe(optimizer="adamw", lr=1e-3, batch_size=64, **length)


def per_trial(file: Path, members: int, rounds: int) -> None:
    """CPU milliseconds of runs of one step, and how many of them are not those of a plain loop
    that makes the model, takes the step, and looks at the validation data once.
    """
    problem, recipe = _problem(file, steps=1)
    recipes = [recipe.edit(lr=1e-3 * (1 + i)) for i in range(members)]

    def tuned() -> None:
        with tempfile.TemporaryDirectory() as room:
            ds.tune(
                problem, recipe, {"lr": ds.log(1e-4, 0.1)}, trials=members, confirm=0,
                folder=Path(room) / "search", progress=False,
            )  # fmt: skip

    def plain() -> None:
        work = Work(file)
        for each in recipes:
            torch.manual_seed(0)
            model, x, y = work.make(), *work.train
            optimizer = ds.optim.AdamW(model.parameters(), lr=float(each.lr or 0))
            index = torch.randperm(len(x))[:64]
            torch.nn.functional.cross_entropy(model(x[index]), y[index]).backward()
            optimizer.step()
            with torch.no_grad():
                made = model.eval()(work.valid[0])
                torch.nn.functional.cross_entropy(made, work.valid[1]).item()
                (made.argmax(1) == work.valid[1]).double().mean().item()

    actions = {
        "a plain loop": plain,
        "one by one": lambda: ds.fit_population(problem, recipes, progress=False, way="one by one"),
        "together": lambda: ds.fit_population(problem, recipes, progress=False, way="together"),
        "tune": tuned,
    }
    found: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds + 1):
        for name, act in actions.items():
            start = time.process_time()
            act()
            found[name].append(1e3 * (time.process_time() - start) / members)
    for name, each in found.items():
        above = [ours - theirs for ours, theirs in zip(each[1:], found["a plain loop"][1:], strict=True)]
        print(
            f"a trial of one step, {name:<12} {statistics.median(each[1:]):.2f} ms of CPU, "
            f"{statistics.median(above):.2f} above a plain loop"
        )


def journal(trials: int = 10_000) -> None:
    """A journal of many trials, opened by a process that begins: the seconds until all are read."""
    from downslope.tuning.storage import open_storage
    from downslope.tuning.trials import Trials

    space = {f"p{i}": ds.log(1e-5, 1.0) for i in range(5)}
    draw = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as room:
        place = Path(room) / "search"
        with open_storage(place) as storage:
            kept = Trials(storage, space, signature={"problem": "bench"})
            for _ in range(trials // 100):
                values = 10.0 ** draw.uniform(-5, 0, (100, 5))
                with kept.batch():
                    for trial in kept.begin([dict(zip(space, row, strict=True)) for row in values.tolist()]):
                        kept.done(trial, float(draw.random()))
        code = (
            "import time; start = time.perf_counter(); import downslope as ds\n"
            "from downslope.tuning.storage import open_storage; from downslope.tuning.trials import Trials\n"
            "loaded = time.perf_counter()\n"
            f"space = {{f'p{{i}}': ds.log(1e-5, 1.0) for i in range(5)}}\n"
            f"kept = Trials(open_storage({str(place)!r}), space, signature={{'problem': 'bench'}})\n"
            "print(len(kept.all()), time.perf_counter() - loaded, loaded - start)"
        )
        said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        count, took, imports = said.stdout.split()
    print(f"journal of {count} trials: read in {float(took):.2f} s, after {float(imports):.2f} s of imports")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", choices=("mlp", "cnn"), default="mlp")
    parser.add_argument("--members", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=0, help="of every process; 0 leaves them as they are")
    parser.add_argument("--only", choices=("searches", "ranking", "seeds", "trial", "journal"))
    asked = parser.parse_args()
    if asked.threads:
        os.environ["OMP_NUM_THREADS"] = str(asked.threads)
        torch.set_num_threads(asked.threads)
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f} before"
    )
    compileall.compile_dir(Path(ds.__file__).parent, quiet=1)
    with contextlib.ExitStack() as stack:
        room = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["DOWNSLOPE_CACHE"] = str(room / "cache")
        file = written(room, asked.model, asked.members, asked.epochs)
        if asked.only in (None, "searches"):
            searches(file, asked.members, asked.rounds)
        if asked.only in (None, "ranking") and asked.model == "mlp":
            ranking(file)
        if asked.only in (None, "seeds"):
            several_seeds(file, asked.rounds)
        if asked.only in (None, "trial"):
            per_trial(file, asked.members, asked.rounds)
        if asked.only in (None, "journal"):
            journal()


if __name__ == "__main__":
    main()
