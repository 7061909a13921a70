"""https://stackoverflow.com/questions/58237726 (DeepFD)

Asked: volumes of only ones and volumes of only zeros, the simplest task there is: a Keras network of a
Conv3D (64 filters of 8), global average pooling, the six parts of an example joined, a Conv1D of ONE filter
with relu, Dense(2, softmax); Adam with rate 0.001. The accuracy stays at a half, the loss at 0.69.
Cause: DeepFD names the learning rate and the shape of the data. Its patch: the six parts as examples of
their own, a second convolution in place of the single unit, rate 0.01. That single relu unit is off in half
of the starts (in this one), and then nothing arrives behind it. (Volumes of 8, filters of 4, a quarter of
them. The data come ones first, then zeros.)
Root: dead-units, learning-rate-too-low, high-bias
"""

import torch
from torch import nn

FAULTY = True

torch.manual_seed(4)
SIZE, PARTS = 8, 6


def generate_fake_data(batches, size):
    for j in range(batches):
        kind = int(j >= batches // 2)
        yield torch.full((size, PARTS, 3, SIZE, SIZE, SIZE), float(1 - kind)), torch.full((size,), kind)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv3d = nn.Conv3d(3, 16, 4, stride=2, padding=1)
        if FAULTY:
            self.conv1d = nn.Conv1d(PARTS * 16, 1, 1)
            self.out = nn.Linear(1, 2)
        else:
            self.second = nn.Conv3d(16, 8, 4, stride=2, padding=1)
            self.out = nn.Linear(8, 2)
        for layer in self.children():
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        parts = torch.relu(self.conv3d(x.flatten(0, 1)))
        if FAULTY:
            joined = parts.mean((2, 3, 4)).reshape(-1, PARTS * 16, 1)
            return self.out(torch.relu(self.conv1d(joined)).squeeze(2))
        pooled = torch.relu(self.second(parts)).mean((2, 3, 4))
        return self.out(pooled.view(-1, PARTS, 8).mean(1))


model = Model()
criterion = nn.CrossEntropyLoss()
adam = torch.optim.Adam(model.parameters(), lr=1e-3 if FAULTY else 1e-2)

print("constant=0.5000")
for epoch in range(5):
    for x, y in generate_fake_data(20, 12):
        loss = criterion(model(x), y)
        adam.zero_grad()
        loss.backward()
        adam.step()
    print("epoch", epoch, "loss", loss.item())

model.eval()
right = total = 0
with torch.no_grad():
    for x, y in generate_fake_data(4, 6):
        right += (model(x).argmax(1) == y).sum().item()
        total += len(y)
print(f"score={right / total:.4f}")
