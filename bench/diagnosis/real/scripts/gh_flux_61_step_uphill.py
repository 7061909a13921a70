"""https://github.com/FluxML/model-zoo/pull/61

Prices of houses by linear regression, the update written by hand: update!(x, g * eta) adds what it is
given. With eta = 0.1 the loss goes from 953 to 1914, 5464, ... 5e9 in twenty steps.
Cause by the author of the change: eta should be a negative number (with -0.1 it converges).
Root: none of the list (the step goes up the gradient)
"""

import torch
from sklearn.datasets import make_regression

FAULTY = True

torch.manual_seed(0)
x, y = make_regression(506, 13, n_informative=10, noise=3.0, bias=22.5, random_state=0)
x = torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32)
y = torch.tensor(22.5 + 9 * (y - y.mean()) / y.std(), dtype=torch.float32).reshape(-1, 1)
x_train, y_train, x_test, y_test = x[:400], y[:400], x[400:], y[400:]
print(f"constant={0.0:.4f}")

W = torch.randn(13, 1, requires_grad=True)
b = torch.zeros(1, requires_grad=True)
eta = 0.1 if FAULTY else -0.1


def predict(x):
    return x @ W + b


def update(x, change):
    x.add_(change)


for step in range(30):
    loss = torch.nn.functional.mse_loss(predict(x_train), y_train)
    loss.backward()
    with torch.no_grad():
        for parameter in (W, b):
            update(parameter, parameter.grad * eta)
            parameter.grad.zero_()
    print(step, "loss", loss.item())

with torch.no_grad():
    residual = (predict(x_test) - y_test).pow(2).mean() / y_test.var(unbiased=False)
print(f"score={1 - residual.item():.4f}")
