"""https://github.com/apache/mxnet/issues/2308 (the same: https://github.com/pytorch/examples/issues/276)

The digits example as it is, but with a batch size of 1 or 2: "the model dramatically does not work", 10 %
after ten epochs.
Answer: the learning rate has to change with it; "now it works, I change the lr to 0.001". (The rate of the
example is not told; here 0.1 with momentum 0.9, two relu layers, digits of 8 x 8 and three epochs.)
Root: learning-rate-too-high, noisy-gradient
"""

from torch import nn
from torch.nn import functional as F  # noqa: N812

import downslope as ds

FAULTY = True


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 128)
        self.fc2 = nn.Linear(128, 64)
        self.fc3 = nn.Linear(64, 10)

    def forward(self, data):
        act1 = F.relu(self.fc1(data))
        act2 = F.relu(self.fc2(act1))
        return self.fc3(act2)


def problem():
    digits = ds.data.digits(scale=16)
    return ds.Problem(
        model=MLP, objective="cross_entropy", train=digits.train, valid=digits.valid, metric="accuracy"
    )


def recipe():
    return ds.Recipe(
        optimizer="sgd", lr=0.1 if FAULTY else 0.001, momentum=0.9, batch_size=1, epochs=3, seed=0
    )
