"""https://stackoverflow.com/questions/48594888 (DeepLocalize, DeepFD)

Asked: CIFAR-10 by a Keras network (64 and 256 filters with He's initialisation, 512 units, dropout 0.3,
Adam, batches of 500, five epochs): a loss of 14.5 and an accuracy of 10 %.
Cause, by the benchmarks: the images go in with values of 0 to 255 (DeepLocalize's correct version divides
them by 255), and the number of epochs and the batch size (DeepFD: ten epochs). (Here bright digits on dark
grounds in colour, a quarter of the filters, batches of 50.)
Root: unscaled-inputs, too-few-steps, batch-too-large
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

FAULTY = True

torch.manual_seed(4)
rng = np.random.default_rng(4)
digits = load_digits()
image = digits.images / 16
ground, ink = rng.uniform(0, 0.4, (2, len(image), 3, 1, 1)) + [[[[[0.0]]]], [[[[0.6]]]]]
picture = ground + (ink - ground) * image[:, None] + 0.05 * rng.standard_normal((len(image), 3, 8, 8))
picture = picture.clip(0, 1)
x = torch.tensor(np.round(picture * 255), dtype=torch.float32)
y = torch.tensor(digits.target)
if not FAULTY:
    x = x / 255
shuffled = torch.randperm(len(x))
test, train = shuffled[:360], shuffled[360:]

model = nn.Sequential(
    nn.Conv2d(3, 16, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(16, 64, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(256, 128),
    nn.ReLU(),
    nn.Dropout(0.3),
    nn.Linear(128, 10),
    nn.Softmax(dim=1),
)
for layer in model:
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    elif isinstance(layer, nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
adam = torch.optim.Adam(model.parameters(), lr=0.001)


def categorical_crossentropy(p, labels):
    return -p.clamp(1e-7, 1 - 1e-7)[torch.arange(len(labels)), labels].log().mean()


print(f"constant={(y[test] == y[train].mode().values).float().mean().item():.4f}")
for epoch in range(5 if FAULTY else 10):
    model.train()
    for rows in train[torch.randperm(len(train))].split(50):
        adam.zero_grad()
        loss = categorical_crossentropy(model(x[rows]), y[rows])
        loss.backward()
        adam.step()
    print("epoch", epoch, "loss", loss.item())

model.eval()
with torch.no_grad():
    print(f"score={(model(x[test]).argmax(1) == y[test]).float().mean().item():.4f}")
