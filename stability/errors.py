"""The one kind of error that is the user's to mend: a line, no traceback, exit code 2."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Bad input, told in one line: the key, the value, what is allowed, the nearest valid name."""


def nearest(value: object, allowed: Iterable[str]) -> str:
    """The hint "; did you mean 'tanh'?" or an empty string."""
    match = get_close_matches(str(value), list(allowed), n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else ""


def check_choice(key: str, value: str, allowed: Collection[str]) -> None:
    """Raise InputError unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        choices = ", ".join(allowed)
        raise InputError(f"{key}={value!r}: must be one of {choices}{nearest(value, allowed)}")


def check_range(
    key: str,
    value: float,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
) -> None:
    """Raise InputError unless ``value`` is a finite number within the bounds that are given."""
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (("at least", at_least), ("above", above), ("at most", at_most))
        if bound is not None
    ]
    within = (
        value == value
        and abs(value) != float("inf")
        and (at_least is None or value >= at_least)
        and (above is None or value > above)
        and (at_most is None or value <= at_most)
    )
    if not within:
        raise InputError(f"{key}={value!r}: must be a finite number, {' and '.join(bounds)}")


def check_each(key: str, values: Collection[object]) -> None:
    """Raise InputError unless the list ``values`` has at least one entry and no entry twice."""
    if len(values) == 0:
        raise InputError(f"{key}=[]: must have at least one value")
    if len(set(values)) < len(values):
        raise InputError(f"{key}={list(values)!r}: must not repeat a value")
