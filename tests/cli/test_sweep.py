"""Sweeps: nothing lost, nothing repeated, whatever is killed, damaged or run twice."""

import json
import os
import pty
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
import pytest
from running import Run

import stability as package
from stability.store import PLAN, TABLE

TOYS = Path(__file__).parents[1] / "toys"
PATH = os.pathsep.join(filter(None, [str(TOYS), os.environ.get("PYTHONPATH")]))


def sweeps(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "runs" / "sweeps").iterdir())


def rows(path: Path) -> pd.DataFrame:
    loaded = package.load(path)
    return loaded.sort_values(["run", "n", "scale"], ignore_index=True)


def start(tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "stability", "-cd", str(TOYS / "conf"),
         "experiment=toy", "-m", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": PATH, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def test_a_sweep_extended_or_narrowed_runs_what_is_missing(toy: Run, tmp_path: Path) -> None:
    first = toy("-m", "experiment.n=1,2,5", "seed=0,1")
    assert first.returncode == 0, first.stderr
    assert "6 jobs: 0 reused, 6 to run" in first.stdout
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/toys/*/table.parquet")}
    more = toy("-m", "experiment.n=1,2,5,6", "seed=0,1")
    assert "8 jobs: 6 reused, 2 to run" in more.stdout
    assert "2 jobs: 2 reused, 0 to run" in toy("-m", "experiment.n=2,6", "seed=1").stdout
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    again = toy("-m", "experiment.n=1,2,5", "seed=0,1", "rerun=true")
    assert "6 jobs: 0 reused, 6 to run" in again.stdout
    assert all(path.stat().st_mtime_ns > stamp for path, stamp in stamps.items())
    assert len(sweeps(tmp_path)) == 3


def test_what_cannot_change_a_number_is_reused(toy: Run) -> None:
    toy("-m", "experiment.n=1,2")
    for word in ("reports=elsewhere", "fail_fast=true", "time_limit=100", "hydra/launcher=joblib"):
        assert "2 jobs: 2 reused, 0 to run" in toy("-m", "experiment.n=1,2", word).stdout, word
    for word in ("seed=1", "threads=2", "experiment.samples=7"):
        assert "2 jobs: 0 reused, 2 to run" in toy("-m", "experiment.n=1,2", word).stdout, word


def test_a_sweep_writes_a_report_of_its_cells(toy: Run, tmp_path: Path) -> None:
    done = toy("-m", "experiment.n=1,2,5", "experiment.scale=1,2")
    (sweep,) = sweeps(tmp_path)
    page = tmp_path / "reports" / "sweeps" / sweep.name / "index.html"
    assert str(page.relative_to(tmp_path)) in done.stdout
    text = page.read_text()
    assert "toys: 6 cells" in text
    assert "farthest from them is" in text
    assert text.count("<svg ") >= 2


def test_a_failed_job_stops_no_other_and_says_how_to_repeat_it(
    toy: Run, stability: Run, tmp_path: Path
) -> None:
    done = toy("-m", "experiment.kind=crash,plain", "seed=0,1")
    assert done.returncode == 1
    assert "4 jobs: 2 done, 2 failed" in done.stdout
    (sweep,) = sweeps(tmp_path)
    assert len(package.load(sweep)) == 4
    lines = done.stdout.splitlines()
    at = next(i for i, line in enumerate(lines) if "ZeroDivisionError: a bug" in line)
    words = shlex.split(lines[at + 1])
    log = tmp_path / lines[at + 2].split("log: ")[1]
    assert "Traceback" in log.read_text()
    assert words[0] == "stability"
    repeated = stability(*words[1:])
    assert repeated.returncode == 1
    assert "a bug" in repeated.stderr
    page = (tmp_path / "reports" / "sweeps" / sweep.name / "index.html").read_text()
    assert "ZeroDivisionError: a bug" in page
    assert "4 cells" in page
    assert "× is not done" in page
    assert "Warning" not in done.stderr
    told = stability("status", str(sweep))
    assert told.returncode == 1
    assert "2 done, 0 running, 2 failed, 0 killed, 0 missing" in told.stdout


def test_fail_fast_ends_at_the_first(toy: Run, stability: Run, tmp_path: Path) -> None:
    done = toy("-m", "experiment.kind=crash,plain", "seed=0,1", "fail_fast=true")
    assert done.returncode == 1
    assert "4 jobs: 0 done, 1 failed, 3 not run" in done.stdout
    (sweep,) = sweeps(tmp_path)
    assert (
        "0 done, 0 running, 1 failed, 0 killed, 3 missing" in stability("status", str(sweep)).stdout
    )


def test_too_much_memory_is_one_jobs_failure(toy: Run) -> None:
    done = toy("-m", "experiment.gibibytes=1e6,0")
    assert done.returncode == 1
    assert "2 jobs: 1 done, 1 failed" in done.stdout
    assert "needs about 1e+06 GiB of memory" in done.stdout


def test_a_time_limit_ends_a_job(toy: Run) -> None:
    done = toy("-m", "experiment.seconds=30,0", "time_limit=0.5")
    assert done.returncode == 1
    assert "TimeLimitError: longer than time_limit=0.5 s" in done.stdout
    assert "2 jobs: 1 done, 1 failed" in done.stdout


def test_a_bad_value_refuses_the_whole_sweep_before_anything_is_written(
    toy: Run, tmp_path: Path
) -> None:
    done = toy("-m", "experiment.n=1,0", "seed=0,1")
    assert done.returncode == 2
    assert done.stderr == (
        "stability: experiment.n=0: must be a finite number, at least 1 "
        "(in the job experiment=toy experiment.n=0 seed=0)\n"
    )
    assert not list(tmp_path.iterdir())


def test_joblib_gives_the_same_tables_and_survives_a_killed_worker(
    toy: Run, tmp_path: Path
) -> None:
    assert toy("-m", "experiment.n=1,2,5", "seed=0,1", "runs=alone").returncode == 0
    done = toy("-m", "experiment.n=1,2,5", "seed=0,1", "hydra/launcher=joblib")
    assert done.returncode == 0, done.stderr
    for table in tmp_path.glob(f"alone/toys/*/{TABLE}"):
        other = tmp_path / "runs" / "toys" / table.parent.name / TABLE
        assert table.read_bytes() == other.read_bytes()
    killed = toy("-m", "experiment.kind=kill,plain", "seed=0,1,2", "hydra/launcher=joblib",
                 "hydra.launcher.n_jobs=2")  # fmt: skip
    assert killed.returncode == 1
    assert "its process was killed" in killed.stdout
    assert "6 jobs: 3 done, 3 failed" in killed.stdout


def finished(tmp_path: Path) -> int:
    return len(list(tmp_path.glob("runs/toys/*/provenance.json")))


def a_moment_later(process: subprocess.Popen[str], tmp_path: Path, rng: random.Random) -> None:
    """Wait until at least one more job is finished, and a random while."""
    aim = finished(tmp_path) + 1 + rng.randrange(2)
    until = time.monotonic() + 120
    while finished(tmp_path) < aim and time.monotonic() < until:
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.01)
    time.sleep(rng.random() * 0.2)


