"""Raw tensors as modules: their names, and biases beside their weights."""

from __future__ import annotations

import runpy
from pathlib import Path

import torch

from downslope.diagnosis.loose import Loose

SCRIPT = """
import torch
from downslope.diagnosis.loose import named
class Net:
    def __init__(self):
        self.w = torch.zeros(2)
net, alone = Net(), torch.zeros(3)
rows, table = [[torch.zeros(4)], torch.zeros(5)], {"l1.w": torch.zeros(6)}
found = list(named([net.w, alone, rows[0][0], rows[1], table["l1.w"], torch.zeros(7)]))
"""


def test_names_are_those_of_variables_attributes_and_places(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT, encoding="utf-8")
    found = runpy.run_path(str(path), run_name="__main__")["found"]
    assert found == ["w", "alone", "rows[0][0]", "rows[1]", "table[l1_w]", "parameter 6 (7,)"]


def test_a_bias_joins_its_weights_once_and_new_tensors_take_their_places() -> None:
    w, v, b = (torch.zeros(n, requires_grad=True) for n in (4, 3, 2))
    loose = Loose({"w": w, "v": v, "b": b})
    loose.join(w, b)
    loose.join(v, b)
    loose.join(w, v)
    assert {name for name, _ in loose.named_parameters()} == {"w.weight", "w.bias", "v.weight"}
    new = torch.ones(2, requires_grad=True)
    loose.exchange({id(b): new})
    assert loose.holding(new)[0] == "w"
