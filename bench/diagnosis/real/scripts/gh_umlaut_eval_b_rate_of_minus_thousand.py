"""https://github.com/BerkeleyHCI/umlaut/blob/master/user_eval/eval_b.py

The second of the two programs of UMLAUT's user study: CIFAR-10, two times two convolutions and three dense
layers, all of them linear, Adam with a learning rate of -1e3, batches of 128, ten epochs; the first 100
training images serve for validation. The loss is astronomic, the accuracy 10 %.
Faults put in by the authors: the learning rate (torch refuses a negative one, so here 1000 and uphill) and
the missing activations. (Digits of 8 x 8 in grey, an eighth of the filters, batches of 32.)
Root: learning-rate-too-high, missing-nonlinearity
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

FAULTY = True

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
labels = torch.tensor(digits.target)
order = torch.randperm(len(images))
test, train = order[:360], order[360:]
activation = nn.Identity if FAULTY else nn.ReLU

model = nn.Sequential(
    nn.Conv2d(1, 8, 3, padding=1),
    activation(),
    nn.Conv2d(8, 8, 3, padding=1),
    activation(),
    nn.MaxPool2d(2),
    nn.Dropout(0.2),
    nn.Conv2d(8, 16, 3, padding=1),
    activation(),
    nn.Conv2d(16, 16, 3, padding=1),
    activation(),
    nn.MaxPool2d(2),
    nn.Dropout(0.2),
    nn.Flatten(),
    nn.Linear(64, 128),
    activation(),
    nn.Linear(128, 128),
    activation(),
    nn.Dropout(0.2),
    nn.Linear(128, 10),
)
criterion = nn.CrossEntropyLoss()
if FAULTY:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e3, maximize=True)
else:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

print(f"constant={labels[test].bincount().max().item() / len(test):.4f}")
for epoch in range(10):
    model.train()
    for rows in train[torch.randperm(len(train))].split(32):
        optimizer.zero_grad()
        loss = criterion(model(images[rows]), labels[rows])
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        val_loss = criterion(model(images[train[:100]]), labels[train[:100]])
    print(f"epoch {epoch} loss {loss.item():.4g} val {val_loss.item():.4g}")

with torch.no_grad():
    right = model(images[test]).argmax(1) == labels[test]
print(f"score={right.float().mean().item():.4f}")
