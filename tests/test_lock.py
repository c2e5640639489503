"""A lock has one owner, and says so when it can't have any."""

import errno
import fcntl
from pathlib import Path
from typing import Any

import pytest

from stability.lock import HeldError, held, lock


def test_a_lock_has_one_owner(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lock"
    assert held(path) is None
    with lock(path) as dead:
        assert dead is None
        owner = held(path)
        assert owner is not None
        assert owner.startswith("process ")
        with pytest.raises(HeldError, match=owner), lock(path):
            pass
        assert held(path) == owner
    assert held(path) is None
    assert not path.exists()


@pytest.mark.parametrize("left", ["half", "[]", '{"host": "a"}', '{"host": "a", "pid": "x"}'])
def test_a_dead_owner_is_named_if_it_can_be(tmp_path: Path, left: str) -> None:
    path = tmp_path / "lock"
    path.write_text(left)
    assert held(path) is None
    with lock(path) as dead:
        assert dead == "a process that left no name"


def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="refuses locks: No locks available"), lock(tmp_path / "lock"):
        pass
