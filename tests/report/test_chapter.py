"""Every statement of the chapter is measured by claims that exist, as the page of docs/ has it."""

import re
from pathlib import Path

import pytest

from stability import config
from stability.experiment import Context
from stability.report.chapter import document, judged, statements

DOCS = Path(__file__).parents[2] / "docs" / "chapter.md"
EXERCISES = {"5.1": 7, "5.2": 9, "5.3": 5, "5.4": 4}
NAMED = sorted({claim for statement in statements() for claim in statement.claims})


def test_the_page_is_the_table() -> None:
    assert DOCS.read_text().endswith(document())


def test_no_exercise_is_left_out() -> None:
    places = [statement.place for statement in statements()]
    asked = [f"{s}, exercise {k + 1}" for s, n in EXERCISES.items() for k in range(n)]
    assert [place for place in places if "exercise" in place] == asked


def test_every_statement_is_answered() -> None:
    for statement in statements():
        assert statement.claims or statement.besides, statement.words


def written(word: str, source: str) -> bool:
    """Whether the name stands in the source, whole or as the start of an f-string."""
    starts = [f'f"{word[:k]}{{' for k in range(3, len(word))]
    return f'"{word}"' in source or any(start in source for start in starts)


@pytest.mark.parametrize("name", sorted({claim.split(".")[0] for claim in NAMED}))
def test_the_claims_exist(name: str) -> None:
    module = config.CONF.parent / "stability" / "experiments" / f"{name}.py"
    target = re.search(
        r"_target_: (\S+)", (config.CONF / "experiment" / f"{name}.yaml").read_text()
    )
    assert target
    cls = config.own_class(target[1])
    assert cls
    made = {claim.name for claim in cls.claims(cls().run(Context(0)))}
    for claim in NAMED:
        if claim.startswith(f"{name}."):
            word = claim.removeprefix(f"{name}.")
            assert word in made or written(word, module.read_text()), claim


def test_a_statement_takes_the_verdicts_of_its_claims() -> None:
    claims = [
        {"experiment": "activations", "name": "identity", "verdict": "holds"},
        {"experiment": "exercises", "name": "same_functions", "verdict": "fails"},
        {"experiment": "exercises", "name": "of no statement", "verdict": "holds"},
    ]
    (found,) = judged(claims)
    assert found["place"] == "5.1, exercise 5"
    assert [claim["verdict"] for claim in found["claims"]] == ["holds", "fails"]
