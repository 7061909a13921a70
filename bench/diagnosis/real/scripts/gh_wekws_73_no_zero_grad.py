"""https://github.com/wenet-e2e/wekws/pull/73

Keyword spotting: the training loop of the executor computes the loss, goes back, clips the gradient's
norm and steps, batch after batch, and never calls zero_grad.
Cause: every step uses the sum of all gradients since the start; the remedy is one optimizer.zero_grad()
before loss.backward().
Root: stale-gradients
"""

import argparse
import logging

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader, TensorDataset

FAULTY = True


class KWS(nn.Module):
    """Frames (batch, time, features) through a GRU; each class has its best score over time."""

    def __init__(self, dim, hidden, classes):
        super().__init__()
        self.preprocess = nn.Linear(dim, hidden)
        self.backbone = nn.GRU(hidden, hidden, num_layers=2, batch_first=True, dropout=0.1)
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, feats):
        x = torch.relu(self.preprocess(feats))
        x, _ = self.backbone(x)
        return self.classifier(x).max(dim=1).values


class Executor:
    def __init__(self):
        self.step = 0

    def train(self, model, optimizer, loader, args):
        model.train()
        for feats, target in loader:
            logits = model(feats)
            loss = nn.functional.cross_entropy(logits, target)
            if not FAULTY:
                optimizer.zero_grad()
            loss.backward()
            grad_norm = clip_grad_norm_(model.parameters(), args.grad_clip)
            if torch.isfinite(grad_norm):
                optimizer.step()
            if self.step % args.log_interval == 0:
                logging.info("TRAIN step %d loss %.6f", self.step, loss.item())
            self.step += 1

    def cv(self, model, loader):
        model.eval()
        right, total_loss, seen = 0, 0.0, 0
        with torch.no_grad():
            for feats, target in loader:
                logits = model(feats)
                total_loss += nn.functional.cross_entropy(logits, target).item() * len(target)
                right += (logits.argmax(1) == target).sum().item()
                seen += len(target)
        return total_loss / seen, right / seen


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--lr", type=float, default=0.001)
    parser.add_argument("--grad_clip", type=float, default=50.0)
    parser.add_argument("--log_interval", type=int, default=50)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(777)
    x, y = load_digits(return_X_y=True)
    x = torch.tensor(x, dtype=torch.float32).view(-1, 8, 8)
    x, y = (x - x.mean(0)) / (x.std(0) + 1), torch.tensor(y)
    order = torch.randperm(len(x))
    x, y = x[order], y[order]
    train = DataLoader(TensorDataset(x[:1400], y[:1400]), batch_size=64, shuffle=True)
    valid = DataLoader(TensorDataset(x[1400:], y[1400:]), batch_size=100)
    print(f"constant={y[1400:].bincount().max() / len(y[1400:]):.4f}")
    model = KWS(8, 64, 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, weight_decay=0.0001)
    executor = Executor()
    for epoch in range(args.epochs):
        executor.train(model, optimizer, train, args)
        loss, accuracy = executor.cv(model, valid)
        print(f"Epoch {epoch} CV info cv_loss {loss:.4f} accuracy {accuracy:.4f}")
    print(f"score={accuracy:.4f}")


if __name__ == "__main__":
    main()
