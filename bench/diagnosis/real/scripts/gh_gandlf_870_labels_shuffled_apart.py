"""https://github.com/mlcommons/GaNDLF/pull/870

"There is a bug with the training pipeline, where the data and ground truth label are getting shuffled
separately."
Cause: inputs and labels are permuted by two different draws, so that what is learnt has nothing to do
with what is asked in validation, where both are in order.
Remedy: one order for both.
Root: label-noise, uninformative-inputs
"""

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn

FAULTY = True


class Batches:
    """Goes over subjects and labels in a new order each epoch."""

    def __init__(self, subjects, labels, batch_size):
        self.subjects, self.labels, self.batch_size = subjects, labels, batch_size

    def __iter__(self):
        images = torch.randperm(len(self.subjects))
        truth = torch.randperm(len(self.labels)) if FAULTY else images
        for start in range(0, len(images), self.batch_size):
            span = slice(start, start + self.batch_size)
            yield self.subjects[images[span]], self.labels[truth[span]]


def network(width=32):
    return nn.Sequential(
        nn.Linear(30, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, 2),
    )


def validate(model, criterion, x, y):
    model.eval()
    with torch.no_grad():
        output = model(x)
        return criterion(output, y).item(), (output.argmax(1) == y).float().mean().item()


def train_network(model, batches, x_valid, y_valid, epochs=40):
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(epochs):
        model.train()
        total, count = 0.0, 0
        for x, y in batches:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            total, count = total + loss.item(), count + 1
        valid_loss, valid_accuracy = validate(model, criterion, x_valid, y_valid)
        if epoch % 5 == 0:
            print(
                f"{epoch:3d} train {total / count:.4f} valid {valid_loss:.4f} accuracy {valid_accuracy:.4f}"
            )
    return valid_accuracy


def main():
    torch.manual_seed(5)
    x, y = load_breast_cancer(return_X_y=True)
    x, x_valid, y, y_valid = train_test_split(x, y, test_size=0.25, random_state=5, stratify=y)
    scaler = StandardScaler().fit(x)
    x, x_valid = (torch.tensor(scaler.transform(each), dtype=torch.float32) for each in (x, x_valid))
    y, y_valid = torch.tensor(y), torch.tensor(y_valid)
    print(f"constant={y_valid.bincount().max().item() / len(y_valid):.4f}")
    print(f"score={train_network(network(), Batches(x, y, 16), x_valid, y_valid):.4f}")


if __name__ == "__main__":
    main()
