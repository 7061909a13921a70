"""https://github.com/DeepDiagnosis/ICSE2022 (AUTOTRAINER Model Code/Models_Blob.py, model_84c77206)

A model of AutoTrainer's set that DeepDiagnosis looks at: three blobs in the plane, fifteen hidden layers of
five relu units with He's initialisation and no bias to start with, three sigmoids at the end. The accuracy
stays at a third.
Remedy, of AutoTrainer for dying units and gradients: selu in place of relu. (Adam with rate 0.001, batches of
32, 60 epochs, cross-entropy of the logits.)
Root: dead-units, vanishing-gradient, plateau
"""

from sklearn.datasets import make_blobs
from torch import nn

import downslope as ds

FAULTY = True


class Deep(nn.Sequential):
    def __init__(self, depth=15, width=5):
        layers, inputs = [], 2
        for _ in range(depth):
            layers += [nn.Linear(inputs, width), nn.ReLU() if FAULTY else nn.SELU()]
            inputs = width
        super().__init__(*layers, nn.Linear(width, 3))
        for layer in self:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)


def problem():
    x, y = make_blobs(n_samples=1000, centers=3, n_features=2, cluster_std=2, random_state=2)
    x = (x / 10).astype("float32")
    return ds.Problem(
        model=Deep,
        objective="cross_entropy",
        train=(x[:700], y[:700]),
        valid=(x[700:], y[700:]),
        metric="accuracy",
    )


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.001, batch_size=32, epochs=60)
