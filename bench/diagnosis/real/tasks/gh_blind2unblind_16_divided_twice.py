"""https://github.com/zejinwang/Blind2Unblind/issues/16

A network is trained to remove noise. transforms.ToTensor() has brought the pictures into [0, 1]; the
training loop divides them by 255 once more. The trained model gives grey pictures.
Cause: with the asker's uint8 input ToTensor divides already (it does so for uint8 alone). Remedy: divide
once. (Here digits of 8 x 8 with noise of a fifth of their range; the clean picture is the target, as
there.)
Root: unscaled-inputs, unscaled-targets
"""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import downslope as ds

FAULTY = True


def to_tensor(uint8):
    return uint8.float() / 255


def pairs(pictures, seed):
    uint8 = (pictures * 255).to(torch.uint8)
    clean = to_tensor(uint8)
    if FAULTY:
        clean = clean / 255
    full = clean.max()
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    return clean + 0.2 * full * noise, clean


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Conv2d(1, 16, 3, padding=1)
        self.mid = nn.Conv2d(16, 16, 3, padding=1)
        self.dec = nn.Conv2d(32, 16, 3, padding=1)
        self.out = nn.Conv2d(16, 1, 1)

    def forward(self, x):
        skip = F.leaky_relu(self.enc(x), 0.1)
        deep = F.leaky_relu(self.mid(F.max_pool2d(skip, 2)), 0.1)
        deep = F.interpolate(deep, scale_factor=2)
        return self.out(F.leaky_relu(self.dec(torch.cat([skip, deep], dim=1)), 0.1))


def explained(output, target):
    return 1 - ((output - target) ** 2).mean().item() / target.var().item()


def problem():
    digits = ds.data.digits(scale=16)
    x, xv = (part[0].view(-1, 1, 8, 8) for part in (digits.train, digits.valid))
    return ds.Problem(
        model=UNet, objective=nn.MSELoss(), train=pairs(x, 0), valid=pairs(xv, 1), metric=explained
    )


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.001, batch_size=32, epochs=6, seed=0)
