"""`llm-common demo`."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from importlib.resources import files
from pathlib import Path

from ..testing import CorpusDocument
from .analyze import Job, analyze
from .common import EMBEDDED, Where, out


async def demo(*, as_json: bool) -> None:
    """Analyse the sample bill offline, and say where the run is kept."""
    folder = files("llm_common") / "data" / "demo"
    lines = (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    job = Job(
        files=[Path(str(folder / "bill.md"))],
        budget="1.00",
        models=None,
        provider="offline",
        engine="offline",
        jurisdiction="Sample State",
        resume=True,
        where=Where(EMBEDDED, "demo"),
    )
    corpus = [CorpusDocument(**json.loads(line)) for line in lines]
    done = await analyze(job, corpus=corpus, as_json=as_json)
    if not as_json and done[0].analysis:
        arguments = f"runs {done[0].analysis.run_id[:8]} --database embedded --project demo"
        out.print(f"The stored run:  [bold]{_invocation()} {arguments}[/bold]", soft_wrap=True)


def _invocation() -> str:
    """How this command can be called again, on the state that it used."""
    folder = os.environ.get("LLM_COMMON_STATE_DIR")
    state = f"LLM_COMMON_STATE_DIR={shlex.quote(folder)} " if folder else ""
    return state + ("llm-common" if shutil.which("llm-common") else shlex.quote(sys.argv[0]))
