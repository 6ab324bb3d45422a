"""What a text keeps of the facts that a person found on its page; pure."""

from __future__ import annotations

import re

PHONES = frozenset({"tel", "fax", "phone"})
"""Kinds of values that are compared as telephone numbers."""

_NOT_PHONE = re.compile(r"[\W_]")


def survives(kind: str, value: str, text: str) -> bool:
    """Tell whether a text holds a value.

    Telephone numbers compare by their digits and letters (1-800-FLOWERS) in order, with at most
    six other characters between two of them; all else, such as e-mail addresses and what stands
    for them ("name (at) host"), by casefold and folded white space.
    """
    if kind not in PHONES:
        return bool(folded(value)) and folded(value) in folded(text)
    keys = [re.escape(character) for character in bare(value)]
    return bool(keys) and re.search(r"[\W_]{0,6}".join(keys), text.casefold()) is not None


def same(kind: str, one: str, other: str) -> bool:
    """Tell whether two values say the same: telephone numbers by their digits and letters."""
    if kind in PHONES:
        return bool(bare(one)) and bare(one) == bare(other)
    return bool(folded(one)) and folded(one) == folded(other)


def bare(phone: str) -> str:
    """Return the digits and letters of a telephone number."""
    return _NOT_PHONE.sub("", phone).casefold()


def folded(text: str) -> str:
    """Return a text in folded case, its white space single spaces."""
    return " ".join(text.casefold().split())
