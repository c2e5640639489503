"""Bad input: one line that names key, value, what is allowed and the nearest name; exit code 2."""

from pathlib import Path
from subprocess import CompletedProcess

import pytest
from running import Run

CASES = [
    (["experiment=instrumnt"], "experiment='instrumnt': must be one of", "'instrument'"),
    (["sed=3"], "sed=3: unknown key 'sed'", "did you mean 'seed'?"),
    (["experiment.smaples=3"], "unknown option 'smaples'", "did you mean 'samples'?"),
    (
        ["reprot"],
        "'reprot': must be a verb (list, report, status, bench)",
        "did you mean 'report'?",
    ),
    (["report", "nowhere"], "nowhere: no such folder", ""),
    (["report", "--strcit"], "report: unrecognized arguments: --strcit", ""),
    (["list", "more"], "list: takes no arguments, got 'more'", ""),
    (["suite=defualt"], "suite='defualt': must be one of default", "did you mean 'default'?"),
    (["seed=-1"], "seed=-1: must be a finite number, at least 0", ""),
    (["seed=1.5"], "seed=1.5: must be an integer", ""),
    (["threads=0"], "threads=0: must be a finite number, at least 1", ""),
    (["rerun=maybe"], "rerun='maybe': must be true or false", ""),
    (["device=cuda:99"], "device='cuda:99': torch sees cpu", ""),
    (["device=gpu"], "device='gpu': torch sees cpu", ""),
    (["seed="], "seed=''", "must be an integer"),
    (["experiment.n=[1,"], "experiment.n=[1,", ""),
    (
        ["suite=default", "experiment.samples=3"],
        "experiment.samples=3: has no effect on a suite",
        "",
    ),
    (["suite=default", "suite.instrumnt.trap=x"], "unknown option 'instrumnt'", "'instrument'"),
    (["suite=default", "suite.instrument.trp=3"], "unknown option 'trp'", "'trap'"),
    (["runs=/proc/nowhere"], "runs='/proc/nowhere': can't be written", ""),
    (["time_limit=0"], "time_limit=0: must be a finite number, above 0", ""),
    (["time_limit=soon"], "time_limit='soon': must be a number of seconds, or null", ""),
    (["fail_fast=2"], "fail_fast=2: must be true or false", ""),
    (["status"], "status: takes one folder of a sweep, got 0 words", ""),
    (["status", "nowhere"], "status: nowhere: no sweep", ""),
    (["bench", "comapre"], "bench 'comapre': must be one of compare, pair", "'compare'"),
    (["bench", "compare", "nowhere", "there"], "nowhere: can't be read: No such file", ""),
    (["-m", "seed=0,1", "hydra/launcher=jolib"], "Could not find 'hydra/launcher/jolib'", ""),
    (["-m", "-cd", "nowhere", "seed=0,1"], "--config-dir nowhere: no such folder", ""),
    (["-m", "seed=range(0)"], "seed: nothing to sweep over", ""),
    (["-m", "suite=default", "experiment.n=1,2"], "has no effect on a suite", ""),
]

TOY_CASES = [
    (["experiment.n=0"], "experiment.n=0: must be a finite number, at least 1", ""),
    (["experiment.n=-3"], "experiment.n=-3: must be", ""),
    (["experiment.n=2.5"], "experiment.n=2.5: must be an integer", ""),
    (["experiment.n=two"], "experiment.n='two': must be an integer", ""),
    (["experiment.n=true"], "experiment.n=True: must be an integer", ""),
    (["experiment.n=null"], "experiment.n=None: must be an integer", ""),
    (["experiment.n=[]"], "experiment.n=[]: must have at least one value", ""),
    (["experiment.n=[1,1]"], "experiment.n=[1, 1]: must not repeat a value", ""),
    (["experiment.scale=nan"], "experiment.scale=nan: must be a finite number, above 0", ""),
    (["experiment.scale=inf"], "experiment.scale=inf: must be a finite number", ""),
    (["experiment.kind=bised"], "experiment.kind='bised': must be one of", "'biased'"),
    (["+experiment.extra=1"], "experiment.extra=1: unknown option 'extra'", "must be one of n,"),
    (["~experiment.n"], "experiment.n: must be given", ""),
    (["experiment.gibibytes=1e6"], "needs about 1e+06 GiB of memory", "GiB are free"),
    (["-m", "experiment.n=0,-1"], "experiment.n=0: must be", ""),
]


def assert_one_line(done: CompletedProcess[str], *parts: str) -> None:
    stderr = done.stderr
    assert done.returncode == 2, stderr
    assert len(stderr.splitlines()) == 1, stderr
    assert stderr.startswith("stability: ")
    for part in parts:
        assert part in stderr


@pytest.mark.parametrize(("words", "message", "hint"), CASES, ids=[" ".join(c[0]) for c in CASES])
def test_bad_input(
    stability: Run, tmp_path: Path, words: list[str], message: str, hint: str
) -> None:
    assert_one_line(stability(*words), message, hint)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message", "hint"), TOY_CASES, ids=[" ".join(c[0]) for c in TOY_CASES]
)
def test_bad_options(toy: Run, tmp_path: Path, words: list[str], message: str, hint: str) -> None:
    assert_one_line(toy(*words), message, hint)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_bug_is_not_disguised_as_bad_input(toy: Run) -> None:
    done = toy("experiment.kind=crash")
    assert done.returncode == 1
    assert "ZeroDivisionError: a bug" in done.stderr


def test_a_damaged_table_is_named_and_the_rest_is_drawn(
    toy: Run, stability: Run, tmp_path: Path
) -> None:
    toy("experiment.n=1")
    (good,) = tmp_path.glob("runs/toys/*/table.parquet")
    toy("experiment.n=2")
    (bad,) = set(tmp_path.glob("runs/toys/*/table.parquet")) - {good}
    content = bytearray(bad.read_bytes())
    content[len(content) // 2] ^= 1
    bad.write_bytes(bytes(content))
    done = stability("report", "--out", "page")
    assert_one_line(done, str(bad.relative_to(tmp_path)), "damaged")
    assert done.stdout.splitlines()[-1] == "1 of 1 claims hold"
    assert (tmp_path / "page" / "index.html").exists()
    again = toy("experiment.n=2")
    assert "reused" not in again.stdout
    assert again.returncode == 0
