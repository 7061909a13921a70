"""https://github.com/DaoyuanLi2816/Molecule-Generator/pull/23

A transformer over the characters of molecules. The tokens are embedded and go straight into the encoder with no
positional encoding; self-attention does not see the order, so CCO and OCC look identical to it.
Remedy (merged): the usual sinusoidal PositionalEncoding added to the embeddings.
(Strings of atoms; in which of four orders do the three marked ones come? The encoder and a classifier alone.)
Root: high-bias, uninformative-inputs
"""

import math

import torch
import torch.nn as nn

FAULTY = True

VOCAB = "CNOSFPBI"
MAX_LEN = 10
ORDERS = ["NOS", "OSN", "SON", "NSO"]


class PositionalEncoding(nn.Module):
    def __init__(self, d_model, max_len=64):
        super().__init__()
        position = torch.arange(max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(1, max_len, d_model)
        pe[0, :, 0::2] = torch.sin(position * div_term)
        pe[0, :, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe)

    def forward(self, x):
        return x + self.pe[:, : x.size(1)]


class TransformerEncoderModel(nn.Module):
    def __init__(self, d_model=32, nhead=4, n_classes=len(ORDERS)):
        super().__init__()
        self.embedding = nn.Embedding(len(VOCAB), d_model)
        self.positional = nn.Identity() if FAULTY else PositionalEncoding(d_model)
        layer = nn.TransformerEncoderLayer(d_model, nhead, dim_feedforward=64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.fc = nn.Linear(d_model, n_classes)

    def forward(self, tokens):
        x = self.positional(self.embedding(tokens))
        return self.fc(self.encoder(x).mean(1))


def smiles(n, gen):
    """Ten atoms; N, O and S occur once each, in one of four orders."""
    others = [VOCAB.index(c) for c in "CFPBI"]
    tokens = torch.tensor(others)[torch.randint(0, 5, (n, MAX_LEN), generator=gen)]
    order = torch.randint(0, len(ORDERS), (n,), generator=gen)
    for i in range(n):
        places = torch.randperm(MAX_LEN, generator=gen)[:3].sort().values
        tokens[i, places] = torch.tensor([VOCAB.index(c) for c in ORDERS[order[i]]])
    return tokens, order


def main():
    torch.manual_seed(0)
    gen = torch.Generator().manual_seed(0)
    train_tokens, train_order = smiles(3000, gen)
    val_tokens, val_order = smiles(500, gen)
    print(f"constant={val_order.bincount().max().item() / len(val_order):.4f}")
    model = TransformerEncoderModel()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(10):
        model.train()
        for rows in torch.randperm(len(train_tokens)).split(64):
            loss = criterion(model(train_tokens[rows]), train_order[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        model.eval()
        with torch.no_grad():
            logits = model(val_tokens)
            val_loss = criterion(logits, val_order).item()
            accuracy = (logits.argmax(1) == val_order).float().mean().item()
        print(f"Epoch {epoch + 1}: loss {loss.item():.4f}, val loss {val_loss:.4f}, accuracy {accuracy:.4f}")
    print(f"score={accuracy:.4f}")


if __name__ == "__main__":
    main()
