"""What is stored comes back; what is damaged is named; the name covers all that matters."""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from toys import Toy

import stability
from stability import claims, store, table
from stability.config import build, describe, own_class
from stability.errors import InputError
from stability.experiment import Context


def keep(folder: Path, toy: Toy, seed: int = 0) -> pd.DataFrame:
    measured = toy.run(Context(seed))
    provenance = {"config": describe(toy), "seed": seed, "device": "cpu", "threads": 1}
    store.save(folder, measured, claims.to_frame(Toy.claims(measured)), provenance)
    return measured


def test_what_is_saved_comes_back_to_the_bit(tmp_path: Path) -> None:
    measured = keep(tmp_path / "toys" / "a", Toy([2, 5]))
    back = store.read(tmp_path / "toys" / "a")
    pd.testing.assert_frame_equal(back.table, measured, check_exact=True)
    assert back.claims["verdict"].tolist() == ["holds"]
    assert back.experiment is None
    assert back.name == "toys"


def test_infinities_and_nans_survive(tmp_path: Path) -> None:
    odd = table.concat([table.rows("q", [float("inf"), float("nan"), -float("inf")], n=[1, 2, 3])])
    store.save(tmp_path / "a", odd, claims.to_frame([]), {"config": {}, "seed": 0})
    pd.testing.assert_frame_equal(store.read(tmp_path / "a").table, odd, check_exact=True)


def test_load_adds_the_factors_of_the_config(tmp_path: Path) -> None:
    keep(tmp_path / "toys" / "a", Toy([2, 5], samples=50), seed=3)
    keep(tmp_path / "toys" / "b", Toy([2], samples=60), seed=4)
    loaded = stability.load(tmp_path)
    assert list(loaded.columns[:3]) == ["experiment", "seed", "run"]
    assert tuple(loaded.columns[-5:]) == table.VALUES
    assert loaded["samples"].tolist() == [50, 50, 60]
    assert loaded["seed"].tolist() == [3, 3, 4]
    assert len(stability.load(tmp_path / "toys" / "b")) == 1


def test_a_factor_that_only_some_tables_have_is_filled_from_the_config(tmp_path: Path) -> None:
    keep(tmp_path / "toys" / "a", Toy([2]))
    bare = table.rows("mean", [1.0], 1.0)
    provenance = {"config": {"n": 7, "kind": "odd"}, "seed": 0}
    store.save(tmp_path / "toys" / "b", bare, claims.to_frame([]), provenance)
    loaded = stability.load(tmp_path)
    assert loaded["n"].tolist() == [2, 7]
    assert loaded["kind"].tolist() == ["plain", "odd"]


def test_a_collection_loads_its_members_only(tmp_path: Path) -> None:
    keep(tmp_path / "toys" / "a", Toy([2]))
    keep(tmp_path / "toys" / "b", Toy([3]))
    store.join(tmp_path / "sweeps" / "s", "b", tmp_path / "toys" / "b")
    assert stability.load(tmp_path / "sweeps" / "s")["n"].tolist() == [3]


