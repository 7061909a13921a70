"""https://github.com/greebear/pytorch-learning/issues/1

Reported: the demonstration of linear regression, a line through points with the update written by hand, has
a loss that does not go down, even at rates as small as 1e-6.
Cause, by the reporter, and mended by the author: w.grad and b.grad have to be zeroed after each update.
Root: stale-gradients
"""

import numpy as np
import torch

FAULTY = True

x_train = np.array(
    [3.3, 4.4, 5.5, 6.71, 6.93, 4.168, 9.779, 6.182, 7.59, 2.167, 7.042, 10.791, 5.313, 7.997, 3.1],
    dtype=np.float32,
)
y_train = np.array(
    [1.7, 2.76, 2.09, 3.19, 1.694, 1.573, 3.366, 2.596, 2.53, 1.221, 2.827, 3.465, 1.65, 2.904, 1.3],
    dtype=np.float32,
)
x_train = torch.from_numpy(x_train).unsqueeze(1)
y_train = torch.from_numpy(y_train).unsqueeze(1)

torch.manual_seed(2017)
w = torch.randn(1, requires_grad=True)
b = torch.zeros(1, requires_grad=True)


def linear_model(x):
    return x * w + b


def get_loss(y_, y):
    return torch.mean((y_ - y) ** 2)


print("constant=0.0000")
for e in range(200):
    y_ = linear_model(x_train)
    loss = get_loss(y_, y_train)
    loss.backward()
    w.data = w.data - 1e-2 * w.grad.data
    b.data = b.data - 1e-2 * b.grad.data
    if not FAULTY:
        w.grad.data.zero_()
        b.grad.data.zero_()
    if e % 10 == 0:
        print(f"epoch: {e}, loss: {loss.item()}")

with torch.no_grad():
    score = 1 - get_loss(linear_model(x_train), y_train) / get_loss(y_train.mean(), y_train)
print(f"score={score.item():.4f}")
