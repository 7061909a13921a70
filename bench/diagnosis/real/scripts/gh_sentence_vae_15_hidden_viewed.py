"""https://github.com/timbmg/Sentence-VAE/issues/15

An encoder of sentences, a bidirectional GRU made with batch_first=True. The asker doubts the line
hidden = hidden.view(batch_size, hidden_size * factor): batch_first touches the output only, the hidden state
is still (directions, batch, hidden), so the view mixes the sentences of the batch. The code runs all the same.
Confirmed by others with a small tensor; remedy: torch.cat([hidden[0], hidden[1]], dim=1).
(Made-up sentences, of which the kind is asked instead of the sentence again; the kind hangs on the order.)
Root: mixed-examples
"""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

FAULTY = True

VOCAB, LENGTH = 20, 9


def sentences(n):
    """Words 2..19 are filler; the words 0 and 1 occur once each: which comes first, and is it early?"""
    words = torch.randint(2, VOCAB, (n, LENGTH))
    places = torch.stack([torch.randperm(LENGTH)[:2] for _ in range(n)])
    words.scatter_(1, places, torch.tensor([[0, 1]]).expand(n, 2))
    kind = 2 * (places[:, 0] < places[:, 1]).long() + (places.min(1).values < 2).long()
    return words, kind


class SentenceEncoder(nn.Module):
    def __init__(self, embedding_size=16, hidden_size=32, n_kinds=4):
        super().__init__()
        self.hidden_size, self.hidden_factor = hidden_size, 2
        self.embedding = nn.Embedding(VOCAB, embedding_size)
        self.encoder_rnn = nn.GRU(embedding_size, hidden_size, bidirectional=True, batch_first=True)
        self.hidden2kind = nn.Linear(hidden_size * self.hidden_factor, n_kinds)

    def forward(self, input_sequence):
        batch_size = input_sequence.size(0)
        _, hidden = self.encoder_rnn(self.embedding(input_sequence))
        if FAULTY:
            # flatten hidden state
            hidden = hidden.view(batch_size, self.hidden_size * self.hidden_factor)
        else:
            hidden = torch.cat([hidden[0], hidden[1]], dim=1)
        return self.hidden2kind(hidden)


def main():
    torch.manual_seed(1)
    datasets = {"train": TensorDataset(*sentences(2500)), "valid": TensorDataset(*sentences(600))}
    kinds = datasets["valid"].tensors[1]
    print(f"constant={kinds.bincount().max().item() / len(kinds):.4f}")
    model = SentenceEncoder()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(6):
        for split in ("train", "valid"):
            loader = DataLoader(datasets[split], batch_size=50, shuffle=split == "train")
            model.train(split == "train")
            total, right = 0.0, 0
            for words, kind in loader:
                with torch.set_grad_enabled(split == "train"):
                    logits = model(words)
                    loss = criterion(logits, kind)
                if split == "train":
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                total += loss.item() / len(loader)
                right += (logits.argmax(1) == kind).sum().item()
            share = right / len(datasets[split])
            print(f"{split.upper()} Epoch {epoch:02d} mean loss {total:.4f} accuracy {share:.4f}")
    print(f"score={right / len(datasets['valid']):.4f}")


if __name__ == "__main__":
    main()
