"""Typed fields from pages: the model reads and quotes, code verifies the quotes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Generic, Literal, TypeVar, Unpack

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from ..crawling import PageContent
from ..errors import InvalidInputError
from ..evidence import Passages
from ..llm_client import LLMClient
from ..llm_client.options import CallOptions
from ..prompts import shipped
from ..types import Frozen, LLMResponse

M = TypeVar("M", bound=BaseModel)

Verdict = Literal["verified", "repaired", "unverified", "missing"]

MOST_TOKENS = 24_000
BYTES_PER_TOKEN = 3
"""On the safe side: English prose has about four bytes of UTF-8 to a token."""

_CLOSING = re.compile(r"</(\s*page)", re.IGNORECASE)


class Cell(Frozen):
    """One field of the answer, with what bears it out.

    Attributes:
        value: of the field's type; None when it is missing.
        verdict: of the quote: ``verified``, ``repaired`` or ``unverified`` as `evidence` says;
            ``missing`` when there is no value.
        quote: the page's own words; of an unverified one, as the model gave it.
        page: position in `pages`, from 0, of the page that has the quote; None without one.
        url: of that page, where it is known.
        reason: why there is no value.
    """

    value: Any = None
    verdict: Verdict
    quote: str | None = None
    page: int | None = None
    url: str | None = None
    reason: str | None = None


class Structured(Frozen, Generic[M]):
    """What pages say of a schema's fields.

    Attributes:
        data: the schema, filled with all values, verified or not; None where a field that it
            requires is missing.
        cells: by field.
        cut: positions of the pages of which the model saw only the beginning.
        response: the call, with its cost.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    data: M | None
    cells: Mapping[str, Cell]
    cut: tuple[int, ...]
    response: LLMResponse[Any] = Field(repr=False)

    def borne_out(self) -> dict[str, Any]:
        """Return the values whose quotes stand on a page."""
        kept = ("verified", "repaired")
        return {name: cell.value for name, cell in self.cells.items() if cell.verdict in kept}


async def extract_structured(
    pages: Sequence[PageContent],
    schema: type[M],
    llm: LLMClient,
    *,
    model: str | None = None,
    max_input_tokens: int = MOST_TOKENS,
    **options: Unpack[CallOptions],
) -> Structured[M]:
    """Ask a model for a schema's fields, and look its quotes up in the pages' Markdown.

    Args:
        schema: its fields and their descriptions are what is asked for.
        max_input_tokens: room for the pages, which share it: what short ones leave, long ones get.
        options: as of `LLMClient.complete`.

    Raises:
        InvalidInputError: no page has text, the schema has no fields, or there is no room.
        LLMCommonError: as `LLMClient.complete`.
    """
    texts = _fitted([page.markdown for page in pages], max_input_tokens * BYTES_PER_TOKEN)
    if not any(texts):
        raise InvalidInputError("no page has text to read: see PageContent.reason of each")
    if not schema.model_fields:
        raise InvalidInputError(f"{schema.__name__} has no fields to fill in")
    prompt = shipped("extract_structured", "1")
    content = prompt.render(pages=_marked(pages, texts))
    options.setdefault("step", "extract_structured")
    options["prompt"] = prompt
    response = await llm.complete(
        [{"role": "user", "content": content}], model, answer_model(schema), **options
    )
    if response.parsed is None:  # pragma: no cover - a response model always parses or raises
        raise InvalidInputError("the answer holds no fields")
    passages = [Passages(text) for text in texts]
    cells = {
        field: _checked(getattr(response.parsed, field), pages, passages)
        for field in schema.model_fields
    }
    cut = tuple(i for i, p in enumerate(pages) if len(texts[i]) < len(p.markdown))
    return Structured[M](data=_filled(schema, cells), cells=cells, cut=cut, response=response)


def answer_model(schema: type[BaseModel]) -> type[BaseModel]:
    """Return what the model is asked for: each field of a schema with its quote and page."""
    fields: dict[str, Any] = {}
    for name, field in schema.model_fields.items():
        optional: Any = field.rebuild_annotation() | None
        said = create_model(
            f"{schema.__name__}_{name}",
            value=(optional, None),
            quote=(str | None, Field(None, description="copied word for word from the page")),
            page=(int | None, Field(None, description="number of the page that it stands on")),
            reason=(str | None, Field(None, description="why there is no value")),
        )
        fields[name] = (said, Field(default_factory=said, description=field.description))
    return create_model(f"{schema.__name__}WithEvidence", **fields)


def _fitted(texts: Sequence[str], room: int) -> list[str]:
    """Cut texts to so many bytes in all; the shortest first, so that they leave room."""
    fitted = [""] * len(texts)
    waiting = sorted(range(len(texts)), key=lambda i: len(texts[i].encode()))
    for position, i in enumerate(waiting):
        share = max(0, room) // (len(waiting) - position)
        fitted[i] = _cut(texts[i], share)
        room -= len(fitted[i].encode())
    return fitted


def _cut(text: str, size: int) -> str:
    """Cut at the end of a line, where one is in the last half; never within a character."""
    raw = text.encode()
    if len(raw) <= size:
        return text
    kept = raw[:size].decode("utf-8", "ignore")
    line = kept.rfind("\n")
    return kept[:line] if line > len(kept) // 2 else kept


def _marked(pages: Sequence[PageContent], texts: Sequence[str]) -> str:
    """Return the pages with their numbers from 1; a page can't close its own mark."""
    numbered = enumerate(zip(pages, texts, strict=True), 1)
    return "\n\n".join(_mark(number, page, text) for number, (page, text) in numbered if text)


def _mark(number: int, page: PageContent, text: str) -> str:
    names = f'title="{escape(page.title)}" url="{escape(page.url or "")}"'
    kept = _CLOSING.sub(r"< /\1", text)
    return f'<page number="{number}" {names}>\n{kept}\n</page>'


def _checked(said: Any, pages: Sequence[PageContent], passages: Sequence[Passages]) -> Cell:
    """Look a quote up on the page that it names, then on the others."""
    if said.value is None:
        return Cell(verdict="missing", reason=said.reason or "the model found no value")
    quote: str = said.quote or ""
    named = (said.page or 0) - 1
    order = sorted(range(len(pages)), key=lambda i: i != named)
    for i in order:
        verdict = passages[i].verify(quote)
        if verdict.status != "unverified":
            return Cell(
                value=said.value, verdict=verdict.status, quote=verdict.quote, page=i,
                url=pages[i].url,
            )  # fmt: skip
    return Cell(value=said.value, verdict="unverified", quote=quote or None)


def _filled(schema: type[M], cells: Mapping[str, Cell]) -> M | None:
    given = {name: cell.value for name, cell in cells.items() if cell.verdict != "missing"}
    fields = schema.model_fields
    missing = {name for name in fields if name not in given and fields[name].is_required()}
    try:
        return schema.model_validate({**given, **dict.fromkeys(missing)}, by_name=True)
    except ValidationError:
        return None
