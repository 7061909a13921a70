"""https://stats.stackexchange.com/questions/220307

A recurrent network of 32 sigmoid units reads 16 steps of sin(t) and is to say sin(t/2) at each. Where input
and target have one frequency it converges; here it predicts zero all the time. Rate .01, batches of 16.
Answered: it cannot be learned. sin(t) comes again after 2 pi and sin(t/2) is then its negative: there are
identical inputs with opposite targets, and the optimum for the squared error is the null function.
Root: uninformative-inputs
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True


class RNN(nn.Module):
    def __init__(self, size=32):
        super().__init__()
        self.size = size
        self.w_in = nn.Linear(1, size)
        self.w_rec = nn.Linear(size, size, bias=False)
        self.w_out = nn.Linear(size, 1)

    def forward(self, x):
        r = x.new_zeros(len(x), self.size)
        outputs = []
        for step in range(x.shape[1]):
            r = torch.sigmoid(self.w_in(x[:, step]) + self.w_rec(r))
            outputs.append(self.w_out(r))
        return torch.stack(outputs, dim=1)


def waves(n, seed):
    g = torch.Generator().manual_seed(seed)
    start = 8 * torch.pi * torch.rand(n, 1, generator=g)
    t = start + 0.3 * torch.arange(16)
    y = torch.sin(t / 2) if FAULTY else torch.sin(t + 1)
    return torch.sin(t).unsqueeze(2), y.unsqueeze(2)


def problem():
    return ds.Problem(
        model=RNN, objective=nn.MSELoss(), train=waves(640, 0), valid=waves(200, 1), metric=explained
    )


def explained(output, target):
    return (1 - (output - target).pow(2).mean() / target.var(unbiased=False)).item()


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.01, batch_size=16, epochs=8, seed=0)
