"""Faults that can be put into a Problem too, as people write them in a loop of their own."""

from __future__ import annotations

from bench.diagnosis.scripts import loop, script

for task in ("digits", "friedman", "rows"):
    script("learning-rate-too-high", f"{task}, adam at 1", task,
           loop(optimizer="Adam(model.parameters(), lr=1.0)"), loop())  # fmt: skip
    script("learning-rate-too-low", f"{task}, adam at 1e-6", task,
           loop(optimizer="Adam(model.parameters(), lr=1e-6)"), loop())  # fmt: skip

for task in ("digits", "wine"):
    script("output-activation", f"{task}, softmax first", task,
           loop(optimizer="SGD(model.parameters(), lr={sgd}, momentum=0.9)",
                loss="loss_function(F.softmax(out, dim=1), Y[rows])"),
           loop(optimizer="SGD(model.parameters(), lr={sgd}, momentum=0.9)"))  # fmt: skip
    script("unshuffled-data", f"{task}, sorted", task,
           loop(batches="torch.argsort(Y).split(64)"), loop())  # fmt: skip

for task in ("digits", "cancer", "friedman"):
    script("frozen-parameters", f"{task}, another model's", task,
           loop(optimizer="Adam(make().parameters(), lr={adam})"), loop())  # fmt: skip
    script("unscaled-inputs", f"{task}, x1000", task,
           loop(optimizer="SGD(model.parameters(), lr={sgd}, momentum=0.9)",
                before="X, Xv = X * 1000, Xv * 1000"),
           loop(optimizer="SGD(model.parameters(), lr={sgd}, momentum=0.9)"))  # fmt: skip

for task in ("digits", "friedman"):
    script("summed-objective", f"{task}, sum", task,
           loop(optimizer="SGD(model.parameters(), lr={sgd}, momentum=0.9)",
                before="loss_function.reduction = 'sum'"),
           loop(optimizer="SGD(model.parameters(), lr={sgd}, momentum=0.9)"))  # fmt: skip

script("objective-mismatch", "friedman, shapes", "friedman",
       loop(loss="((out - Y[rows].squeeze(1)) ** 2).mean()"), loop())  # fmt: skip
