"""Sweeps: every job planned first, only the missing ones run, a failure kept to its own job.

A sweep's folder holds ``plan.json`` (the jobs with their overrides and the results that they
stand for) and ``jobs/KEY/`` with each job's ``log.txt`` and, if it failed, ``error.json``.
Results themselves lie where every run's lie, under their identity; a job is done when its results
are there.  So a sweep that was stopped, extended or narrowed computes what is missing and no more.
Hydra's launchers run the jobs: in this process, on this machine's cores, on a cluster.
"""

import copy
import hashlib
import json
import os
import re
import shlex
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from stability import config, run, store
from stability.errors import InputError
from stability.jobs import END, JOBS, LOCK, LOG, STATE, key_of, standing, state_of, write_state
from stability.lock import HeldError, held, lock
from stability.progress import follow

STOP = "stop"
_HYDRA = re.compile(r"[+~]*hydra[./]")  # an override of Hydra's own config
_POLL = 0.5  # seconds between two looks at the jobs of other processes
_PATIENCE = 3  # launches without effect that another process's end, unseen, may explain


class TimeLimitError(Exception):
    """A job ran longer than ``time_limit``."""


@dataclass(frozen=True)
class Job:
    """One job: its overrides, and the folders of the results that it computes."""

    key: str
    words: tuple[str, ...]
    folders: tuple[Path, ...]

    def done(self) -> bool:
        """Whether all its results are there."""
        return all((folder / store.PROVENANCE).exists() for folder in self.folders)


# ---- planning ------------------------------------------------------------------------------


class Composer:
    """Composes the jobs of a sweep: Hydra once for each choice of files, plain values by hand."""

    def __init__(self, base: Sequence[str]) -> None:
        self._base = list(base)
        self._words = [word for word in base if not _HYDRA.match(word)]
        self._searchpath = [word for word in base if word.startswith("hydra.searchpath=")]
        self._hydra = GlobalHydra.instance().hydra
        assert self._hydra is not None
        self.loader = self._hydra.config_loader
        self._parser = OverridesParser.create(config_loader=self.loader)
        self._parsed: dict[str, Override] = {}
        self._values: dict[str, bool] = {}
        self._composed: dict[tuple[str, ...], tuple[dict[str, Any], dict[str, str]]] = {}

    def sweep_config(self, extra: Sequence[str] = ()) -> DictConfig:
        """The config of the sweep itself, for its launcher."""
        assert self._hydra is not None
        found: DictConfig = self._hydra.compose_config(
            "config", [*self._base, *extra], run_mode=RunMode.MULTIRUN, with_log_configuration=False
        )
        return found

    def jobs(self) -> list[list[str]]:
        """The overrides of every job: the product of what is swept, in Hydra's order."""
        parsed = self._parser.parse_overrides(self._words)
        (batch,) = BasicSweeper.split_arguments(parsed, None)
        return batch

    def swept(self) -> list[str]:
        """The keys that are swept."""
        return [
            override.get_key_element().lstrip("+")
            for override in self._parser.parse_overrides(self._words)
            if override.is_sweep_override()
        ]

    def __call__(self, words: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
        """The composed config of a job as plain data, and the files that it chooses by group."""
        plain: list[str] = []
        files: list[str] = []
        for word in words:
            if word not in self._parsed:
                self._parsed[word] = self._parser.parse_override(word)
            override = self._parsed[word]
            (plain if self._is_plain(override) else files).append(word)
        base, choices = self._base_of(tuple(files))
        content = copy.deepcopy(base)
        for word in plain:
            *path, leaf = self._parsed[word].key_or_group.split(".")
            node = content
            for part in path:
                node = node[part] if isinstance(node, dict) and part in node else {}
            if leaf not in node:
                return self._base_of(tuple(words))
            node[leaf] = self._parsed[word].value()
        resolved = OmegaConf.to_container(OmegaConf.create(content), resolve=True)
        assert isinstance(resolved, dict)
        return {str(key): value for key, value in resolved.items()}, choices

    def _is_plain(self, override: Override) -> bool:
        """Whether it sets a value: no file of conf/ to choose, no key to add or delete."""
        key = override.key_or_group
        if key not in self._values:
            chooses = "@" in key or bool(self.loader.get_group_options(key))
            self._values[key] = not chooses
        return override.type is OverrideType.CHANGE and self._values[key]

    def _base_of(self, words: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, str]]:
        if words not in self._composed:
            assert self._hydra is not None
            whole = self._hydra.compose_config(
                "config",
                [*words, *self._searchpath],
                run_mode=RunMode.RUN,
                with_log_configuration=False,
            )
            choices = {str(k): v for k, v in whole.hydra.runtime.choices.items()}
            with suppress(KeyError):
                OmegaConf.set_struct(whole, False)
                del whole["hydra"]
            content = OmegaConf.to_container(whole, resolve=False, throw_on_missing=True)
            assert isinstance(content, dict)
            self._composed[words] = ({str(k): v for k, v in content.items()}, choices)
        return self._composed[words]


