"""runs/: where results live, under what name, and how they come back.

``runs/EXPERIMENT/IDENTITY/`` holds ``table.parquet``, ``claims.parquet`` and ``provenance.json``.
The identity is a hash of everything that can change a number: the resolved options, seed, device,
threads, the versions of mpmath, numpy, scipy and torch, and the source code that measures, predicts
and judges.  A folder appears whole or not at all: it is written aside, synced and renamed.
``runs/suites/NAME/members/`` and ``runs/sweeps/NAME/plan.json`` list runs that belong together.
"""

import hashlib
import inspect
import json
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from glob import escape, glob
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from stability.config import describe, own_class
from stability.experiment import Experiment
from stability.table import VALUES

PROVENANCE = "provenance.json"
TABLE = "table.parquet"
CLAIMS = "claims.parquet"
MEMBERS = "members"
PLAN = "plan.json"

_PACKAGE = Path(__file__).parent
_COMPUTING = ("experiments", "theory", "kernels", "catalogue")
_PLAIN = ("claims.py", "experiment.py", "table.py")
_ARITHMETIC = ("mpmath", "numpy", "scipy", "torch")
_RECORDED = (*_ARITHMETIC, "hydra-core", "pandas", "scikit-learn", "stability")


class DamagedRunWarning(UserWarning):
    """A stored run that can't be read, named; the others still load."""


class DamagedRunError(Exception):
    """One stored run can't be read: says which and why."""


@dataclass(frozen=True)
class StoredRun:
    """A run as read back; ``experiment`` is None when its class isn't one of the suite's own."""

    folder: Path
    name: str
    table: pd.DataFrame
    claims: pd.DataFrame
    provenance: dict[str, Any]
    experiment: type[Experiment] | None


def _sources(kind: type[Experiment]) -> list[Path]:
    own = [_PACKAGE / name for name in _PLAIN]
    own += [path for room in _COMPUTING for path in (_PACKAGE / room).rglob("*.py")]
    defined = inspect.getsourcefile(kind)
    if defined is not None and Path(defined).resolve() not in {path.resolve() for path in own}:
        own.append(Path(defined))
    return sorted(own)


