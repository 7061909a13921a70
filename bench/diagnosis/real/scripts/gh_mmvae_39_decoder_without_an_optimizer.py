"""https://github.com/zdebruine/MMVAE/issues/39

A variational autoencoder of several kinds of cells: each kind has its own encoder and decoder (expert), and between
them is a shared one. There are optimizers for each expert and for the shared part.
Cause: the optimizer of the shared part is given the parameters of its encoder only, not those of its decoder.
(Cells made up; without the random draw and its penalty, and with a narrower shared part.)
Root: frozen-parameters
"""

import itertools

import torch
import torch.nn as nn

FAULTY = True
GENES = {"human": 30, "mouse": 20}


def mlp(*sizes):
    layers = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = mlp(16, 12, 4)
        self.decoder = mlp(4, 6, 6, 6, 6)

    def forward(self, x):
        return self.decoder(self.encoder(x))


class Expert(nn.Module):
    def __init__(self, genes):
        super().__init__()
        self.encoder = mlp(genes, 24, 16)
        self.decoder = nn.Linear(6, genes)


class MultiModal(nn.Module):
    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleDict({kind: Expert(genes) for kind, genes in GENES.items()})
        self.shared = Shared()

    def forward(self, batch):
        expert = self.experts[batch["kind"]]
        return expert.decoder(self.shared(torch.tanh(expert.encoder(batch["cells"]))))

    def configure_optimizers(self):
        shared = self.shared.encoder.parameters() if FAULTY else self.shared.parameters()
        optimizers = {"shared": torch.optim.Adam(shared, lr=3e-3)}
        for kind, expert in self.experts.items():
            optimizers[kind] = torch.optim.Adam(expert.parameters(), lr=3e-3)
        return optimizers


def cells(n, g):
    """Four factors and their products and bends, mixed into the genes of each kind."""
    out = {}
    for kind, genes in GENES.items():
        z = torch.randn(n, 4, generator=g)
        deep = torch.cat([torch.sin(2 * z), z[:, :2] * z[:, 2:], z[:, :1] ** 2 - 1], 1)
        mixing = torch.randn(deep.shape[1], genes, generator=torch.Generator().manual_seed(genes))
        x = deep @ mixing
        out[kind] = (x - x.mean(0)) / x.std(0) + 0.1 * torch.randn(n, genes, generator=g)
    return out


def batches(data, size):
    parts = [
        {"kind": kind, "cells": rows}
        for kind, x in data.items()
        for rows in x[torch.randperm(len(x))].split(size)
    ]
    for i in torch.randperm(len(parts)):
        yield parts[i]


def explained(model, data):
    model.eval()
    with torch.no_grad():
        errors = [((model({"kind": k, "cells": x}) - x) ** 2).mean() / x.var() for k, x in data.items()]
    return 1 - sum(errors) / len(errors)


torch.manual_seed(0)
g = torch.Generator().manual_seed(7)
train, test = cells(1500, g), cells(300, g)
print("constant=0.0")

model = MultiModal()
optimizers = model.configure_optimizers()
criterion = nn.MSELoss()
for epoch in range(40):
    model.train()
    for batch in batches(train, 64):
        used = [optimizers["shared"], optimizers[batch["kind"]]]
        for each in used:
            each.zero_grad()
        loss = criterion(model(batch), batch["cells"])
        loss.backward()
        for each in used:
            each.step()
    if epoch % 5 == 4:
        print(
            "epoch",
            epoch + 1,
            "loss",
            round(loss.item(), 4),
            "explained",
            round(explained(model, test).item(), 4),
        )
print(f"score={explained(model, test).item():.4f}")
