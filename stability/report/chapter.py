"""The chapter statement by statement, and the claims that measure it: ``chapter.yaml``, read."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml


@dataclass(frozen=True)
class Statement:
    """What the chapter states or asks, in our words, and where it is answered.

    ``place``: the section, with "exercise" and its number if it is one.  ``claims``: those that
    measure it, as experiment.claim.  ``besides``: what answers it that is no claim.
    """

    place: str
    words: str
    claims: tuple[str, ...]
    besides: str


def statements() -> list[Statement]:
    """All statements, in the chapter's order."""
    text = resources.files("stability.report").joinpath("chapter.yaml").read_text("utf-8")
    return [
        Statement(
            str(place),
            entry["says"],
            tuple(entry.get("claims", ())),
            entry.get("besides", ""),
        )
        for place, entries in yaml.safe_load(text).items()
        for entry in entries
    ]


def judged(claims: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The statements that some of ``claims`` measure, with those of their claims.

    Each of ``claims`` has the keys ``experiment`` and ``name`` and is passed on as it is.
    """
    known: dict[str, list[Mapping[str, Any]]] = {}
    for claim in claims:
        known.setdefault(f"{claim['experiment']}.{claim['name']}", []).append(claim)
    found = []
    for statement in statements():
        rows = [row for name in statement.claims for row in known.get(name, [])]
        if rows:
            found.append({"place": statement.place, "words": statement.words, "claims": rows})
    return found


def document() -> str:
    """The table of ``docs/chapter.md``: one row a statement or exercise."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "| section | what it states or asks | measured by |"
    yield "| --- | --- | --- |"
    for statement in statements():
        where = ", ".join(f"`{name}`" for name in statement.claims)
        answered = "; ".join(part for part in (where, statement.besides) if part)
        yield f"| {statement.place} | {statement.words} | {answered} |"


if __name__ == "__main__":
    print(document(), end="")
