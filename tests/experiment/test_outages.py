"""An outage is one line at its beginning and one at its end."""

from __future__ import annotations

import errno
import os
import warnings

import pytest

from mtrl_ntk.experiment.outages import Outages, OutageWarning


def fail() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_each_outage_is_said_once() -> None:
    outages = Outages()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", OutageWarning)
        for write, works in [(fail, False), (fail, False), (int, True), (int, True), (fail, False)]:
            assert outages.attempt("it", write, "life goes on") is works
            assert outages.attempt("another thing", int, "")
    assert [str(each.message) for each in said] == [
        "cannot write it: No space left on device; life goes on",
        "it can be written again",
        "cannot write it: No space left on device; life goes on",
    ]
    assert outages.reasons == {"it": "No space left on device"}


def test_other_mistakes_are_no_outage() -> None:
    with pytest.raises(ZeroDivisionError):
        Outages().attempt("it", lambda: 1 // 0, "")
