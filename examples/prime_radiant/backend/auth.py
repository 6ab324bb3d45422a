"""Who is asking.

An example, and no protection: whoever sends `Authorization: Example <uuid>` is that user. A host
verifies a signed token here.
"""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Header, HTTPException

SCHEME = "Example "


def user_of(authorization: Annotated[str, Header()] = "") -> str:
    """Return the user's id."""
    try:
        return str(UUID(authorization.removeprefix(SCHEME)))
    except ValueError:
        raise HTTPException(401, "send Authorization: Example <uuid>") from None
