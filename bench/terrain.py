"""Curvature of a CNN of 215 k parameters beside the peers; products by each way; traces and densities judged.

    python bench/terrain.py [--rounds 5] [--threads 1] [--images 256] [--trials 200]

Peers (`pip install -c constraints.txt -e '.[bench]'`): PyHessian's power iteration, and curvlinops' Hessian
under SciPy's `eigsh`, each as its documentation writes it, at the loosest tolerance of 1e-1, 1e-2, ... at
which it is right to 1e-3 (ours is told no such thing: it stops by its own estimate). One not installed is
left out. Above them stands after how many products the value is right, and after how many that can be
proved.
Every figure of a table is of one process, in turns; costs are in gradients: seconds over those of one loss
with its gradient, round by round. Errors are against float64, converged to a residual of 1e-6.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import sys
import warnings
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

from _timing import interleaved, ratios
from scipy.sparse.linalg import eigsh

import downslope as ds
from downslope.terrain.ground import ground_of
from downslope.terrain.krylov import Krylov
from downslope.terrain.operators import as_linear_operator, dense
from downslope.terrain.operators.curvature import Curvature
from downslope.terrain.spectrum import density, extremes, trace

TOL = 1e-3
ROOM = 60


def cnn() -> nn.Module:
    """Two convolutions and two linear layers: 214,817 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(1568, 133),
        nn.ReLU(),
        nn.Linear(133, 10),
    )


def digits(count: int):
    """scikit-learn's digits, 28 pixels wide as MNIST's are."""
    found = load_digits()
    x = torch.tensor(found.images[:count] / 16, dtype=torch.float32)[:, None]
    return nn.functional.interpolate(x, (28, 28), mode="bilinear"), torch.tensor(found.target[:count])


def noise(count: int):
    """Images and classes drawn at random."""
    return torch.randn(count, 1, 28, 28), torch.randint(0, 10, (count,))


def trained(data, steps: int) -> nn.Module:
    """After `steps` of Adam on batches of 64."""
    model = cnn()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x, y = data
    for _ in range(steps):
        some = torch.randint(0, len(x), (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[some]), y[some]).backward()
        optimizer.step()
    return model


def points(count: int):
    """Where to stand: title, model, data. The first is the one whose figures the goal was set by."""
    torch.manual_seed(0)
    yield "random images, fresh weights", cnn(), noise(count)
    data = digits(1797)
    some = tuple(each[:count] for each in data)
    for steps in (0, 30):
        yield f"digits, after {steps} steps", trained(data, steps), some


def gradient(model, x, y):
    loss = nn.functional.cross_entropy(model(x), y)
    return torch.autograd.grad(loss, list(model.parameters()))


def ours(problem, model, told):
    found = extremes(ground_of(problem, model).hessian(), top=1, bottom=0, tol=TOL)
    told["ours"] = (found.largest, found.products)
    return found


def pyhessian(model, x, y, told, tol=TOL):
    from pyhessian import hessian

    torch.manual_seed(1)  # its start vector
    operator = hessian(model, nn.CrossEntropyLoss(), data=(x, y), cuda=False)
    found = operator.eigenvalues(maxIter=100, tol=tol)[0][0]
    model.zero_grad()
    told["PyHessian"] = (found, None)


def curvlinops(model, x, y, told, tol=TOL):
    from curvlinops import HessianLinearOperator

    params = [p for p in model.parameters() if p.requires_grad]
    operator = HessianLinearOperator(
        model, nn.CrossEntropyLoss(), params, [(x, y)], check_deterministic=False
    ).to_scipy()
    torch.manual_seed(1)
    found = eigsh(operator, k=1, which="LA", tol=tol, return_eigenvectors=False)[0]
    told["curvlinops + eigsh"] = (float(found), None)


def loosest(act, name, told, reference) -> float:
    """The loosest tolerance at which a peer is right to `TOL`; that of its documentation if none is."""
    for tol in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5):
        act(tol)
        if abs(told[name][0] - reference) <= TOL * abs(reference):
            return tol
    return 1e-3


