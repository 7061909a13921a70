"""https://bot.dharman.net/reports.php?id=1943234 (copy of an answer on StackOverflow)

A network for MNIST after a video, the descent written by hand, that does not get anywhere.
Answered by the asker: the biases were not updated (db1 = b1 - alpha * db1), which was a slip; what changed
the game were weights scaled by sqrt(1/n) and pixels divided by 255. 90 % then within 100 iterations.
(Digits here, from 0 to 16, taken to 0 to 255; the weights' scale before is not told, here standard normal.)
Root: unscaled-inputs, init-scale
"""

import torch
from sklearn.datasets import load_digits

FAULTY = True

torch.manual_seed(1)
X, Y = load_digits(return_X_y=True)
X, Y = torch.tensor(X * 255 / 16, dtype=torch.float32), torch.tensor(Y)
mixed = torch.randperm(len(X))
X, Y = X[mixed], Y[mixed]
if not FAULTY:
    X = X / 255.0
X_train, Y_train, X_dev, Y_dev = X[:1400], Y[:1400], X[1400:], Y[1400:]
print(f"constant={Y_dev.bincount().max().item() / len(Y_dev):.4f}")


def init_params():
    scale = (1.0, 1.0) if FAULTY else ((1 / 64) ** 0.5, (1 / 10) ** 0.5)
    W1, W2 = torch.randn(64, 10) * scale[0], torch.randn(10, 10) * scale[1]
    return [each.requires_grad_() for each in (W1, torch.zeros(10), W2, torch.zeros(10))]


def forward_prop(W1, b1, W2, b2, X):
    return torch.relu(X @ W1 + b1) @ W2 + b2


def update_params(params, alpha):
    with torch.no_grad():
        for i, each in enumerate(params):
            is_bias = i % 2 == 1
            if not (FAULTY and is_bias):
                each -= alpha * each.grad
            each.grad = None


params = init_params()
for i in range(500):
    loss = torch.nn.functional.cross_entropy(forward_prop(*params, X_train), Y_train)
    loss.backward()
    update_params(params, 0.5)
    if i % 50 == 0:
        print("Iteration:", i, "loss", loss.item())

with torch.no_grad():
    predictions = forward_prop(*params, X_dev).argmax(1)
print(f"score={(predictions == Y_dev).float().mean().item():.4f}")
