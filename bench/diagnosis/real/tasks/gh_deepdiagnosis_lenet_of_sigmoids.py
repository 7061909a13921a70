"""https://github.com/DeepDiagnosis/ICSE2022 (AUTOTRAINER Model Code/Models_MNIST.py, model_2af630c4)

A model of AutoTrainer's set that DeepDiagnosis looks at: LeNet for MNIST with seven more dense layers of 84,
every activation a sigmoid, He's initialisation (normal), L2 of 0.0001 on all kernels. The accuracy stays at
10 %.
Remedy, of AutoTrainer: relu in the hidden layers against the vanishing gradient. (Here digits of 8 x 8,
kernels of 3, half as many units, Adam with rate 0.001, batches of 32.)
Root: vanishing-gradient, saturated-units, plateau
"""

from torch import nn

import downslope as ds

FAULTY = True


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        act = nn.Sigmoid if FAULTY else nn.ReLU
        layers = [nn.Conv2d(1, 6, 3), act(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 3), act(), nn.Flatten()]
        inputs = 16
        for units in (60, *(9 * [42])):
            layers += [nn.Linear(inputs, units), act()]
            inputs = units
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, 10))
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, x):
        return self.layers(x.view(-1, 1, 8, 8))


def problem():
    digits = ds.data.digits(scale=16)
    return ds.Problem(
        model=Net, objective="cross_entropy", train=digits.train, valid=digits.valid, metric="accuracy"
    )


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.001, weight_decay=0.0002, batch_size=32, epochs=15)
