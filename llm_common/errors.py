"""Every exception that llm_common raises.

LLMCommonError
├── ConfigurationError                a setting is missing or wrong; nothing was sent
│   ├── MissingKeyError               no key for the provider or engine
│   ├── MissingExtraError             an optional package is not installed
│   └── UnknownModelError             no such model or task in the registry
├── InvalidInputError                 the caller's argument can't be used; nothing was sent
│   ├── DocumentError                 a file that is empty, binary, damaged or unreadable
│   ├── CurrencyError                 an amount in another currency than USD; none is converted
│   └── JobConflictError              the id or idempotency key is that of another job
├── BudgetError                       refused before the wire
│   ├── BudgetExceededError           the reservation does not fit a limit
│   └── UnknownPriceError             a strict budget can't bound a model without a price
├── DatabaseError
│   ├── DatabaseUnavailableError      no connection, or no answer in time
│   ├── SchemaError                   not migrated, or migrated for another library version
│   └── MigrationError                a migration failed, or a file changed after it ran
├── SpoolError                        the append-only spool can't be written; nothing was sent
├── CallError                         one attempt on the wire failed
│   ├── RateLimitedError              429; `retry_after_s` where the provider named it
│   │   └── QuotaExhaustedError       the account's credit or quota is used up
│   ├── ProviderUnavailableError      5xx, or no connection
│   ├── ProviderTimeoutError          no answer in time; it may have been billed
│   ├── BrokenResponseError           the answer broke off, or is not what the protocol says
│   ├── EmptyResponseError            HTTP 200 without content
│   ├── AuthenticationError           401 or 403
│   ├── BadRequestError               400 and its relatives
│   │   └── ContextLengthError        more input than the model takes
│   ├── ModelNotFoundError            404
│   └── RefusedError                  the provider's filter or the model declined
├── ResponseValidationError           the answer never matched the response model
├── RolloutError                      a decision that the state of a rollout does not allow
│   └── ShadowWriteError              a write in a shadow execution
└── RunError
    ├── InsufficientEvidenceError     too little to analyse; nothing was invented
    ├── RunBusyError                  another living process holds this run
    ├── FencedError                   a successor took this run over
    ├── DuplicateStepError            one step key twice in one execution
    └── JobStateError                 the job is not in a state for it, such as a second resume

Messages never hold keys, prompts or a provider's own error text.
"""

from __future__ import annotations

from decimal import Decimal


class LLMCommonError(Exception):
    """Base of every error of this library."""


class ConfigurationError(LLMCommonError):
    """A setting is missing or wrong; nothing was sent."""


class MissingKeyError(ConfigurationError):
    """No key for a provider or a search engine."""


class MissingExtraError(ConfigurationError):
    """An optional package is not installed; the message names the extra."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed: pip install 'llm-common[{extra}]'",
        )


class UnknownModelError(ConfigurationError):
    """No such model or task in the registry."""


class InvalidInputError(LLMCommonError):
    """An argument of the caller can't be used; nothing was sent."""


class DocumentError(InvalidInputError):
    """A file is empty, binary, damaged or unreadable."""


class CurrencyError(InvalidInputError):
    """An amount is in another currency than USD; this library converts none."""


class JobConflictError(InvalidInputError):
    """The id or the idempotency key of a new job is that of another one."""


class BudgetError(LLMCommonError):
    """A call was refused before the wire."""


class BudgetExceededError(BudgetError):
    """A reservation does not fit a limit.

    Attributes:
        scope: what is limited, such as ``project housing by day``.
        limit_usd: the limit.
        remaining_usd: what was left of it.
        needed_usd: the upper bound of the refused call.
    """

    def __init__(
        self,
        message: str,
        *,
        scope: str = "",
        limit_usd: Decimal | None = None,
        remaining_usd: Decimal | None = None,
        needed_usd: Decimal | None = None,
    ) -> None:
        super().__init__(message)
        self.scope = scope
        self.limit_usd = limit_usd
        self.remaining_usd = remaining_usd
        self.needed_usd = needed_usd


class UnknownPriceError(BudgetError):
    """A strict budget can't bound a model whose price is unknown."""


class DatabaseError(LLMCommonError):
    """The database refused or failed a call."""


class DatabaseUnavailableError(DatabaseError):
    """No connection to the database, or no answer within the deadline."""


class SchemaError(DatabaseError):
    """The database is not migrated, or is migrated for another version of the library."""


class MigrationError(DatabaseError):
    """A migration failed, or its file changed after it ran."""


class SpoolError(LLMCommonError):
    """The append-only spool can't be written or read; nothing was sent."""


class CallError(LLMCommonError):
    """One attempt on the wire failed.

    Attributes:
        provider: provider or engine, such as ``openai`` or ``serper``.
        model: the model that was asked, if any.
        status: HTTP status, or None when there was no answer.
        billed: False when the other side is known to charge nothing for it, True when it
            charges, None when that can't be known (the attempt is then estimated).
    """

    billed: bool | None = False

    def __init__(
        self,
        message: str,
        *,
        provider: str = "",
        model: str = "",
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.model = model
        self.status = status
        self.retry_after_s = retry_after_s


class RateLimitedError(CallError):
    """429; `retry_after_s` where the provider named it."""


class QuotaExhaustedError(RateLimitedError):
    """The account's credit or quota is used up: waiting a little does not help."""


class ProviderUnavailableError(CallError):
    """5xx, or no connection."""


class ProviderTimeoutError(CallError):
    """No answer in time; the provider may have worked and billed."""

    billed = None


class BrokenResponseError(CallError):
    """The answer broke off, or is not what the protocol says."""

    billed = None


class EmptyResponseError(CallError):
    """HTTP 200 without content."""

    billed = True


class AuthenticationError(CallError):
    """401 or 403: the key is refused."""


class BadRequestError(CallError):
    """400 and its relatives: the same request will fail again."""


class ContextLengthError(BadRequestError):
    """More input than the model takes; `status` is None where it was seen before sending."""


class ModelNotFoundError(CallError):
    """404: the provider has no such model for this key."""


class RefusedError(CallError):
    """The provider's filter or the model declined to answer."""

    billed = True


class ResponseValidationError(LLMCommonError):
    """The answer never matched the response model, after every reask."""


class RolloutError(LLMCommonError):
    """A decision that the state of a rollout does not allow, such as widening after a rollback."""


class ShadowWriteError(RolloutError):
    """A shadow execution tried to write; nothing was written."""


class RunError(LLMCommonError):
    """A durable run can't go on.

    Attributes:
        run_id: the row in `pipeline_runs`.
    """

    def __init__(self, message: str, *, run_id: str = "") -> None:
        super().__init__(message)
        self.run_id = run_id


class InsufficientEvidenceError(RunError):
    """Too little was found to analyse; nothing was invented."""


class RunBusyError(RunError):
    """Another living process holds this run."""


class FencedError(RunError):
    """A successor took this run over; this worker must stop writing."""


class DuplicateStepError(RunError):
    """The same step key was used twice in one execution of a run."""


class JobStateError(RunError):
    """The job is not in a state for what was asked, such as a second resume."""
