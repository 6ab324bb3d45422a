"""In which country a row is at home: whose telephone numbers and dates are meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from .columns import DEFAULT_REGION
from .states import state_of
from .wording import plain

_COUNTRIES = {
    "united states": "US", "united states of america": "US", "usa": "US", "u.s.": "US",
    "united kingdom": "GB", "uk": "GB", "great britain": "GB", "england": "GB", "ireland": "IE",
    "canada": "CA", "australia": "AU", "new zealand": "NZ", "germany": "DE", "france": "FR",
    "italy": "IT", "spain": "ES", "netherlands": "NL", "belgium": "BE", "switzerland": "CH",
    "austria": "AT", "sweden": "SE", "norway": "NO", "denmark": "DK", "finland": "FI",
    "poland": "PL", "india": "IN", "japan": "JP", "brazil": "BR", "mexico": "MX",
}  # fmt: skip
_TOP_LEVELS = {code.lower(): code for code in _COUNTRIES.values()} | {"uk": "GB"}


def region_of(row: Mapping[str, Any], pages: Sequence[Mapping[str, Any]] = ()) -> str:
    """Return an ISO 3166 code: of the row's country or state, else of the first page's domain."""
    for name, value in row.items():
        column = plain(str(name))
        if value and "country" in column:
            said = plain(str(value).strip())
            if found := _COUNTRIES.get(said) or _TOP_LEVELS.get(said):
                return found
        if value and column in ("state", "us_state", "us state") and state_of(str(value)):
            return "US"
    for page in pages:
        host = urlsplit(str(page.get("url") or "")).hostname or ""
        if found := _TOP_LEVELS.get(host.rpartition(".")[2]):
            return found
    return DEFAULT_REGION
