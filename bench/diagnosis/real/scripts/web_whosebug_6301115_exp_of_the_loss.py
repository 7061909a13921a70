"""https://whosebug.com/question/6301115/Weird-behaviour-of-loss-function-in-pytorch

A cost of one's own: exp(cross_entropy / eta) with eta = 2 (a half here). For some twenty iterations the training loss falls,
then it is suddenly nan.
Answered: exp of something unbounded is unstable. One example that is confidently wrong gives a loss, and a
gradient, beyond what the numbers hold. (Blobs in many dimensions, SGD with momentum.)
Root: unstable-objective, learning-rate-too-high, exploding-gradient
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

FAULTY = True

torch.manual_seed(1)
centres = torch.randn(6, 20) * 1.5
labels = torch.randint(0, 6, (1500,))
points = centres[labels] + 1.8 * torch.randn(1500, 20)
train_loader = DataLoader(TensorDataset(points[:1200], labels[:1200]), batch_size=16, shuffle=True)

client_model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 6))
optimizer = torch.optim.SGD(client_model.parameters(), lr=0.02, momentum=0.9)
e_loss = []
eta = 0.5  # just an example of value of eta I'm using
criterion = nn.CrossEntropyLoss()
print("constant=0.1667")
for _e in range(6):
    train_loss = 0
    for _batch_idx, (data, target) in enumerate(train_loader):
        client_model.train()
        optimizer.zero_grad()
        output = client_model(data)
        loss = torch.exp(criterion(output, target) / eta) if FAULTY else criterion(output, target)
        loss.backward()
        optimizer.step()
        train_loss += loss.item() * data.size(0)
    train_loss = train_loss / len(train_loader)  # average losses
    e_loss.append(train_loss)
print(e_loss)

client_model.eval()
with torch.no_grad():
    right = (client_model(points[1200:]).argmax(1) == labels[1200:]).float().mean().item()
print(f"score={right:.4f}")
