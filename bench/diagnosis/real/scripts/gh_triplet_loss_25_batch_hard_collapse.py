"""https://github.com/omoindrot/tensorflow-triplet-loss/issues/25

Embeddings learned with the triplet loss; with "batch hard" instead of "batch all" the loss does not get below
the margin of 0.5.
Answer of the author: with the default learning rate the embeddings collapse to a single point, so the loss is
equal to the margin; for the batch-hard loss the learning rate must be decreased.
(Digits and a small net, for which the rate that collapses is 0.1; the score is the share of held-out digits
whose nearest known neighbour by the embedding is of the same class.)
Root: learning-rate-too-high, saddle-point
"""

import torch
import torch.nn as nn
from sklearn.datasets import load_digits

FAULTY = True

params = {
    "learning_rate": 1e-1 if FAULTY else 5e-4,
    "margin": 0.5,
    "embedding_size": 16,
    "per_class": 6,
    "num_steps": 150,
}


def pairwise_distances(embeddings):
    """Distances, with the square root kept away from zero, where it has no slope."""
    dot = embeddings @ embeddings.t()
    square = dot.diagonal()
    distances = (square[None] - 2 * dot + square[:, None]).clamp(min=0)
    zero = (distances <= 1e-16).float()
    return (distances + zero * 1e-16).sqrt() * (1 - zero)


def batch_hard_triplet_loss(labels, embeddings, margin):
    distances = pairwise_distances(embeddings)
    same = (labels[None] == labels[:, None]).float()
    positive = (distances * (same - torch.eye(len(labels)))).max(1).values
    negative = (distances + distances.max().detach() * same).min(1).values
    return torch.clamp(positive - negative + margin, min=0).mean()


def build_model():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, params["embedding_size"]),
    )


def balanced_batch(labels):
    rows = [torch.nonzero(labels == c).flatten() for c in range(10)]
    return torch.cat([r[torch.randperm(len(r))[: params["per_class"]]] for r in rows])


def recall_at_1(model, known, known_labels, images, labels):
    model.eval()
    with torch.no_grad():
        nearest = torch.cdist(model(images), model(known)).argmin(1)
    model.train()
    return (known_labels[nearest] == labels).float().mean().item()


torch.manual_seed(4)
digits = load_digits()
images = torch.tensor(digits.images[:, None], dtype=torch.float32)
labels = torch.tensor(digits.target)
order = torch.randperm(len(images))
images, labels = images[order], labels[order]
images = (images - images[:1300].mean()) / images[:1300].std()
train_x, train_y, test_x, test_y = images[:1300], labels[:1300], images[1300:], labels[1300:]
print(f"constant={test_y.bincount().max().item() / len(test_y):.4f}")

model = build_model()
optimizer = torch.optim.Adam(model.parameters(), lr=params["learning_rate"])
for step in range(params["num_steps"]):
    rows = balanced_batch(train_y)
    loss = batch_hard_triplet_loss(train_y[rows], model(train_x[rows]), params["margin"])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 49:
        with torch.no_grad():
            rows = balanced_batch(test_y)
            valid = batch_hard_triplet_loss(test_y[rows], model(test_x[rows]), params["margin"]).item()
        print(f"step {step + 1}: loss {loss.item():.4f} validation loss {valid:.4f}")
print(f"score={recall_at_1(model, train_x, train_y, test_x, test_y):.4f}")
