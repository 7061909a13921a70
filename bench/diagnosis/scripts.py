"""Training scripts as people write them, with one line right or wrong: text for ``downslope watch``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.diagnosis.fault import SCRIPTS, Script

DATA: dict[str, str] = {
    "digits": """
from sklearn.datasets import load_digits
X, Y = load_digits(return_X_y=True)
X = torch.tensor(X, dtype=torch.float32) / 16
Y = torch.tensor(Y)
loss_function = nn.CrossEntropyLoss()
def score(out, y): return (out.argmax(1) == y).float().mean().item()
def make():
    return nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 10))
""",
    "wine": """
from sklearn.datasets import load_wine
X, Y = load_wine(return_X_y=True)
X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
Y = torch.tensor(Y)
loss_function = nn.CrossEntropyLoss()
def score(out, y): return (out.argmax(1) == y).float().mean().item()
def make(): return nn.Sequential(nn.Linear(13, 32), nn.Tanh(), nn.Linear(32, 3))
""",
    "cancer": """
from sklearn.datasets import load_breast_cancer
X, Y = load_breast_cancer(return_X_y=True)
X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
Y = torch.tensor(Y, dtype=torch.float32)[:, None]
loss_function = nn.BCEWithLogitsLoss()
def score(out, y): return ((out > 0) == (y > 0.5)).float().mean().item()
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(30, 32), nn.Linear(32, 1)
    def forward(self, x):
        return self.b(F.relu(self.a(x)))
make = Net
""",
    "friedman": """
from sklearn.datasets import make_friedman1
X, Y = make_friedman1(n_samples=800, noise=1.0, random_state={seed})
X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
Y = torch.tensor((Y - Y.mean()) / Y.std(), dtype=torch.float32)[:, None]
loss_function = nn.MSELoss()
def score(out, y): return 1 - ((out - y) ** 2).mean().item() / y.var().item()
def make(): return nn.Sequential(nn.Linear(10, 48), nn.ReLU(), nn.Linear(48, 1))
""",
    "rows": """
from sklearn.datasets import load_digits
X, Y = load_digits(return_X_y=True)
X = torch.tensor(X, dtype=torch.float32).reshape(-1, 8, 8) / 16
Y = torch.tensor(Y)
loss_function = nn.CrossEntropyLoss()
def score(out, y): return (out.argmax(1) == y).float().mean().item()
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(8, 32, batch_first=True), nn.Linear(32, 10)
    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])
make = Net
""",
}
"""Task to data, model and score."""

SETTINGS: dict[str, dict[str, Any]] = {
    "digits": {"epochs": 15, "sgd": 0.02, "adam": 3e-3, "constant": 0.1},
    "wine": {"epochs": 40, "sgd": 0.02, "adam": 5e-3, "constant": 0.4},
    "cancer": {"epochs": 20, "sgd": 0.02, "adam": 3e-3, "constant": 0.63},
    "friedman": {"epochs": 25, "sgd": 0.01, "adam": 5e-3, "constant": 0.0},
    "rows": {"epochs": 15, "sgd": 0.05, "adam": 5e-3, "constant": 0.1},
}

_LOOP = """
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed({seed})
torch.set_num_threads(1)
{data}
order = torch.randperm(len(X))
cut = len(X) * 3 // 4
Xv, Yv, X, Y = X[order[cut:]], Y[order[cut:]], X[order[:cut]], Y[order[:cut]]
{before}
model = make()
optimizer = torch.optim.{optimizer}
for epoch in range({epochs}):
    {epoch}
    model.train()
    for step, rows in enumerate({batches}):
        {zero}
        out = model(X[rows])
        loss = {loss}
        loss.backward()
        {take}
    {evaluate}
    with torch.no_grad():
        print("epoch", epoch, "score=%.4f" % score(model(Xv), Yv))
"""


def loop(
    *, optimizer: str = "Adam(model.parameters(), lr={adam})", zero: str = "optimizer.zero_grad()",
    take: str = "optimizer.step()", loss: str = "loss_function(out, Y[rows])", epoch: str = "pass",
    evaluate: str = "model.eval()", batches: str = "torch.randperm(len(X)).split(64)", before: str = "",
) -> Callable[[str, int], str]:  # fmt: skip
    """A training loop of these lines, as a function of task and seed; an empty line becomes ``pass``."""

    def text(task: str, seed: int) -> str:
        how = SETTINGS[task]
        lines = {
            "optimizer": optimizer.format(**how), "zero": zero or "pass", "take": take, "loss": loss,
            "epoch": epoch, "evaluate": evaluate or "pass", "batches": batches, "before": before,
        }  # fmt: skip
        return _LOOP.format(
            seed=seed, data=DATA[task].replace("{seed}", str(seed)), epochs=how["epochs"], **lines
        )

    return text


def script(
    symptom: str, name: str, task: str, sick: Callable[[str, int], str], twin: Callable[[str, int], str]
) -> None:
    """Register a script with a fault and its twin."""
    SCRIPTS.append(
        Script(symptom, name, lambda seed: sick(task, seed), lambda seed: twin(task, seed),
               SETTINGS[task]["constant"])
    )  # fmt: skip
