"""Non-linear regressions of which the answer is certified: NIST's Statistical Reference Datasets (StRD).

Public domain; https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml. Of each: model, data, the two starts
of the collection (the first one far away), certified parameters and residual sum of squares.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

import downslope as ds


class Certified(NamedTuple):
    """One of the collection."""

    function: Callable[[Tensor, Tensor], Tensor]
    x: tuple[float, ...]
    y: tuple[float, ...]
    starts: tuple[tuple[float, ...], tuple[float, ...]]
    parameters: tuple[float, ...]
    squares: float


class Curve(nn.Module):
    """``y = f(b, x)``."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], start: tuple[float, ...]) -> None:
        super().__init__()
        self.function = function
        self.b = nn.Parameter(torch.tensor(start, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.b, x)


def problem(given: Certified, start: int) -> ds.Problem:
    """The regression from one of its starts."""
    return ds.Problem(
        model=lambda: Curve(given.function, given.starts[start]),
        objective="squared_error",
        train=(torch.tensor(given.x, dtype=torch.float64), torch.tensor(given.y, dtype=torch.float64)),
    )


MISRA1A = Certified(
    lambda b, x: b[0] * (1 - torch.exp(-b[1] * x)),
    (77.6, 114.9, 141.1, 190.8, 239.9, 289.0, 332.8, 378.4, 434.8, 477.3, 536.8, 593.1, 689.1, 760.0),
    (10.07, 14.73, 17.94, 23.93, 29.61, 35.18, 40.02, 44.82, 50.76, 55.05, 61.01, 66.40, 75.47, 81.78),
    ((500.0, 0.0001), (250.0, 0.0005)),
    (2.3894212918e02, 5.5015643181e-04),
    1.2455138894e-01,
)
THURBER = Certified(
    lambda b, x: (
        (b[0] + b[1] * x + b[2] * x**2 + b[3] * x**3) / (1 + b[4] * x + b[5] * x**2 + b[6] * x**3)
    ),
    (
        -3.067, -2.981, -2.921, -2.912, -2.840, -2.797, -2.702, -2.699, -2.633, -2.481, -2.363, -2.322,
        -1.501, -1.460, -1.274, -1.212, -1.100, -1.046, -0.915, -0.714, -0.566, -0.545, -0.400, -0.309,
        -0.109, -0.103, 0.010, 0.119, 0.377, 0.790, 0.963, 1.006, 1.115, 1.572, 1.841, 2.047, 2.200,
    ),
    (
        80.574, 84.248, 87.264, 87.195, 89.076, 89.608, 89.868, 90.101, 92.405, 95.854, 100.696, 101.060,
        401.672, 390.724, 567.534, 635.316, 733.054, 759.087, 894.206, 990.785, 1090.109, 1080.914, 1122.643,
        1178.351, 1260.531, 1273.514, 1288.339, 1327.543, 1353.863, 1414.509, 1425.208, 1421.384, 1442.962,
        1464.350, 1468.705, 1447.894, 1457.628,
    ),
    ((1000.0, 1000.0, 400.0, 40.0, 0.7, 0.3, 0.03), (1300.0, 1500.0, 500.0, 75.0, 1.0, 0.4, 0.05)),
    (
        1.2881396800e03, 1.4910792535e03, 5.8323836877e02, 7.5416644291e01, 9.6629502864e-01,
        3.9797285797e-01, 4.9727297349e-02,
    ),
    5.6427082397e03,
)  # fmt: skip
MGH09 = Certified(
    lambda b, x: b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3]),
    (4.0, 2.0, 1.0, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625),
    (0.1957, 0.1947, 0.1735, 0.16, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246),
    ((25.0, 39.0, 41.5, 39.0), (0.25, 0.39, 0.415, 0.39)),
    (1.9280693458e-01, 1.9128232873e-01, 1.2305650693e-01, 1.3606233068e-01),
    3.0750560385e-04,
)
MGH10 = Certified(
    lambda b, x: b[0] * torch.exp(b[1] / (x + b[2])),
    tuple(50.0 + 5.0 * i for i in range(16)),
    (
        34780.0, 28610.0, 23650.0, 19630.0, 16370.0, 13720.0, 11540.0, 9744.0, 8261.0, 7030.0, 6005.0, 5147.0,
        4427.0, 3820.0, 3307.0, 2872.0,
    ),
    ((2.0, 400000.0, 25000.0), (0.02, 4000.0, 250.0)),
    (5.6096364710e-03, 6.1813463463e03, 3.4522363462e02),
    8.7945855171e01,
)  # fmt: skip
BOXBOD = Certified(
    lambda b, x: b[0] * (1 - torch.exp(-b[1] * x)),
    (1.0, 2.0, 3.0, 5.0, 7.0, 10.0),
    (109.0, 149.0, 149.0, 191.0, 213.0, 224.0),
    ((1.0, 1.0), (100.0, 0.75)),
    (2.1380940889e02, 5.4723748542e-01),
    1.1680088766e03,
)
EVERY = {"Misra1a": MISRA1A, "Thurber": THURBER, "MGH09": MGH09, "MGH10": MGH10, "BoxBOD": BOXBOD}