def plan(composer: Composer) -> tuple[list[Job], run.Settings]:
    """Every job of the sweep, validated, and their settings with the most threads that one takes.

    Raises InputError, naming the job, for a bad one.
    """
    jobs, how, threads = [], None, 1
    for words in composer.jobs():
        composed, choices = composer(words)
        try:
            how = run.settings(composed)
            threads = max(threads, how.threads)
            members = run.members(composed, choices, words)
        except InputError as error:
            raise InputError(f"{error} (in the job {shlex.join(words)})") from None
        folders = tuple(run.folder_of(member.experiment, how) for member in members)
        jobs.append(Job(key_of(words), tuple(words), folders))
    if how is not None and how.objective is not None:
        raise InputError("objective: is for a search; add -m hydra/sweeper=optuna")
    if how is None:
        raise InputError(f"{' '.join(composer.swept())}: nothing to sweep over")
    return jobs, replace(how, threads=threads)


# ---- one job, in whatever process the launcher gives it ------------------------------------


def work(home: Path, composed: DictConfig) -> None:
    """Run one job; what it says goes to its log, what it fails of to its state.

    ``home``: the working folder of the sweep, which its relative paths start from.
    """
    os.chdir(home)
    state = HydraConfig.get()
    sweep = Path(state.sweep.dir)
    words = list(state.overrides.task)
    folder = sweep / JOBS / key_of(words)
    if (sweep / STOP).exists() or state_of(folder).get("state") in END:
        return
    try:
        with lock(folder / LOCK) as dead:
            _record(folder, words, dead, lambda: _compute(composed, words))
    except HeldError:
        return
    if state_of(folder).get("state") == "failed" and composed.fail_fast:
        (sweep / STOP).touch()


def _compute(composed: DictConfig, words: Sequence[str]) -> None:
    plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    content = {str(key): value for key, value in plain.items()}
    how = run.settings(content)
    choices = {str(k): str(v) for k, v in HydraConfig.get().runtime.choices.items()}
    with _limit(how.time_limit):
        for member in run.members(content, choices, words):
            started = time.perf_counter()
            origin = run.command(member, _config_dir(), how)
            folder, reused = run.run(member.experiment, how, origin, _silent, wait=False)
            took = "reused" if reused else f"{time.perf_counter() - started:.2f} s"
            print(f"{member.name}: {folder} ({took})")


def _config_dir() -> str | None:
    """The user's own config folder, as the sweep was given it."""
    sources = HydraConfig.get().runtime.config_sources
    found = [source.path for source in sources if source.provider.startswith("hydra.searchpath")]
    return found[0] if found else None


def _silent(_share: float) -> None:
    """The sweep has a progress line of its own."""


def _record(
    folder: Path, words: Sequence[str], dead: str | None, compute: Callable[[], None]
) -> None:
    """Run ``compute`` with its output in the log; its state is there at once, whatever happens."""
    started = time.monotonic()
    note = {"words": list(words), "host": socket.gethostname(), "pid": os.getpid(),
            "started": time.time()}  # fmt: skip
    write_state(folder, {"state": "running", **note})
    with (
        open(folder / LOG, "a", encoding="utf-8", buffering=1) as log,
        redirect_stdout(log),
        redirect_stderr(log),
    ):
        print(f"$ stability {shlex.join(words)}")
        if dead:
            print(f"the lock of {dead}, which died, was taken over")
        try:
            compute()
        except HeldError:
            (folder / STATE).unlink()
            return
        except Exception as error:
            traceback.print_exc()
            reason = str(error).splitlines()[0] if str(error) else ""
            kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
            write_state(folder, {"state": "failed", **note, "error": f"{kind}{reason}"})
            return
    write_state(folder, {"state": "done", **note, "seconds": time.monotonic() - started})


