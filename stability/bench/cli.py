"""The verb ``bench``: compare files, or run two commits in turn and compare them."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stability.errors import InputError, check_range, nearest

USAGE = """\
stability bench compare BASE NEW [--out DIR] [--fail-slower RATIO] [--level LEVEL]
stability bench pair REF [-k EXPRESSION] [--pairs N] [--runs DIR] [the options of compare]

compare: BASE and NEW are files of pytest-benchmark's, or folders with several runs each.
pair: runs the benchmarks of this checkout in turn on the commit REF and on the files as they are.

  --out DIR            where the HTML page goes (reports/bench)
  --fail-slower RATIO  exit code 1 if a benchmark is slower than RATIO beyond its interval
  --level LEVEL        of all intervals together (0.99)
  -k EXPRESSION        the benchmarks to run, as pytest's -k
  --pairs N            runs of each commit, at least 2 (10)
  --runs DIR           where pytest-benchmark's files go (runs/benchmarks/pair)"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise InputError(f"{self.prog}: {message}")


def main(arguments: Sequence[str]) -> int:
    """Run the verb and return its exit code: 0, or 1 for --fail-slower.  Raises InputError."""
    verbs = {"compare": _compare, "pair": _pair}
    if not arguments or arguments[0] not in verbs:
        word = arguments[0] if arguments else ""
        raise InputError(f"bench {word!r}: must be one of compare, pair{nearest(word, verbs)}")
    return verbs[arguments[0]](arguments[1:])


def _parser(verb: str) -> _Parser:
    parser = _Parser(prog=f"bench {verb}", allow_abbrev=False, add_help=False)
    parser.add_argument("--out", type=Path, default=Path("reports", "bench"))
    parser.add_argument("--fail-slower", type=float)
    parser.add_argument("--level", type=float, default=0.99)
    return parser


def _check(wanted: argparse.Namespace) -> None:
    if wanted.fail_slower is not None:
        check_range("--fail-slower", wanted.fail_slower, at_least=1)
    check_range("--level", wanted.level, at_least=0.5, at_most=0.9999)


def _compare(arguments: Sequence[str]) -> int:
    parser = _parser("compare")
    parser.add_argument("base", type=Path)
    parser.add_argument("new", type=Path)
    wanted = parser.parse_args(arguments)
    _check(wanted)
    return tell(wanted.base, wanted.new, wanted)


def _pair(arguments: Sequence[str]) -> int:
    parser = _parser("pair")
    parser.add_argument("ref")
    parser.add_argument("-k", default="")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--runs", type=Path, default=Path("runs", "benchmarks", "pair"))
    wanted = parser.parse_args(arguments)
    _check(wanted)
    check_range("--pairs", wanted.pairs, at_least=2, at_most=500)
    from stability.bench.pair import run

    base, new = run(wanted.ref, wanted.runs, wanted.pairs, wanted.k)
    return tell(base, new, wanted)


def tell(base_path: Path, new_path: Path, wanted: argparse.Namespace) -> int:
    """Compare, print, write the page, and return the exit code."""
    from stability.bench import files, page, statistics

    base, new = files.read_side(base_path), files.read_side(new_path)
    result = statistics.compare(base, new, wanted.level)
    differences = files.machine_differences(base, new)
    _print(result, differences)
    try:
        written = page.write(wanted.out, base, new, result, differences)
    except OSError as error:
        raise InputError(
            f"--out {wanted.out}: can't be written: {error.strerror or error}"
        ) from None
    print(f"page: {written}")
    if wanted.fail_slower is None:
        return 0
    failing = [c.name for c in result.comparisons if c.low > wanted.fail_slower]
    for name in failing:
        print(f"slower than {wanted.fail_slower:g}: {name}", file=sys.stderr)
    return 1 if failing else 0


def _print(result: Any, differences: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from stability.bench import page

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    for line in differences:
        console.print(Text(f"machines differ: {line}", style="yellow"))
    for line in page.notices(result):
        console.print(Text(f"note: {line}", style="yellow"))
    names = page.short_names(result)
    table = Table(box=None, pad_edge=False)
    table.add_column("benchmark", overflow="fold")
    for head in ("base", "new", "new/base", "interval"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    colors = {"slower": "red", "faster": "green"}
    for c in page.ordered(result):
        words = (names[c.name], page.seconds(c.base), page.seconds(c.new), f"{c.ratio:.3f}",
                 page.interval(c.low, c.high), c.verdict)  # fmt: skip
        table.add_row(*(Text(word) for word in words), style=colors.get(c.verdict, ""))
    console.print(table)
    console.print(Text(page.tally(result)))
