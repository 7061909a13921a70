"""https://github.com/zdebruine/MMVAE/pull/19

A variational autoencoder; the divergence drops to zero within a few epochs and the reconstruction stops
getting better far too early, whatever is put in.
Cause told in the thread: the KL is summed over everything while F.mse_loss is by default the mean over all
features and examples, so the two are out of balance by the number of features and the batch size.
Remedy merged: squared errors summed over the features and divided by the batch size, like the KL.
(Digits here; the score is R2 of the held-out reconstruction.)
Root: over-regularised, objective-mismatch, summed-objective
"""

import torch
import torch.nn as nn
import torch.nn.functional as F  # noqa: N812
from sklearn.datasets import load_digits

FAULTY = True


class VAE(nn.Module):
    def __init__(self, n_in=64, n_hidden=128, n_latent=12):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(n_in, n_hidden), nn.ReLU())
        self.fc_mu = nn.Linear(n_hidden, n_latent)
        self.fc_var = nn.Linear(n_hidden, n_latent)
        self.decoder = nn.Sequential(nn.Linear(n_latent, n_hidden), nn.ReLU(), nn.Linear(n_hidden, n_in))

    def reparameterize(self, mu, logvar):
        if not self.training:
            return mu
        return mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)

    def forward(self, x):
        h = self.encoder(x)
        mu, logvar = self.fc_mu(h), self.fc_var(h)
        return self.decoder(self.reparameterize(mu, logvar)), mu, logvar


def kl_divergence(mu, logvar):
    return -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())


def elbo(predicted, target, mu, logvar):
    if FAULTY:
        return F.mse_loss(predicted, target) + kl_divergence(mu, logvar)
    n = len(target)
    return F.mse_loss(predicted, target, reduction="sum") / n + kl_divergence(mu, logvar) / n


torch.manual_seed(0)
data = torch.tensor(load_digits().data, dtype=torch.float32)
data = data[torch.randperm(len(data))]
data = (data - data[:1400].mean()) / data[:1400].std()
train_data, test_data = data[:1400], data[1400:]
spread = (test_data - train_data.mean(0)).pow(2).mean()
print(f"constant={0.0:.4f}")

model = VAE()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(1, 31):
    model.train()
    for batch in train_data[torch.randperm(len(train_data))].split(32):
        optimizer.zero_grad()
        predicted, mu, logvar = model(batch)
        loss = elbo(predicted, batch, mu, logvar)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        predicted, mu, logvar = model(test_data)
        error = F.mse_loss(predicted, test_data)
    if epoch % 5 == 0:
        kl = kl_divergence(mu, logvar).item() / len(test_data)
        print(f"epoch {epoch}: loss {loss.item():.4f} test mse {error.item():.4f} kl {kl:.4f}")
print(f"score={1 - (error / spread).item():.4f}")
