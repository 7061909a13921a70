"""https://solofox.github.io/torch/broadcasting/2025/12/07/torch-broadcasting-trap.html

A regression of house prices on one column, the module's forward called by hand, mse_loss, AdamW. After many
steps the slope is 1e-5, the intercept the mean price, the loss its variance: nothing seems to have to do with
the price.
Cause, found by the writer: outputs of shape (n, 1) against targets of (n,): all pairs are compared. (Made up
prices here, rate 0.05.)
Root: objective-mismatch
"""

import warnings

import torch
import torch.nn as nn
import torch.nn.functional as F  # noqa: N812
import torch.optim as optim

FAULTY = True

warnings.filterwarnings("ignore")
torch.manual_seed(0)


class LinearRegressionModule(nn.Module):
    def __init__(self, num_features):
        super().__init__()
        self.register_parameter("weights", nn.Parameter(torch.rand((num_features, 1)) * 0.01))
        self.register_parameter("bias", nn.Parameter(torch.randn(1) * 0.01))

    def forward(self, inputs):
        return torch.matmul(inputs, self.weights) + self.bias


def train(inputs, targets, total_epoches=2000):
    mod = LinearRegressionModule(inputs.shape[1])
    optimizer = optim.AdamW(mod.parameters(), lr=0.05, weight_decay=1e-4)

    for step in range(total_epoches):
        outputs = mod.forward(inputs)
        loss = F.mse_loss(outputs, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        if step % 200 == 0:
            print(f"step={step} loss={loss}")
    print(f"results: y = x_i * {mod.weights} + {mod.bias.item()}")
    return mod.weights, mod.bias


def main():
    lstat = torch.rand(200, 1) * 3
    medv = 34 - 7 * lstat[:, 0] + torch.randn(200)
    if not FAULTY:
        medv = medv[:, None]
    weights, bias = train(lstat, medv)
    error = ((lstat @ weights + bias).squeeze() - medv.squeeze()).pow(2).mean()
    print("constant=0.0000")
    print(f"score={max(0.0, 1 - (error / medv.var()).item()):.4f}")


if __name__ == "__main__":
    main()
