"""Two commits in turn: which code runs, and what is left behind, whatever happens."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stability.bench import pair
from stability.bench.files import read_side
from stability.bench.statistics import compare
from stability.errors import InputError

PACKAGE = "def work():\n    return sum(range({}))\n"
CONFTEST = """
from pathlib import Path
import stability

def pytest_addoption(parser):
    parser.addoption("--quick", action="store_true")

def pytest_benchmark_update_json(output_json):
    output_json["package"] = str(Path(stability.__file__).parent)
"""
TEST = """
import time
import pytest
import stability

@pytest.mark.benchmark(timer=time.process_time)
def test_work(benchmark):
    benchmark.pedantic(stability.work, rounds=9, warmup_rounds=1)
"""


def git(root: Path, *words: str) -> str:
    name = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", str(root), *name, *words], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose HEAD takes 1/20 of the work of ``slow`` and whose files take 1/40."""
    root = tmp_path / "repository"
    benchmarks = root / "tests" / "benchmarks"
    benchmarks.mkdir(parents=True)
    (root / "stability").mkdir()
    git(root, "init", "-q")
    for name, size in (("slow", 200_000), ("fast", 10_000)):
        (root / "stability" / "__init__.py").write_text(PACKAGE.format(size))
        (root / "gone.txt").write_text("x")
        git(root, "add", "-A")
        git(root, "commit", "-q", "-m", name)
        git(root, "tag", name)
    (root / "stability" / "__init__.py").write_text(PACKAGE.format(5_000))
    (root / "gone.txt").unlink()
    (benchmarks / "conftest.py").write_text(CONFTEST)
    (benchmarks / "test_work.py").write_text(TEST)
    monkeypatch.chdir(root)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return root


def assert_nothing_is_left(root: Path) -> None:
    assert not list(root.parent.glob("stability-bench-*"))
    assert git(root, "worktree", "list", "--porcelain").count("worktree ") == 1


def test_each_side_runs_its_own_code_with_the_checkout_s_benchmarks(root: Path) -> None:
    before = git(root, "status", "--porcelain")
    base, new = pair.run("slow", root.parent / "out", 3, "work")
    runs = read_side(base), read_side(new)
    result = compare(*runs)
    assert result.design == "pairs of runs"
    assert [c.verdict for c in result.comparisons] == ["faster"]
    assert 1 / 100 < result.comparisons[0].ratio < 1 / 15
    assert runs[0][0].commit == git(root, "rev-parse", "slow").strip()[:12]
    assert git(root, "status", "--porcelain") == before
    assert_nothing_is_left(root)


def test_the_files_as_they_are_make_up_the_new_side(root: Path) -> None:
    with pair.trees(root, git(root, "rev-parse", "slow").strip()) as (base, work):
        assert "200000" in (base / "stability" / "__init__.py").read_text()
        assert "5000" in (work / "stability" / "__init__.py").read_text()
        assert (base / "gone.txt").exists()
        assert not (work / "gone.txt").exists()
        assert (base / "tests" / "benchmarks" / "test_work.py").exists()
        assert len(str(base)) == len(str(work))
    assert_nothing_is_left(root)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, InputError])
def test_the_trees_go_whatever_happens(root: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with pair.trees(root, "HEAD"):
            raise error

    with pytest.raises(error):
        fail()
    assert_nothing_is_left(root)


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_the_trees_go_when_the_process_is_told_to_end(root: Path, kind: signal.Signals) -> None:
    code = "from stability.bench import pair; pair.run('slow', pair.Path('out'), 50, '')"
    command = subprocess.Popen(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, "PYTHONPATH": str(Path(pair.__file__).parents[2])},
        stderr=subprocess.PIPE,
        cwd=root,
    )
    try:
        wait(lambda: list(root.glob("out/*/*.json")))
        command.send_signal(kind)
        _, told = command.communicate(timeout=60)
    finally:
        command.kill()
        command.wait()
    assert command.returncode != 0
    assert b"KeyboardInterrupt" in told
    assert_nothing_is_left(root)


def wait(done: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("ref", "expression", "message"),
    [
        ("nowhere", "", "'nowhere': must name a commit of"),
        ("--help", "", "'--help': must name a commit of"),
        ("HEAD:gone.txt", "", "must name a commit of"),
        ("slow", "nothing", "-k 'nothing': names no benchmark"),
    ],
)
def test_what_cannot_run_is_told(root: Path, ref: str, expression: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pair.run(ref, root.parent / "out", 2, expression)
    assert_nothing_is_left(root)


def test_a_side_that_ran_another_package_is_refused(root: Path) -> None:
    conftest = root / "tests" / "benchmarks" / "conftest.py"
    conftest.write_text(CONFTEST.replace("stability.__file__", "pytest_benchmark.__file__")
                        .replace("import stability", "import pytest_benchmark"))  # fmt: skip
    with pytest.raises(InputError, match="pytest_benchmark, not its own package"):
        pair.run("slow", root.parent / "out", 2, "")


def test_outside_a_checkout_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(InputError, match="is no git checkout"):
        pair.run("main", tmp_path / "out", 2, "")
    git(tmp_path, "init", "-q")
    with pytest.raises(InputError, match="has no tests/benchmarks"):
        pair.run("main", tmp_path / "out", 2, "")


def test_files_that_are_not_its_own_are_never_deleted(root: Path) -> None:
    mine = root.parent / "out" / "base" / "thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work")
    with pytest.raises(InputError, match=r"thesis\.txt isn't a run of pairs; move it"):
        pair.run("slow", root.parent / "out", 2, "")
    assert mine.read_text() == "years of work"
    with pytest.raises(InputError, match="--runs /proc/nowhere: can't be written"):
        pair.run("slow", Path("/proc/nowhere"), 2, "")
