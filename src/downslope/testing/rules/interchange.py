"""States that stand for one another: of the run that goes on and the resumed one, of ours and the peer's."""

from __future__ import annotations

import copy
import io
from typing import Any

import torch
from torch import nn

from downslope.testing.rules.case import Case, assert_close, gradients, parameters, run
from downslope.testing.rules.proofs import Proofs, backends, needs

__all__ = ["Interchange"]


def _filed(saved: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


class Interchange(Proofs):
    """Resuming gives the same bits; where the peer keeps the same state, each steps on from the other's."""

    @backends(in_float32=True)
    def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(self, case: Case, backend: str) -> None:
        given = gradients(torch.float32, 20, shapes=case.shapes)
        straight = parameters(torch.float32, shapes=case.shapes)
        optimizer = case.make(straight, backend)
        run(optimizer, given[:9])
        kept = [copy.deepcopy(optimizer.state_dict()), _filed(optimizer.state_dict())]
        copies = [[nn.Parameter(p.detach().clone()) for p in straight] for _ in kept]
        run(optimizer, given[9:])
        for saved, params in zip(kept, copies, strict=True):
            after = case.make(params, backend)
            after.load_state_dict(saved)
            run(after, given[9:])
            for a, b in zip(params, straight, strict=True):
                assert torch.equal(a, b)

    @needs("peer", "exchanges")
    def test_state_of_the_peer_is_taken_over(self, case: Case, backend: str) -> None:
        assert case.peer is not None
        given = gradients(torch.float64, 20, shapes=case.shapes)
        theirs = parameters(torch.float64, shapes=case.shapes)
        peer = case.peer(theirs)
        run(peer, given[:9])
        ours = [nn.Parameter(p.detach().clone()) for p in theirs]
        optimizer = case.make(ours, backend)
        optimizer.load_state_dict(copy.deepcopy(peer.state_dict()))
        run(optimizer, given[9:])
        run(peer, given[9:])
        assert_close(ours, theirs, case.bound(torch.float64))

    @needs("peer", "exchanges")
    def test_state_is_taken_over_by_the_peer(self, case: Case, backend: str) -> None:
        assert case.peer is not None
        given = gradients(torch.float64, 20, shapes=case.shapes)
        ours = parameters(torch.float64, shapes=case.shapes)
        optimizer = case.make(ours, backend)
        run(optimizer, given[:9])
        theirs = [nn.Parameter(p.detach().clone()) for p in ours]
        peer = case.peer(theirs)
        state = copy.deepcopy(optimizer.state_dict())["state"]
        peer.load_state_dict({"state": state, "param_groups": peer.state_dict()["param_groups"]})
        run(peer, given[9:])
        run(optimizer, given[9:])
        assert_close(ours, theirs, case.bound(torch.float64))
