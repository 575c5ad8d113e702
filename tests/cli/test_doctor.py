"""`medalion doctor` finds what stops a store, and says what to do."""

from pathlib import Path

import pytest
from packaging.requirements import Requirement

from medalion.cli import doctor
from medalion.cli.doctor import State, diagnose, extra_of, is_met
from medalion.core.settings import Settings, settings_of
from tests.support.commands import process, run
from tests.support.postgres import empty_database, fresh_database


def checks(settings: Settings) -> dict[str, doctor.Check]:
    return {check.name: check for check in diagnose(settings)}


@pytest.mark.server
def test_nothing_is_wrong_with_a_new_store(data_dir: Path) -> None:
    with fresh_database() as url:
        # As a process of its own: what it needs has not been imported by other tests.
        with process("--url", url, "--data-dir", str(data_dir), "doctor") as doctor:
            printed = doctor.communicate()
        found = checks(settings_of(url, None, data_dir, {}))
    assert doctor.returncode == 0, printed
    assert [check for check in found.values() if check.state is not State.OK] == []
    assert {"Python", "polars", "extra embedded", "data folder", "lake", "disk", "database", "schema", "mirror"} <= set(
        found
    )


def test_what_is_wrong_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = settings_of("postgresql://localhost:1/x", None, tmp_path / "file" / "data", {})
    failed = {name: check for name, check in checks(settings).items() if check.state is State.FAILED}
    assert set(failed) == {"data folder", "lake", "database"}
    assert all(check.remedy for check in failed.values())
    result = run("--url", "postgresql://localhost:1/x", "--data-dir", str(settings.data_dir), "doctor")
    assert (result.exit_code, result.stderr) == (1, "failed: data folder, lake, database\n")


@pytest.mark.server
def test_a_database_without_a_schema_is_told_to_upgrade(data_dir: Path) -> None:
    with empty_database() as url:
        found = checks(settings_of(url, None, data_dir, {}))
    assert (found["schema"].state, found["schema"].remedy) == (State.FAILED, "medalion db upgrade")
    assert "mirror" not in found


def test_an_embedded_store_is_not_made_by_looking(data_dir: Path) -> None:
    found = checks(Settings(data_dir=data_dir))
    assert "none yet" in found["database"].found
    assert not data_dir.exists()


def test_little_free_disk_is_a_warning(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "FREE_BYTES", 1 << 62)
    assert checks(Settings(data_dir=data_dir))["disk"].state is State.WARNING


def test_requirements_are_those_of_the_project_with_their_extras() -> None:
    found = {requirement.name: requirement for requirement in doctor.requirements()}
    assert (extra_of(found["sqlalchemy"]), extra_of(found["altair"])) == (None, "report")
    assert str(found["psycopg"].specifier).startswith(">=3")
    assert "medalion" not in found


def test_a_package_that_is_missing_or_too_old_is_not_met() -> None:
    assert is_met(Requirement("pytest>=1.0"))
    assert not is_met(Requirement("pytest>=999.0"))
    assert not is_met(Requirement("no-such-package-here"))
