"""https://github.com/deepset-ai/FARM/issues/395

Regression on texts: "Silent error, all my regression labels are being converted to longs."
Cause: the dataset first tries torch.tensor(..., dtype=torch.long) for every field and takes another type
only if that fails; torch cuts the fractions off without a word. Here with labels between 0 and 1, which
all become 0.
Remedy: keep the labels' type.
Root: constant-target
"""

import numpy as np
import torch
from sklearn.datasets import make_friedman1
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

FAULTY = True


def convert_features_to_dataset(features):
    tensors = []
    for name in features[0]:
        values = np.array([each[name] for each in features])
        if name == "label" and FAULTY:
            tensors.append(torch.tensor(values, dtype=torch.long))
        else:
            tensors.append(torch.tensor(values, dtype=torch.float32))
    return TensorDataset(*tensors)


class RegressionHead(nn.Module):
    def __init__(self, layer_dims):
        super().__init__()
        self.feed_forward = nn.Linear(*layer_dims)
        self.loss_fct = nn.MSELoss(reduction="none")

    def forward(self, x):
        return self.feed_forward(x)

    def logits_to_loss(self, logits, label):
        return self.loss_fct(logits, label.float()).mean()


class AdaptiveModel(nn.Module):
    def __init__(self, body, head):
        super().__init__()
        self.body, self.prediction_head = body, head

    def forward(self, x):
        return self.prediction_head(self.body(x))


torch.manual_seed(42)
x, y = make_friedman1(1500, noise=0.5, random_state=42)
y = (y - y.min()) / (y.max() - y.min() + 1e-6)
x = (x - x.mean(0)) / x.std(0)
features = [{"input": row, "label": [value]} for row, value in zip(x, y, strict=True)]
train, test = features[:1200], features[1200:]
print(f"constant={0.0:.4f}")

dataset = convert_features_to_dataset(train)
loader = DataLoader(dataset, sampler=RandomSampler(dataset), batch_size=32)
model = AdaptiveModel(nn.Sequential(nn.Linear(10, 64), nn.GELU(), nn.Dropout(0.1)), RegressionHead([64, 1]))
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
for epoch in range(25):
    for inputs, label in loader:
        loss = model.prediction_head.logits_to_loss(model(inputs), label)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    print(f"Train epoch {epoch}/25 (Cur. train loss: {loss.item():.4f})")

model.eval()
truth = torch.tensor([each["label"] for each in test], dtype=torch.float32)
with torch.no_grad():
    found = model(torch.tensor(np.array([each["input"] for each in test]), dtype=torch.float32))
print(f"score={1 - ((found - truth).pow(2).mean() / truth.var(unbiased=False)).item():.4f}")
