"""Argument, then environment, then file, then default; each value says where it came from."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from llm_common import settings
from llm_common.errors import ConfigurationError

VARIABLES = sorted(settings.ENVIRONMENT.items())


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A TOML file that is in force, with nothing set beside it."""
    path = tmp_path / "host.toml"
    path.touch()
    for _, variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("LLM_COMMON_CONFIG", str(path))
    return path


@pytest.mark.parametrize(("name", "variable"), VARIABLES)
def test_the_order_of_sources(
    toml: Path, monkeypatch: pytest.MonkeyPatch, name: str, variable: str
) -> None:
    assert settings.setting(name) == settings.Setting(None, "default")
    assert settings.setting(name, default="d") == settings.Setting("d", "default")
    toml.write_text(f'{name} = "from the file"\n')
    assert settings.setting(name, default="d") == settings.Setting("from the file", f"file {toml}")
    monkeypatch.setenv(variable, "from the environment")
    found = settings.setting(name, default="d")
    assert found == settings.Setting("from the environment", f"environment {variable}")
    assert settings.setting(name, "given", "d") == settings.Setting("given", "argument")


def test_an_empty_variable_is_none(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_COMMON_PROJECT", "")
    toml.write_text('project = "housing"')
    assert settings.project() == "housing"


def test_a_changed_file_is_read_again(toml: Path) -> None:
    for name in ("one", "two and longer"):
        toml.write_text(f'project = "{name}"')
        assert settings.project() == name


def test_the_file_of_the_working_directory(
    toml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLM_COMMON_CONFIG")
    monkeypatch.chdir(tmp_path)
    assert settings.config_file() is None
    (tmp_path / "llm_common.toml").write_text('project = "here"')
    assert settings.project() == "here"


@pytest.mark.parametrize("content", [b"project = ", b"\xff\xfe"])
def test_a_file_that_is_no_toml(toml: Path, content: bytes) -> None:
    toml.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"host\.toml is not valid TOML"):
        settings.setting("project")


def test_a_named_file_must_be_there(toml: Path) -> None:
    toml.unlink()
    with pytest.raises(ConfigurationError, match=r"LLM_COMMON_CONFIG names .* which is not a file"):
        settings.setting("project")


def test_a_project_must_be_named(toml: Path) -> None:
    with pytest.raises(ConfigurationError, match="no project: pass project=… or set LLM_COMMON_PR"):
        settings.project()
    assert settings.project("given") == "given"


def test_the_state_folder_is_made_for_its_owner_alone(
    toml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_COMMON_STATE_DIR", str(tmp_path / "a" / "state"))
    for _ in range(2):
        folder = settings.state_dir()
        assert folder == tmp_path / "a" / "state"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_first_service_key_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in settings.SUPABASE_KEYS:
        monkeypatch.delenv(name, raising=False)
    assert settings.supabase_service_key() is None
    for name in reversed(settings.SUPABASE_KEYS):
        monkeypatch.setenv(name, name.lower())
        assert settings.supabase_service_key() == name.lower()
