"""Steps of a sequence made while earlier ones are worked on."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import repeat, takewhile
from typing import TypeVar

T = TypeVar("T")


def in_turn(works: Iterable[Callable[[], T]], *, workers: int) -> Generator[T]:
    """What each work gives, in order, `workers` of them being done ahead of the one that is asked for.

    Closed early it begins no further work, and waits for those that run.

    >>> list(in_turn([lambda: 1, lambda: 2, lambda: 3], workers=2))
    [1, 2, 3]
    """
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for work in works:
                waiting.append(pool.submit(work))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for left in waiting:
                left.cancel()


def ahead(items: Iterable[T]) -> Generator[T]:
    """The same items, the next one being made in a thread.

    >>> list(ahead(number * number for number in range(4)))
    [0, 1, 4, 9]
    """
    iterator, end = iter(items), object()
    with closing(in_turn(repeat(partial(next, iterator, end)), workers=1)) as made:
        yield from takewhile(lambda item: item is not end, made)