def top_eigenvalue(problem, data, model, rounds: int) -> None:
    """Cost and error of the largest eigenvalue, ours beside theirs."""
    exact = as_linear_operator(ground_of(problem, model, dtype=torch.float64).hessian())
    second, reference = sorted(eigsh(exact, k=2, which="LA", tol=1e-6, return_eigenvectors=False).tolist())
    told: dict[str, tuple[float, int | None]] = {}
    actions = {
        "a gradient": functools.partial(gradient, model, *data),
        "ours": functools.partial(ours, problem, model, told),
    }
    at: dict[str, float] = {}
    for name, act in {"PyHessian": pyhessian, "curvlinops + eigsh": curvlinops}.items():
        if importlib.util.find_spec(act.__name__):
            at[name] = loosest(functools.partial(act, model, *data, told), name, told, reference)
            actions[name] = functools.partial(act, model, *data, told, at[name])
    times = dict(zip(actions, interleaved(list(actions.values()), rounds), strict=True))
    print(f"    largest eigenvalue {reference:.6f}, the next one {second:.6f}")
    print(f"    {limits(problem, model, reference, second)}")
    for name, (value, products) in told.items():
        cost, over = ratios(times[name], times["a gradient"]), ratios(times[name], times["ours"])
        error = abs(value - reference) / abs(reference)
        counted = f", tolerance {at[name]:.0e}" if products is None else f", {products} products"
        print(
            f"    {name:20}{cost!s:>24} gradients{cost.first:9.3f} s   {over!s:>20} x ours   "
            f"error {error:.1e}{counted}",
            flush=True,
        )


def limits(problem, model, reference: float, second: float) -> str:
    """Products from the gradient after which the value is right, and after which a residual can say so.

    The second is by Temple's bound ``residual^2 / (value - second)`` with the second eigenvalue given, which
    no method knows: whoever stops before it from the same start is right by luck.
    """
    operator = ground_of(problem, model).hessian()
    space = Krylov(operator.product, operator.likely(), ROOM)
    right = proved = 0
    while not proved and not space.full:
        space.grow()
        pairs = space.ritz()
        value, residual = float(pairs.values[-1]), float(pairs.residuals[-1])
        if not right and abs(value - reference) <= TOL * abs(reference):
            right = space.products
        if value > second and residual**2 <= TOL * value * (value - second):
            proved = space.products
    return f"from the gradient right after {right} products, provably after {proved or f'more than {ROOM}'}"


def one_product(problem, model, rounds: int) -> None:
    """One product by each way, and what it costs to set up."""
    ground = ground_of(problem, model)
    batch = next(iter(ground.pieces)).batch
    v = torch.randn(ground.size, generator=torch.Generator().manual_seed(0))
    actions = {"a gradient": functools.partial(gradient, model, *batch)}
    for kind in ("hessian", "gauss_newton"):
        for way in ("reverse", "linearize", "forward"):
            ground.chosen = {kind: way}
            actions[f"{kind} {way} set-up"] = functools.partial(Curvature, ground, kind)
            actions[f"{kind} {way}"] = functools.partial(Curvature(ground, kind).product, v)
            actions[f"{kind} {way} set-up"]()  # the first of a process loads code
    # The way is read where an operator is made, so each set-up is bound to a ground of its own.
    for name in [each for each in actions if each.endswith("set-up")]:
        kind, way, _ = name.split()
        own = ground_of(problem, model)
        own.chosen = {kind: way}
        actions[name] = functools.partial(Curvature, own, kind)
    times = dict(zip(actions, interleaved(list(actions.values()), rounds), strict=True))
    for kind in ("hessian", "gauss_newton"):
        for way in ("reverse", "linearize", "forward"):
            each, setup = (
                ratios(times[f"{kind} {way}{end}"], times["a gradient"]) for end in ("", " set-up")
            )
            print(f"    {kind:13} {way:10} {each!s:>20} gradients a product, {setup!s:>20} to set up")