def test_twenty_kills_lose_nothing(toy: Run, tmp_path: Path) -> None:
    """kill -9 at 20 random moments of a sweep of 60 jobs; seed 1 draws the moments.

    14 of the sweep with the job in it; 3 of a worker that has a job, each followed by one of the
    sweep and all its workers while it repairs that.
    """
    words = ("experiment.n=range(1,13)", "seed=0,1,2,3,4", "experiment.seconds=0.05")
    assert toy("-m", *words, "runs=whole").returncode == 0
    rng, jobs = random.Random(1), "runs/sweeps/*/jobs/*/state.json"
    for _ in range(14):
        process = start(tmp_path, *words)
        a_moment_later(process, tmp_path, rng)
        process.kill()
        process.communicate()
    for _ in range(3):
        process = start(tmp_path, *words, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
        a_moment_later(process, tmp_path, rng)
        family = psutil.Process(process.pid).children(recursive=True)
        states = [json.loads(path.read_text()) for path in tmp_path.glob(jobs)]
        owners = {state["pid"] for state in states}
        next(child for child in family if child.pid in owners).kill()
        time.sleep(rng.random())
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert finished(tmp_path) < 60
    done = toy("-m", *words)
    assert done.returncode == 0, done.stderr
    tables = list(tmp_path.glob(f"whole/toys/*/{TABLE}"))
    assert len(tables) == 60
    for table in tables:
        other = tmp_path / "runs" / "toys" / table.parent.name / TABLE
        assert table.read_bytes() == other.read_bytes()
    (sweep,) = sweeps(tmp_path)
    (whole,) = (tmp_path / "whole" / "sweeps").iterdir()
    pd.testing.assert_frame_equal(rows(sweep), rows(whole), check_exact=True)


def test_two_sweeps_at_once_share_the_work(tmp_path: Path) -> None:
    words = ("experiment.n=1,2,3,4,5,6", "experiment.seconds=0.3")
    pair = [start(tmp_path, *words) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], outputs
    (sweep,) = sweeps(tmp_path)
    assert len(package.load(sweep)) == 6
    logs = [path.read_text() for path in sweep.glob("jobs/*/log.txt")]
    computed = sum(line.endswith(" s)") for log in logs for line in log.splitlines())
    assert computed == 6


def test_a_stale_lock_is_taken_over_and_says_so(toy: Run, tmp_path: Path) -> None:
    toy()
    (folder,) = (tmp_path / "runs" / "toys").iterdir()
    lock = folder.with_name(f".{folder.name}.lock")
    lock.write_text(json.dumps({"host": "gone", "pid": 12345}))
    half = folder.with_name(f".{folder.name}.half")
    half.mkdir()
    (half / TABLE).write_bytes(b"half")
    done = toy("rerun=true")
    assert done.returncode == 0
    assert "the lock of process 12345 on gone, which died, was taken over" in done.stderr
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("harm", ["truncate", "flip"])
def test_a_damaged_result_is_named_and_computed_again(toy: Run, tmp_path: Path, harm: str) -> None:
    toy("-m", "experiment.n=1,2,5")
    victim = sorted(tmp_path.glob(f"runs/toys/*/{TABLE}"))[1]
    content = victim.read_bytes()
    bad = content[:50] if harm == "truncate" else content[:40] + b"x" + content[41:]
    victim.write_bytes(bad)
    with pytest.warns(package.store.DamagedRunWarning, match=victim.parent.name):
        assert len(package.load(tmp_path / "runs")) == 2
    done = toy("-m", "experiment.n=1,2,5")
    assert "3 jobs: 2 reused, 1 to run" in done.stdout
    assert f"{victim.parent.relative_to(tmp_path)}: damaged, computed again" in done.stderr
    assert victim.read_bytes() == content


def test_a_vanished_folder_is_computed_again(toy: Run, tmp_path: Path) -> None:
    toy("-m", "experiment.n=1,2,5")
    shutil.rmtree(tmp_path / "runs" / "toys")
    assert "3 jobs: 0 reused, 3 to run" in toy("-m", "experiment.n=1,2,5").stdout


def test_a_clock_that_runs_backwards_changes_nothing(tmp_path: Path) -> None:
    """Each look at the clock is an hour before the last."""
    (tmp_path / "sitecustomize.py").write_text(
        "import itertools, time\n"
        "now = (4e9 - 3600 * n for n in itertools.count())\n"
        "time.time = lambda: next(now)\n"
        "time.time_ns = lambda: int(1e9 * next(now))\n"
    )
    words = [sys.executable, "-m", "stability", "-cd", str(TOYS / "conf"), "experiment=toy", "-m"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), PATH])}

    def run(*more: str) -> str:
        done = subprocess.run(
            [*words, *more], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
        )
        return done.stdout

    assert "2 jobs: 2 done, 0 failed" in run("seed=0,1")
    assert "3 jobs: 2 reused, 1 to run" in run("seed=0,1,2")
    states = [json.loads(path.read_text()) for path in tmp_path.glob("runs/sweeps/*/jobs/*/*.json")]
    assert [state["started"] > 3e9 and state["seconds"] >= 0 for state in states] == [True] * 3


