"""What a user and the model said to each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

from . import context, settings
from .database import connect
from .errors import InvalidInputError

ROLES = ("user", "assistant", "system")


class ConversationMemory:
    """One user's conversation, kept in the table `conversations`.

    Args:
        db_client: a Supabase client, a Postgres URL, a `Database`, or ``embedded``; `db` and
            `supabase_client` are the same argument.
        user_id: the user, a UUID.
        max_history: how many messages `get_context` returns at most.
        project: labels the messages; by default the label in force, else `LLM_COMMON_PROJECT`.

    Raises:
        ConfigurationError: no database is named, or several are.
        InvalidInputError: `user_id` is not a UUID, or `max_history` is negative.
    """

    def __init__(
        self,
        db_client: Any = None,
        user_id: str | UUID = "",
        max_history: int = 20,
        *,
        db: Any = None,
        supabase_client: Any = None,
        project: str | None = None,
    ) -> None:
        if max_history < 0:
            raise InvalidInputError(f"max_history={max_history}: pass 0 or more")
        self._user_id = _uuid("user_id", user_id)
        self._max_history = max_history
        self._project = project
        self._db = connect(db, db_client=db_client, supabase_client=supabase_client)

    async def get_context(self, page: str | None = None) -> list[dict[str, Any]]:
        """Return the last messages, oldest first, ready to be sent to a model.

        Args:
            page: where the user is now; named in a system message ahead of the history.

        Raises:
            ConfigurationError: no project is named.
            DatabaseError: the history can't be read.
        """
        answer = await self._db.call(
            "llm_conversation",
            {
                "user_id": self._user_id,
                "project": self._project_now(),
                "limit": self._max_history,
            },
        )
        return _where(page) + [
            {"role": message["role"], "content": message["content"]}
            for message in answer["messages"]
        ]

    async def save_message(
        self,
        role: str,
        content: str,
        page: str | None = None,
        *,
        message_id: str | UUID | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> str:
        """Keep one message and return its id.

        Args:
            role: user, assistant or system.
            content: the text.
            page: where it was said.
            message_id: saving the same id twice keeps one message; made here by default.
            metadata: anything that JSON can hold.

        Raises:
            ConfigurationError: no project is named.
            InvalidInputError: another role, or an id that is not a UUID.
            DatabaseError: it was not saved, as far as is known: repeat it with the same id.
            ShadowWriteError: in a shadow execution.
        """
        context.refuse_in_shadow("saving a message")
        if role not in ROLES:
            raise InvalidInputError(f"role={role!r}: pass user, assistant or system")
        identifier = _uuid("message_id", message_id or uuid4())
        message = {
            "message_id": identifier,
            "role": role,
            "content": content,
            "page": page,
            "metadata": metadata,
        }
        await self._db.call(
            "llm_save_messages",
            {"user_id": self._user_id, "project": self._project_now(), "messages": [message]},
        )
        return identifier

    async def aclose(self) -> None:
        """Release the database connection."""
        await self._db.aclose()

    def _project_now(self) -> str:
        return self._project or context.current().project or settings.project()


def _uuid(name: str, value: str | UUID) -> str:
    try:
        return str(UUID(str(value)))
    except ValueError as error:
        raise InvalidInputError(f"{name} must be a UUID") from error


def _where(page: str | None) -> list[dict[str, Any]]:
    if page is None:
        return []
    return [{"role": "system", "content": f"The user is on the page {page!r}."}]
