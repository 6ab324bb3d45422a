"""PostgREST's API in front of a database, as Supabase has it, without Docker."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from psycopg.conninfo import conninfo_to_dict

from tests import npm
from tests.support import REPOSITORY

PACKAGE = REPOSITORY / "tests" / "supabase_lite"
START_TIMEOUT_S = 120

ROLES = """
    DO $$BEGIN
        CREATE ROLE anon NOLOGIN; CREATE ROLE authenticated NOLOGIN;
        CREATE ROLE service_role NOLOGIN BYPASSRLS;
    END$$
"""
"""The roles that PostgREST changes to; they belong to the whole server."""

DEFAULT_PRIVILEGES = """
    GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public
        GRANT ALL ON TABLES TO anon, authenticated, service_role;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public
        GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public
        GRANT ALL ON SEQUENCES TO anon, authenticated, service_role;
"""
"""What a Supabase project starts with: everything is granted to everyone."""


FUNCTIONS = """
    CREATE FUNCTION test_echo(payload jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT payload';
    CREATE FUNCTION test_pick(payload jsonb) RETURNS jsonb LANGUAGE sql AS
        'SELECT payload -> ''value''';
    CREATE FUNCTION test_fail(payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS
        'BEGIN RAISE EXCEPTION ''the prompt was %'', payload USING ERRCODE = ''22012''; END';
    CREATE FUNCTION test_sleep(payload jsonb) RETURNS jsonb LANGUAGE sql AS
        'SELECT payload FROM pg_sleep((payload ->> ''seconds'')::float)';
"""
"""What tests of connectors call. The API reads the functions once, when it starts."""


@dataclass(frozen=True)
class SupabaseLite:
    """A running API.

    Attributes:
        url: what `create_client` takes.
        secret_key: a back end's key, the role service_role.
        publishable_key: a browser's key, the role anon.
        jwt_secret: signs users' tokens, HS256.
        database_url: the database behind it, directly.
    """

    url: str
    secret_key: str
    publishable_key: str
    jwt_secret: str
    database_url: str


@contextmanager
def serve(database_url: str) -> Iterator[SupabaseLite]:
    """Run the API on a free port of loopback until the block ends."""
    folder = npm.installed(PACKAGE)
    api = SupabaseLite(
        url=f"http://127.0.0.1:{_free_port()}",
        secret_key=f"sb_secret_{secrets.token_urlsafe(24)}",
        publishable_key=f"sb_publishable_{secrets.token_urlsafe(24)}",
        jwt_secret=secrets.token_urlsafe(32),
        database_url=database_url,
    )
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            ["node", "server.mjs"],
            cwd=folder,
            env=_environment(api),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_until_ready(api.url, process, log)
            yield api
        finally:
            process.communicate(timeout=60)


def _environment(api: SupabaseLite) -> dict[str, str]:
    parts = conninfo_to_dict(api.database_url)
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "LITE_TELEMETRY": "0",
        # Its URL parser knows no unix socket, but the driver below it takes one from here.
        "DATABASE_URL": f"postgres:///{parts['dbname']}",
        "PGHOST": str(parts["host"]),
        "PGUSER": str(parts["user"]),
        "PORT": api.url.rpartition(":")[2],
        "JWT_SECRET": api.jwt_secret,
        "SUPABASE_SECRET_KEY": api.secret_key,
        "SUPABASE_PUBLISHABLE_KEY": api.publishable_key,
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_ready(url: str, process: subprocess.Popen, log: IO[str]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/rest/v1/", timeout=10).close()
        except urllib.error.HTTPError as error:
            # An answer, even if it is that a key is missing.
            error.close()
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    log.seek(0)
    raise RuntimeError(f"the Supabase API did not start: {log.read()[-2000:]}")
