"""https://stackoverflow.com/questions/38648195

Asked: three labels, each of which may be on or off, are learnt from 20 features
(make_multilabel_classification). The Keras network learns far less than a support vector machine does.
Answered: a softmax makes the three outputs compete for a sum of one. Labels that go together want a sigmoid
each, with the binary cross-entropy in the place of the squared error.
Root: output-activation, objective-mismatch
"""

import torch
from sklearn.datasets import make_multilabel_classification
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

FAULTY = True

torch.manual_seed(7)


def data():
    x, y = make_multilabel_classification(n_samples=10_000, n_features=20, n_classes=3, random_state=7)
    parts = train_test_split(x, y, test_size=0.20, random_state=7)
    return [torch.tensor(part, dtype=torch.float32) for part in parts]


def build():
    return nn.Sequential(
        nn.Linear(20, 20),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(20, 20),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(20, 3),
        nn.Softmax(dim=-1) if FAULTY else nn.Sigmoid(),
    )


def exact(model, x, y):
    """Share of rows of which all three labels are right."""
    model.eval()
    with torch.no_grad():
        return ((model(x) > 0.5).float() == y).all(dim=1).float().mean().item()


def main():
    x_train, x_test, y_train, y_test = data()
    rows, counts = torch.unique(y_train, dim=0, return_counts=True)
    print(f"constant={(y_test == rows[counts.argmax()]).all(dim=1).float().mean().item():.4f}")
    model = build()
    loss_fn = nn.MSELoss() if FAULTY else nn.BCELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for epoch in range(20):
        model.train()
        running = 0.0
        for xb, yb in DataLoader(TensorDataset(x_train, y_train), batch_size=20, shuffle=True):
            optimizer.zero_grad()
            loss = loss_fn(model(xb), yb)
            loss.backward()
            optimizer.step()
            running += loss.item() * len(xb)
        print(f"epoch {epoch} loss {running / len(x_train):.4f} test {exact(model, x_test, y_test):.4f}")
    print(f"score={exact(model, x_test, y_test):.4f}")


main()