@cache
def code_digest(kind: type[Experiment]) -> str:
    """SHA-256 of the sources that can change a number of an experiment of that class."""
    digest = hashlib.sha256()
    for path in _sources(kind):
        content = path.read_bytes()
        digest.update(f"{path.parent.name}/{path.name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def identity(experiment: Experiment, seed: int, device: str, threads: int) -> str:
    """The name of a result: 16 hexadecimal digits of the hash of all that can change it."""
    what = {
        "config": describe(experiment),
        "seed": seed,
        "device": device,
        "threads": threads,
        "versions": _versions(),
        "code": code_digest(type(experiment)),
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


@cache
def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in _ARITHMETIC}


def folder_of(runs: Path, experiment: Experiment, name: str) -> Path:
    """The folder of the result called ``name`` by ``identity``."""
    return runs / type(experiment).__module__.rpartition(".")[2] / name


def machine() -> dict[str, Any]:
    """What the machine and the software are, for provenance."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _RECORDED},
        "commit": _commit(),
        "environment": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(("OMP_", "MKL_", "OPENBLAS_", "CUBLAS_"))
        },
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")


def _commit() -> str | None:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(_PACKAGE), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != _PACKAGE.parent:
            return None
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def save(
    folder: Path, table: pd.DataFrame, claims: pd.DataFrame, provenance: Mapping[str, Any]
) -> None:
    """Write a finished run, atomically.  Raises OSError; then ``folder`` is as it was."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    aside = holder / "run"  # a level down, where no pattern for finished runs finds it
    try:
        aside.mkdir()
        table.to_parquet(aside / TABLE, compression="zstd", index=False)
        claims.to_parquet(aside / CLAIMS, compression="zstd", index=False)
        sums = {name: _checksum(aside / name) for name in (TABLE, CLAIMS)}
        text = json.dumps({**provenance, "sha256": sums}, indent=1, default=str)
        (aside / PROVENANCE).write_text(text + "\n")
        for path in aside.iterdir():
            _sync(path)
        _sync(aside)
        if folder.exists():
            os.replace(folder, holder / "old")
        try:
            os.replace(aside, folder)
        except OSError:
            # Another process may have finished the same job first; its result is the same.
            if not (folder / PROVENANCE).exists():
                raise
        _sync(folder.parent)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def clear(folder: Path) -> None:
    """Remove what a process left that died while it wrote the run ``folder``."""
    for path in folder.parent.glob(f".{folder.name}.*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a file so that it appears whole or not at all; makes its folder.  Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(aside, 0o644)
        os.replace(aside, path)
        _sync(path.parent)
    finally:
        Path(aside).unlink(missing_ok=True)


def join(collection: Path, member: str, run: Path) -> None:
    """Record that ``run`` belongs to a suite or sweep, as its ``member``."""
    content = json.dumps({"run": os.path.relpath(run, collection)})
    write_text(collection / MEMBERS / f"{member}.json", content + "\n")


def found(path: Path) -> list[Path]:
    """The folders of the runs that ``path`` stands for: a run, a suite, a sweep, or all below it.

    Raises FileNotFoundError if there are none.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such folder")
    if (path / PROVENANCE).exists() or (path / TABLE).exists():
        return [path]
    runs = list(dict.fromkeys([*_planned(path), *_members(path)]))
    if not runs and not (path / PLAN).exists():
        runs = sorted(
            Path(file).parent for file in glob(f"{escape(str(path))}/**/{TABLE}", recursive=True)
        )
    if not runs:
        raise FileNotFoundError(f"{path}: no stored run in this folder")
    return runs


def _planned(path: Path) -> list[Path]:
    if not (path / PLAN).exists():
        return []
    names = [name for job in read_plan(path)["jobs"] for name in job["runs"]]
    return [run for name in names if (run := _inside(path, name)).exists()]


def _members(path: Path) -> list[Path]:
    files = sorted((path / MEMBERS).glob("*.json"))
    return [_inside(path, json.loads(file.read_text())["run"]) for file in files]


def _inside(path: Path, name: str) -> Path:
    return Path(os.path.normpath(path / name))


def read_plan(sweep: Path) -> dict[str, Any]:
    """The plan of a sweep: its command, swept keys and jobs.  Raises DamagedRunError."""
    try:
        plan: dict[str, Any] = json.loads((sweep / PLAN).read_text())
        if not all({"key", "words", "runs"} <= set(job) for job in plan["jobs"]):
            raise ValueError("a job lacks its key, words or runs")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DamagedRunError(f"{sweep / PLAN}: damaged: {error}") from None
    return plan


def read(folder: Path) -> StoredRun:
    """Read one run and check it against its checksums.  Raises DamagedRunError."""
    try:
        provenance = json.loads((folder / PROVENANCE).read_text())
        for name, checksum in provenance["sha256"].items():
            if name in (TABLE, CLAIMS) and _checksum(folder / name) != checksum:
                raise DamagedRunError(f"{folder / name}: damaged, its checksum doesn't match")
        table = pd.read_parquet(folder / TABLE)
        claims = pd.read_parquet(folder / CLAIMS)
        experiment = own_class(provenance["config"].get("_target_"))
    except DamagedRunError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DamagedRunError(f"{folder}: damaged: {reason}") from None
    return StoredRun(folder, folder.parent.name, table, claims, provenance, experiment)


def is_finished(folder: Path) -> bool:
    """Whether a whole, undamaged run lies in ``folder``, by its checksums."""
    try:
        sums = json.loads((folder / PROVENANCE).read_bytes())["sha256"]
        return all(_checksum(folder / name) == sums[name] for name in (TABLE, CLAIMS))
    except (OSError, ValueError, TypeError, KeyError):
        return False


def read_all(path: Path) -> Iterator[StoredRun]:
    """The runs that ``path`` stands for; a damaged one is skipped with a DamagedRunWarning."""
    for folder in found(path):
        try:
            yield read(folder)
        except DamagedRunError as error:
            warnings.warn(str(error), DamagedRunWarning, stacklevel=2)


def load(path: str | os.PathLike[str] = "runs") -> pd.DataFrame:
    """One DataFrame over a run, a suite, a sweep or all runs below a folder.

    The columns: ``experiment``, ``seed``, ``run`` (the identity), the table's factors, every
    option of the config that has one value and isn't a factor already, and the value columns.
    Damaged runs are skipped with a DamagedRunWarning.  Raises FileNotFoundError if there are none,
    DamagedRunError if all are damaged.
    """
    return gather(found(Path(path)), TABLE)


def load_claims(path: str | os.PathLike[str] = "runs") -> pd.DataFrame:
    """The claims of the runs that ``path`` stands for, with the columns of ``load`` in front."""
    return gather(found(Path(path)), CLAIMS)


def gather(folders: Sequence[Path], name: str) -> pd.DataFrame:
    """One file of every run as one frame, with the columns of ``load`` in front.

    Threads would only wait for each other here.  Raises DamagedRunError if all are damaged.
    """
    tables, labels = [], []
    for folder in folders:
        try:
            table, label = _labelled(folder, name)
        except DamagedRunError as error:
            warnings.warn(str(error), DamagedRunWarning, stacklevel=3)
        else:
            tables.append(table)
            labels.append(label)
    if not tables:
        raise DamagedRunError(f"{folders[0]}: every run is damaged")
    whole = pa.concat_tables(tables, promote_options="permissive")
    frame = whole.to_pandas(types_mapper=_nullable(whole))
    row = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    front = {}
    for key in dict.fromkeys(key for label in labels for key in label):
        values = pd.Series([label.get(key) for label in labels]).take(row).set_axis(frame.index)
        if key in frame:
            own = np.array([key in table.column_names for table in tables])[row]
            if not own.all():
                frame[key] = frame[key].where(own, values)
        else:
            front[key] = values
    last = VALUES if name == TABLE else ()
    order = [*front, *(column for column in frame if column not in last), *last]
    return pd.concat([pd.DataFrame(front), frame], axis=1)[order]


def _nullable(table: pa.Table) -> Callable[[pa.DataType], Any]:
    """Integers stay integers where some rows lack them."""
    lacking = {
        field.type
        for field in table.schema
        if pa.types.is_integer(field.type) and table[field.name].null_count
    }
    return lambda kind: pd.Int64Dtype() if kind in lacking else None


def _labelled(folder: Path, name: str) -> tuple[pa.Table, dict[str, Any]]:
    """A file of a run, and its experiment, seed, identity and single-valued options."""
    try:
        provenance = json.loads((folder / PROVENANCE).read_bytes())
        content = (folder / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != provenance["sha256"][name]:
            raise DamagedRunError(f"{folder / name}: damaged, its checksum doesn't match")
        file = parquet.ParquetFile(pa.BufferReader(content), pre_buffer=False)
        table = file.read(use_threads=False).replace_schema_metadata()
        labels = {
            "experiment": folder.parent.name,
            "seed": provenance["seed"],
            "run": folder.name,
        }
        options = {
            option: value[0] if isinstance(value, list) else value
            for option, value in provenance["config"].items()
            if option != "_target_" and not (isinstance(value, list) and len(value) != 1)
        }
    except DamagedRunError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DamagedRunError(f"{folder}: damaged: {reason}") from None
    return table, {**labels, **options}
