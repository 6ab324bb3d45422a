"""Settings, in the order argument > environment > TOML file > default, each with its source."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import platformdirs

from .errors import ConfigurationError

CONFIG_FILE = "llm_common.toml"

ENVIRONMENT = {
    "project": "LLM_COMMON_PROJECT",
    "database_url": "DATABASE_URL",
    "schema": "LLM_COMMON_SCHEMA",
    "registry": "LLM_COMMON_REGISTRY",
    "state_dir": "LLM_COMMON_STATE_DIR",
    "spool": "LLM_COMMON_SPOOL",
    "supabase_url": "SUPABASE_URL",
    "alert_webhook": "LLM_COMMON_ALERT_WEBHOOK",
    "rollout_poll_s": "LLM_COMMON_ROLLOUT_POLL_S",
}
"""Setting -> environment variable. The same names are the keys of the TOML file."""

SUPABASE_KEYS = ("SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_SERVICE_KEY", "SUPABASE_SECRET_KEY")
"""Variables that may hold a service key; a publishable key can do nothing with our tables."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and where it came from: argument, environment, file or default."""

    value: str | None
    source: str


@lru_cache(maxsize=8)
def _read_toml(path: str, _mtime_ns: int) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from error


def config_file() -> Path | None:
    """Return the TOML file in force: `LLM_COMMON_CONFIG`, else `llm_common.toml` here."""
    named = os.environ.get("LLM_COMMON_CONFIG")
    if named:
        path = Path(named)
        if not path.is_file():
            raise ConfigurationError(f"LLM_COMMON_CONFIG names {named}, which is not a file")
        return path
    here = Path(CONFIG_FILE)
    return here if here.is_file() else None


def setting(name: str, argument: str | None = None, default: str | None = None) -> Setting:
    """Resolve one setting.

    Args:
        name: a key of `ENVIRONMENT`.
        argument: what the caller passed; wins over everything.
        default: used when nothing else names it.
    """
    if argument is not None:
        return Setting(argument, "argument")
    variable = ENVIRONMENT[name]
    if value := os.environ.get(variable):
        return Setting(value, f"environment {variable}")
    path = config_file()
    if path is not None:
        found = _read_toml(str(path), path.stat().st_mtime_ns).get(name)
        if found is not None:
            return Setting(str(found), f"file {path}")
    return Setting(default, "default")


def project(argument: str | None = None) -> str:
    """Return the project that labels every row.

    Raises:
        ConfigurationError: no project is named anywhere.
    """
    value = setting("project", argument).value
    if not value:
        raise ConfigurationError("no project: pass project=… or set LLM_COMMON_PROJECT")
    return value


def state_dir() -> Path:
    """Return the folder for the spool and the embedded database; made if absent, mode 0700."""
    named = setting("state_dir").value
    path = Path(named) if named else platformdirs.user_state_path("llm_common")
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def supabase_service_key() -> str | None:
    """Return the first service key that the environment holds."""
    return next((os.environ[k] for k in SUPABASE_KEYS if os.environ.get(k)), None)
