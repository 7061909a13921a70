"""https://github.com/meta-pytorch/torchfix/issues/31 (the same: https://github.com/pytorch/pytorch/issues/715)

A feed-forward network keeps its hidden layers in a Python list. They are used in forward, but
model.parameters() does not know them, so the optimizer trains the last layer only.
Remedy: nn.ModuleList.
Root: frozen-parameters
"""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

FAULTY = True


class FeedForward(torch.nn.Module):
    def __init__(self, n_features, n_classes, n_hidden, width):
        super().__init__()
        layers = [torch.nn.Linear(n_features if i == 0 else width, width) for i in range(n_hidden)]
        self.hidden_layers = layers if FAULTY else torch.nn.ModuleList(layers)
        self.output = torch.nn.Linear(width, n_classes)

    def forward(self, x):
        for layer in self.hidden_layers:
            x = torch.relu(layer(x))
        return self.output(x)


def accuracy(model, x, y):
    model.eval()
    with torch.no_grad():
        right = (model(x).argmax(dim=1) == y).float().mean().item()
    model.train()
    return right


torch.manual_seed(0)
X, Y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16.0, Y, test_size=0.25, random_state=0)
X_train, X_test = torch.tensor(X_train).float(), torch.tensor(X_test).float()
y_train, y_test = torch.tensor(y_train), torch.tensor(y_test)
print(f"constant={y_test.bincount().max().item() / len(y_test):.4f}")

model = FeedForward(n_features=64, n_classes=10, n_hidden=4, width=64)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
loss_fn = torch.nn.CrossEntropyLoss()
for epoch in range(30):
    perm = torch.randperm(len(X_train))
    for i in range(0, len(X_train), 64):
        index = perm[i : i + 64]
        optimizer.zero_grad()
        loss = loss_fn(model(X_train[index]), y_train[index])
        loss.backward()
        optimizer.step()
    if epoch % 5 == 4:
        print(epoch + 1, f"{loss.item():.4f}", f"{accuracy(model, X_test, y_test):.4f}")
print(f"score={accuracy(model, X_test, y_test):.4f}")
