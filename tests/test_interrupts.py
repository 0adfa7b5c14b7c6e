"""Ctrl-C in the middle of a verb: the object is as it was, or complete, and goes on to work."""

from __future__ import annotations

import signal
import time
from contextlib import contextmanager, suppress

import pytest
from helpers import same_object
from test_contract import VERBS, Verb

#: When the interrupt comes, as a share of the time of an undisturbed run.
MOMENT = 0.5
#: One call of each verb that takes long enough to be interrupted.
LONG = {v.name: v for v in reversed(VERBS) if v.id not in ("paper", "two", "permuted")}


@contextmanager
def interrupted(seconds: float):
    """Raise KeyboardInterrupt in the main thread after some time."""

    def stop(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def unlike(adata, other) -> str:
    """Where two objects differ; empty when they do not."""
    try:
        same_object(adata, other)
    except AssertionError as error:
        return str(error) or "differs"
    return ""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("verb", [pytest.param(v, id=v.name) for v in LONG.values()])
def test_an_interrupt_leaves_the_object_whole(verb: Verb):
    untouched, complete = verb.make(), verb.make()
    start = time.perf_counter()
    verb(complete)
    took = time.perf_counter() - start
    adata = verb.make()
    # Compiled code of numba turns the interrupt into a SystemError.
    with suppress(KeyboardInterrupt, SystemError), interrupted(MOMENT * took):
        verb(adata)
    left = unlike(adata, untouched)
    assert not left or not unlike(adata, complete), left
    verb(adata)  # nothing that was interrupted stands in the way
    assert not unlike(adata, complete)
