"""What is noted of operations: which memory they read, make and change."""

from __future__ import annotations

import subprocess
import sys

import torch

from mtrl_ntk.rl.host_log import Log


def test_operations_say_what_they_do_to_memory() -> None:
    numbers, total = torch.arange(6.0), torch.zeros(3)
    with Log() as log:
        view = numbers.view(2, 3)
        total.add_(view.sum(0))
    of_numbers, of_total = (t.untyped_storage()._cdata for t in (numbers, total))
    looking, summing, adding = log.operations
    assert [looking.computes, summing.computes, adding.computes] == [False, True, True]
    assert {place.storage for place in summing.read} == {of_numbers}
    assert summing.changes == set()
    assert adding.changes == {of_total}
    assert log.given.keys() == {of_numbers, of_total}
    assert [tensor.data_ptr() for tensor in log.written] == [total.data_ptr()]


def test_storages_that_somebody_keeps_are_known() -> None:
    kept: list[torch.Tensor] = []
    with Log() as log:
        first = torch.ones(3) + 1
        kept.append(first * 2)
        del first
    assert kept[0].untyped_storage()._cdata in log.kept()
    assert len(log.kept()) == 1


def test_a_look_at_a_number_is_noticed() -> None:
    with Log() as log:
        torch.ones(1).item()
    assert log.decides


def test_noting_imports_no_compiler() -> None:
    code = (
        "import sys, torch; from mtrl_ntk.rl.host_log import Log\n"
        "with Log(): torch.ones(2) + 1\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
