"""From conf/ and the command line to a validated experiment; imports neither torch nor pandas."""

import re
import types
import typing
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from stability.errors import InputError, check_choice, nearest

if TYPE_CHECKING:
    from stability.experiment import Experiment

_PACKAGE = Path(__file__).parent
CONF = next(
    folder
    for folder in (_PACKAGE / "conf", _PACKAGE.parent / "conf")
    if (folder / "config.yaml").exists()
)
"""Inside the package in a wheel, beside it in a checkout."""

# conf/ sets launchers' options under the names of their plugins.  Said here, which a launcher's
# workers import before they compose.
warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against ConfigStore")

OWN_TARGET = re.compile(r"stability\.experiments\.[a-z_][a-z0-9_]*\.[A-Za-z][A-Za-z0-9]*")


def names(group: str) -> list[str]:
    """The names of the files of one group of conf/, sorted."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def summary(group: str, name: str) -> str:
    """The sentence on the second line of a file of conf/."""
    return (CONF / group / f"{name}.yaml").read_text().splitlines()[1].removeprefix("# ")


def _keys(path: Path) -> list[str]:
    content = yaml.safe_load(path.read_text())
    return [key for key in content if key not in ("defaults", "_target_")]


def check_overrides(arguments: Sequence[str]) -> None:
    """Refuse overrides of keys and choices of groups that conf/ doesn't have, before composing.

    Raises InputError.  Overrides that add or delete (+key=value, ~key), and experiments from a
    folder of the user's own (--config-dir), are left to Hydra.
    """
    foreign = any(a.startswith(("-cd", "--config-dir", "-cp", "--config-path")) for a in arguments)
    overrides = [
        tuple(argument.split("=", 1))
        for argument in arguments
        if re.match(r"[A-Za-z_][\w./@]*=", argument)
    ]
    top = [*_keys(CONF / "config.yaml"), "experiment", "suite"]
    defaults = yaml.safe_load((CONF / "config.yaml").read_text())["defaults"]
    usual = next(entry["experiment"] for entry in defaults if "experiment" in entry)
    chosen = {"experiment": [usual], "suite": list[str]()}
    for key, value in overrides:
        if key in chosen:
            chosen[key] = [] if value in ("null", "") else value.split(",")
            for choice in chosen[key]:
                if not foreign and re.fullmatch(r"[\w./-]+", choice):
                    check_choice(key, choice, names(key))
    for key, value in overrides:
        head, *rest = key.split(".")
        if head.startswith("hydra") or "/" in head or "@" in head:
            continue
        if head not in top:
            hint = nearest(head, top)
            raise InputError(
                f"{key}={value}: unknown key {head!r}; must be one of "
                f"{', '.join(k for k in top if k != 'hydra')}{hint}"
            )
        if head in chosen and rest:
            options, leaf = _options(head, rest, chosen[head])
            if options and leaf not in options:
                raise InputError(
                    f"{key}={value}: unknown option {leaf!r}; must be one of "
                    f"{', '.join(options)}{nearest(leaf, options)}"
                )


def _options(head: str, rest: Sequence[str], chosen: Sequence[str]) -> tuple[list[str], str]:
    """The names that may follow in ``head.rest`` and the word that stands there; [] if unknown."""
    files = {name: CONF / head / f"{name}.yaml" for name in chosen}
    if not files or not all(path.exists() for path in files.values()):
        return [], rest[0]
    if head == "experiment":
        known = [_keys(path) for path in files.values()]
        return [key for key in known[0] if all(key in keys for keys in known[1:])], rest[0]
    members = dict(entry for suite in chosen for entry in suite_members(suite))
    if len(rest) == 1 or rest[0] not in members:
        return list(members), rest[0]
    return _keys(CONF / "experiment" / f"{members[rest[0]]}.yaml"), rest[1]


def suite_members(suite: str) -> list[tuple[str, str]]:
    """The (member, experiment) pairs of a suite, those of the suites that it builds on included."""
    defaults = yaml.safe_load((CONF / "suite" / f"{suite}.yaml").read_text())["defaults"]
    found = []
    for entry in defaults:
        if isinstance(entry, dict):
            found += [(key.split("@")[1], value) for key, value in entry.items()]
        elif entry != "_self_":
            found += suite_members(entry)
    return found


def register_workers() -> None:
    """Let conf/ write ${workers:THREADS}: how many processes of so many threads fill the cores."""
    from joblib import cpu_count
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver(
        "workers", lambda threads: max(1, cpu_count() // threads), replace=True
    )


def build(node: Mapping[str, Any], key: str = "experiment") -> "Experiment":
    """The experiment that a composed config names and fills; ``node`` is plain data.

    The class named by ``_target_`` is the schema: every field must be given and of its type, and a
    scalar stands for a list of one.  Raises InputError.
    """
    options = {str(name): value for name, value in node.items()}
    target = options.pop("_target_", None)
    cls = _import(f"{key}._target_", target)
    return fill(cls, options, key)


def fill(cls: "type[Experiment]", options: Mapping[str, Any], key: str) -> "Experiment":
    """An instance of the dataclass ``cls`` from options of any type, validated.

    Raises InputError for an unknown, missing or mistyped option.
    """
    schema: Any = cls
    if not is_dataclass(schema):
        raise InputError(f"{key}._target_={cls.__qualname__!r}: must be a dataclass")
    hints = typing.get_type_hints(cls)
    known = [field.name for field in fields(schema)]
    for name in options:
        if name not in known:
            raise InputError(
                f"{key}.{name}={options[name]!r}: unknown option {name!r}; must be one of "
                f"{', '.join(known)}{nearest(name, known)}"
            )
    for name in known:
        if name not in options:
            raise InputError(f"{key}.{name}: must be given")
    values = {name: _coerce(f"{key}.{name}", options[name], hints[name]) for name in known}
    try:
        return cls(**values)
    except InputError as error:
        raise InputError(str(error).replace("experiment.", f"{key}.", 1)) from None


def describe(experiment: "Experiment") -> dict[str, Any]:
    """The config that ``build`` turns into ``experiment`` again: canonical plain data."""
    cls = type(experiment)
    options: Any = experiment
    return {"_target_": f"{cls.__module__}.{cls.__qualname__}", **asdict(options)}


def own_class(target: object) -> "type[Experiment] | None":
    """The suite's own experiment class that a stored config names, or None.

    A stored config is data: nothing outside ``stability.experiments`` is ever imported for it.
    """
    if not isinstance(target, str) or not OWN_TARGET.fullmatch(target):
        return None
    if not (_PACKAGE / "experiments" / f"{target.split('.')[2]}.py").exists():
        return None
    try:
        return _import("_target_", target)
    except InputError:
        return None


def _import(key: str, target: object) -> "type[Experiment]":
    from stability.experiment import Experiment

    if not isinstance(target, str) or "." not in target:
        raise InputError(f"{key}={target!r}: must name a class, such as package.module.Class")
    module, _, name = target.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{key}={target!r}: can't be imported: {error}") from None
    if not (isinstance(found, type) and issubclass(found, Experiment)):
        raise InputError(f"{key}={target!r}: must be a subclass of stability.Experiment")
    return found


_WORDS = {int: "an integer", float: "a number", str: "a text", bool: "true or false"}


def _coerce(key: str, value: Any, hint: Any) -> Any:
    if isinstance(hint, types.UnionType):
        arms = typing.get_args(hint)
        if value is None and type(None) in arms:
            return None
        return _coerce(key, value, next(arm for arm in arms if arm is not type(None)))
    if typing.get_origin(hint) is list:
        (item,) = typing.get_args(hint)
        if isinstance(value, Mapping) or value is None:
            raise InputError(f"{key}={value!r}: must be {_WORDS[item]} or a list of such")
        entries = (
            list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        )
        return [_coerce(key, entry, item) for entry in entries]
    if type(value) is hint:
        return value
    if hint is float and type(value) is int:
        return float(value)
    if hint is str and type(value) in (int, float):
        return repr(value)
    raise InputError(f"{key}={value!r}: must be {_WORDS[hint]}")


def help_lines() -> Iterator[str]:
    """The experiments with their options, defaults, meanings and units, as conf/ states them."""
    for name in names("experiment"):
        yield f"  {name}: {summary('experiment', name)}"
        for line in (CONF / "experiment" / f"{name}.yaml").read_text().splitlines()[2:]:
            if line and not line.startswith(("#", "_target_", "defaults")):
                yield f"      {line}"
        yield ""
