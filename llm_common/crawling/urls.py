"""One text per URL, so that a page is asked for once, and what a URL says of its host.

The normal form follows RFC 3986, section 6.2.2 and 6.2.3, and UTS 46 for names of hosts.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from ipaddress import ip_address
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit
from uuid import UUID, uuid5

from ..errors import InvalidInputError
from ..extras import require

SCHEMES = {"http": 80, "https": 443}

TRACKING = frozenset(
    {
        *("dclid", "fbclid", "gbraid", "gclid", "igshid", "mc_cid", "mc_eid", "msclkid", "twclid"),
        *("utm_campaign", "utm_content", "utm_id", "utm_medium", "utm_source", "utm_term"),
        *("wbraid", "yclid"),
    }
)
"""Parameters that name where a visitor came from; kept unless a crawl is told to drop them."""

SESSION = frozenset(
    {"jsessionid", "phpsessid", "aspsessionid", "cfid", "cftoken", "sessionid", "session_id"}
)
"""Parameters that name a visitor, never a page: always dropped."""

_SESSION_IN_PATH = re.compile(r";(?:jsessionid|phpsessid|sid)=[^/;?#]*", re.IGNORECASE)
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNRESERVED = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
)  # RFC 3986, 2.3
_PATH_SAFE = "/%:@!$&'()*+,;=-._~"
_QUERY_SAFE = _PATH_SAFE + "?"
_WHITE = "".join(map(chr, range(33)))
_NAMESPACE = UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # RFC 9562, 6.6: URL


def normalize_url(url: str, *, drop: Collection[str] = ()) -> str:
    """Return the one text of a URL: what differs only in spelling becomes the same.

    Scheme and host in lower case, the host in ASCII (IDNA) without a trailing dot, no default
    port, no fragment, no user, no dot segments, no empty query, escapes in upper case and only
    where they are needed. Session ids are dropped; the order of parameters is the site's own.

    Args:
        drop: names of query parameters to leave out, such as `TRACKING`.

    Raises:
        InvalidInputError: it is no absolute http or https URL.
    """
    return _normal(url, frozenset(drop))


@lru_cache(maxsize=16_384)
def _normal(url: str, drop: frozenset[str]) -> str:
    """Sites repeat the same links on every page."""
    text = url.strip(_WHITE).replace("\t", "").replace("\n", "").replace("\r", "")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InvalidInputError(_not_a_url(url)) from error
    scheme = parts.scheme.lower()
    if scheme not in SCHEMES:
        raise InvalidInputError(
            f"{_shown(url)} is no web page: write http:// or https:// before it"
        )
    host = _host(parts, url)
    netloc = host if port in (None, SCHEMES[scheme]) else f"{host}:{port}"
    query = _query(parts.query, drop) if parts.query else ""
    return urlunsplit((scheme, netloc, _path(parts.path), query, ""))


@lru_cache(maxsize=16_384)
def url_key(url: str) -> str:
    """Return a UUID of a normal URL, the same everywhere: its key in the frontier's table."""
    return str(uuid5(_NAMESPACE, url))


def host_of(url: str) -> str:
    """Return the host of a normal URL with its port, where that is not the scheme's own."""
    return urlsplit(url).netloc


def origin_of(url: str) -> str:
    """Return scheme, host and port of a normal URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def name_of(host: str) -> str:
    """Return a host without its port."""
    return host if host.endswith("]") else host.rpartition(":")[0] or host


@lru_cache(maxsize=4096)
def registered_domain(host: str) -> str:
    """Return the part of a host that somebody registered, such as ``example.co.uk``.

    By the public suffix list, its private part included: ``alice.github.io`` is not ``bob``'s.
    An address, and a name that the list does not know, is its own domain.
    """
    name = name_of(host)
    if _is_address(name):
        return name
    found: Any = require("tld", "pages").get_fld(
        name, fix_protocol=True, fail_silently=True, search_private=True
    )
    return str(found) if found else name


def _host(parts: SplitResult, url: str) -> str:
    name = (parts.hostname or "").rstrip(".")
    if not name:
        raise InvalidInputError(_not_a_url(url))
    if ":" in name:
        return f"[{name}]"
    try:
        return name if name.isascii() and _is_plain(name) else _ascii(name)
    except UnicodeError as error:
        raise InvalidInputError(_not_a_url(url)) from error


def _is_plain(name: str) -> bool:
    return all(c.isalnum() or c in "-._" for c in name) and ".." not in name


def _ascii(name: str) -> str:
    from idna import encode

    return encode(name, uts46=True).decode("ascii")


def _is_address(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _path(path: str) -> str:
    clean = _escaped(_SESSION_IN_PATH.sub("", path), _PATH_SAFE)
    return _without_dots(clean) or "/"


def _query(query: str, drop: Collection[str]) -> str:
    parts = [part for part in query.split("&") if part and not _is_dropped(part, drop)]
    return _escaped("&".join(parts), _QUERY_SAFE)


def _is_dropped(part: str, drop: Collection[str]) -> bool:
    name = part.partition("=")[0].lower()
    return name in SESSION or name.startswith("aspsessionid") or name in drop


def _escaped(text: str, safe: str) -> str:
    """Escape what must be, and nothing else."""
    if "%" in text:
        text = _ESCAPE.sub(_unescaped, _BAD_ESCAPE.sub("%25", text))
    return quote(text, safe=safe, errors="replace")


def _unescaped(found: re.Match[str]) -> str:
    character = chr(int(found[1], 16))
    return character if character in _UNRESERVED else f"%{found[1].upper()}"


def _without_dots(path: str) -> str:
    """Remove dot segments (RFC 3986, 5.2.4)."""
    if "/." not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments[1:]:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def _shown(url: str) -> str:
    return repr(url if len(url) <= 100 else url[:99] + "…")


def _not_a_url(url: str) -> str:
    return f"{_shown(url)} is no URL: write it as https://example.org/page"
