"""Running: one experiment, or a suite of them, from a composed config to stored tables."""

import math
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch
from threadpoolctl import threadpool_limits

from stability import claims, store
from stability.config import build, describe
from stability.errors import InputError, check_choice, check_range, nearest
from stability.experiment import Context, Experiment
from stability.kernels import gemm
from stability.lock import HeldError, lock
from stability.progress import display

_POLL = 0.2  # seconds between two looks at another process's lock


@dataclass(frozen=True)
class Settings:
    """What a run depends on besides its experiment, and where it goes."""

    seed: int
    device: str
    threads: int
    runs: Path
    reports: Path
    rerun: bool
    time_limit: float | None
    fail_fast: bool
    objective: str | None
    target: float | None


def settings(config: dict[str, Any]) -> Settings:
    """The checked top level of a composed config.  Raises InputError."""
    for key in ("seed", "threads"):
        if type(config[key]) is not int:
            raise InputError(f"{key}={config[key]!r}: must be an integer")
    for key in ("rerun", "fail_fast"):
        if type(config[key]) is not bool:
            raise InputError(f"{key}={config[key]!r}: must be true or false")
    limit = config["time_limit"]
    if limit is not None:
        if type(limit) not in (int, float):
            raise InputError(f"time_limit={limit!r}: must be a number of seconds, or null")
        check_range("time_limit", limit, above=0)
    objective, target = config["objective"], config["target"]
    if not isinstance(objective, str | None):
        raise InputError(f"objective={objective!r}: must name a quantity, or be null")
    if target is not None and (type(target) not in (int, float) or not math.isfinite(target)):
        raise InputError(f"target={target!r}: must be a finite number, or null")
    if target is not None and objective is None:
        raise InputError(f"target={target!r}: has no effect without an objective")
    check_range("seed", config["seed"], at_least=0)
    check_range("threads", config["threads"], at_least=1, at_most=1024)
    _check_device(config["device"])
    return Settings(
        config["seed"],
        config["device"],
        config["threads"],
        Path(str(config["runs"])),
        Path(str(config["reports"])),
        config["rerun"],
        None if limit is None else float(limit),
        config["fail_fast"],
        objective,
        None if target is None else float(target),
    )


def _check_device(device: object) -> None:
    seen = ["cpu"]
    if torch.cuda.is_available():
        seen += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if device not in seen:
        hint = nearest(device, seen)
        raise InputError(f"device={device!r}: torch sees {', '.join(seen)} on this machine{hint}")


def check_memory(experiment: Experiment) -> None:
    """Raise InputError if ``experiment`` needs more memory than the machine has free."""
    needed = experiment.memory()
    free = psutil.virtual_memory().available
    if needed > free:
        options = " ".join(f"{k}={v}" for k, v in describe(experiment).items() if k != "_target_")
        raise InputError(
            f"experiment: needs about {needed / 2**30:.3g} GiB of memory, {free / 2**30:.3g} GiB "
            f"are free; make a size smaller ({options})"
        )


