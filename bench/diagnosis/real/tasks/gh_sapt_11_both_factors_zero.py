"""https://github.com/circle-hit/SAPT/issues/11 (the same: https://github.com/KU-VGI/LFS-GAN/issues/2)

A network is adapted by low-rank factors alone, W + B A. In training the gradient of all these layers is
zero.
Cause: lora_A is made by zeros, as lora_B is; each one's gradient is a product with the other, which is 0.
Remedy, by the asker: lora_A random with a deviation of 1 / sqrt(r). (Here digits; the frozen network has
been made for the same pictures with the classes in another order.)
Root: saddle-point, symmetric-init
"""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import downslope as ds

FAULTY = True


class LoRALinear(nn.Module):
    def __init__(self, weight, bias, r=8):
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        out_features, in_features = weight.shape
        std_dev = 0.0 if FAULTY else r**-0.5
        self.lora_A = nn.Parameter(torch.randn(in_features, r) * std_dev)
        self.lora_B = nn.Parameter(torch.zeros(r, out_features))

    def forward(self, x):
        return F.linear(x, self.weight, self.bias) + x @ self.lora_A @ self.lora_B


def pretrained(x, y):
    """A hidden layer of fixed features, and the least squares on them for the classes shifted by three."""
    g = torch.Generator().manual_seed(0)
    hidden = torch.randn(96, 64, generator=g) / 8**0.5
    offset = torch.randn(96, generator=g) / 4
    h = F.relu(F.linear(x, hidden, offset))
    wanted = 4 * F.one_hot((y + 3) % 10, 10).float() - 2
    head = torch.linalg.solve(h.T @ h + 10 * torch.eye(96), h.T @ wanted).T
    return (hidden, offset), (head, torch.zeros(10))


class Adapted(nn.Module):
    def __init__(self, first, second):
        super().__init__()
        self.first = LoRALinear(*first)
        self.second = LoRALinear(*second)

    def forward(self, x):
        return self.second(F.relu(self.first(x)))


def problem():
    digits = ds.data.digits(scale=16)
    first, second = pretrained(*digits.train)
    return ds.Problem(
        model=lambda: Adapted(first, second),
        objective="cross_entropy",
        train=digits.train,
        valid=digits.valid,
        metric="accuracy",
    )


def recipe():
    return ds.Recipe(optimizer="adamw", lr=0.003, batch_size=32, epochs=20, seed=0)
