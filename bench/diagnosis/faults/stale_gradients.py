"""zero_grad left out of the loop: every step goes along the sum of all gradients so far.

Only a loop of one's own can have it, so these are scripts for ``downslope watch``.
"""

from __future__ import annotations

from bench.diagnosis.scripts import loop, script

for task in ("digits", "wine", "friedman", "rows", "cancer"):
    script("stale-gradients", f"{task}, sgd", task,
           loop(optimizer="SGD(model.parameters(), lr={sgd}, momentum=0.9)", zero=""),
           loop(optimizer="SGD(model.parameters(), lr={sgd}, momentum=0.9)"))  # fmt: skip

for task in ("digits", "friedman"):
    script("stale-gradients", f"{task}, cleared each epoch", task,
           loop(optimizer="SGD(model.parameters(), lr={sgd}, momentum=0.9)", zero="",
                epoch="optimizer.zero_grad()"),
           loop(optimizer="SGD(model.parameters(), lr={sgd}, momentum=0.9)"))  # fmt: skip
    script("stale-gradients", f"{task}, adam", task,
           loop(zero=""), loop())  # fmt: skip
    script("stale-gradients", f"{task}, accumulated and kept", task,
           loop(zero="", take="if step % 2 == 1: optimizer.step()"),
           loop(zero="if step % 2 == 0: optimizer.zero_grad()",
                take="if step % 2 == 1: optimizer.step()"))  # fmt: skip
