"""https://stackoverflow.com/questions/38648195

Asked: three labels, each of which may be on or off, are learnt from 20 features
(make_multilabel_classification). The Keras network learns far less than a support vector machine does.
Answered: a softmax makes the three outputs compete for a sum of one. Labels that go together want a sigmoid
each, with the binary cross-entropy in the place of the squared error.
Root: output-activation, objective-mismatch
"""

import torch
from sklearn.datasets import make_multilabel_classification
from sklearn.model_selection import train_test_split
from torch import nn

import downslope as ds

FAULTY = True


def model():
    return nn.Sequential(
        nn.Linear(20, 20),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(20, 20),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(20, 3),
        nn.Softmax(dim=-1) if FAULTY else nn.Sigmoid(),
    )


def exact(output, target):
    """Share of rows of which all three labels are right."""
    return ((output > 0.5).float() == target).all(dim=1).float().mean().item()


exact.goal = "max"


def problem():
    x, y = make_multilabel_classification(n_samples=10_000, n_features=20, n_classes=3, random_state=7)
    parts = train_test_split(x, y, test_size=0.20, random_state=7)
    x_train, x_test, y_train, y_test = (torch.tensor(part, dtype=torch.float32) for part in parts)
    loss = nn.MSELoss() if FAULTY else nn.BCELoss()
    return ds.Problem(
        model=model, objective=loss, train=(x_train, y_train), valid=(x_test, y_test), metric=exact
    )


def recipe():
    return ds.Recipe(optimizer="sgd", lr=0.01, batch_size=20, epochs=20)
