"""https://stackoverflow.com/questions/59325381

Asked: a small convolutional network learns handwritten digits; the training accuracy is near one at once,
and on the test set it is that of a guess.
Answered: "scaling" divided the labels by 255 as it did the pixels (y_train in the place of x_test), so that
as whole numbers all of them are 0.
Root: constant-target
"""

import torch
import torch.nn.functional as F  # noqa: N812
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

FAULTY = True

torch.manual_seed(0)

pixels, labels = load_digits(return_X_y=True)
pixels = pixels * 255 / 16
x_train, x_test, y_train, y_test = train_test_split(pixels, labels, test_size=0.2, random_state=0)
constant = (y_test == 3).mean()

# Scaling data
x_train = x_train / 255
if FAULTY:
    y_train = y_train / 255
else:
    x_test = x_test / 255

x_train = torch.tensor(x_train, dtype=torch.float32).reshape(-1, 1, 8, 8)
x_test = torch.tensor(x_test, dtype=torch.float32).reshape(-1, 1, 8, 8)
y_train = torch.tensor(y_train).long()
y_test = torch.tensor(y_test).long()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 64, 3, padding=1)
        self.conv2 = nn.Conv2d(64, 32, 3, padding=1)
        self.fc1 = nn.Linear(32 * 2 * 2, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = F.max_pool2d(self.conv1(x), 2)
        x = F.max_pool2d(self.conv2(x), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return F.log_softmax(self.fc2(x), dim=1)


model = Net()
opt = torch.optim.Adam(model.parameters())
print(f"constant={constant:.4f}")
for epoch in range(10):
    correct = 0
    for i in range(0, len(x_train), 32):
        xb, yb = x_train[i : i + 32], y_train[i : i + 32]
        opt.zero_grad()
        out = model(xb)
        loss = F.nll_loss(out, yb)
        loss.backward()
        opt.step()
        correct += (out.argmax(1) == yb).sum().item()
    print(f"epoch {epoch} loss {loss.item():.4f} accuracy {correct / len(x_train):.4f}")

model.eval()
with torch.no_grad():
    out = model(x_test)
    print("test loss", F.nll_loss(out, y_test).item())
print(f"score={(out.argmax(1) == y_test).float().mean().item():.4f}")
