"""Running: one experiment, or a suite of them, from a composed config to stored tables."""

import shlex
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import torch

from stability import claims, store
from stability.config import build, describe
from stability.errors import InputError, check_range, nearest
from stability.experiment import Context, Experiment
from stability.progress import display


@dataclass(frozen=True)
class Settings:
    """What a run depends on besides its experiment, and where it goes."""

    seed: int
    device: str
    threads: int
    runs: Path
    rerun: bool


def settings(config: dict[str, Any]) -> Settings:
    """The checked top level of a composed config.  Raises InputError."""
    for key in ("seed", "threads"):
        if type(config[key]) is not int:
            raise InputError(f"{key}={config[key]!r}: must be an integer")
    if type(config["rerun"]) is not bool:
        raise InputError(f"rerun={config['rerun']!r}: must be true or false")
    check_range("seed", config["seed"], at_least=0)
    check_range("threads", config["threads"], at_least=1, at_most=1024)
    _check_device(config["device"])
    return Settings(
        config["seed"],
        config["device"],
        config["threads"],
        Path(str(config["runs"])),
        config["rerun"],
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


def run(
    experiment: Experiment,
    how: Settings,
    command: str,
    progress: Callable[[float], None],
) -> tuple[Path, bool]:
    """The folder of the finished run, and whether it was there already.

    Raises InputError for what the user can mend: too little memory, a folder that can't be
    written, a full disk.
    """
    check_memory(experiment)
    name = store.identity(experiment, how.seed, how.device, how.threads)
    folder = store.folder_of(how.runs, experiment, name)
    if not how.rerun and store.is_finished(folder):
        return folder, True
    check_writable(how.runs, "runs")
    torch.set_num_threads(how.threads)
    started, clock = datetime.now(UTC), time.perf_counter()
    table = experiment.run(Context(how.seed, how.device, progress))
    verdicts = claims.to_frame(type(experiment).claims(table))
    provenance = {
        "config": describe(experiment),
        "seed": how.seed,
        "device": how.device,
        "device_name": _device_name(how.device),
        "threads": how.threads,
        "command": command,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - clock, 3),
        "identity": name,
        **store.machine(),
    }
    try:
        store.save(folder, table, verdicts, provenance)
    except OSError as error:
        raise InputError(
            f"runs={str(how.runs)!r}: can't be written: {error.strerror or error}"
        ) from None
    return folder, False


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"


def command(experiment: Experiment, choice: Sequence[str], how: Settings) -> str:
    """The command that computes this result, whatever the YAML files come to say later.

    ``choice``: the words that choose the experiment.
    """
    options = describe(experiment)
    del options["_target_"]
    words = [f"experiment.{name}={_literal(value)}" for name, value in options.items()]
    words += [f"seed={how.seed}", f"device={how.device}", f"threads={how.threads}"]
    return shlex.join(["stability", *choice, *words])


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(_literal(entry) for entry in value)}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def tally(folders: Sequence[Path]) -> tuple[str, int]:
    """The line that sums up the claims of runs, naming those that fail; and how many fail."""
    found = pd.concat([store.read(folder).claims for folder in folders], ignore_index=True)
    failing = found.loc[found["verdict"] == "fails", "name"].tolist()
    line = claims.tally(found["verdict"])
    return (f"{line}: {', '.join(failing)}" if failing else line), len(failing)


@dataclass(frozen=True)
class Request:
    """What the command line asked of one job: the overrides, the files of conf/ that they choose
    (by group), the user's own config folder, the sweep's folder."""

    words: Sequence[str]
    choices: Mapping[str, str]
    config_dir: str | None
    sweep: Path | None


def job(composed: dict[str, Any], asked: Request) -> list[Path]:
    """Run what a composed config asks for, tell the result on stdout, and return its folders.

    In a sweep, results join the sweep's folder and no report is drawn.  Raises InputError.
    """
    how = settings(composed)
    suite = composed.get("suite")
    if suite is None:
        plan = [(asked.choices["experiment"], "experiment", composed["experiment"])]
    else:
        useless = [word for word in asked.words if word.startswith("experiment")]
        if useless:
            member = next(iter(suite))
            raise InputError(
                f"{useless[0]}: has no effect on a suite; write suite.{member}.OPTION=VALUE instead"
            )
        plan = [(name, f"suite.{name}", node) for name, node in suite.items()]
    built = [(name, build(node, key)) for name, key, node in plan]
    for _, experiment in built:
        check_memory(experiment)
    folders = []
    for index, (name, experiment) in enumerate(built):
        label = f"[{index + 1}/{len(built)}] {name}" if len(built) > 1 else name
        member = plan[index][1]
        source = asked.choices[member if suite is None else f"experiment@{member}"]
        choice = [] if asked.config_dir is None else ["--config-dir", asked.config_dir]
        choice.append(f"experiment={source}")
        with display(label) as progress:
            folder, reused = run(experiment, how, command(experiment, choice, how), progress)
        folders.append(folder)
        stored = store.read(folder)
        origin = "stored result reused" if reused else f"{stored.provenance['seconds']:.1f} s"
        print(f"{label}: {type(experiment).answer(stored.table)}")
        print(f"  {len(stored.table)} rows, {origin}: {folder / store.TABLE}")
    try:
        if asked.sweep is not None:
            for folder in folders:
                store.join(asked.sweep, folder.name, folder)
        elif suite is not None:
            name = asked.choices["suite"]
            collection = how.runs / "suites" / name
            shutil.rmtree(collection / store.MEMBERS, ignore_errors=True)
            for index, (member, _) in enumerate(built):
                store.join(collection, f"{index:02}_{member}", folders[index])
            report([collection], Path(str(composed["reports"])) / name, strict=False)
            return folders
    except OSError as error:
        raise InputError(f"{error.filename}: can't be written: {error.strerror or error}") from None
    print(tally(folders)[0])
    return folders


def report(paths: Sequence[Path], out: Path, *, strict: bool) -> int:
    """Draw the report of stored runs into ``out``, tell where, and return the exit code.

    0; 1 if ``strict`` and a claim fails; 2 if a stored run is damaged (the rest is drawn).
    Raises InputError if nothing can be drawn or written.
    """
    from stability.report.render import write

    runs, damaged = [], []
    for path in paths:
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
    if not runs:
        return 2
    check_writable(out, "out")
    try:
        page = write(runs, out, title=out.name)
    except OSError as error:
        raise InputError(f"out={str(out)!r}: can't be written: {error.strerror or error}") from None
    line, failing = tally([run.folder for run in runs])
    print(page)
    print(line)
    return 2 if damaged else 1 if strict and failing else 0
