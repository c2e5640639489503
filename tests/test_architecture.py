"""Imports point one way, and every YAML names every option of its experiment."""

import ast
import typing
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from stability import config
from stability.experiment import Experiment

PACKAGE = Path(config.__file__).parent

FORBIDDEN = {
    "theory": ("torch", "pandas", "hydra", "omegaconf", "seaborn", "matplotlib",
               "stability.kernels", "stability.catalogue", "stability.experiments"),
    "kernels": ("pandas", "hydra", "omegaconf", "seaborn", "matplotlib", "stability.theory",
                "stability.experiments", "stability.config", "stability.catalogue"),
    "catalogue": ("hydra", "omegaconf", "seaborn", "matplotlib",
                  "stability.kernels", "stability.experiments"),
    "experiments": ("hydra", "omegaconf", "stability.store", "stability.report", "stability.run"),
    "report": ("hydra", "omegaconf", "torch", "stability.kernels", "stability.theory",
               "stability.run"),
    "bench": ("hydra", "omegaconf", "torch", "stability.config", "stability.kernels",
              "stability.theory", "stability.experiments", "stability.run"),
}  # fmt: skip


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_knows_only_the_rooms_before_it(room: str) -> None:
    files = list((PACKAGE / room).rglob("*.py"))
    assert files
    for path in files:
        for name in imported(path):
            for barred in FORBIDDEN[room]:
                assert not f"{name}.".startswith(f"{barred}."), (path, name)


@pytest.mark.parametrize("room", ["config.py", "errors.py", "__main__.py", "__init__.py"])
def test_what_answers_help_imports_nothing_heavy_at_the_top(room: str) -> None:
    tree = ast.parse((PACKAGE / room).read_text())
    heads = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            heads |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            heads.add(str(node.module).split(".")[0])
    assert not heads & {"torch", "pandas", "numpy", "scipy", "seaborn", "hydra", "omegaconf"}


@pytest.mark.parametrize("name", config.names("experiment"))
def test_the_yaml_names_every_option_and_explains_it(name: str) -> None:
    text = (config.CONF / "experiment" / f"{name}.yaml").read_text()
    options = yaml.safe_load(text)
    target = options.pop("_target_")
    assert config.OWN_TARGET.fullmatch(target)
    assert target.split(".")[2] == name
    cls = config.own_class(target)
    assert cls is not None
    assert set(options) == {field.name for field in fields(typing.cast(typing.Any, cls))}
    lines = text.splitlines()
    assert lines[0] == f"# stability experiment={name}"
    assert lines[1].startswith("# ")
    for option in options:
        line = next(line for line in lines if line.startswith(f"{option}:"))
        assert "  # " in line, line


@pytest.mark.parametrize("name", config.names("experiment"))
def test_class_defaults_are_a_valid_run(name: str) -> None:
    cls = config.own_class(f"stability.experiments.{name}.{class_name(name)}")
    assert cls is not None
    assert isinstance(cls(), Experiment)
    assert cls().memory() > 0
    assert cls.question.endswith("?")


def class_name(name: str) -> str:
    text = (config.CONF / "experiment" / f"{name}.yaml").read_text()
    return str(yaml.safe_load(text)["_target_"]).rpartition(".")[2]


@pytest.mark.parametrize("suite", config.names("suite"))
def test_every_experiment_is_in_every_suite(suite: str) -> None:
    assert {e for _, e in config.suite_members(suite)} == set(config.names("experiment"))
