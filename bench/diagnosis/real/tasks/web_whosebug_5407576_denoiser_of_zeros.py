"""https://whosebug.com/question/5407576/Why-does-my-autoencoder-for-de-noising-in-PyTorch-learns-to-zero-out-everything

A denoising autoencoder for sampled cosines. Whatever the architecture or the rate, it learns to give zeros. Its
layers are transposed convolutions of size 1, each followed by a relu, the last one too.
Cause: half of a cosine is below zero, where a relu cannot go; once its input is below zero for all, nothing is
learnt any more. (A convolution over 5 points in the twin and in the faulty one alike; twin: no relu at the end.)
Root: output-activation, dead-units
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True


def signals(count, seed):
    g = torch.Generator().manual_seed(seed)
    start = 2 * torch.pi * torch.rand(count, 1, generator=g)
    clean = torch.cos(start + torch.arange(40) * 2 * torch.pi / 8).unsqueeze(1)
    return clean + 0.5 * torch.randn(clean.shape, generator=g), clean


class ConvAutoencoder(nn.Module):
    def __init__(self, enc_channels=(1, 8, 16), dec_channels=(16, 8, 1)):
        super().__init__()
        layers = []
        for chain in (enc_channels, dec_channels):
            for i in range(1, len(chain)):
                layers += [nn.ConvTranspose1d(chain[i - 1], chain[i], 5, padding=2), nn.ReLU()]
        self.layers = nn.Sequential(*(layers if FAULTY else layers[:-1]))

    def forward(self, x):
        return self.layers(x)


def problem():
    return ds.Problem(
        model=ConvAutoencoder,
        objective="mse",
        train=signals(400, 0),
        valid=signals(100, 1),
        metric=lambda out, y: 1 - ((out - y) ** 2).mean() / y.var(),
    )


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.003, batch_size=20, epochs=15, seed=1)
