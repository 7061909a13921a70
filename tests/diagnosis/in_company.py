"""Training scripts whose models look at several examples together: on purpose, or by a slip; and others."""

from __future__ import annotations

HEAD = """
import torch
from torch import nn
from torch.nn import functional as F
torch.manual_seed(0)
torch.set_num_threads(1)
X = torch.randn(512, 6, 5)
Y = (X[:, 2, 0] + X[:, 4, 1] > 0).long()
def train(model, loss_of, steps=120, size=32, rate=5e-3):
    rule = torch.optim.Adam(model.parameters(), lr=rate)
    for step in range(steps):
        at = torch.randint(512, (size,))
        loss = loss_of(model, at)
        rule.zero_grad(); loss.backward(); rule.step()
    print(sum(p.double().sum() for p in model.parameters()).item(), torch.rand(2).tolist())
"""

MEANT: dict[str, str] = {
    "time first, examples along axis 1": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.LSTM(5, 24), nn.Linear(24, 2)
    def forward(self, x): return self.head(self.rnn(x)[0][-1])
train(Net(), lambda m, at: F.cross_entropy(m(X[at].transpose(0, 1)), Y[at]), rate={rate})
""",
    "transposed inside": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(5, 24), nn.Linear(24, 2)
    def forward(self, x): return self.head(self.rnn(x.transpose(0, 1))[0][-1])
train(Net(), lambda m, at: F.cross_entropy(m(X[at]), Y[at]), rate={rate})
""",
    "one sentence at a time, a label for every word": """
words = torch.randint(40, (64, 9))
tags = (words + words.roll(1, 1)) % 3
class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn, self.head = nn.Embedding(40, 16), nn.LSTM(16, 24), nn.Linear(24, 3)
    def forward(self, s):
        return self.head(self.rnn(self.embed(s).view(len(s), 1, -1))[0].view(len(s), -1))
def loss_of(m, at):
    row, size = int(at[0]) % 64, 5 + int(at[1]) % 5
    return F.cross_entropy(m(words[row, :size]), tags[row, :size])
train(Tagger(), loss_of, 200, rate={rate})
""",
    "one sequence, unbatched, by attention": """
class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp, self.mix, self.head = nn.Linear(5, 16), nn.MultiheadAttention(16, 2), nn.Linear(16, 2)
    def forward(self, x):
        x = self.inp(x)
        return self.head(x + self.mix(x, x, x)[0])
flat = X.reshape(-1, 5)
label = (flat[:, 0] + flat.roll(1, 0)[:, 0] > 0).long()
def loss_of(m, at):
    first = int(at[0])
    return F.cross_entropy(m(flat[first:first + 20]), label[first:first + 20])
train(Reader(), loss_of, rate={rate})
""",
    "nodes of a graph": """
link = (torch.rand(60, 60) < 0.1).float() + torch.eye(60)
link = link / link.sum(1, keepdim=True)
nodes = torch.randn(60, 8)
kind = (link @ nodes[:, 0] > 0).long()
class Graph(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 24), nn.Linear(24, 2)
    def forward(self, x, link): return self.b(link @ F.relu(self.a(link @ x)))
train(Graph(), lambda m, at: F.cross_entropy(m(nodes, link), kind), rate={rate})
""",
    "attention among the nodes of a graph, over their times": """
places = torch.randn(24, 6, 5)
kind = (places[:, :, 0].mean(1) > places[:, :, 0].mean()).long()
class Places(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp, self.head = nn.Linear(5, 16), nn.Linear(16, 2)
        self.mix = nn.TransformerEncoderLayer(16, 2, 32)
    def forward(self, x): return self.head(self.mix(self.inp(x)).mean(1))
train(Places(), lambda m, at: F.cross_entropy(m(places), kind), rate={rate})
""",
    "batch norm without running statistics": """
net = nn.Sequential(nn.Flatten(), nn.Linear(30, 32), nn.BatchNorm1d(32, track_running_stats=False),
                    nn.ReLU(), nn.Linear(32, 2))
train(net, lambda m, at: F.cross_entropy(m(X[at]), Y[at]), rate={rate})
""",
    "batch norm and dropout": """
net = nn.Sequential(nn.Flatten(), nn.Linear(30, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1),
                    nn.Linear(32, 2))
train(net, lambda m, at: F.cross_entropy(m(X[at]), Y[at]), rate={rate})
""",
    "the mean of the batch taken off": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(30, 32), nn.Linear(32, 2)
    def forward(self, x):
        x = x.flatten(1)
        return self.b(F.relu(self.a(x - x.mean(0))))
train(Net(), lambda m, at: F.cross_entropy(m(X[at]), Y[at]), rate={rate})
""",
    "attention among the examples": """
class Among(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp, self.mix, self.head = nn.Linear(30, 32), nn.MultiheadAttention(32, 4), nn.Linear(32, 2)
    def forward(self, x):
        x = F.relu(self.inp(x.flatten(1)))[:, None]
        return self.head((x + self.mix(x, x, x)[0])[:, 0])
train(Among(), lambda m, at: F.cross_entropy(m(X[at]), Y[at]), rate={rate})
""",
    "noise of its own in eval mode": """
import random
random.seed(0)
class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.calls = nn.Linear(30, 32), nn.Linear(32, 2), 0
    def forward(self, x):
        h = F.relu(self.a(x.flatten(1)))
        return self.b(h + 0.1 * torch.randn_like(h) + 0.01 * random.random())
train(Noisy(), lambda m, at: F.cross_entropy(m(X[at]), Y[at]), rate={rate})
""",
    "packed sequences of different length": """
class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(5, 24, batch_first=True), nn.Linear(24, 2)
    def forward(self, x, sizes):
        packed = nn.utils.rnn.pack_padded_sequence(x, sizes, batch_first=True, enforce_sorted=False)
        return self.head(self.rnn(packed)[1][0])
long = torch.randint(5, 7, (512,))
train(Packed(), lambda m, at: F.cross_entropy(m(X[at], long[at]), Y[at]), rate={rate})
""",
    "a language model, batch first": """
text = torch.randint(12, (512, 9)).cumsum(1) % 12
class Speaks(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(12, 16), nn.Linear(32, 12)
        self.rnn = nn.GRU(16, 32, batch_first=True)
    def forward(self, x): return self.head(self.rnn(self.embed(x))[0])
def loss_of(m, at): return F.cross_entropy(m(text[at, :-1]).flatten(0, 1), text[at, 1:].flatten())
train(Speaks(), loss_of, rate={rate})
""",
    "a label for every step, time first": """
flags = (X.cumsum(1)[..., 0] > 0).float()
class Steps(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(5, 24), nn.Linear(24, 1)
    def forward(self, x): return self.head(self.rnn(x)[0])[..., 0]
def loss_of(m, at): return F.binary_cross_entropy_with_logits(m(X[at].transpose(0, 1)), flags[at].T)
train(Steps(), loss_of, rate={rate})
""",
    "a state that is kept from batch to batch": """
class Keeps(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head, self.state = nn.GRU(5, 24, batch_first=True), nn.Linear(24, 2), None
    def forward(self, x):
        made, state = self.rnn(x, self.state)
        self.state = state.detach()
        return self.head(made[:, -1])
train(Keeps(), lambda m, at: F.cross_entropy(m(X[at]), Y[at]), rate={rate})
""",
    "pairs of views compared with all others": """
class Views(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(30, 32), nn.Linear(32, 8)
    def forward(self, x):
        h = F.normalize(self.b(F.relu(self.a(x.flatten(1)))), dim=1)
        return h @ h.T * 5
def loss_of(m, at):
    at = torch.randperm(512)[:16]
    x = torch.cat([X[at], X[at] + 0.05 * torch.randn(16, 6, 5)])
    sims = m(x) - 1e3 * torch.eye(32)
    return F.cross_entropy(sims, torch.cat([torch.arange(16, 32), torch.arange(16)]))
train(Views(), loss_of, rate={rate})
""",
    "batches of one": """
net = nn.Sequential(nn.Flatten(), nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 2))
train(net, lambda m, at: F.cross_entropy(m(X[at]), Y[at]), 200, 1, rate={rate})
""",
    "a list in, a dict out": """
class Several(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(15, 24), nn.Linear(48, 2)
    def forward(self, parts):
        made = torch.cat([F.relu(self.a(part.flatten(1))) for part in parts["halves"]], 1)
        return {"scores": self.b(made), "sum": made.sum()}
def loss_of(m, at): return F.cross_entropy(m({"halves": [X[at, :3], X[at, 3:]]})["scores"], Y[at])
train(Several(), loss_of, rate={rate})
""",
}
"""Scripts with a place for the rate: a sound one, or one that leaves the run where it began."""

MIXED: dict[str, str] = {
    "an LSTM along the batch": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.LSTM(5, 24), nn.Linear(24, 2)
    def forward(self, x): return self.head(self.rnn(x)[0][:, -1])
train(Net(), lambda m, at: F.cross_entropy(m(X[at]), Y[at]))
""",
    "a GRU along the batch, of all data at once": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(5, 24, 2), nn.Linear(24, 2)
    def forward(self, x): return self.head(self.rnn(x)[0][:, -1])
train(Net(), lambda m, at: F.cross_entropy(m(X[:100]), Y[:100]), 25)
""",
    "an RNN that is handed states sized by the wrong axis": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.RNN(5, 24), nn.Linear(24, 2)
    def forward(self, x):
        return self.head(self.rnn(x, torch.zeros(1, x.size(1), 24))[0][:, -1])
train(Net(), lambda m, at: F.cross_entropy(m(X[at]), Y[at]))
""",
    "batch first, handed time first": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(5, 24, batch_first=True), nn.Linear(24, 2)
    def forward(self, x): return self.head(self.rnn(x)[0][-1])
train(Net(), lambda m, at: F.cross_entropy(m(X[at].transpose(0, 1)), Y[at]))
""",
    "an encoder along the batch": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp, self.head = nn.Linear(5, 16), nn.Linear(16, 2)
        self.enc = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32), 2, enable_nested_tensor=False)
    def forward(self, x): return self.head(self.enc(self.inp(x))[:, -1])
train(Net(), lambda m, at: F.cross_entropy(m(X[at]), Y[at]))
""",
    "attention along the batch": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp, self.mix, self.head = nn.Linear(5, 16), nn.MultiheadAttention(16, 2), nn.Linear(16, 2)
    def forward(self, x):
        x = self.inp(x)
        return self.head(self.mix(x, x, x, need_weights=False)[0][:, -1])
train(Net(), lambda m, at: F.cross_entropy(m(X[at]), Y[at]))
""",
    "a view for a transpose": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(5, 24), nn.Linear(24, 2)
    def forward(self, x):
        n, t, d = x.shape
        return self.head(self.rnn(x.contiguous().view(t, n, d))[0][-1])
train(Net(), lambda m, at: F.cross_entropy(m(X[at]), Y[at]))
""",
}
"""Scripts with the fault."""


def script(body: str, rate: float = 5e-3) -> str:
    """The whole text."""
    return HEAD + body.replace("{rate}", str(rate))
