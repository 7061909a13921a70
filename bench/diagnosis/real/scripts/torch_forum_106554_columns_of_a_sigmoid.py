"""https://discuss.pytorch.org/t/cross-entropy-loss-for-imbalanced-set-binary-classification/106554

Five times more zeros than ones. The network ends in one unit with a sigmoid; to please CrossEntropyLoss its
output and 1 minus it are put side by side as two columns, with weights [1, 5].
Answered: no final sigmoid; CrossEntropyLoss (as BCEWithLogitsLoss) wants logits. Of numbers between 0 and 1 the
softmax never gets beyond 0.73. (Rare ones hidden in a ring; the score is the mean of both recalls of the
probability at one half.)
Root: output-activation
"""

import torch
from torch import nn, optim

FAULTY = True

torch.manual_seed(3)
X = torch.randn(1200, 2)
Y = ((X.norm(dim=1) > 1.9).long() + (torch.rand(1200) < 0.02).long()) % 2
X_val = torch.randn(600, 2)
Y_val = (X_val.norm(dim=1) > 1.9).long()

nn_model = nn.Sequential(nn.Linear(2, 24), nn.Tanh(), nn.Linear(24, 1))
if FAULTY:
    nn_model.append(nn.Sigmoid())
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0]))
else:
    criterion = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(5.0))
opt = optim.SGD(nn_model.parameters(), lr=0.01)

print("constant=0.5000")
for epoch in range(15):
    running_loss = 0
    for b in torch.randperm(len(X)).split(40):
        outputs = nn_model(X[b])
        if FAULTY:
            # I calculate probability of class 0 by subtracting that of class 1 from 1.
            outputs = torch.cat((1 - outputs, outputs), 1)
            loss = criterion(outputs, Y[b])
        else:
            loss = criterion(outputs.squeeze(1), Y[b].float())
        opt.zero_grad()
        loss.backward()
        opt.step()
        running_loss += loss.item()
    if epoch % 5 == 4:
        print(epoch, running_loss / 30)

with torch.no_grad():
    p = nn_model(X_val).squeeze(1)
    found = (p > (0.5 if FAULTY else 0.0)).long()
recalls = [(found[Y_val == k] == k).float().mean().item() for k in (0, 1)]
print("recalls", recalls)
print(f"score={sum(recalls) / 2:.4f}")
