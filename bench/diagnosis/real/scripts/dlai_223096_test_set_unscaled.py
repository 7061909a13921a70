"""https://community.deeplearning.ai/t/can-feature-scaling-be-applied-for-test-set/223096

Binary classification. The training set was normalised, the test set is left raw ("untouched"): low
accuracy there; scaled by the same scaler, it is much better. Should it be?
Answered: after you normalize the training set, you have to apply the same normalization to the test set,
for the weights presume it. (Data here: breast cancer, standardised.)
Root: dataset-shift
"""

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

FAULTY = True

torch.manual_seed(3)
X, y = load_breast_cancer(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=3)

scaler = StandardScaler()
X_train = scaler.fit_transform(X_train)
if not FAULTY:
    X_test = scaler.transform(X_test)

X_train, X_test = torch.Tensor(X_train), torch.Tensor(X_test)
y_train, y_test = torch.Tensor(y_train)[:, None], torch.Tensor(y_test)[:, None]
print(f"constant={max(y_test.mean().item(), 1 - y_test.mean().item()):.4f}")

model = torch.nn.Sequential(
    torch.nn.Linear(30, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1), torch.nn.Sigmoid()
)
loss_function = torch.nn.BCELoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

for epoch in range(40):
    model.train()
    for i in range(0, len(X_train), 32):
        loss = loss_function(model(X_train[i : i + 32]), y_train[i : i + 32])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        y_pred = model(X_test)
        test_loss = loss_function(y_pred, y_test).item()
        accuracy = ((y_pred > 0.5) == y_test).float().mean().item()
    if epoch % 10 == 9:
        print(f"epoch {epoch + 1}: train loss {loss.item():.4f} test loss {test_loss:.4f} acc {accuracy:.4f}")
print(f"score={accuracy:.4f}")
