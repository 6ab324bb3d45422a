"""What the server keeps of every request that reached it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SECRET_HEADERS = frozenset(
    {"authorization", "x-api-key", "x-goog-api-key", "api-key", "x-subscription-token"}
)


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One request as it arrived.

    Attributes:
        id: `req-1`, `req-2`, …; the invoice line of the request has the same.
        provider: whose endpoint was asked, such as ``openai`` or ``serper``.
        path: path on the server, the provider's prefix included.
        model: the model that the body or the path names, or an empty string.
        headers: all headers, names in lower case, values unchanged; only `repr` hides keys.
        body: the decoded JSON body; None when it was not JSON. Of a GET, the parameters as text.
    """

    id: str
    provider: str
    path: str
    model: str
    headers: Mapping[str, str] = field(repr=False)
    body: Any = field(repr=False)

    def __repr__(self) -> str:
        shown = {k: "***" if k in SECRET_HEADERS else v for k, v in self.headers.items()}
        return (
            f"RecordedRequest(id={self.id!r}, provider={self.provider!r}, path={self.path!r}, "
            f"model={self.model!r}, headers={shown!r}, body={self.body!r})"
        )

    @property
    def has_key(self) -> bool:
        """Whether any key was sent; a real provider answers 401 without one."""
        values = (self.headers.get(name, "") for name in SECRET_HEADERS)
        return any(value.removeprefix("Bearer").strip() for value in values)
