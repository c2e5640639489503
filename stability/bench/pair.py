"""Two commits, benchmarked in turn in processes of their own, so that no drift decides.

Both sides run from folders with names of one length below one temporary folder, with this
interpreter and with the benchmarks of the checkout; the order within a pair is drawn at random.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from stability.errors import InputError
from stability.progress import display

BENCHMARKS = Path("tests", "benchmarks")


def run(ref: str, out: Path, pairs: int, expression: str) -> tuple[Path, Path]:
    """Run ``pairs`` pairs; the folders of the files of ``ref`` and of the checkout as it is.

    The files of an earlier call in ``out/base`` and ``out/new`` are deleted.  Raises InputError.
    """
    root = _root()
    if not (root / BENCHMARKS).is_dir():
        raise InputError(f"bench pair: {root} has no {BENCHMARKS}")
    commit = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if not commit:
        raise InputError(f"bench pair: {ref!r}: must name a commit of {root}")
    folders = out / "base", out / "new"
    for folder in folders:
        _clear(folder)
    order = random.Random(0)
    with trees(root, commit) as sides, display(f"bench {ref}") as progress:
        for index in range(pairs):
            turns = order.sample((0, 1), 2)
            for turn, side in enumerate(turns):
                _benchmark(sides[side], folders[side].resolve() / f"{index:03}.json", expression)
                progress((2 * index + turn + 1) / (2 * pairs))
    return folders


def _clear(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = list(folder.iterdir())
        strange = [path for path in found if not re.fullmatch(r"\d{3}\.json", path.name)]
        if strange:
            raise InputError(f"--runs {folder.parent}: {strange[0]} isn't a run of pairs; move it")
        for path in found:
            path.unlink()
    except OSError as error:
        raise InputError(
            f"--runs {folder.parent}: can't be written: {error.strerror or error}"
        ) from None


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def _root() -> Path:
    try:
        top = _git(Path(), "rev-parse", "--show-toplevel")
    except FileNotFoundError:
        raise InputError("bench pair: needs git") from None
    if not top:
        raise InputError(f"bench pair: {Path().resolve()} is no git checkout")
    return Path(top)


@contextmanager
def trees(root: Path, commit: str) -> Iterator[tuple[Path, Path]]:
    """Worktrees of ``commit`` and of the files in ``root`` as they are; removed in any case."""
    home = Path(tempfile.mkdtemp(prefix="stability-bench-"))
    base, work = home / "base", home / "work"
    before = signal.signal(signal.SIGTERM, _end)
    try:
        for folder, name in ((base, commit), (work, "HEAD")):
            made = ["git", "-C", str(root), "worktree", "add", "--detach", str(folder), name]
            done = subprocess.run(made, capture_output=True, text=True)
            if done.returncode:
                raise InputError(f"bench pair: git: {done.stderr.strip().splitlines()[-1]}")
        _overlay(root, work)
        shutil.rmtree(base / BENCHMARKS, ignore_errors=True)
        shutil.copytree(work / BENCHMARKS, base / BENCHMARKS)
        yield base, work
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for folder in (base, work):
            _git(root, "worktree", "remove", "--force", "--force", str(folder))
        shutil.rmtree(home, ignore_errors=True)
        _git(root, "worktree", "prune")
        signal.signal(signal.SIGTERM, before)


def _end(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _overlay(root: Path, work: Path) -> None:
    """Make ``work`` hold what ``root`` holds, changed and new files too; nothing that's ignored."""
    for name in filter(None, _git(root, "ls-files", "-z").split("\0")):
        (work / name).unlink(missing_ok=True)
    listed = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        source = root / name
        if source.is_symlink() or source.is_file():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, work / name, follow_symlinks=False)


def _benchmark(tree: Path, target: Path, expression: str) -> None:
    command = [
        sys.executable, "-m", "pytest", str(BENCHMARKS), "-q", "-o", "pythonpath=tests/benchmarks",
        "-p", "no:cacheprovider", "--benchmark-enable", "--quick", f"--benchmark-json={target}",
    ]  # fmt: skip
    if expression:
        command += ["-k", expression]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    last = (done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or ["silence"])[-1]
    if done.returncode == 5:
        raise InputError(f"-k {expression!r}: names no benchmark")
    if not target.exists():
        raise InputError(f"bench pair: pytest in {tree.name} (exit code {done.returncode}): {last}")
    ran = json.loads(target.read_bytes())
    if Path(ran.get("package", "")) != tree / "stability":
        raise InputError(f"bench pair: {tree.name} ran {ran.get('package')}, not its own package")
