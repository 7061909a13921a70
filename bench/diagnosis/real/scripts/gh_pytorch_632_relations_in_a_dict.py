"""https://github.com/pytorch/pytorch/issues/632

A net over a graph with several relations: a Linear and a weighting {'w': nn.Parameter, 'b': nn.Parameter} for
each relation, kept in plain dictionaries, self.list_relations = {} and self.waggrs = {}. Such parameters are
not registered in the list of the module's parameters, so the optimizer does not have them.
Sent on to the forum; the remedy told there and in issue 666 of the same repository: containers that register
what they hold, here nn.ModuleDict and nn.ParameterDict.
(A made-up graph; each node's class hangs on two sums of what the relations bring to it.)
Root: frozen-parameters
"""

import torch
import torch.nn as nn
import torch.nn.functional as F  # noqa: N812

FAULTY = True

NODES, FEATURES, RELATIONS, CLASSES = 5000, 16, 3, 4


def make_graph():
    """Each node has two neighbours by each relation; one feature per relation matters."""
    x = torch.randn(NODES, FEATURES)
    neighbours = [torch.randint(0, NODES, (NODES, 2)) for _ in range(RELATIONS)]
    seen = [x[nb].mean(1) for nb in neighbours]
    first = seen[0][:, 0] + seen[1][:, 3] - seen[2][:, 4]
    second = seen[0][:, 6] - seen[1][:, 5] + seen[2][:, 7]
    y = 2 * (first > 0).long() + (second > 0).long()
    return x, neighbours, y


class RelationalNet(nn.Module):
    def __init__(self, numrel=4, hidden=32):
        super().__init__()
        self.waggrs = {} if FAULTY else nn.ModuleDict()
        self.list_relations = {} if FAULTY else nn.ModuleDict()
        for rel in range(RELATIONS):
            wagg = {
                "w": nn.Parameter(1.0 + 0.1 * torch.randn(numrel)),
                "b": nn.Parameter(torch.zeros(numrel)),
            }
            self.waggrs[str(rel)] = wagg if FAULTY else nn.ParameterDict(wagg)
            self.list_relations[str(rel)] = nn.Linear(FEATURES, numrel)
        self.bn = nn.BatchNorm1d(RELATIONS * numrel)
        self.hidden = nn.Linear(RELATIONS * numrel, hidden)
        self.classifier = nn.Linear(hidden, CLASSES)

    def forward(self, x, neighbours):
        brought = []
        for rel in range(RELATIONS):
            message = self.list_relations[str(rel)](x)[neighbours[rel]].mean(1)
            wagg = self.waggrs[str(rel)]
            brought.append(message * wagg["w"] + wagg["b"])
        out = self.bn(torch.cat(brought, dim=1))
        return self.classifier(F.relu(self.hidden(out)))


def train():
    model.train()
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x, neighbours)[train_mask], y[train_mask])
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.no_grad()
def test():
    model.eval()
    out = model(x, neighbours)
    val_loss = F.cross_entropy(out[test_mask], y[test_mask]).item()
    return (out.argmax(1)[test_mask] == y[test_mask]).float().mean().item(), val_loss


torch.manual_seed(0)
x, neighbours, y = make_graph()
train_mask = torch.arange(NODES) < 3800
test_mask = ~train_mask
print(f"constant={y[test_mask].bincount().max().item() / test_mask.sum().item():.4f}")

model = RelationalNet()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
for epoch in range(1, 121):
    loss = train()
    if epoch % 10 == 0:
        acc, val_loss = test()
        print(f"Epoch: {epoch:03d}, Loss: {loss:.4f}, Val: {val_loss:.4f}, Acc: {acc:.4f}")
print(f"score={acc:.4f}")
