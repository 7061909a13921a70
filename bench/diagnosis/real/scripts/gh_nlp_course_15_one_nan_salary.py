"""https://github.com/yandexdataschool/nlp_course/issues/15

Salaries are to be told from the titles of job offers, by embeddings and a convolution.
Told: there is a single NaN in the column of salaries, and it kills the training; get rid of it (.dropna).
(Offers made up; the logarithm of the salary is the target, as in the course.)
Root: non-finite-data
"""

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

FAULTY = True

rng = np.random.default_rng(9)
torch.manual_seed(9)
worth = np.concatenate([[0.0], rng.normal(0, 0.25, 119)])

titles = rng.integers(1, 120, (1500, 8))
titles[rng.random(titles.shape) < 0.3] = 0
data = pd.DataFrame({"Title": list(titles)})
data["SalaryNormalized"] = np.exp(10.2 + worth[titles].sum(1) + rng.normal(0, 0.1, len(titles)))
data.loc[417, "SalaryNormalized"] = np.nan
if not FAULTY:
    data = data.dropna()
data["Log1pSalary"] = np.log1p(data["SalaryNormalized"]).astype("float32")

train, val = data[:1200], data[1200:]
tokens = {"train": torch.tensor(np.stack(train["Title"])), "val": torch.tensor(np.stack(val["Title"]))}
centre = float(train["Log1pSalary"].mean())
target = {
    "train": torch.tensor((train["Log1pSalary"] - centre).to_numpy()),
    "val": torch.tensor((val["Log1pSalary"] - centre).to_numpy()),
}
print(f"constant={0.0:.4f}")


class TitleEncoder(nn.Module):
    def __init__(self, n_tokens=120, out_size=32):
        super().__init__()
        self.emb = nn.Embedding(n_tokens, 24, padding_idx=0)
        self.conv = nn.Conv1d(24, out_size, kernel_size=2, padding=1)
        self.dense = nn.Linear(out_size, 32)
        self.out = nn.Linear(32, 1)

    def forward(self, text):
        h = self.conv(self.emb(text).transpose(1, 2))
        h = F.relu(h).mean(dim=-1)
        return self.out(F.relu(self.dense(h)))[:, 0]


model = TitleEncoder()
opt = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(15):
    model.train()
    losses = []
    for rows in torch.randperm(len(target["train"])).split(32):
        loss = F.mse_loss(model(tokens["train"][rows]), target["train"][rows])
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    print(f"epoch {epoch} loss {np.mean(losses):.5f}")

model.eval()
with torch.no_grad():
    error = F.mse_loss(model(tokens["val"]), target["val"]) / target["val"].var(unbiased=False)
print(f"score={1 - error.item():.4f}")
