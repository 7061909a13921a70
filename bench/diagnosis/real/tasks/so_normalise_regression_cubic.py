"""https://qa.1r1g.com/sf/ask/4433342651/ (mirror of a StackOverflow question on regression)

One linear layer is fitted to y = 2 x**3 + 7 x**2 - 8 x + 120 for inputs from -1000 to 1000, 100 examples,
by SGD on the squared error. The loss is NaN; with a MinMaxScaler it is not.
Cause: inputs of a thousand and targets of 2e9 make the step overflow. Remedy: scale both.
Root: unscaled-inputs, unscaled-targets
"""

import torch
import torch.nn as nn

import downslope as ds

FAULTY = True


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1, 1)

    def forward(self, x):
        return self.linear(x)


def problem():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(100, 1, generator=g) * 2000 - 1000
    y = 2 * x**3 + 7 * x**2 - 8 * x + 120
    if not FAULTY:
        x, y = (x - x.min()) / (x.max() - x.min()), (y - y.min()) / (y.max() - y.min())
    return ds.Problem(
        model=Net, objective=nn.MSELoss(), train=(x[:80], y[:80]), valid=(x[80:], y[80:]), metric="r2"
    )


def recipe():
    return ds.Recipe(
        optimizer=lambda params: torch.optim.SGD(params, lr=0.2), batch_size="full", steps=1000, seed=0
    )
