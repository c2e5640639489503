"""Progress on stderr: a live bar on a terminal, a line each quarter of the way elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


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