def test_odd_characters_in_folders_do_no_harm(stability: Run, tmp_path: Path) -> None:
    odd = "a b, c=d 'e' [f]"
    shutil.copytree(TOYS / "conf", tmp_path / odd)
    done = stability("-cd", odd, "experiment=toy", "-m", "seed=0,1", "runs=\"a b, c=d 'e' [f]/r\"")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / odd / "r" / "toys").glob(f"*/{TABLE}"))) == 2


def test_on_a_terminal_progress_is_one_live_line(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    words = ["experiment=toy", "-m", "experiment.n=1,2,3", "experiment.seconds=0.7"]
    process = subprocess.Popen(
        [sys.executable, "-m", "stability", "-cd", str(TOYS / "conf"), *words],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": PATH},
        stdout=subprocess.DEVNULL, stderr=slave,
    )  # fmt: skip
    os.close(slave)
    text = b""
    with suppress(OSError):  # the terminal's end, once all who hold it are gone
        while got := os.read(master, 4096):
            text += got
    os.close(master)
    assert process.wait() == 0
    shown, ended = text.decode().rsplit("\r\n", 1)
    assert not ended
    assert "\n" not in shown
    frames = [line.rstrip() for line in shown.split("\r") if line]
    assert len(frames) >= 2
    assert frames[-1].startswith("3 of 3 jobs done, 0 failed, 0 running")
    assert frames[-1].endswith("0:00:00 left")


def test_long_overrides_make_short_names(toy: Run, tmp_path: Path) -> None:
    long = ",".join(str(n) for n in range(1, 200))
    done = toy("-m", f"experiment.n=[{long}],[1]")
    assert done.returncode == 0, done.stderr
    assert max(len(path.name) for path in tmp_path.rglob("*")) < 60


@pytest.mark.parametrize(
    "plan",
    ["", "[]", "{}", '{"jobs": 3}', '{"jobs": [{"key": "a"}]}', '{"jobs": [7]}'],
)
def test_a_damaged_plan_is_one_line(stability: Run, tmp_path: Path, plan: str) -> None:
    sweep = tmp_path / "runs" / "sweeps" / "s"
    sweep.mkdir(parents=True)
    (sweep / PLAN).write_text(plan)
    for words in (("status", str(sweep)), ("report", str(sweep))):
        done = stability(*words)
        assert done.returncode == 2, done
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert "damaged" in done.stderr


def test_status_tells_who_runs_and_who_was_killed(stability: Run, tmp_path: Path) -> None:
    process = start(tmp_path, "experiment.n=1,2,3", "experiment.seconds=0,60")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = list(tmp_path.glob("runs/sweeps/*/jobs/*/state.json"))
        if len(found) >= 2:
            break
        time.sleep(0.05)
    time.sleep(0.3)
    (sweep,) = sweeps(tmp_path)
    told = stability("status", str(sweep)).stdout
    assert "1 done, 1 running, 0 failed, 0 killed, 4 missing" in told
    assert f"process {process.pid} on " in told
    process.kill()
    process.communicate()
    assert (
        "1 done, 0 running, 0 failed, 1 killed, 4 missing" in stability("status", str(sweep)).stdout
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 kB, which root alone can make."""
    disk = tmp_path / "runs"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("can't mount a small disk here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_one_line_and_the_rest_goes_on_later(toy: Run, small_disk: Path) -> None:
    full = toy("-m", "seed=range(0,30)")
    assert full.returncode == 2
    assert full.stderr.splitlines()[-1] == "stability: can't be written: No space left on device"
    assert "Traceback" not in full.stderr
    kept = len(list(small_disk.glob(f"toys/*/{TABLE}")))
    assert 0 < kept < 30
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    done = toy("-m", "seed=range(0,30)")
    assert done.returncode == 0, done.stderr
    assert f"30 jobs: {kept} reused, {30 - kept} to run" in done.stdout
    assert "30 jobs: 30 done, 0 failed" in done.stdout


def test_a_read_only_folder_is_one_line(toy: Run, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    refused = toy("-m", "seed=0,1")
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert "can't be written: Read-only file system" in line
