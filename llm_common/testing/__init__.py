"""Public fakes for hosts and for this library's own tests: a provider server and pytest fixtures.

Nothing here shares format code with `llm_common.providers`: a mistake made there would hide here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .corpus import CorpusDocument, Hit, Query
    from .invoice import Invoice, InvoiceLine, ServerPrice
    from .records import RecordedRequest
    from .script import Answer, Fault
    from .server import ProviderServer

_HOME = {
    "Answer": "script",
    "CorpusDocument": "corpus",
    "Fault": "script",
    "Hit": "corpus",
    "Invoice": "invoice",
    "InvoiceLine": "invoice",
    "ProviderServer": "server",
    "Query": "corpus",
    "RecordedRequest": "records",
    "ServerPrice": "invoice",
}

__all__ = [
    "Answer",
    "CorpusDocument",
    "Fault",
    "Hit",
    "Invoice",
    "InvoiceLine",
    "ProviderServer",
    "Query",
    "RecordedRequest",
    "ServerPrice",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module the first time it is used."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
