"""https://github.com/lululxvi/deepxde/issues/33

A physics-informed network for a differential equation on a line with conditions at both ends: the losses at the
ends fall, that of the equation stays at hundreds.
Answer of DeepXDE's author: the solution is not of the order of one, which makes the training hard; scale the
problem, or multiply the network's output by what the solution is. (u'' + u = f here, with a solution of about 100.)
Root: unscaled-targets, learning-rate-too-low, too-few-steps
"""

import math

import torch
from torch import nn

FAULTY = True
SIZE = 100.0


def exact(x):
    return SIZE * (torch.sin(math.pi * x) + 0.3 * torch.sin(3 * math.pi * x))


def source(x):
    """f such that u'' + u = f has this solution."""
    first, second = torch.sin(math.pi * x), 0.3 * torch.sin(3 * math.pi * x)
    return SIZE * ((1 - math.pi**2) * first + (1 - 9 * math.pi**2) * second)


class FNN(nn.Module):
    def __init__(self, layer_size, scale):
        super().__init__()
        self.linears = nn.ModuleList(
            [nn.Linear(a, b) for a, b in zip(layer_size, layer_size[1:], strict=False)]
        )
        for linear in self.linears:
            nn.init.xavier_normal_(linear.weight)
            nn.init.zeros_(linear.bias)
        self.scale = scale

    def forward(self, x):
        for linear in self.linears[:-1]:
            x = torch.tanh(linear(x))
        return self.scale * self.linears[-1](x)


def pde(net, x):
    x = x.requires_grad_()
    u = net(x)
    du = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
    ddu = torch.autograd.grad(du.sum(), x, create_graph=True)[0]
    return ddu + u - source(x)


torch.manual_seed(0)
net = FNN([1, 40, 40, 1], scale=1.0 if FAULTY else SIZE)
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
ends = torch.tensor([[0.0], [1.0]])
test = torch.linspace(0, 1, 101)[:, None]
print("constant=0.0")

for step in range(2001):
    inside = torch.rand(64, 1)
    optimizer.zero_grad()
    losses = [(pde(net, inside) ** 2).mean(), (net(ends) ** 2).mean()]
    loss = losses[0] / SIZE**2 + 100 * losses[1] / SIZE**2 if not FAULTY else losses[0] + 100 * losses[1]
    loss.backward()
    optimizer.step()
    if step % 200 == 0:
        print(step, [f"{each.item():.2e}" for each in losses])

with torch.no_grad():
    error = ((net(test) - exact(test)) ** 2).mean() / exact(test).var()
print(f"score={1 - error.item():.4f}")
