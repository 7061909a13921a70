"""https://github.com/IBM/aihwkit/issues/446

Reported: the first examples (a layer from four to two, two examples, squared error, SGD with rate 0.1, full
batch) have a loss that falls, and then rises again and swings.
Cause, by the reporter and the maintainers: zero_grad() is never called, so that every step takes all
gradients so far.
Root: stale-gradients
"""

import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.optim import SGD

FAULTY = True

torch.manual_seed(10)

# Prepare the datasets (input and expected output).
x_b = torch.tensor([[0.1, 0.2, 0.4, 0.3], [0.2, 0.1, 0.1, 0.3]])
y_b = torch.tensor([[1.0, 0.5], [0.7, 0.3]])


def r2():
    with torch.no_grad():
        return 1 - (mse_loss(model(x_b), y_b) / mse_loss(y_b.mean(0).expand_as(y_b), y_b)).item()


# Define a single-layer network.
model = nn.Linear(4, 2)

opt = SGD(model.parameters(), lr=0.1)

print("constant=0.0000")
for epoch in range(600):
    # Clear what the last step has left.
    if not FAULTY:
        opt.zero_grad()

    # Add the training Tensor to the model (input).
    pred = model(x_b)
    # Add the expected output Tensor.
    loss = mse_loss(pred, y_b)
    # Run training (backward propagation).
    loss.backward()

    opt.step()
    if epoch % 50 == 0:
        print(f"Loss error: {loss:.16f}")

print(f"score={r2():.4f}")
