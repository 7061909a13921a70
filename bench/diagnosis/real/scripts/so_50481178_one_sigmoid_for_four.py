"""https://stackoverflow.com/questions/50481178 (DeepLocalize, DeepFD)

Asked: "keras MLP accuracy zero": layers of 10, 20, 30, 40 and 50 relu units, Dense(1, sigmoid), binary
cross-entropy, Adam, batches of 10, 50 epochs. The accuracy is (nearly) zero.
Cause, by the benchmarks: activation and loss. The labels are no zeros and ones, which a sigmoid and that loss
suppose; the correct version ends in a softmax over the classes with the sparse categorical cross-entropy. (A
table of four features and four classes here, 10 epochs.)
Root: objective-mismatch, output-activation
"""

import torch
from sklearn.datasets import make_classification
from torch import nn
from torch.nn import functional as F  # noqa: N812

FAULTY = True

torch.manual_seed(5)
x, y = make_classification(
    n_samples=1000, n_features=4, n_informative=4, n_redundant=0, n_classes=4, class_sep=1.5, random_state=5
)
x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
x_test, y_test, x, y = x[:200], y[:200], x[200:], y[200:]

layers, inputs = [], 4
for units in [10, 20, 30, 40, 50]:
    layers += [nn.Linear(inputs, units), nn.ReLU()]
    inputs = units
layers += [nn.Linear(inputs, 1), nn.Sigmoid()] if FAULTY else [nn.Linear(inputs, 4)]
model = nn.Sequential(*layers)
optimizer = torch.optim.Adam(model.parameters())


def binary_crossentropy(p, label):
    p = p.squeeze(1).clamp(1e-7, 1 - 1e-7)
    return -(label * p.log() + (1 - label) * (1 - p).log()).mean()


def predicted(out):
    return out.squeeze(1).round().long() if FAULTY else out.argmax(1)


print(f"constant={y_test.bincount().max().item() / 200:.4f}")
for epoch in range(10):
    total = 0.0
    for rows in torch.randperm(len(x)).split(10):
        out = model(x[rows])
        loss = binary_crossentropy(out, y[rows]) if FAULTY else F.cross_entropy(out, y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(rows)
    with torch.no_grad():
        accuracy = (predicted(model(x_test)) == y_test).float().mean().item()
    print(f"epoch {epoch} loss {total / len(x):.4f} accuracy {accuracy:.3f}")
print(f"score={accuracy:.4f}")
