"""https://github.com/BerkeleyHCI/umlaut/blob/master/user_eval/eval_a.py

The first of the two programs of UMLAUT's user study: CIFAR-10, two times two convolutions and three dense
layers, Adam, batches of 128, ten epochs; the accuracy stays at 10 %.
Faults put in by the authors: the last layer has no softmax, while sparse_categorical_crossentropy takes
probabilities; the images are not divided by 255; dropout of 0.8 three times (their comments: 0.2). (Here
digits of 8 x 8 in grey, an eighth of the filters, batches of 32.)
(Alone, the undivided images do no harm here.)
Root: output-activation, objective-mismatch, over-regularised, unscaled-inputs
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

FAULTY = True

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.images * 255 / 16, dtype=torch.float32).unsqueeze(1)
labels = torch.tensor(digits.target)
if not FAULTY:
    images = images / 255.0
order = torch.randperm(len(images))
test, train = order[:360], order[360:]
drop = 0.8 if FAULTY else 0.2

model = nn.Sequential(
    nn.Conv2d(1, 8, 3, padding=1),
    nn.ReLU(),
    nn.Conv2d(8, 8, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Dropout(drop),
    nn.Conv2d(8, 16, 3, padding=1),
    nn.ReLU(),
    nn.Conv2d(16, 16, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Dropout(drop),
    nn.Flatten(),
    nn.Linear(64, 128),
    nn.ReLU(),
    nn.Linear(128, 128),
    nn.ReLU(),
    nn.Dropout(drop),
    nn.Linear(128, 10),
)
for layer in model:
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
optimizer = torch.optim.Adam(model.parameters(), lr=0.001)


def sparse_categorical_crossentropy(target, output, from_logits):
    """Keras': of probabilities (scaled to a sum of one and clipped), or of logits."""
    if from_logits:
        output = output.softmax(dim=1)
    else:
        output = output / output.sum(dim=1, keepdim=True)
    output = output.clamp(1e-7, 1 - 1e-7)
    return -output[torch.arange(len(target)), target].log().mean()


print(f"constant={labels[test].bincount().max().item() / len(test):.4f}")
for epoch in range(10):
    model.train()
    for rows in train[torch.randperm(len(train))].split(32):
        optimizer.zero_grad()
        loss = sparse_categorical_crossentropy(labels[rows], model(images[rows]), from_logits=not FAULTY)
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", loss.item())

model.eval()
with torch.no_grad():
    right = model(images[test]).argmax(1) == labels[test]
print(f"score={right.float().mean().item():.4f}")
