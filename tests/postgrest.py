"""PostgREST's API in front of a database, as Supabase has it, without Docker."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import tempfile
import time
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
    keys = {
        "secret_key": f"sb_secret_{secrets.token_urlsafe(24)}",
        "publishable_key": f"sb_publishable_{secrets.token_urlsafe(24)}",
        "jwt_secret": secrets.token_urlsafe(32),
    }
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            ["node", "server.mjs"],
            cwd=folder,
            env=_environment(database_url, **keys),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            url = f"http://127.0.0.1:{_port(process, log)}"
            yield SupabaseLite(url=url, database_url=database_url, **keys)
        finally:
            process.communicate(timeout=60)


def _environment(
    database_url: str, *, secret_key: str, publishable_key: str, jwt_secret: str
) -> dict[str, str]:
    parts = conninfo_to_dict(database_url)
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "LITE_TELEMETRY": "0",
        # Its URL parser knows no unix socket, but the driver below it takes one from here.
        "DATABASE_URL": f"postgres:///{parts['dbname']}",
        "PGHOST": str(parts["host"]),
        "PGUSER": str(parts["user"]),
        "JWT_SECRET": jwt_secret,
        "SUPABASE_SECRET_KEY": secret_key,
        "SUPABASE_PUBLISHABLE_KEY": publishable_key,
    }


def _port(process: subprocess.Popen[bytes], log: IO[bytes]) -> int:
    """Wait until the API listens, and return where."""
    deadline = time.monotonic() + START_TIMEOUT_S
    said = ""
    while time.monotonic() < deadline and process.poll() is None:
        # Not from the file's own position, which is the process's as well.
        said = os.pread(log.fileno(), 1_000_000, 0).decode()
        if found := re.search(r"^listening on (\d+)$", said, re.MULTILINE):
            return int(found[1])
        time.sleep(0.05)
    raise RuntimeError(f"the Supabase API did not start: {said[-2000:]}")
