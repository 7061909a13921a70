"""https://stats.stackexchange.com/questions/594738

The future of y = x^3 + x^2 + x (the last 20 points) from its past (the first 80), by a matrix of weights drawn
from N(0, 3) and a bias, updated by hand at rate 1e-6. The loss grows by a factor of a hundred in each step,
to 1e28 after ten.
Cause: the values reach a thousand and the loss is a sum, so the curvature is far too large for this rate; the
twin divides them by their largest.
Root: learning-rate-too-high, unscaled-inputs, summed-objective, unscaled-targets
"""

import numpy as np
import torch

FAULTY = True

rng = np.random.default_rng(0)
x = np.linspace(-10, 10, 100)
y = x**3 + x**2 + x
if not FAULTY:
    y = y / np.abs(y).max()

loss_fn = torch.nn.MSELoss(reduction="sum")


def get_trgts(i):
    return torch.tensor(y[i:])


def get_weights(i, o):
    return torch.tensor(rng.normal(0, 3, (o, i)) * (1 if FAULTY else 0.01)).requires_grad_()


def get_params(i):
    return torch.tensor(y[:i])


weights = get_weights(80, 20)
trgts = get_trgts(80)
params = get_params(80)
bias = get_weights(1, 1)
lr = 1e-6 if FAULTY else 1e-2


def apply_step(weights, bias, prn=True):
    preds = weights @ params + bias
    loss = loss_fn(preds, trgts)
    loss.backward()
    with torch.no_grad():
        weights -= weights.grad * lr
        bias -= bias.grad * lr
    weights.grad.zero_()
    bias.grad.zero_()
    if prn:
        print(loss.item())
    return preds


print("constant=0.0000")
for i in range(60):
    preds = apply_step(weights, bias, prn=i % 6 == 0)

left = ((preds - trgts) ** 2).mean().item() / ((trgts - trgts.mean()) ** 2).mean().item()
print(f"score={max(0.0, 1 - left):.4f}")
