"""Which URLs and addresses may be asked: http and https, and no private network.

The address that is checked is the one that is connected to, so a name that changes between a check
and its use gains nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import SplitResult, urlsplit

from ..errors import InvalidInputError
from .models import Reason

LONGEST_URL = 8_192

_BLANK = re.compile("[\x00-\x20]")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_V4_COMPATIBLE = ipaddress.ip_network("::/96")


class PrivateAddressError(OSError):
    """A name resolves to an address that may not be asked."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Refuses every address that is not public.

    Attributes:
        allowed: networks that may be asked all the same, such as ``10.1.0.0/16``.
    """

    allowed: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()

    def refuses(self, address: str) -> bool:
        """Tell whether an IP address may not be asked; what is no address may not."""
        try:
            ip = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return True
        # `in` is False between versions 4 and 6.
        forms = _forms(ip)
        if any(form in network for form in forms for network in self.allowed):
            return False
        return any(not form.is_global or form.is_multicast for form in forms)

    def judge(self, url: str) -> Reason | None:
        """Say why a URL may not be asked as it is written; None means: resolve it and see."""
        parts = split(url)
        if isinstance(parts, Reason):
            return parts
        host = parts.hostname or ""
        literal = _as_address(host)
        if literal is None:
            return None
        if self.refuses(literal):
            return Reason.PRIVATE_ADDRESS
        return None if literal == host else Reason.INVALID_URL

    async def resolve(self, host: str, port: int, family: int = socket.AF_UNSPEC) -> list[str]:
        """Return the addresses of a host, every one of which may be asked.

        Raises:
            PrivateAddressError: at least one may not.
            OSError: there is no such host.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
        if any(self.refuses(address) for address in addresses):
            raise PrivateAddressError(f"{host} is at a private address")
        return addresses


def guard(allowed: Sequence[str] = ()) -> Guard:
    """Make a guard that lets some networks pass, besides all public addresses.

    Raises:
        InvalidInputError: what is given is not a network.
    """
    try:
        return Guard(tuple(ipaddress.ip_network(network) for network in allowed))
    except ValueError as error:
        raise InvalidInputError(f"{error}: write a network such as 10.1.0.0/16") from error


def split(url: str) -> SplitResult | Reason:
    """Take a URL apart, or say why it can't be one to fetch."""
    if len(url) > LONGEST_URL or _BLANK.search(url):
        return Reason.INVALID_URL
    try:
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname
    except ValueError:
        return Reason.INVALID_URL
    if parts.scheme not in ("http", "https"):
        return Reason.UNSUPPORTED_SCHEME if parts.scheme else Reason.INVALID_URL
    if not host or port == 0 or parts.username is not None or "%" in host:
        return Reason.INVALID_URL
    return parts


def _forms(ip: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    """Return an address and the IPv4 addresses that it stands for or leads to."""
    if isinstance(ip, IPv4Address):
        return [ip]
    if ip.ipv4_mapped:
        return [ip.ipv4_mapped]
    inner: list[IPv4Address | IPv6Address] = [ip]
    if ip.sixtofour:
        inner.append(ip.sixtofour)
    if ip.teredo:
        inner.extend(ip.teredo)
    if ip in _NAT64 or ip in _V4_COMPATIBLE:
        inner.append(IPv4Address(ip.packed[-4:]))
    return inner


def _as_address(host: str) -> str | None:
    """Return the address that a host is written as; None for a name.

    Old resolvers take ``127.1``, ``0x7f.1`` and ``2130706433`` for addresses, and so do we.
    """
    last = host.rstrip(".").rpartition(".")[2]
    if ":" in host:
        return host
    if not (last.isdecimal() or last.startswith(("0x", "0X"))):
        return None
    try:
        return socket.inet_ntoa(socket.inet_aton(host.rstrip(".")))
    except (OSError, UnicodeEncodeError):
        return host
