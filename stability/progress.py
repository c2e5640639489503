"""Progress on stderr: a live bar on a terminal, a line each quarter of the way elsewhere."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

_LOOK = 1.0  # seconds between two looks at a sweep


@contextmanager
def display(label: str) -> Iterator[Callable[[float], None]]:
    """A function that shows the finished share, 0 to 1, of the work called ``label``."""
    if not sys.stderr.isatty():
        yield _Lines(label)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<32}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=1.0)
        yield lambda share: bar.update(task, completed=share)


class _Lines:
    def __init__(self, label: str) -> None:
        self._label = label
        self._shown = 0

    def __call__(self, share: float) -> None:
        quarters = int(share * 4)
        if quarters > self._shown:
            self._shown = quarters
            print(f"{self._label}: {25 * quarters} %", file=sys.stderr, flush=True)


@contextmanager
def follow(counts: Callable[[], dict[str, int]], total: int) -> Iterator[None]:
    """While the block runs, one live line of a sweep: done, failed, running, rate, time left.

    ``counts`` says how many of ``total`` jobs are "done", "failed" and "running".  Off a terminal
    it is a plain line whenever another tenth of the jobs has ended.
    """
    stream, live = sys.stderr, sys.stderr.isatty()
    started, over = time.monotonic(), threading.Event()
    tenth, width = 0, 0

    def show() -> None:
        nonlocal tenth, width
        now = counts()
        line = _line(now, total, time.monotonic() - started)
        ended = 10 * (now["done"] + now["failed"]) // max(total, 1)
        if live:
            print(f"\r{line:<{width}}", end="", file=stream, flush=True)
            width = len(line)
        elif ended > tenth:
            tenth = ended
            print(line, file=stream, flush=True)

    def watch() -> None:
        while not over.wait(_LOOK):
            show()

    thread = threading.Thread(target=watch, daemon=True)
    if total:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if total:
            thread.join()
            show()
            if live:
                print(file=stream)


def _line(counts: dict[str, int], total: int, seconds: float) -> str:
    ended = counts["done"] + counts["failed"]
    rate = ended / seconds if seconds > 0 else 0.0
    left = timedelta(seconds=round((total - ended) / rate)) if rate else "unknown"
    return (
        f"{counts['done']} of {total} jobs done, {counts['failed']} failed, "
        f"{counts['running']} running, {rate:.1f} a second, {left} left"
    )
