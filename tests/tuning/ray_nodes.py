"""A Ray cluster of several nodes on this machine, in a process of its own: what tests of it start and kill.

With the arguments 1 1 it starts a head without CPUs and two nodes with one each, and prints the address. Then
it does what each line of its input says: "kill 0" ends the first node as a loss of power would, "kill head"
the head.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

SETTINGS = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 3,
}
STORE = 80 * 2**20


class Nodes:
    """The cluster, as a test sees it."""

    def __init__(self, *cpus: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", __name__, *map(str, cpus)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            start_new_session=True,
            env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        self.address = self._said()

    def kill(self, which: int | str) -> None:
        """Lose a node, or the head."""
        assert self.process.stdin is not None
        print("kill", which, file=self.process.stdin, flush=True)
        assert self._said() == "killed"

    def close(self) -> None:
        """End all of it."""
        with self.process:
            assert self.process.stdin is not None
            self.process.stdin.close()
            self.process.wait(60)

    def _said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def main() -> None:
    from ray.cluster_utils import Cluster

    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": STORE}
    cluster: Any = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": SETTINGS} | own
    )
    nodes = [cluster.add_node(num_cpus=int(each), **own) for each in sys.argv[1:]]
    print(cluster.address, flush=True)
    for line in sys.stdin:
        which = line.split()[1]
        cluster.remove_node(cluster.head_node if which == "head" else nodes[int(which)], allow_graceful=False)
        print("killed", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
