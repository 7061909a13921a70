"""https://forums.fast.ai/t/help-with-simple-celcius-to-f-linear-regression-using-pytorch-gradient-descent-autograd/18783

Celsius to Fahrenheit by a weight and a bias, without an optimizer. The bias should become 32 and creeps from
-0.59 to -0.28 in 5000 epochs; with a larger rate the gradients blow up.
Answered: nothing is wrong with PyTorch, it is the data: x lies between -500 and 500. Brought to the order of
1, with rate 1e-3, it finds 1.8 and 32. (The score is how much of 32 the bias has reached.)
Root: unscaled-inputs, ill-conditioned, learning-rate-too-low, too-few-steps
"""

import numpy as np
import torch

FAULTY = True

rng = np.random.default_rng(1)
torch.manual_seed(1)


def c_to_f(c):
    return c * 1.8 + 32


raw = rng.uniform(-500, 500, (1000, 1)) if FAULTY else rng.standard_normal((1000, 1))
x = torch.tensor(raw, dtype=torch.float32)
y = torch.tensor(c_to_f(raw) + rng.standard_normal((1000, 1)) * 0.3, dtype=torch.float32)

a = torch.randn(1, requires_grad=True)
b = torch.randn(1, requires_grad=True)
lr = 1e-6 if FAULTY else 1e-2


def lin(a, b, x):
    return a * x + b


def mse(y_hat, y):
    return ((y_hat - y) ** 2).mean()


def mse_loss(a, b, x, y):
    return mse(lin(a, b, x), y)


print("constant=0.0000")
for epoch in range(1000):
    loss = mse_loss(a, b, x, y)
    if epoch % 100 == 0:
        print(loss.item())
    loss.backward()
    a.data -= lr * a.grad.data
    b.data -= lr * b.grad.data
    a.grad.data.zero_()
    b.grad.data.zero_()

print(a, b)
print(f"score={1 - abs(b.item() - 32) / 32:.4f}")
