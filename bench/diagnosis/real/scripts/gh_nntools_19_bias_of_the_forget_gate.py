"""https://github.com/craffel/nntools/issues/19

"Why is the default bias of the forget gate so small (b_forgetgate=init.Normal(0.1))?" Sutskever's thesis: it
should be large at the start (such as 5); if it is not, it will be harder to learn long range dependencies, for
the smaller values of the forget gate make the gradient vanish.
Answer of the author: no real reason (it copied another library); pass init.Constant(5.) instead.
(A first symbol to be told after 70 steps of others.)
Root: long-term-dependency, vanishing-gradient
"""

import torch
import torch.nn as nn

FAULTY = True

STEPS, SYMBOLS, NOISE_SYMBOLS = 70, 4, 4


def remember(n, gen):
    """The first symbol is the answer; 69 symbols of another kind follow."""
    answer = torch.randint(0, SYMBOLS, (n,), generator=gen)
    rest = torch.randint(SYMBOLS, SYMBOLS + NOISE_SYMBOLS, (n, STEPS - 1), generator=gen)
    return torch.cat([answer[:, None], rest], dim=1), answer


class LSTMLayer(nn.Module):
    def __init__(self, num_inputs, num_units, b_forgetgate):
        super().__init__()
        self.lstm = nn.LSTM(num_inputs, num_units, batch_first=True)
        with torch.no_grad():
            for name, p in self.lstm.named_parameters():
                if name.startswith("weight"):
                    nn.init.normal_(p, std=0.1)
                else:
                    nn.init.zeros_(p)
            b_forgetgate(self.lstm.bias_ih_l0[num_units : 2 * num_units])

    def forward(self, x):
        return self.lstm(x)[0]


class Network(nn.Module):
    def __init__(self, num_units=32):
        super().__init__()
        if FAULTY:
            forget = lambda b: nn.init.normal_(b, std=0.1)  # noqa: E731
        else:
            forget = lambda b: nn.init.constant_(b, 5.0)  # noqa: E731
        self.l_in = nn.Embedding(SYMBOLS + NOISE_SYMBOLS, 8)
        self.l_lstm = LSTMLayer(8, num_units, forget)
        self.l_out = nn.Linear(num_units, SYMBOLS)

    def forward(self, x):
        return self.l_out(self.l_lstm(self.l_in(x))[:, -1])


def main():
    torch.manual_seed(0)
    gen = torch.Generator().manual_seed(0)
    train_x, train_y = remember(1500, gen)
    val_x, val_y = remember(400, gen)
    print(f"constant={val_y.bincount().max().item() / len(val_y):.4f}")
    net = Network()
    updates = torch.optim.Adam(net.parameters(), lr=3e-3)
    for epoch in range(8):
        net.train()
        train_err = 0.0
        for rows in torch.randperm(len(train_x)).split(50):
            cost = nn.functional.cross_entropy(net(train_x[rows]), train_y[rows])
            updates.zero_grad()
            cost.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            updates.step()
            train_err += cost.item() * len(rows) / len(train_x)
        net.eval()
        with torch.no_grad():
            out = net(val_x)
            val_err = nn.functional.cross_entropy(out, val_y).item()
            acc = (out.argmax(1) == val_y).float().mean().item()
        print(f"Epoch {epoch} took cost {train_err:.4f} validation {val_err:.4f} accuracy {acc:.4f}")
    print(f"score={acc:.4f}")


if __name__ == "__main__":
    main()
