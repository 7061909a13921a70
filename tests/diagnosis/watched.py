"""Training scripts as people write them, sick and sound; run by `watch_script`."""

from __future__ import annotations

HEAD = """
import math, sys
import torch
from torch import nn
import torch.nn.functional as F
torch.manual_seed(0)
X = torch.randn(640, 10)
Y = (X @ torch.linspace(-1, 1, 10)[:, None]).tanh()
C = (X @ torch.randn(10, 4)).argmax(1)
def batches(steps, size=32):
    for step in range(steps):
        yield torch.randint(640, (size,))
"""

TAIL = """
print(sum(p.double().sum() for p in everything).item(), torch.rand(2).tolist())
"""

ODD: dict[str, str] = {
    "two optimizers of one loss": """
body, head = nn.Sequential(nn.Linear(10, 32), nn.ReLU()), nn.Linear(32, 1)
first, second = torch.optim.Adam(body.parameters(), 1e-2), torch.optim.SGD(head.parameters(), 0.05)
for at in batches(120):
    loss = F.mse_loss(head(body(X[at])), Y[at])
    first.zero_grad(); second.zero_grad()
    loss.backward()
    first.step(); second.step()
everything = [*body.parameters(), *head.parameters()]
""",
    "accumulated, mixed precision, clipped": """
model = nn.Sequential(nn.Linear(10, 32), nn.LayerNorm(32), nn.GELU(), nn.Dropout(0.2), nn.Linear(32, 4))
rule = torch.optim.AdamW(model.parameters(), 1e-2)
scaler = torch.amp.GradScaler("cpu", init_scale=4096.0)
for step, at in enumerate(batches(240)):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = F.cross_entropy(model(X[at]).float(), C[at]) / 2
    scaler.scale(loss).backward()
    if step % 2:
        scaler.unscale_(rule)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(rule); scaler.update(); rule.zero_grad()
everything = model.parameters()
""",
    "half precision": """
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
rule = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
for at in batches(150):
    with torch.autocast("cpu", dtype=torch.float16):
        output = model(X[at])
    loss = F.smooth_l1_loss(output.float(), Y[at])
    rule.zero_grad(); loss.backward(); rule.step()
everything = model.parameters()
""",
    "LBFGS": """
model = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 1))
rule = torch.optim.LBFGS(model.parameters(), lr=1, max_iter=10, line_search_fn="strong_wolfe")
def closure():
    rule.zero_grad()
    loss = F.mse_loss(model(X), Y)
    loss.backward()
    return loss
for step in range(8):
    rule.step(closure)
everything = model.parameters()
""",
    "our own LBFGS": """
from downslope.terrain.methods import LBFGS
model = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 1))
rule = LBFGS(model.parameters())
def closure():
    rule.zero_grad()
    loss = F.mse_loss(model(X), Y)
    loss.backward()
    return loss
for step in range(30):
    rule.step(closure)
everything = model.parameters()
""",
    "GRU over time, several losses": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.r, self.o, self.p = nn.GRU(2, 24, batch_first=True), nn.Linear(24, 1), nn.Linear(24, 4)
    def forward(self, x, *, again=None):
        h = self.r(x.reshape(len(x), 5, 2), again)[1]
        return {"value": self.o(h[0]), "class": self.p(h[0]), "state": h}
model = Net()
rule = torch.optim.Adam(model.parameters(), 1e-2)
for at in batches(150):
    made = model(X[at])
    made = model(X[at], again=made["state"])
    loss = F.mse_loss(made["value"], Y[at]) + 0.5 * F.cross_entropy(made["class"], C[at])
    rule.zero_grad(); loss.backward(); rule.step()
everything = model.parameters()
""",
    "transformer encoder with a mask": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.i, self.e, self.o = nn.Linear(2, 16), nn.TransformerEncoder(layer, 2), nn.Linear(16, 4)
        self.m = nn.Transformer.generate_square_subsequent_mask(5)
    def forward(self, x):
        return self.o(self.e(self.i(x.reshape(len(x), 5, 2)), mask=self.m, is_causal=True)[:, -1])
model = Net()
rule = torch.optim.AdamW(model.parameters(), 3e-3)
schedule = torch.optim.lr_scheduler.OneCycleLR(rule, 1e-2, total_steps=200)
for at in batches(200):
    loss = F.cross_entropy(model(X[at]), C[at], label_smoothing=0.1)
    rule.zero_grad(); loss.backward(); rule.step(); schedule.step()
everything = model.parameters()
""",
    "frozen backbone in eval mode": """
body = nn.Sequential(nn.Linear(10, 64), nn.BatchNorm1d(64), nn.Tanh()).requires_grad_(False).eval()
head = nn.Linear(64, 4)
rule = torch.optim.Adam(head.parameters(), 1e-2)
for at in batches(300):
    with torch.no_grad():
        seen = body(X[at])
    loss = nn.CrossEntropyLoss()(head(seen), C[at])
    rule.zero_grad(); loss.backward(); rule.step()
everything = head.parameters()
""",
    "autoencoder of two inputs, called twice": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.o = nn.Linear(5, 16), nn.Linear(5, 16), nn.Linear(16, 10)
    def forward(self, left, right):
        return self.o(torch.tanh(self.a(left) + self.b(right)))
model = Net()
rule = torch.optim.RMSprop(model.parameters(), 3e-3)
for at in batches(200):
    x = X[at]
    swapped = model(x[:, 5:], x[:, :5])
    loss = F.mse_loss(model(x[:, :5], x[:, 5:]), x) + 0.1 * swapped.square().mean()
    rule.zero_grad(); loss.backward(); rule.step()
everything = model.parameters()
""",
    "compiled": """
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 1))
fast = torch.compile(model, backend="eager")
rule = torch.optim.Adam(fast.parameters(), 1e-2)
for at in batches(150):
    loss = F.mse_loss(fast(X[at]), Y[at])
    rule.zero_grad(); loss.backward(); rule.step()