@contextmanager
def _limit(seconds: float | None) -> Iterator[None]:
    """Raise TimeLimitError in the block after so many seconds; between two calls of C code."""
    if seconds is None:
        yield
        return

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TimeLimitError(f"longer than time_limit={seconds:g} s")

    if threading.current_thread() is not threading.main_thread():
        raise InputError("time_limit: this launcher runs jobs in threads, which can't be limited")
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ---- the sweep -----------------------------------------------------------------------------


def sweep(overrides: Sequence[str], config_dir: str | None, command: str) -> int:
    """Plan, run what is missing, and report; the exit code is 1 if a job failed.

    Raises InputError for bad input, before anything is written.
    """
    base = list(overrides)
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise InputError(f"--config-dir {config_dir}: no such folder")
        base.append(f"hydra.searchpath=[{_quoted(f'file://{Path(config_dir).resolve()}')}]")
    config.register_workers()
    with initialize_config_dir(str(config.CONF), version_base="1.3", job_name="stability"):
        composer = Composer(base)
        jobs, how = plan(composer)
        folder = _folder(jobs, how, base, composer)
        launch = _launcher(composer, folder, how.threads)
        run.check_writable(folder, "hydra.sweep.dir")
        _write_plan(folder, jobs, command, composer.swept())
        todo = [job for job in jobs if how.rerun or not _finished(job)]
        print(f"{len(jobs)} jobs: {len(jobs) - len(todo)} reused, {len(todo)} to run")
        for job in todo:
            if not held(folder / JOBS / job.key / LOCK):
                (folder / JOBS / job.key / STATE).unlink(missing_ok=True)
        (folder / STOP).unlink(missing_ok=True)
        with follow(lambda: _counts(folder, todo), len(todo)):
            _until_done(folder, todo, launch)
    return _conclude(folder, jobs, todo, how.reports, config_dir)


def _folder(
    jobs: Sequence[Job], how: run.Settings, base: Sequence[str], composer: Composer
) -> Path:
    """The sweep's own folder if the user named one; else a name made of what it computes."""
    if any(word.lstrip("+").startswith("hydra.sweep.dir=") for word in base):
        return Path(str(composer.sweep_config().hydra.sweep.dir))
    what = "\n".join(str(folder) for job in jobs for folder in job.folders)
    names = dict.fromkeys(folder.parent.name for job in jobs for folder in job.folders)
    digest = hashlib.sha256(what.encode()).hexdigest()[:8]
    return how.runs / "sweeps" / f"{next(iter(names)) if len(names) == 1 else 'mixed'}_{digest}"


def _write_plan(folder: Path, jobs: Sequence[Job], command: str, swept: Sequence[str]) -> None:
    content = {
        "command": command,
        "swept": list(swept),
        "jobs": [
            {
                "key": job.key,
                "words": job.words,
                "runs": [os.path.relpath(path, folder) for path in job.folders],
            }
            for job in jobs
        ],
    }
    store.write_text(folder / store.PLAN, json.dumps(content, indent=0) + "\n")


def _finished(job: Job) -> bool:
    for folder in job.folders:
        if not store.is_finished(folder):
            if folder.exists():
                print(f"stability: {folder}: damaged, computed again", file=sys.stderr)
            return False
    return True


def _quoted(text: str) -> str:
    """``text`` as a value in Hydra's grammar, whatever stands in it."""
    return "'" + re.sub(r"(\\*)'", r"\1\1\\'", text) + "'"


def _launcher(composer: Composer, folder: Path, threads: int) -> Callable[[Sequence[Job]], None]:
    """A function that runs jobs through the launcher that the config names.

    Raises HydraException if its plugin isn't installed.
    """
    configured = composer.sweep_config(
        [f"hydra.sweep.dir={_quoted(str(folder.absolute()))}", f"threads={threads}"]
    )
    context = HydraContext(config_loader=composer.loader, callbacks=Callbacks(configured))
    try:
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=partial(work, Path.cwd()), config=configured
        )
    except (ImportError, RuntimeError) as error:
        raise HydraException(str(error)) from None

    def launch(jobs: Sequence[Job]) -> None:
        for done in launcher.launch([list(job.words) for job in jobs], initial_job_idx=0):
            _ = done.return_value  # raises what no job could put on record, as on a full disk

    return launch


