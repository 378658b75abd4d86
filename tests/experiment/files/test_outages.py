"""An outage is one line at its beginning and one at its end."""

from __future__ import annotations

import errno
import os
import warnings

import pytest

from mtrl_ntk.experiment.files.outages import Outages, OutageWarning


def work() -> None:
    """Writes something."""


def fail() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_each_outage_is_said_once() -> None:
    outages = Outages()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", OutageWarning)
        for write in (fail, fail, work, work, fail):
            assert outages.attempt("it", write, "life goes on") is (write is work)
            assert outages.attempt("another thing", work, "")
    assert [str(each.message) for each in said] == [
        "cannot write it: No space left on device; life goes on",
        "it can be written again",
        "cannot write it: No space left on device; life goes on",
    ]
    assert outages.reasons == {"it": "No space left on device"}


def test_other_mistakes_are_no_outage() -> None:
    with pytest.raises(ZeroDivisionError):
        Outages().attempt("it", lambda: 1 // 0, "")
