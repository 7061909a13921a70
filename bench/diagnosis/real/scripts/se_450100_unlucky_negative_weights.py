"""https://stats.stackexchange.com/questions/450100/understanding-relu-does-this-unlucky-intialized-network-assign-all-instances

Two features that are always positive, one hidden ReLU unit with weights from (-0.05, 0.05), a sigmoid. Is the
unit dead for ever if both weights come out negative, so that all instances go to one class?
Answer: yes, if it gives 0 for all inputs the gradient is 0 too and it can't recover. A better way than to
depend on luck: standardise the data, so that they have positive and negative values.
(Two kinds of iris by length and width of the petal; the weights are the unlucky ones of the question.)
Root: dead-units, unscaled-inputs
"""

import torch
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

FAULTY = True

torch.manual_seed(0)
X, y = load_iris(return_X_y=True)
keep = y > 0
X, y = X[keep][:, 2:], y[keep] - 1
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.4, stratify=y, random_state=0)
mean, std = X_train.mean(0), X_train.std(0)
if not FAULTY:
    X_train, X_test = (X_train - mean) / std, (X_test - mean) / std
X_train, X_test = torch.tensor(X_train, dtype=torch.float32), torch.tensor(X_test, dtype=torch.float32)
y_train, y_test = torch.tensor(y_train, dtype=torch.float32), torch.tensor(y_test, dtype=torch.float32)
share = y_test.mean().item()
print(f"constant={max(share, 1 - share):.4f}")

W = (-0.05 * torch.rand(2, 1)).requires_grad_()
b = torch.zeros(1, requires_grad=True)
V = (0.1 * torch.rand(1, 1) - 0.05).requires_grad_()
c = torch.zeros(1, requires_grad=True)


def network(x):
    hidden = torch.relu(x @ W + b)
    return torch.sigmoid(hidden @ V + c).squeeze(1)


optimizer = torch.optim.SGD([W, b, V, c], lr=0.2, momentum=0.9)
for epoch in range(300):
    p = network(X_train)
    loss = torch.nn.functional.binary_cross_entropy(p, y_train)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if epoch % 30 == 29:
        with torch.no_grad():
            p_test = network(X_test)
            test = torch.nn.functional.binary_cross_entropy(p_test, y_test).item()
        print(f"epoch {epoch + 1}: loss {loss.item():.4f} test loss {test:.4f}")
print(f"score={((p_test > 0.5) == y_test.bool()).float().mean().item():.4f}")