def _until_done(sweep: Path, todo: Sequence[Job], launch: Callable[[Sequence[Job]], None]) -> None:
    """Launch until every job is done or has failed; jobs of other live processes are waited for.

    A killed process may take its neighbours with it: jobs that were running then are tried once
    more, each alone, before they count as failed.
    """
    pending, suspects, idle = list(todo), list[Job](), 0
    while pending and not (sweep / STOP).exists():
        broken: Exception | None = None
        if ready := [job for job in pending if not _elsewhere(job, sweep)]:
            try:
                launch(ready)
            except Exception as error:
                broken = error
        open_ = [job for job in pending if state_of(sweep / JOBS / job.key).get("state") not in END]
        killed = [job for job in open_ if _died(job, sweep)]
        suspects += killed
        left = [job for job in open_ if job not in killed]
        if len(left) == len(pending):
            if broken is not None:
                if isinstance(broken, OSError):
                    where = f"{broken.filename}: " if broken.filename else ""
                    raise InputError(f"{where}can't be written: {broken.strerror}") from None
                raise InputError(f"hydra/launcher: {type(broken).__name__}: {broken}")
            idle = 0 if any(_elsewhere(job, sweep) for job in left) else idle + 1
            if idle > _PATIENCE:
                raise InputError("hydra/launcher: ended without running its jobs")
            time.sleep(_POLL)
        pending = left
    for job in suspects:
        told = ""
        if not (sweep / STOP).exists():
            try:
                launch([job])
            except Exception as error:
                told = f": {' '.join(str(error).split())[:300]}"
        if _died(job, sweep):
            folder = sweep / JOBS / job.key
            reason = f"its process was killed (by the system, if memory ran out){told}"
            write_state(folder, {**state_of(folder), "state": "failed", "error": reason})


def _died(job: Job, sweep: Path) -> bool:
    folder = sweep / JOBS / job.key
    return state_of(folder).get("state") == "running" and not held(folder / LOCK)


def _elsewhere(job: Job, sweep: Path) -> bool:
    """Whether another live process works on the job, or on a result of it."""
    locks = [sweep / JOBS / job.key / LOCK, *(run.lock_of(folder) for folder in job.folders)]
    return any(held(path) for path in locks)


def status(sweep: Path) -> int:
    """Tell how the jobs of a stored sweep stand; the exit code is 1 unless all are done.

    Raises InputError if ``sweep`` is no sweep's folder.
    """
    if not (sweep / store.PLAN).exists():
        raise InputError(f"status: {sweep}: no sweep (it has no {store.PLAN})")
    try:
        command, jobs = store.read_plan(sweep)["command"], standing(sweep)
    except store.DamagedRunError as error:
        raise InputError(f"status: {error}") from None
    print(command)
    words = ("done", "running", "failed", "killed", "missing")
    print(", ".join(f"{sum(job.word == word for job in jobs)} {word}" for word in words))
    for job in jobs:
        if job.word in ("running", "failed", "killed"):
            where = f"process {job.state.get('pid')} on {job.state.get('host')}"
            told = where if job.word == "running" else job.state.get("error", where)
            print(f"  {job.word}: {shlex.join(job.words)}: {told}")
    if any(job.word != "done" for job in jobs):
        print("the same command continues")
    return 0 if all(job.word == "done" for job in jobs) else 1


def _counts(sweep: Path, todo: Sequence[Job]) -> dict[str, int]:
    """How many of the jobs to run are done, failed, running."""
    states = [state_of(sweep / JOBS / job.key).get("state") for job in todo]
    return {name: states.count(name) for name in ("done", "failed", "running")}


def _conclude(
    folder: Path,
    jobs: Sequence[Job],
    todo: Sequence[Job],
    reports: Path,
    config_dir: str | None,
) -> int:
    """Tell what failed and how to repeat it, and what the claims say; the exit code."""
    states = {job: state_of(folder / JOBS / job.key) for job in todo}
    failed = [job for job, state in states.items() if state.get("state") == "failed"]
    done = [job for job in jobs if job.done()]
    missing = len(jobs) - len(failed) - len(set(done) - set(failed))
    tail = f", {missing} not run" if missing else ""
    print(f"{len(jobs)} jobs: {len(jobs) - len(failed) - missing} done, {len(failed)} failed{tail}")
    for job in failed:
        words = [] if config_dir is None else ["-cd", config_dir]
        print(f"  {states[job].get('error', '')}")
        print(f"    {shlex.join(['stability', *words, *job.words])}")
        print(f"    log: {folder / JOBS / job.key / LOG}")
    found = list(dict.fromkeys(path for job in done if job not in failed for path in job.folders))
    if found:
        run.report([folder], reports / "sweeps" / folder.name, strict=False)
    return 1 if failed else 0