everything = model.parameters()
""",
    "compiled loss": """
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
@torch.compile(backend="eager")
def objective(output, target):
    return F.mse_loss(output, target)
rule = torch.optim.Adam(model.parameters(), 1e-2)
for at in batches(150):
    loss = objective(model(X[at]), Y[at])
    rule.zero_grad(); loss.backward(); rule.step()
everything = model.parameters()
""",
    "a loss that begins far above its floor": """
model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 4))
with torch.no_grad():
    model[2].weight.mul_(20)
rule = torch.optim.Adam(model.parameters(), 1e-2)
for at in batches(400):
    loss = F.cross_entropy(model(X[at]), C[at])
    rule.zero_grad(); loss.backward(); rule.step()
everything = model.parameters()
""",
    "rivals": """
maker = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 10))
judge = nn.Sequential(nn.Linear(10, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
first = torch.optim.Adam(maker.parameters(), 2e-4, betas=(0.5, 0.999))
second = torch.optim.Adam(judge.parameters(), 2e-4, betas=(0.5, 0.999))
objective = nn.BCEWithLogitsLoss()
for at in batches(200):
    fake = maker(torch.randn(32, 4))
    second.zero_grad()
    told, false = judge(X[at]), judge(fake.detach())
    (objective(told, torch.ones(32, 1)) + objective(false, torch.zeros(32, 1))).backward()
    second.step()
    first.zero_grad()
    objective(judge(fake), torch.ones(32, 1)).backward()
    first.step()
everything = [*maker.parameters(), *judge.parameters()]
""",
    "an objective that goes negative": """
model = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 2))
rule = torch.optim.Adam(model.parameters(), 1e-2)
for at in batches(300):
    mean, spread = model(X[at]).chunk(2, 1)
    loss = (0.5 * ((Y[at] - mean) / spread.exp()) ** 2 + spread).mean()
    rule.zero_grad(); loss.backward(); rule.step()
everything = model.parameters()
""",
}  # fmt: skip

OVERFIT = """
from torch.utils.data import DataLoader, TensorDataset
n, epochs, size = (int(each) for each in sys.argv[1:])
def classes(n):
    x = torch.randn(n, 30)
    return TensorDataset(x, (torch.rand(n) < torch.sigmoid(1.0 * 2 * x[:, 0])).long())
train, valid = DataLoader(classes(n), 32, shuffle=True), DataLoader(classes(400), size)
model = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 2))
rule = torch.optim.Adam(model.parameters(), 1e-2)
for epoch in range(epochs):
    model.train()
    for a, b in train:
        loss = F.cross_entropy(model(a), b)
        rule.zero_grad(); loss.backward(); rule.step()
    if True:
        model.eval()
        with torch.no_grad():
            held = [F.cross_entropy(model(c), d).item() for c, d in valid]
"""

PHYSICS = """
model = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1))
rule = torch.optim.Adam(model.parameters(), 1e-2)
for step in range(300):
    t = torch.rand(64, 1).requires_grad_()
    u = 1 + t * model(t)
    slope = torch.autograd.grad(u.sum(), t, create_graph=True)[0]
    loss = F.mse_loss(slope + u, torch.zeros_like(u))
    rule.zero_grad(); loss.backward(); rule.step()
"""