def check_writable(folder: Path, key: str) -> None:
    """Raise InputError unless files can be made in ``folder``; makes the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{time.time_ns()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"{key}={str(folder)!r}: can't be written: {error.strerror or error}"
        ) from None


def folder_of(experiment: Experiment, how: Settings) -> Path:
    """Where the result of ``experiment`` lies, or will lie."""
    name = store.identity(experiment, how.seed, how.device, how.threads)
    return store.folder_of(how.runs, experiment, name)


def lock_of(folder: Path) -> Path:
    """The lock that the process which computes the result ``folder`` holds."""
    return folder.with_name(f".{folder.name}.lock")


def run(
    experiment: Experiment,
    how: Settings,
    command: str,
    progress: Callable[[float], None],
    *,
    wait: bool = True,
) -> tuple[Path, bool]:
    """The folder of the finished run, and whether it was there already.

    Only one process computes a result at a time; another one waits for it and reuses it, or, with
    ``wait=False``, gets a HeldError.  Raises InputError for what the user can mend: too little
    memory, a folder that can't be written, a full disk.
    """
    check_memory(experiment)
    folder = folder_of(experiment, how)
    if not how.rerun and store.is_finished(folder):
        return folder, True
    check_writable(how.runs, "runs")
    told = False
    while True:
        try:
            with lock(lock_of(folder)) as dead:
                if dead:
                    print(f"stability: the lock of {dead}, which died, was taken over",
                          file=sys.stderr)  # fmt: skip
                    store.clear(folder)
                if told and store.is_finished(folder):
                    return folder, True
                _compute(experiment, how, command, progress, folder)
                return folder, False
        except HeldError as owner:
            if not wait:
                raise
            if not told:
                print(f"stability: waiting for {owner}, which computes the same", file=sys.stderr)
            told = True
            time.sleep(_POLL)
        except OSError as error:
            raise InputError(
                f"runs={str(how.runs)!r}: can't be written: {error.strerror or error}"
            ) from None


def _compute(
    experiment: Experiment,
    how: Settings,
    command: str,
    progress: Callable[[float], None],
    folder: Path,
) -> None:
    torch.set_num_threads(how.threads)
    full_precision()
    started, clock = datetime.now(UTC), time.perf_counter()
    with threadpool_limits(how.threads, "blas"):
        table = experiment.run(Context(how.seed, how.device, progress))
    verdicts = claims.to_frame(type(experiment).claims(table))
    provenance = {
        "config": describe(experiment),
        "seed": how.seed,
        "device": how.device,
        "device_name": _device_name(how.device),
        "threads": how.threads,
        "arithmetic": {
            "matmul": gemm.library(),
            "cpu": torch.backends.cpu.get_cpu_capability(),
            "float32": torch.get_float32_matmul_precision(),
        },
        "command": command,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - clock, 3),
        "identity": folder.name,
        **store.machine(),
    }
    store.save(folder, table, verdicts, provenance)


def full_precision() -> None:
    """Keep TF32 and bfloat16 from standing in for float32, whatever was set before."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"


@dataclass(frozen=True)
class Member:
    """One experiment of a job: its name there, the YAML that it comes from, and itself."""

    name: str
    source: str
    experiment: Experiment


def members(
    composed: Mapping[str, Any], choices: Mapping[str, str], words: Sequence[str]
) -> list[Member]:
    """What a composed config asks for: one experiment, or those of a suite.

    ``choices``: the files of conf/ by group; ``words``: the overrides.  Raises InputError.
    """
    suite = composed.get("suite")
    if suite is None:
        name = choices["experiment"]
        return [Member(name, name, build(composed["experiment"], "experiment"))]
    useless = [word for word in words if word.startswith("experiment")]
    if useless:
        raise InputError(
            f"{useless[0]}: has no effect on a suite; write "
            f"suite.{next(iter(suite))}.OPTION=VALUE instead"
        )
    return [
        Member(name, choices[f"experiment@suite.{name}"], build(node, f"suite.{name}"))
        for name, node in suite.items()
    ]


def command(member: Member, config_dir: str | None, how: Settings) -> str:
    """The command that computes this result, whatever the YAML files come to say later."""
    options = describe(member.experiment)
    del options["_target_"]
    words = [] if config_dir is None else ["--config-dir", config_dir]
    words.append(f"experiment={member.source}")
    words += [f"experiment.{name}={_literal(value)}" for name, value in options.items()]
    words += [f"seed={how.seed}", f"device={how.device}", f"threads={how.threads}"]
    return shlex.join(["stability", *words])


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(_literal(entry) for entry in value)}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def tally(folders: Sequence[Path]) -> tuple[str, int]:
    """The line that sums up the claims of runs, naming those that fail; and how many fail."""
    found = store.gather(folders, store.CLAIMS)
    failing = found.loc[found["verdict"] == "fails", "name"].tolist()
    names = ", ".join(dict.fromkeys(failing))
    line = claims.tally(found["verdict"])
    return (f"{line}: {names}" if failing else line), len(failing)


