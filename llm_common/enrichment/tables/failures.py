"""How readers of files fail."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from ...errors import InvalidInputError, LLMCommonError


@contextmanager
def failures(message: Callable[[BaseException], str]) -> Generator[None, None, None]:
    """Turn whatever a reader says of a file into one sentence of ours.

    Raises:
        InvalidInputError: with the message.
    """
    try:
        yield
    except BaseException as error:
        # Readers in Rust panic at some broken files, and a panic is no `Exception`.
        is_panic = type(error).__name__ == "PanicException"
        if isinstance(error, LLMCommonError) or not (isinstance(error, Exception) or is_panic):
            raise
        raise InvalidInputError(message(error)) from None
