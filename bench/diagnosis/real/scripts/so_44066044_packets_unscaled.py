"""https://stackoverflow.com/questions/44066044

Asked: records of network packets (addresses as whole numbers, ports, protocol, flags) are told into two
kinds with Keras, batches of 5, 100 epochs of Adam. The loss and the accuracy never move.
Answered: the columns go from 0 to 3e9, so scale them first; and the last relu is no probability, it wants a
sigmoid.
Root: unscaled-inputs, output-activation
"""

import argparse

import numpy as np
import torch
from sklearn.preprocessing import scale
from torch import nn

FAULTY = True


def packets(rng, count=200):
    """Rows like the asker's: two hosts talk to a third, one of them the intruder."""
    label = rng.integers(0, 2, count)
    source = np.where(label == 1, 3232235781, rng.choice([3232235778, 3232235773], count))
    flags = np.where(
        label == 1, rng.choice([525568, 525558], count), rng.choice([524544, 524032, 524288], count)
    )
    port = rng.choice([502, 55924, 56783, 55783], count)
    answer = rng.integers(0, 2, count)
    length = 12 * answer
    value = answer * np.where(label == 1, rng.choice([0, 65280], count), rng.choice([61, 0.86], count))
    unit = answer * np.where(label == 1, 5, 6)
    register = answer * np.where(label == 1, rng.integers(100, 103, count), rng.integers(206, 208, count))
    fixed = np.ones(count)
    columns = [
        source,
        3232235779 * fixed,
        6 * fixed,
        128 * fixed,
        flags,
        port,
        length,
        value,
        unit,
        0 * fixed,
        register,
    ]
    return np.stack(columns, axis=1), label


def dense(inputs, outputs):
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=0.05)
    nn.init.zeros_(layer.bias)
    return layer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=5)
    parser.add_argument("--seed", type=int, default=4)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    X, Y = packets(np.random.default_rng(args.seed))
    if not FAULTY:
        X = scale(X)
    X = torch.tensor(X, dtype=torch.float32)
    Y = torch.tensor(Y, dtype=torch.float32).reshape(-1, 1)
    X, Y, X_test, Y_test = X[:150], Y[:150], X[150:], Y[150:]
    print(f"constant={max(Y_test.mean().item(), 1 - Y_test.mean().item()):.4f}")

    last = nn.ReLU() if FAULTY else nn.Sigmoid()
    model = nn.Sequential(dense(11, 12), nn.ReLU(), dense(12, 12), nn.ReLU(), dense(12, 1), last)
    optimizer = torch.optim.Adam(model.parameters())
    for epoch in range(args.epochs):
        for batch in torch.randperm(len(X)).split(args.batch_size):
            p = model(X[batch]).clamp(1e-7, 1 - 1e-7)  # as Keras does before its logarithm
            loss = -(Y[batch] * p.log() + (1 - Y[batch]) * (1 - p).log()).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch % 10 == 0:
            print(f"epoch {epoch}: loss {loss.item():.4f}")

    with torch.no_grad():
        print(f"score={((model(X_test) > 0.5).float() == Y_test).float().mean().item():.4f}")


if __name__ == "__main__":
    main()
