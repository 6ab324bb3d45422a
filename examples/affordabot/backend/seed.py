"""Fills the table `bills`: `python -m backend.seed FILE…`, into `DATABASE_URL`.

Files are what llm_common reads: text, Markdown, HTML, USLM XML or PDF.
"""

from __future__ import annotations

import argparse
import os
import sys

from llm_common.documents import load_document

from .bills import seed
from .models import Bill


def main() -> None:
    """Read the files and put them into the table."""
    parser = argparse.ArgumentParser(prog="python -m backend.seed", description=__doc__)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--jurisdiction", default="United States")
    options = parser.parse_args()
    if not (url := os.getenv("DATABASE_URL")):
        sys.exit("set DATABASE_URL: tables are made over a direct connection")
    read = [load_document(path) for path in options.files]
    seed(
        url,
        [
            Bill(id=d.id, jurisdiction=options.jurisdiction, title=d.title, text=d.text)
            for d in read
        ],
    )
    print(f"{len(read)} bills")


if __name__ == "__main__":
    main()
