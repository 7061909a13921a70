"""https://stackoverflow.com/questions/55328966 (DeepLocalize, DeepFD)

Asked: MNIST, 5000 rows of a csv file, in tf.keras: Dense(784), Dense(50, relu), Dense(10, sigmoid),
categorical cross-entropy, SGD with rate 0.0001, ten epochs. The loss is no number, or the accuracy stays at
that of guessing.
Cause, by the benchmarks: the pixels are 0 to 255 (divide them), a sigmoid for the ten classes (softmax), the
optimizer (Adam). (Here digits of 16 x 16, values of 0 to 255; 35 epochs for the same number of steps.)
(Alone, the sigmoid does no harm here.)
Root: unscaled-inputs, learning-rate-too-low, output-activation
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

FAULTY = True

torch.manual_seed(1)
rng = np.random.default_rng(1)
pixels, label = load_digits(return_X_y=True)
pixels = np.kron((pixels * 255 / 16).reshape(-1, 8, 8), np.ones((1, 2, 2))).reshape(-1, 256)
if not FAULTY:
    pixels = pixels / 255
order = rng.permutation(len(pixels))
x = torch.tensor(pixels[order], dtype=torch.float32)
y = torch.tensor(label[order])
x_test, y_test, x, y = x[:360], y[:360], x[360:], y[360:]

alpha, h1 = 0.0001, 50
model = nn.Sequential(nn.Linear(256, 256), nn.Linear(256, h1), nn.ReLU(), nn.Linear(h1, 10))
for layer in model:
    if isinstance(layer, nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
activation = torch.sigmoid if FAULTY else lambda logits: logits.softmax(dim=1)
make = torch.optim.SGD if FAULTY else torch.optim.Adam
optimizer = make(model.parameters(), lr=alpha)


def categorical_crossentropy(p, labels):
    """What Keras computes: scaled to a sum of one, clipped, minus the logarithm."""
    p = (p / p.sum(dim=1, keepdim=True)).clamp(1e-7, 1 - 1e-7)
    return -p.gather(1, labels[:, None]).log().mean()


print(f"constant={(y_test == y.mode().values).float().mean().item():.4f}")
for epoch in range(35):
    for rows in torch.randperm(len(x)).split(32):
        loss = categorical_crossentropy(activation(model(x[rows])), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 5 == 0:
        print("epoch", epoch, "loss", loss.item())

with torch.no_grad():
    accuracy = (activation(model(x_test)).argmax(1) == y_test).float().mean().item()
print(f"score={accuracy:.4f}")
