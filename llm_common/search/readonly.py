"""JSON that can be shared: dicts and lists whose methods refuse to change them.

They stay dicts and lists for `json`, pydantic and comparisons; a deep copy or a pickle of one is an
ordinary dict or list again.
"""

from __future__ import annotations

import copy
from typing import Any, NoReturn, cast

FLAT = frozenset((str, int, float, bool, type(None)))
"""Types that can't be changed; most entries of an engine have no others."""
_WHY = "a search result is shared by all who get it: change a copy.deepcopy of it"


def _refuse(*_: object, **__: object) -> NoReturn:
    raise TypeError(_WHY)


class ReadOnlyDict(dict[str, Any]):
    """A dict as it was made."""

    __setitem__ = __delitem__ = __ior__ = _refuse  # pyright: ignore[reportAssignmentType]
    clear = pop = popitem = setdefault = update = _refuse  # pyright: ignore[reportAssignmentType]

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return {key: copy.deepcopy(value, memo) for key, value in self.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class ReadOnlyList(list[Any]):
    """A list as it was made."""

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse  # pyright: ignore[reportAssignmentType]
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse  # pyright: ignore[reportAssignmentType]

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return [copy.deepcopy(value, memo) for value in self]

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


def read_only(value: Any) -> Any:
    """Return JSON with all dicts and lists in it read-only."""
    if isinstance(value, dict):
        if type(value) is ReadOnlyDict:  # pyright: ignore[reportUnknownArgumentType]
            return value
        entry = cast("dict[str, Any]", value)
        if FLAT.issuperset(map(type, entry.values())):
            return ReadOnlyDict(entry)
        return ReadOnlyDict({key: read_only(each) for key, each in entry.items()})
    if isinstance(value, list):
        is_done = isinstance(value, ReadOnlyList)
        return value if is_done else ReadOnlyList(map(read_only, cast("list[Any]", value)))
    return value