@dataclass(frozen=True)
class Request:
    """What the command line asked of one job: the overrides, the files of conf/ that they choose
    (by group), the user's own config folder, and the sweep's folder under a sweeper of Hydra's."""

    words: Sequence[str]
    choices: Mapping[str, str]
    config_dir: str | None
    sweep: Path | None


def job(composed: dict[str, Any], asked: Request) -> list[Path]:
    """Run what a composed config asks for, tell the result on stdout, and return its folders.

    In a sweep, results join the sweep's folder and no report is drawn.  Raises InputError.
    """
    how = settings(composed)
    built = members(composed, asked.choices, asked.words)
    for member in built:
        check_memory(member.experiment)
    folders = []
    for index, member in enumerate(built):
        label = f"[{index + 1}/{len(built)}] {member.name}" if len(built) > 1 else member.name
        with display(label) as progress:
            origin = command(member, asked.config_dir, how)
            folder, reused = run(member.experiment, how, origin, progress)
        folders.append(folder)
        stored = store.read(folder)
        took = "stored result reused" if reused else f"{stored.provenance['seconds']:.1f} s"
        print(f"{label}: {type(member.experiment).answer(stored.table)}")
        print(f"  {len(stored.table)} rows, {took}: {folder / store.TABLE}")
    try:
        if asked.sweep is not None:
            for folder in folders:
                store.join(asked.sweep, folder.name, folder)
        elif composed.get("suite") is not None:
            name = asked.choices["suite"]
            collection = how.runs / "suites" / name
            shutil.rmtree(collection / store.MEMBERS, ignore_errors=True)
            for index, member in enumerate(built):
                store.join(collection, f"{index:02}_{member.name}", folders[index])
            report([collection], how.reports / name, strict=False)
            return folders
    except OSError as error:
        raise InputError(f"{error.filename}: can't be written: {error.strerror or error}") from None
    print(tally(folders)[0])
    return folders


def objective(folders: Sequence[Path], quantity: str, target: float | None) -> float:
    """What a search is told of a job: the mean that was measured of ``quantity``.

    Or, with a ``target``, its distance from it.  Raises InputError if no row has the quantity.
    """
    table = store.gather(folders, store.TABLE)
    check_choice("objective", quantity, list(dict.fromkeys(table["quantity"])))
    mean = float(table.loc[table["quantity"] == quantity, "measured"].mean())
    return mean if target is None else abs(mean - target)


def report(paths: Sequence[Path], out: Path, *, strict: bool) -> int:
    """Draw the report of stored runs into ``out``, tell where, and return the exit code.

    0; 1 if ``strict`` and a claim fails; 2 if a stored run is damaged (the rest is drawn).
    Raises InputError if nothing can be drawn or written.
    """
    from stability.report.render import write

    runs, damaged = [], []
    sweeps = [path for path in paths if (path / store.PLAN).exists()]
    for path in paths:
        if path in sweeps:
            continue
        try:
            folders = store.found(path)
        except FileNotFoundError as error:
            raise InputError(f"report: {error}") from None
        for folder in folders:
            try:
                runs.append(store.read(folder))
            except store.DamagedRunError as error:
                damaged.append(str(error))
    for line in damaged:
        print(f"stability: {line}", file=sys.stderr)
    if not runs and not sweeps:
        return 2
    check_writable(out, "out")
    try:
        page = write(runs, out, out.name, sweeps)
    except (FileNotFoundError, store.DamagedRunError) as error:
        raise InputError(f"report: {error}") from None
    except OSError as error:
        raise InputError(f"out={str(out)!r}: can't be written: {error.strerror or error}") from None
    drawn = [run.folder for run in runs] + [run for path in sweeps for run in store.found(path)]
    line, failing = tally(drawn)
    print(page)
    print(line)
    return 2 if damaged else 1 if strict and failing else 0
