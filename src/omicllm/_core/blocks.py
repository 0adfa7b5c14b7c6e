"""Work on the blocks of lazy data: on the caller's dask client when there is one, else here.

Block functions take plain arrays and return what is small; only that travels back. Nothing here
starts a client: it is the caller's, with whatever cluster is behind it.
"""

from __future__ import annotations

import sys
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any

from omicllm._core.log import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

#: Blocks in flight for each thread of the workers: enough to keep them busy, little in memory.
_AHEAD = 2


def is_lazy(value: Any) -> bool:
    """Whether a value is a dask collection (as the arrays of a lazy AnnData are)."""
    return hasattr(value, "__dask_graph__")


def active_client() -> Any | None:
    """Return the dask client the caller has made, or None. Without one, dask is not imported."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        client = distributed.default_client()
    except ValueError:  # distributed is loaded, but nobody made a client
        return None
    return None if client.asynchronous else client  # that of an event loop cannot be waited for


def run(
    function: Callable[..., Any],
    tasks: Iterable[Sequence[Any]],
    *shared: Any,
    lazy: bool | None = None,
) -> Iterator[Any]:
    """Yield ``function(*task, *shared)`` for each task, in order.

    Parameters
    ----------
    function
        Pure: it runs in other processes when there is a client.
    tasks
        Arguments of each call. Dask arrays among them reach the function computed; on a client
        they are read by the worker that runs the call.
    shared
        Arguments of every call, sent to each worker once.
    lazy
        Whether the tasks may go to the client: by default, those with a dask array among their
        arguments do. What is in memory here is not worth sending unless the work is heavy.

    Yields
    ------
    Results in the order of the tasks. Errors of a worker are raised here, and the calls that are
    still waiting are cancelled.
    """
    tasks = iter(tasks)
    client = None if lazy is False else active_client()
    if client is not None and lazy is None:
        first = list(islice(tasks, 1))
        tasks = _chained(first, tasks)
        if not (first and any(is_lazy(value) for value in first[0])):
            client = None
    if client is None:
        for task in tasks:
            yield function(*(v.compute() if is_lazy(v) else v for v in task), *shared)
        return
    yield from _on_client(client, function, tasks, shared)


def _chained(first: list[Any], rest: Iterator[Any]) -> Iterator[Any]:
    yield from first
    yield from rest


def _on_client(client: Any, function: Any, tasks: Iterator[Any], shared: Any) -> Iterator[Any]:
    from dask import delayed

    threads = sum(client.nthreads().values())
    logger.info("running on the active dask client (%d threads)", threads)
    everywhere = client.scatter(list(shared), broadcast=True, hash=False) if shared else []
    call = delayed(function, pure=False)
    waiting: deque[Any] = deque()
    try:
        for task in tasks:
            waiting.append(client.compute(call(*task, *everywhere)))
            if len(waiting) >= _AHEAD * max(1, threads):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
