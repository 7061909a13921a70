"""https://stackoverflow.com/questions/47352366

Asked: the convolutional network of TensorFlow's tutorial is written anew in Keras, 600 batches of 50
digits. The accuracy stays at about 0.1, or the loss is no number.
Answered: the last layer has a relu, while categorical_crossentropy takes probabilities: it wants a softmax
there.
Root: output-activation
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

FAULTY = True

torch.manual_seed(3)
rng = np.random.default_rng(3)
x, y = load_digits(return_X_y=True)
shuffled = rng.permutation(len(x))
x = torch.tensor(x[shuffled] / 16, dtype=torch.float32).view(-1, 1, 8, 8)
y = torch.tensor(y[shuffled])
x_test, y_test, x, y = x[:360], y[:360], x[360:], y[360:]


class Tutorial(nn.Module):
    def __init__(self, n1=32, n2=64, n3=1024):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, n1, 5, padding="same"),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(n1, n2, 5, padding="same"),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.dense = nn.Linear(4 * n2, n3)
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(n3, 10)
        for m in self.modules():
            if isinstance(m, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(m.weight)
                nn.init.constant_(m.bias, 0.1)
        nn.init.zeros_(self.out.bias)

    def forward(self, x):
        h = self.drop(torch.relu(self.dense(self.features(x))))
        return torch.relu(self.out(h)) if FAULTY else torch.softmax(self.out(h), dim=1)


def categorical_crossentropy(p, labels):
    """What Keras computes: scaled to a sum of one, clipped, minus the logarithm."""
    p = p / p.sum(dim=1, keepdim=True)
    p = p.clamp(1e-7, 1 - 1e-7)
    return -p[torch.arange(len(labels)), labels].log().mean()


model = Tutorial()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
print(f"constant={(y_test == y.mode().values).float().mean().item():.4f}")
for step in range(300):
    batch = torch.from_numpy(rng.choice(len(x), 50, replace=False))
    model.train()
    loss = categorical_crossentropy(model(x[batch]), y[batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print("step", step, "loss", loss.item())

model.eval()
with torch.no_grad():
    score = (model(x_test).argmax(1) == y_test).float().mean().item()
print(f"score={score:.4f}")
