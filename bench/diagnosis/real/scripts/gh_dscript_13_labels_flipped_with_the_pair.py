"""https://github.com/samsledje/D-SCRIPT/issues/13

Do two proteins interact? With --augment each pair is put in a second time the other way round. Data are
improperly augmented: the order of the pairs is flipped, and the labels are flipped too, but the labels should be
kept the same (A interacts with B as B does with A).
Remedy (the fix): the labels are repeated.
(Made-up embeddings; a pair interacts where its pockets fit. Accuracy on pairs of new proteins.)
Root: label-noise
"""

import torch
import torch.nn as nn
import torch.nn.functional as F  # noqa: N812
from torch.utils.data import DataLoader, Dataset

FAULTY = True

DIM = 16


class PairedDataset(Dataset):
    def __init__(self, X0, X1, Y):
        self.X0, self.X1, self.Y = X0, X1, Y

    def __len__(self):
        return len(self.X0)

    def __getitem__(self, i):
        return self.X0[i], self.X1[i], self.Y[i]


def proteins(n_pairs):
    """Three numbers of an embedding tell the pocket; it fits where these numbers agree."""
    p0, p1 = torch.randn(n_pairs, DIM), torch.randn(n_pairs, DIM)
    fit = (p0[:, :3] * p1[:, :3]).sum(1)
    return p0, p1, (fit > 0).float()


class DSCRIPTModel(nn.Module):
    def __init__(self, projection_dim=24, hidden=32):
        super().__init__()
        self.embedding = nn.Sequential(nn.Linear(DIM, projection_dim), nn.ReLU())
        self.contact = nn.Sequential(nn.Linear(2 * projection_dim, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, z0, z1):
        e0, e1 = self.embedding(z0), self.embedding(z1)
        both = torch.cat([torch.abs(e0 - e1), e0 * e1], dim=1)
        return self.contact(both).squeeze(1)


def interaction_eval(model, pairs):
    model.eval()
    z0, z1, y = pairs
    with torch.no_grad():
        p_hat = model(z0, z1)
    return F.binary_cross_entropy_with_logits(p_hat, y).item(), (
        (p_hat > 0) == y.bool()
    ).float().mean().item()


torch.manual_seed(0)
train_p0, train_p1, train_y = proteins(2500)
test_pairs = proteins(600)
share = test_pairs[2].mean().item()
print(f"constant={max(share, 1 - share):.4f}")

augment = True
if augment:
    flipped = 1 - train_y if FAULTY else train_y
    pairs_train = PairedDataset(
        torch.cat([train_p0, train_p1]), torch.cat([train_p1, train_p0]), torch.cat([train_y, flipped])
    )
else:
    pairs_train = PairedDataset(train_p0, train_p1, train_y)
iterator = DataLoader(pairs_train, batch_size=50, shuffle=True)

model = DSCRIPTModel()
optim = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-4)
for epoch in range(5):
    model.train()
    loss_accum = 0.0
    for z0, z1, y in iterator:
        loss = F.binary_cross_entropy_with_logits(model(z0, z1), y)
        loss.backward()
        optim.step()
        optim.zero_grad()
        loss_accum += loss.item() / len(iterator)
    test_loss, accuracy = interaction_eval(model, test_pairs)
    print(f"Epoch {epoch + 1}/5: Loss={loss_accum:.4f}, TestLoss={test_loss:.4f}, Acc={accuracy:.4f}")
print(f"score={accuracy:.4f}")
