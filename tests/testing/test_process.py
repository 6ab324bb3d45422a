"""The server as a process, the pytest plugin, and what importing costs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

import llm_common.testing


@contextmanager
def launch(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "llm_common.testing", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def ready(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdout
    return json.loads(process.stdout.readline())["environment"]


def ask(environment: dict[str, str]) -> dict[str, object]:
    turns = [{"role": "user", "content": "The mill burned down in the night of the ninth of May."}]
    request = urllib.request.Request(
        environment["OFFLINE_BASE_URL"] + "/chat/completions",
        json.dumps({"model": "offline/extractive", "messages": turns}).encode(),
        {"authorization": f"Bearer {environment['OFFLINE_API_KEY']}"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


def test_the_process_answers_writes_its_invoice_and_stops_with_its_parent(tmp_path):
    (tmp_path / "a.md").write_text("# T\n\nText.", encoding="utf-8")
    invoice = tmp_path / "invoice.jsonl"
    with launch("--corpus", str(tmp_path), "--invoice", str(invoice)) as process:
        reply = ask(ready(process))
        assert reply["model"] == "offline/extractive"
        line = json.loads(invoice.read_text(encoding="utf-8"))
        assert reply["id"] == f"chatcmpl-{line['request_id']}"
        assert Decimal(line["amount"]) > 0
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_it_at_once(number):
    with launch() as process:
        ready(process)
        process.send_signal(number)
        assert process.wait(timeout=60) == 0


def test_the_plugin_points_every_provider_at_the_server(tmp_path: Path):
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["llm_common.testing.plugin"]\n')
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    test = """
        import os

        async def test_it(offline_environment, provider_server):
            assert os.environ["ANTHROPIC_BASE_URL"] == provider_server.base_url("anthropic")
            assert os.environ["SERPER_API_KEY"]
            assert offline_environment == provider_server.environment()
    """
    (tmp_path / "test_it.py").write_text(textwrap.dedent(test))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_importing_is_light():
    code = "import sys, llm_common.testing; print([m for m in ('aiohttp', 'pydantic', 'pytest') "
    code += "if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_every_public_name_can_be_had():
    assert dir(llm_common.testing) == sorted(llm_common.testing.__all__)
    assert all(getattr(llm_common.testing, name) for name in llm_common.testing.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        getattr(llm_common.testing, "Nothing")  # noqa: B009 - the name is not there
