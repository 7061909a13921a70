"""https://github.com/shiningrain/AUTOTRAINER (Motivation/DyingReLU)

AutoTrainer's motivating example: MNIST by 34 dense layers of 128 relu units (Glorot's initialisation), Adam,
batches of 32. In half of the runs the accuracy stays at 10 %; the paper calls it the dying relu.
Remedy, among those AutoTrainer tries: another initialisation (he_uniform). (Here digits of 8 x 8, 64 units a
layer, twelve epochs; the signal of 34 such layers starts 1e-5 times as large.)
Root: vanishing-gradient, init-scale, dead-units, plateau
"""

from torch import nn

import downslope as ds

FAULTY = True


class Net(nn.Module):
    def __init__(self, depth=34, width=64):
        super().__init__()
        self.denses = nn.ModuleList(nn.Linear(64, width) for _ in range(depth))
        self.out = nn.Linear(width, 10)
        for dense in self.denses:
            if FAULTY:
                nn.init.xavier_uniform_(dense.weight)
            else:
                nn.init.kaiming_uniform_(dense.weight, nonlinearity="relu")
            nn.init.zeros_(dense.bias)

    def forward(self, x):
        for dense in self.denses:
            x = dense(x).relu()
        return self.out(x)


def problem():
    digits = ds.data.digits(scale=16)
    return ds.Problem(
        model=Net, objective="cross_entropy", train=digits.train, valid=digits.valid, metric="accuracy"
    )


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.001, batch_size=32, epochs=12)
