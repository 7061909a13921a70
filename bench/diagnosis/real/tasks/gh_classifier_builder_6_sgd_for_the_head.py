"""https://github.com/testdotai/classifier-builder/pull/6

Icons are told apart by a new last layer on a ready-made network, whose weights stay as they are; the script
trains the layer by plain gradient descent with a rate of .01.
Told by the author of the change: the convergence was very slow with .01; with .3, or with Adam, it is not.
(The frozen body here is a convolution with fixed filters, pooled.)
Root: learning-rate-too-low, too-few-steps
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True


class Retrained(nn.Module):
    """A frozen body that gives non-negative features (the bottleneck), and a final layer."""

    def __init__(self, classes=10):
        super().__init__()
        g = torch.Generator().manual_seed(11)
        self.body = nn.Conv2d(1, 64, 3, padding=1)
        with torch.no_grad():
            self.body.weight.copy_(torch.randn(self.body.weight.shape, generator=g) / 2)
            self.body.bias.zero_()
        self.body.requires_grad_(False)
        self.final_training_ops = nn.Linear(64 * 4, classes)
        nn.init.trunc_normal_(self.final_training_ops.weight, std=0.001)
        nn.init.zeros_(self.final_training_ops.bias)

    def forward(self, image):
        bottleneck = nn.functional.adaptive_avg_pool2d(torch.relu(self.body(image)), 2).flatten(1)
        return self.final_training_ops(bottleneck)


def problem():
    digits = ds.data.digits(scale=16)
    (x, y), (xv, yv) = digits.train, digits.valid
    return ds.Problem(
        model=Retrained,
        objective=nn.CrossEntropyLoss(),
        train=(x.view(-1, 1, 8, 8), y),
        valid=(xv.view(-1, 1, 8, 8), yv),
        metric="accuracy",
    )


def sgd(model):
    return torch.optim.SGD(model.final_training_ops.parameters(), lr=0.01 if FAULTY else 0.3)


def recipe():
    return ds.Recipe(optimizer=sgd, batch_size=100, epochs=20, seed=0)