@pytest.mark.parametrize("name", [store.TABLE, store.CLAIMS, store.PROVENANCE])
@pytest.mark.parametrize("harm", ["truncate", "flip", "remove", "empty"])
def test_a_damaged_run_is_named_and_the_rest_loads(tmp_path: Path, name: str, harm: str) -> None:
    keep(tmp_path / "toys" / "good", Toy([2]))
    keep(tmp_path / "toys" / "bad", Toy([3]))
    victim = tmp_path / "toys" / "bad" / name
    content = victim.read_bytes()
    if harm == "remove":
        victim.unlink()
    elif harm == "flip":
        # The first byte of JSON is its brace; elsewhere the checksum sees any bit.
        victim.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    else:
        victim.write_bytes(content[: len(content) // 2] if harm == "truncate" else b"")
    if name == store.TABLE and harm == "remove":
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert stability.load(tmp_path)["n"].tolist() == [2]
        assert not store.is_finished(victim.parent)
        return
    load = store.load_claims if name == store.CLAIMS else stability.load
    with pytest.warns(store.DamagedRunWarning, match="bad"):
        loaded = load(tmp_path)
    assert loaded["run"].unique().tolist() == ["good"]
    assert not store.is_finished(victim.parent)
    with (
        pytest.raises(store.DamagedRunError),
        pytest.warns(store.DamagedRunWarning),
    ):
        load(tmp_path / "toys" / "bad")


def test_nothing_half_written_is_left_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = keep(tmp_path / "toys" / "a", Toy([2]))

    def full(_path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_sync", full)
    with pytest.raises(OSError, match="No space left"):
        keep(tmp_path / "toys" / "a", Toy([3]))
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "toys").iterdir()] == ["a"]
    pd.testing.assert_frame_equal(store.read(tmp_path / "toys" / "a").table, before)


def test_the_identity_changes_with_whatever_can_change_a_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    toy = Toy()
    base = store.identity(toy, 0, "cpu", 1)
    assert store.identity(Toy(), 0, "cpu", 1) == base
    others = {
        store.identity(replace(toy, samples=101), 0, "cpu", 1),
        store.identity(replace(toy, n=[2]), 0, "cpu", 1),
        store.identity(toy, 1, "cpu", 1),
        store.identity(toy, 0, "cuda", 1),
        store.identity(toy, 0, "cpu", 2),
    }
    monkeypatch.setattr(store, "code_digest", lambda _kind: "other code")
    others.add(store.identity(toy, 0, "cpu", 1))
    assert len(others | {base}) == 7


def test_the_code_digest_covers_an_outside_experiment() -> None:
    assert any(path.name == "toys.py" for path in store._sources(Toy))
    names = {path.parent.name + "/" + path.name for path in store._sources(Toy)}
    assert "catalogue/activations.py" in names
    assert "stability/table.py" in names


HOSTILE = [
    "os.system",
    "toys.Toy",
    "stability.experiments.evil.Evil",
    "stability.experiments.__init__.os",
    "stability.experiments..matrix_product.MatrixProduct",
    "stability.experiments.../../toys.Toy",
    "stability.store.StoredRun",
    42,
    None,
]


@pytest.mark.parametrize("target", HOSTILE)
def test_a_stored_config_never_imports_code_from_outside(tmp_path: Path, target: Any) -> None:
    keep(tmp_path / "toys" / "a", Toy([2]))
    file = tmp_path / "toys" / "a" / store.PROVENANCE
    provenance = json.loads(file.read_text())
    provenance["config"]["_target_"] = target
    file.write_text(json.dumps(provenance))
    assert own_class(target) is None
    assert store.read(file.parent).experiment is None


def test_build_takes_a_scalar_for_a_list_and_an_integer_for_a_number() -> None:
    node = {"_target_": "toys.Toy", "n": 3, "scale": 2, "samples": 5, "kind": "plain",
            "gibibytes": 1, "seconds": 0}  # fmt: skip
    assert build(node) == Toy([3], [2.0], 5, "plain", 1.0)
    assert build(describe(Toy())) == Toy()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere.Class", "can't be imported"),
        ("toys.Missing", "can't be imported"),
        ("toys.np", "must be a subclass"),
        ("plain", "must name a class"),
        (None, "must name a class"),
    ],
)
def test_build_refuses_what_is_no_experiment(target: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build({"_target_": target})


def test_duckdb_reads_the_same_files(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    for seed in range(3):
        keep(tmp_path / "toys" / str(seed), Toy([2, 5]), seed)
    half = tmp_path / "toys" / ".3.half" / "run"
    half.mkdir(parents=True)
    (half / store.TABLE).write_bytes(b"PAR1")
    query = f"select avg(measured), count(*) from read_parquet('{tmp_path}/toys/*/table.parquet')"
    ((mean, rows),) = duckdb.sql(query).fetchall()
    assert rows == 6
    assert mean == pytest.approx(stability.load(tmp_path)["measured"].mean(), rel=1e-14)
