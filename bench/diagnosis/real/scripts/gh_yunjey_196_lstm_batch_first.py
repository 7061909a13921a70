"""https://github.com/yunjey/pytorch-tutorial/issues/196 (the same: https://github.com/pytorch/pytorch/issues/1538)

The MNIST tutorial reads a picture row by row with an LSTM. Without batch_first=True, and all else as it
was, the loss stays at about 2 and the accuracy near the constant guess.
Cause: the LSTM takes the first axis, which is the batch, for time: state flows from example to example,
and out[:, -1, :] is the last row of each picture alone.
Root: mixed-examples
"""

import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

FAULTY = True

sequence_length = 8
input_size = 8
hidden_size = 128
num_layers = 1
num_classes = 10
batch_size = 100
num_epochs = 20
learning_rate = 0.01

torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
images = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16
labels = torch.tensor(labels)
order = torch.randperm(len(images))
images, labels = images[order], labels[order]
train_loader = DataLoader(TensorDataset(images[:1400], labels[:1400]), batch_size, shuffle=True)
test_loader = DataLoader(TensorDataset(images[1400:], labels[1400:]), batch_size, shuffle=False)
print(f"constant={labels[1400:].bincount().max().item() / len(labels[1400:]):.4f}")


class RNN(nn.Module):
    def __init__(self, input_size, hidden_size, num_layers, num_classes):
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size, num_layers, batch_first=not FAULTY)
        self.fc = nn.Linear(hidden_size, num_classes)

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.fc(out[:, -1, :])


model = RNN(input_size, hidden_size, num_layers, num_classes)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)

total_step = len(train_loader)
for epoch in range(num_epochs):
    for i, (batch, target) in enumerate(train_loader):
        batch = batch.reshape(-1, sequence_length, input_size)
        outputs = model(batch)
        loss = criterion(outputs, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (i + 1) % 14 == 0:
            print(f"Epoch [{epoch + 1}/{num_epochs}], Step [{i + 1}/{total_step}], Loss: {loss.item():.4f}")

model.eval()
with torch.no_grad():
    correct = total = 0
    for batch, target in test_loader:
        outputs = model(batch.reshape(-1, sequence_length, input_size))
        correct += (outputs.argmax(1) == target).sum().item()
        total += target.size(0)
print(f"score={correct / total:.4f}")
