"""https://discuss.pytorch.org/t/finding-coefficients-of-a-polynomial-through-linear-regression/71751

A sine between 2 and 5 is to be fitted by the coefficients of a polynomial: nn.Linear on the powers of x, the
summed error, SGD at 0.01 with momentum 0.9. With any rate above 1e-4 it is infinite at once, below it crawls.
Cause: the powers have different sizes (up to 125) and go together, so the curvature is large in one direction,
tiny in another; the error is summed besides. Twin: standardised powers and the mean.
Root: learning-rate-too-high, unscaled-inputs, ill-conditioned, summed-objective
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True


def points(seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.linspace(2, 5, 60).unsqueeze(1)
    y = torch.sin(x) + 0.05 * torch.randn(60, 1, generator=g)
    powers = torch.cat([x**3, x**2, x], dim=1)
    return (powers if FAULTY else (powers - powers.mean(0)) / powers.std(0)), y


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(3, 1)

    def forward(self, x):
        return self.fc1(x)


def problem():
    return ds.Problem(
        model=Net,
        objective=nn.MSELoss(reduction="sum" if FAULTY else "mean"),
        train=points(0),
        valid=points(1),
        metric="r2",
    )


def recipe():
    return ds.Recipe(
        optimizer=lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9), batch_size=60, epochs=400, seed=0
    )
