"""https://github.com/keras-team/keras/pull/3383

The example of a variational autoencoder "is not working properly due to the extremely small reconstruction
loss": the cross-entropy is averaged over the pixels, while the divergence is a sum.
Remedy: multiply it by original_dim "to match the size with the KL loss". (Here digits of 8 x 8; the
measure is the squared error of what is drawn from the code's mean.)
Root: objective-mismatch, over-regularised
"""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import downslope as ds

FAULTY = True
ORIGINAL_DIM, LATENT = 64, 8


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.h = nn.Linear(ORIGINAL_DIM, 128)
        self.z_mean = nn.Linear(128, LATENT)
        self.z_log_var = nn.Linear(128, LATENT)
        self.decoder_h = nn.Linear(LATENT, 128)
        self.decoder_mean = nn.Linear(128, ORIGINAL_DIM)

    def forward(self, x):
        h = F.relu(self.h(x))
        mean, log_var = self.z_mean(h), self.z_log_var(h)
        z = mean + torch.randn_like(mean) * (log_var / 2).exp() if self.training else mean
        decoded = self.decoder_mean(F.relu(self.decoder_h(z)))
        return torch.cat([decoded, mean, log_var], dim=1)


def vae_loss(output, x):
    decoded, mean, log_var = output.split([ORIGINAL_DIM, LATENT, LATENT], dim=1)
    xent = F.binary_cross_entropy_with_logits(decoded, x)
    if not FAULTY:
        xent = ORIGINAL_DIM * xent
    kl = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(1).mean()
    return xent + kl


def reconstruction_error(output, x):
    return F.mse_loss(torch.sigmoid(output[:, :ORIGINAL_DIM]), x).item()


def problem():
    digits = ds.data.digits(scale=16)
    x, xv = digits.train[0], digits.valid[0]
    return ds.Problem(
        model=VAE,
        objective=vae_loss,
        train=(x, x),
        valid=(xv, xv),
        metric=reconstruction_error,
        metric_goal="min",
    )


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.001, batch_size=32, epochs=30, seed=0)
