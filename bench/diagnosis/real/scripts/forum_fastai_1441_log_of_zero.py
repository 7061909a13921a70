"""https://forums.fast.ai/t/cross-entropy-error-log-1-1-inf/1441

Digits by one matrix of weights, softmax and the cross-entropy written out (-log of the guess where the target
is 1, -log(1 - guess) elsewhere). The guesses come out as exactly 1 and exactly 0, and the loss is inf.
Cause, by the asker himself: "Normalizing the input solved my problem" (pixels up to 255). The logarithm of
what has been rounded to 0 remains the weak place. (Digits of 8 by 8, brought to 0 .. 255.)
Root: unscaled-inputs, unstable-objective
"""

from math import sqrt

import torch
from sklearn.datasets import load_digits

FAULTY = True

torch.manual_seed(0)
NB_CLASSES = 10
X, target = load_digits(return_X_y=True)
X = torch.tensor(X).float() * 255 / 16
if not FAULTY:
    X = X / 255 - 0.3
labels = torch.tensor(target)
y = torch.zeros(len(X), NB_CLASSES).scatter_(1, labels[:, None], 1.0)


def average_cross_entropy(outputs, targets):
    return -(targets * torch.log(outputs) + (1 - targets) * torch.log(1 - outputs)).mean()


W_xy = (torch.randn(64, NB_CLASSES) / sqrt(64)).requires_grad_()
b_xy = torch.zeros(NB_CLASSES, requires_grad=True)

print("constant=0.1000")
for epoch in range(15):
    for idx in torch.randperm(len(X)).split(32):
        before_activation = X[idx] @ W_xy + b_xy
        outputs = torch.softmax(before_activation, dim=1)
        loss = average_cross_entropy(outputs, y[idx])
        loss.backward()
        with torch.no_grad():
            W_xy -= 0.5 * W_xy.grad
            b_xy -= 0.5 * b_xy.grad
            W_xy.grad = None
            b_xy.grad = None
    print("epoch", epoch, "loss", loss.item())

guess = (X @ W_xy + b_xy).argmax(1)
print(f"score={(guess == labels).float().mean().item():.4f}")
