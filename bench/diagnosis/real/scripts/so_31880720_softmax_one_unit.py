"""https://stackoverflow.com/questions/31880720

Asked: a Keras network shall tell rows of 128 ones from rows of 128 zeros, the simplest task there is. The
loss stands at about 7.7 and the accuracy at exactly 0.5, whatever is trained.
Answered: a softmax over a single unit is 1 for every input. A single unit wants a sigmoid.
Root: output-activation
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

FAULTY = True

torch.manual_seed(1)
half = 10_000
x_train = torch.cat([torch.ones(half, 128), torch.zeros(half, 128)])
y_train = torch.cat([torch.ones(half, 1), torch.zeros(half, 1)])
x_test = torch.cat([torch.ones(100, 128), torch.zeros(100, 128)])
y_test = torch.cat([torch.ones(100, 1), torch.zeros(100, 1)])

model = nn.Sequential(
    nn.Linear(128, 50),
    nn.ReLU(),
    nn.Dropout(0.2),
    nn.Linear(50, 50),
    nn.ReLU(),
    nn.Dropout(0.2),
    nn.Linear(50, 1),
    nn.Softmax(dim=1) if FAULTY else nn.Sigmoid(),
)
criterion = nn.BCELoss()
optimizer = torch.optim.RMSprop(model.parameters(), lr=0.001)
loader = DataLoader(TensorDataset(x_train, y_train), batch_size=128, shuffle=True)

print(f"constant={y_test.mean().item():.4f}")
for epoch in range(3):
    model.train()
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss = criterion(model(inputs), labels)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        out = model(x_test)
        test_loss = criterion(out, y_test)
        accuracy = ((out > 0.5).float() == y_test).float().mean().item()
    print(f"epoch {epoch + 1} loss {loss.item():.4f} val_loss {test_loss.item():.4f} val_acc {accuracy:.4f}")
print(f"score={accuracy:.4f}")
