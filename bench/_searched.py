"""One search in a process of its own: 32 configurations trained and validated, by one library. See `tune.py`.

    python bench/_searched.py NAME WORK.npz

It prints one line of JSON: seconds after the imports, and each configuration's loss on validation data.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

BATCH = 64

Config = dict[str, float]
Part = tuple[torch.Tensor, torch.Tensor]


def mlp(width: int = 128) -> nn.Module:
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def cnn(width: int = 8) -> nn.Module:
    layers = [nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * width, 10)]
    return nn.Sequential(*layers)


MODELS = {"mlp": mlp, "cnn": cnn}


class Work:
    """What is to be done, as `tune.py` has written it."""

    def __init__(self, file: Path) -> None:
        held = np.load(file)
        self.train: Part = (torch.from_numpy(held["x"]), torch.from_numpy(held["y"]))
        self.valid: Part = (torch.from_numpy(held["vx"]), torch.from_numpy(held["vy"]))
        self.epochs, self.seeds = int(held["epochs"]), int(held["seeds"])
        self.make: Callable[[], nn.Module] = MODELS[str(held["model"])]
        pairs = zip(held["lr"].tolist(), held["weight_decay"].tolist(), strict=True)
        self.configs: list[Config] = [{"lr": lr, "weight_decay": decay} for lr, decay in pairs]

    def trained(self, config: Config, *, loader: bool = False, **options: Any) -> float:
        """The loop of the tutorials: batches by index, or a DataLoader; one look at the validation data."""
        torch.manual_seed(0)
        model, objective = self.make(), nn.CrossEntropyLoss()
        optimizer = torch.optim.AdamW(model.parameters(), **config, **options)
        for _ in range(self.epochs):
            for x, y in self._loader() if loader else self._batches():
                optimizer.zero_grad()
                objective(model(x), y).backward()
                optimizer.step()
        model.eval()
        with torch.no_grad():
            return objective(model(self.valid[0]), self.valid[1]).item()

    def _batches(self) -> Any:
        x, y = self.train
        for index in torch.randperm(len(x)).split(BATCH):
            yield x[index], y[index]

    def _loader(self) -> Any:
        from torch.utils.data import DataLoader, TensorDataset

        return DataLoader(TensorDataset(*self.train), batch_size=BATCH, shuffle=True)


def sequential(work: Work) -> list[float]:
    """One after another, no library, torch's fused AdamW."""
    return [work.trained(config, fused=True) for config in work.configs]


def optuna_memory(work: Work) -> list[float]:
    """Optuna's loop, batches in memory."""
    return _optuna(work, loader=False)


def optuna_loader(work: Work) -> list[float]:
    """Optuna's loop with a DataLoader, as in its examples."""
    return _optuna(work, loader=True)


def _optuna(work: Work, *, loader: bool) -> list[float]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for config in work.configs:
        study.enqueue_trial(config)

    def objective(trial: Any) -> float:
        config = {
            "lr": trial.suggest_float("lr", 1e-5, 1.0, log=True),
            "weight_decay": trial.suggest_float("weight_decay", 1e-7, 1.0, log=True),
        }
        return work.trained(config, loader=loader)

    study.optimize(objective, n_trials=len(work.configs))
    return [trial.value for trial in study.trials]


def _population(work: Work, way: Any, configs: list[Config] | None = None) -> list[float]:
    import downslope as ds

    problem = ds.Problem(
        model=work.make, objective="cross_entropy", train=work.train, valid=work.valid, metric="accuracy"
    )
    recipe = ds.Recipe(optimizer="adamw", lr=1e-3, batch_size=BATCH, epochs=work.epochs)
    recipes = [recipe.edit(**config) for config in work.configs] if configs is None else [recipe]
    seeds = list(range(work.seeds)) if configs is not None else None
    runs = ds.fit_population(problem, recipes, seeds=seeds, progress=False, way=way)
    sys.stderr.write(f"{runs[0].choices.get('population')}\n")
    return [float(run.history.last("valid_loss") or "nan") for run in runs]


def population(work: Work) -> list[float]:
    """`ds.fit_population`: history, validation of every epoch, best weights."""
    return _population(work, "auto")


def together(work: Work) -> list[float]:
    """`ds.fit_population` with ``way="together"``."""
    return _population(work, "together")


def one_by_one(work: Work) -> list[float]:
    """`ds.fit_population` with ``way="one by one"``, which is `fit` for each."""
    return _population(work, "one by one")


def seeds(work: Work) -> list[float]:
    """One recipe from several seeds."""
    return _population(work, "auto", work.configs[:1])


def tuned(work: Work) -> list[float]:
    """`ds.tune` with its journal in a folder; random search, nothing trained a second time."""
    import tempfile

    import downslope as ds

    problem = ds.Problem(
        model=work.make, objective="cross_entropy", train=work.train, valid=work.valid, metric="accuracy"
    )
    recipe = ds.Recipe(optimizer="adamw", lr=1e-3, batch_size=BATCH, epochs=work.epochs)
    space = {"lr": ds.log(1e-4, 0.1), "weight_decay": ds.log(1e-6, 0.1)}
    with tempfile.TemporaryDirectory() as room:
        found = ds.tune(
            problem, recipe, space, trials=len(work.configs), confirm=0, folder=Path(room) / "search",
            progress=False,
        )  # fmt: skip
    return [float(len(found.trials))]


SEARCHES: dict[str, Callable[[Work], list[float]]] = {
    "sequential, fused AdamW": sequential,
    "Optuna, in memory": optuna_memory,
    "Optuna, DataLoader": optuna_loader,
    "population": population,
    "together": together,
    "one by one": one_by_one,
    "seeds": seeds,
    "tune": tuned,
}


def main() -> None:
    name, file = sys.argv[1:]
    needs = {"Optuna": "optuna", "sequential": "torch"}
    __import__(needs.get(name.split(",")[0], "torch"))
    if "," in name:
        __import__("torch._dynamo")  # which torch.optim imports when the first optimizer is made
    if name in ("population", "together", "one by one", "seeds", "tune"):
        import downslope as ds

        for used in ("Problem", "Recipe", "fit_population", *(["tune"] if name == "tune" else [])):
            getattr(ds, used)  # what is imported when it is first named
    work = Work(Path(file))
    start, cpu = time.perf_counter(), time.process_time()
    values = SEARCHES[name](work)
    line = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu, "values": values}
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
