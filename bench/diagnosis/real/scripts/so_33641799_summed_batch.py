"""https://stackoverflow.com/questions/33641799

Asked: softmax regression on handwritten digits, as in TensorFlow's tutorial, with rate 0.01. Batches of 100
work; beyond 204 the accuracy is below 10 %.
Answered: the loss is the sum over the batch, so the gradient grows with the batch until the steps throw the
weights out and the logarithm gives NaN. Take the mean (or a smaller rate).
Root: summed-objective, learning-rate-too-high, unstable-objective
"""

import numpy as np
import torch
from sklearn.datasets import load_digits

FAULTY = True

batch_size = 256
rng = np.random.default_rng(0)
images, labels = load_digits(return_X_y=True)
images = np.kron(images.reshape(-1, 8, 8) / 16, np.ones((1, 3, 3))).reshape(len(images), -1)  # 24 x 24 pixels
order = rng.permutation(len(images))
images, labels = images[order].astype("float32"), np.eye(10, dtype="float32")[labels[order]]
x_test, y_test = torch.from_numpy(images[:300]), torch.from_numpy(labels[:300])
x_train, y_train = torch.from_numpy(images[300:]), torch.from_numpy(labels[300:])

W = torch.zeros(576, 10, requires_grad=True)
b = torch.zeros(10, requires_grad=True)
train_step = torch.optim.SGD([W, b], lr=0.01 if FAULTY else 0.5)

print(f"constant={y_test[:, y_train.sum(0).argmax()].mean().item():.4f}")
for i in range(1000):
    batch = torch.from_numpy(rng.choice(len(x_train), batch_size, replace=False))
    y = torch.softmax(x_train[batch] @ W + b, dim=1)
    if FAULTY:
        cross_entropy = -(y_train[batch] * torch.log(y)).sum()
    else:
        cross_entropy = -(y_train[batch] * torch.log(y)).sum(dim=1).mean()
    train_step.zero_grad()
    cross_entropy.backward()
    train_step.step()
    if i % 100 == 0:
        print(i, cross_entropy.item())

with torch.no_grad():
    y = torch.softmax(x_test @ W + b, dim=1)
print(f"score={(y.argmax(1) == y_test.argmax(1)).float().mean().item():.4f}")