class Turned:
    """A matrix with these eigenvalues and random eigenvectors."""

    exact = True

    def __init__(self, values):
        n = len(values)
        self.size, self.dtype, self.device = n, torch.float64, torch.device("cpu")
        turn = torch.randn(n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        q = torch.linalg.qr(turn)[0]
        self.matrix, self.values = q @ torch.diag(values) @ q.T, values

    def product(self, vector):
        return self.matrix @ vector


def spectra(n: int = 300):
    """Eigenvalues of several kinds; the last as a trained network's."""
    i = torch.arange(n, dtype=torch.float64)
    bulk = torch.rand(n // 2 - 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.5 - 0.1
    outliers = torch.tensor([100.0, 40, 20, 15, 10, 8, 6, 4], dtype=torch.float64)
    return {
        "flat": 1 + 0.2 * torch.sin(i),
        "even": i / n,
        "geometric .8": 0.8**i,
        "geometric .95": 0.95**i,
        "1/i": 1 / (1 + i),
        "rank one": (i == 0).double(),
        "indefinite": torch.linspace(-1, 1.5, n, dtype=torch.float64),
        "network": torch.cat([outliers, bulk, torch.zeros(n - n // 2, dtype=torch.float64)]),
    }


def traces(trials: int) -> None:
    """How often the interval of the trace covers, and what it costs, plain and by choice."""
    for name, values in spectra().items():
        operator, truth = Turned(values), float(values.sum())
        for method in ("hutchinson", "auto"):
            told = []
            for tol in (0.2, 0.05):
                found = [
                    trace(operator, tol=tol, steps=250, seed=seed, method=method) for seed in range(trials)
                ]
                covered = sum(each.low - 1e-9 <= truth <= each.high + 1e-9 for each in found) / trials
                met = sum(each.error <= tol * abs(each.value) for each in found) / trials
                products = sum(each.products for each in found) / trials
                told.append(f"tol {tol:<4} covered {covered:.3f}, {products:4.0f} products, met {met:.2f}")
            print(f"    {name:14} {method:10}  {'   '.join(told)}", flush=True)


def densities(data) -> None:
    """Where the blurred dense spectrum lies beside the stated error: matrices, and a small Hessian."""
    x, y = data[0][:, 0, ::3, ::3].flatten(1), data[1]
    small = nn.Sequential(nn.Linear(100, 12), nn.Tanh(), nn.Linear(12, 10))
    own = ds.Problem(model=small, objective="cross_entropy", train=(x, y))
    run = ds.fit(own, ds.Recipe(optimizer="adam", lr=0.01, steps=200), folder=False, progress=False)
    hessian = ground_of(own, run, dtype=torch.float64).hessian()
    cases = {name: (Turned(values), values) for name, values in spectra(600).items()}
    cases["a Hessian"] = (hessian, torch.linalg.eigvalsh(dense(hessian)))
    for name, (operator, values) in cases.items():
        inside, wide = [], []
        for seed in range(4):
            found = density(operator, probes=8, steps=40, seed=seed)
            z = (torch.from_numpy(found.grid)[:, None] - values) / found.width
            truth = (torch.exp(-z * z / 2).mean(1) / (2 * torch.pi) ** 0.5 / found.width).numpy()
            inside.append((abs(truth - found.values) <= found.error + 1e-9 * truth.max()).mean())
            wide.append(found.width)
        print(
            f"    {name:14} {operator.size} rows, {found.products} products: within the stated error at "
            f"{sum(inside) / 4:.3f} of the grid, width {sum(wide) / 4:.2g}",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--trials", type=int, default=200)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.filterwarnings("ignore")
    print(f"torch {torch.__version__}, {given.threads} threads, {given.images} images")
    first = None
    for title, model, data in points(given.images):
        problem = ds.Problem(model=cnn, objective="cross_entropy", train=data)
        first = first or (problem, model)
        size = sum(p.numel() for p in model.parameters())
        print(f"  top eigenvalue to {TOL}, {size} parameters, {title}")
        top_eigenvalue(problem, data, model, given.rounds)
    print("  one product")
    one_product(*first, given.rounds)
    print(f"  trace, {given.trials} trials: an interval of 95 %")
    traces(given.trials)
    print("  density, 8 probes of 40 products: a band of 95 %")
    densities(data)


if __name__ == "__main__":
    main()
