"""What a sweep knows of its jobs: ``jobs/KEY/state.json``, written by whoever runs the job."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stability import store
from stability.lock import held

JOBS = "jobs"
LOCK = "lock"
LOG = "log.txt"
STATE = "state.json"
END = ("done", "failed")


def key_of(words: Sequence[str]) -> str:
    """The short name of a job's folder, however long its overrides are."""
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:12]


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Replace the state of the job whose folder this is.  Raises OSError."""
    store.write_text(folder / STATE, json.dumps(state) + "\n")


def state_of(folder: Path) -> dict[str, Any]:
    """The last state of the job whose folder this is; empty if there is none."""
    try:
        found = json.loads((folder / STATE).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Standing:
    """How a job of a sweep stands: done, running, failed, killed or missing; and its last state."""

    key: str
    words: tuple[str, ...]
    word: str
    state: dict[str, Any]


def standing(sweep: Path) -> list[Standing]:
    """How the jobs of a stored sweep stand.  Raises store.DamagedRunError."""
    found = []
    for job in store.read_plan(sweep)["jobs"]:
        folder = sweep / JOBS / job["key"]
        runs = [Path(os.path.normpath(sweep / name)) for name in job["runs"]]
        state = state_of(folder)
        word = str(state.get("state", ""))
        if word == "running":
            word = "running" if held(folder / LOCK) else "killed"
        elif word != "failed":
            whole = all((path / store.PROVENANCE).exists() for path in runs)
            word = "done" if whole else "missing"
        found.append(Standing(job["key"], tuple(job["words"]), word, state))
    return found
