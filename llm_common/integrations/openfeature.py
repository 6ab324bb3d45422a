"""OpenFeature: rollouts behind the SDK's own client, for hosts that ask for flags that way.

Needs the extra ``openfeature``. A rollout is one flag with five views: its boolean is whether the
unit is shown the new arm, its string the arm, its integer and float the percentage in force for
the unit (the integer rounded down), its object all of this with the reason. So a flag never has
the wrong type, and TYPE_MISMATCH does not occur.

The targeting key is the unit's id; those attributes that are texts are what segments go by.

| reason of the rollout | of OpenFeature |
| --- | --- |
| hash, and a percentage of the environment | SPLIT |
| segment, allowed, denied | TARGETING_MATCH |
| on, shadow, true or false of the environment | STATIC |
| off, rolled_back | DISABLED |
| unset | DEFAULT |
| stale | STALE |
| what is wrong | ERROR, with a code |

With an error the client returns the caller's default, which ought to be the old arm.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from ..errors import ConfigurationError, InvalidInputError, MissingExtraError
from ..rollout import Choice, Force, Rollout
from ..rollout.buckets import BUCKETS, unit_name
from ..telemetry import event

try:
    from openfeature.evaluation_context import (  # pyright: ignore[reportMissingTypeStubs]
        EvaluationContext,
    )
    from openfeature.exception import ErrorCode, ProviderNotReadyError
    from openfeature.flag_evaluation import (
        FlagEvaluationDetails,
        FlagResolutionDetails,
        FlagType,
        FlagValueType,
        Reason,
    )
    from openfeature.hook import (  # pyright: ignore[reportMissingTypeStubs]
        Hook,
        HookContext,
        HookHints,
    )
    from openfeature.provider import (  # pyright: ignore[reportMissingTypeStubs]
        AbstractProvider,
        Metadata,
    )
except ImportError as error:
    raise MissingExtraError("openfeature-sdk", "openfeature") from error

T = TypeVar("T")
Context = EvaluationContext | None
Object = Sequence[FlagValueType] | Mapping[str, FlagValueType]

NAME = "llm_common"
LOAD_S = 10.0
"""What the SDK waits for the states at most; each rollout waits 2 s for its own."""

REASONS = {
    "hash": Reason.SPLIT,
    "segment": Reason.TARGETING_MATCH,
    "allowed": Reason.TARGETING_MATCH,
    "denied": Reason.TARGETING_MATCH,
    "on": Reason.STATIC,
    "shadow": Reason.STATIC,
    "environment": Reason.STATIC,
    "off": Reason.DISABLED,
    "rolled_back": Reason.DISABLED,
    "unset": Reason.DEFAULT,
    "stale": Reason.STALE,
}
ERRORS = {
    "no_state": (ErrorCode.PROVIDER_NOT_READY, "the state of the rollout could not be read yet"),
    "no_unit": (ErrorCode.INVALID_CONTEXT, "a targeting key is a text, a whole number or a UUID"),
    "bad_environment": (ErrorCode.GENERAL, "a variable of the environment can't be read"),
    "error": (ErrorCode.GENERAL, "the rollout could not be evaluated"),
}
"""What is wrong, by the reason of the rollout."""


class RolloutProvider(AbstractProvider):
    """Resolves the flags of rollouts.

    The rollouts stay the caller's: whoever made them starts and closes them. Make the provider
    where their event loop runs; other threads may then ask it.

    Args:
        rollouts: each under the name of its flag.

    Raises:
        InvalidInputError: two rollouts have one flag.
    """

    def __init__(self, *rollouts: Rollout) -> None:
        super().__init__()
        self._rollouts = _by_flag(rollouts)
        self._loop = _running_loop()
        self._is_ready = False

    def get_metadata(self) -> Metadata:
        """Return the provider's name."""
        return Metadata(NAME)

    def initialize(self, evaluation_context: EvaluationContext) -> None:  # noqa: ARG002
        """Load the states.

        `set_provider` calls this in a thread of its own, and it waits for them. Where it is called
        in the event loop, as by `set_provider_and_wait`, nothing can be waited for: a flag whose
        state is not there yet is answered with PROVIDER_NOT_READY, so `await rollout.start()`
        before. A database that is away is no reason to fail here.

        Raises:
            ProviderNotReadyError: the event loop stands still.
        """
        loop = self._loop
        if loop is not None and loop.is_running() and loop is not _running_loop():
            loading = asyncio.run_coroutine_threadsafe(self._load(), loop)
            try:
                loading.result(LOAD_S)
            except TimeoutError:
                loading.cancel()
                raise ProviderNotReadyError("the event loop of the rollouts stands still") from None
        self._is_ready = True

    def shutdown(self) -> None:
        """Answer no more until the next `initialize`; the rollouts are left open."""
        self._is_ready = False

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: Context = None
    ) -> FlagResolutionDetails[bool]:
        """Return whether the unit is shown the new arm."""
        return self._resolve(flag_key, default_value, evaluation_context, _is_new)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: Context = None
    ) -> FlagResolutionDetails[str]:
        """Return the arm, ``old`` or ``new``."""
        return self._resolve(flag_key, default_value, evaluation_context, _arm)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: Context = None
    ) -> FlagResolutionDetails[int]:
        """Return the percentage in force for the unit, rounded down."""
        return self._resolve(flag_key, default_value, evaluation_context, _whole_percent)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: Context = None
    ) -> FlagResolutionDetails[float]:
        """Return the percentage in force for the unit."""
        return self._resolve(flag_key, default_value, evaluation_context, _percent)

    def resolve_object_details(
        self, flag_key: str, default_value: Object, evaluation_context: Context = None
    ) -> FlagResolutionDetails[Object]:
        """Return `mode`, `percent`, `arm`, `reason`, `revision`, `counted` and `is_shadowed`."""
        return self._resolve(flag_key, default_value, evaluation_context, _everything)

    async def resolve_boolean_details_async(
        self, flag_key: str, default_value: bool, evaluation_context: Context = None
    ) -> FlagResolutionDetails[bool]:
        """Wait for the state, 2 s at most, and resolve."""
        await self._load(flag_key)
        return self.resolve_boolean_details(flag_key, default_value, evaluation_context)

    async def resolve_string_details_async(
        self, flag_key: str, default_value: str, evaluation_context: Context = None
    ) -> FlagResolutionDetails[str]:
        """Wait for the state, 2 s at most, and resolve."""
        await self._load(flag_key)
        return self.resolve_string_details(flag_key, default_value, evaluation_context)

    async def resolve_integer_details_async(
        self, flag_key: str, default_value: int, evaluation_context: Context = None
    ) -> FlagResolutionDetails[int]:
        """Wait for the state, 2 s at most, and resolve."""
        await self._load(flag_key)
        return self.resolve_integer_details(flag_key, default_value, evaluation_context)

    async def resolve_float_details_async(
        self, flag_key: str, default_value: float, evaluation_context: Context = None
    ) -> FlagResolutionDetails[float]:
        """Wait for the state, 2 s at most, and resolve."""
        await self._load(flag_key)
        return self.resolve_float_details(flag_key, default_value, evaluation_context)

    async def resolve_object_details_async(
        self, flag_key: str, default_value: Object, evaluation_context: Context = None
    ) -> FlagResolutionDetails[Object]:
        """Wait for the state, 2 s at most, and resolve."""
        await self._load(flag_key)
        return self.resolve_object_details(flag_key, default_value, evaluation_context)

    async def _load(self, flag: str | None = None) -> None:
        """Wait until the state of one flag, or of all, is read; not for long."""
        rollouts = [r for name, r in self._rollouts.items() if flag in {None, name}]
        await asyncio.gather(*(rollout.start() for rollout in rollouts))

    def _resolve(
        self, flag: str, default: T, context: Context, view: Callable[[Choice, Force], T]
    ) -> FlagResolutionDetails[T]:
        if not self._is_ready:
            return _wrong(default, ErrorCode.PROVIDER_NOT_READY, "the provider is not in use")
        rollout = self._rollouts.get(flag)
        if rollout is None:
            known = ", ".join(self._rollouts) or "none"
            return _wrong(default, ErrorCode.FLAG_NOT_FOUND, f"rollouts here are: {known}")
        unit = context.targeting_key if context else None
        if unit is None or unit == "":
            return _wrong(default, ErrorCode.TARGETING_KEY_MISSING, "it is the id of the unit")
        force = rollout.force
        choice = rollout.choose(unit, _texts(context.attributes if context else {}))
        if choice.reason in ERRORS:
            return _wrong(default, *ERRORS[choice.reason])
        return FlagResolutionDetails(
            value=view(choice, force),
            reason=_reason(choice),
            variant=choice.arm,
            flag_metadata={
                "rollout_reason": choice.reason,
                "rollout_share": choice.share,
                "rollout_revision": choice.revision,
            },
        )


class ExposureHook(Hook):
    """Records that a unit was shown an arm, each time a boolean or a string was resolved.

    Those two decide which code runs; a percentage or an object is only looked at, and what ended
    with an error, or comes from another provider, tells nothing of a rollout. Recorded are unit,
    arm, reason, share and revision, as by `Rollout.run`, but not counted: an evaluation has no
    outcome, and one that is awaited in vain would look like lost data to the guardrails. So the
    guardrails go by `Rollout.run`, `Rollout.stream` and `Rollout.exposure` alone.

    Make it where the event loop of the rollouts runs; flags may then be asked for in any thread.

    Args:
        rollouts: those of the provider.

    Raises:
        ConfigurationError: no event loop runs here.
        InvalidInputError: two rollouts have one flag.
    """

    def __init__(self, *rollouts: Rollout) -> None:
        self._rollouts = _by_flag(rollouts)
        loop = _running_loop()
        if loop is None:
            raise ConfigurationError("an ExposureHook is made where the rollouts' event loop runs")
        self._loop = loop

    def supports_flag_value_type(self, flag_type: FlagType) -> bool:
        """Return whether a value of this type says which arm runs."""
        return flag_type in {FlagType.BOOLEAN, FlagType.STRING}

    def after(
        self,
        hook_context: HookContext,
        details: FlagEvaluationDetails[FlagValueType],
        hints: HookHints,  # noqa: ARG002
    ) -> None:
        """Record the exposure; what can't be recorded is said, and the evaluation stands."""
        rollout = self._rollouts.get(details.flag_key)
        unit = unit_name(hook_context.evaluation_context.targeting_key)
        known: Mapping[str, Any] = details.flag_metadata
        if rollout is None or unit is None or "rollout_reason" not in known:
            return
        choice = Choice(
            arm="new" if details.variant == "new" else "old",
            reason=known["rollout_reason"],
            unit=unit,
            share=known["rollout_share"],
            revision=known["rollout_revision"],
        )
        try:
            self._loop.call_soon_threadsafe(rollout.show, choice)
        except RuntimeError:
            event("rollout.not_recorded", level=logging.WARNING, flag=rollout.flag, rows=1)


def _by_flag(rollouts: Sequence[Rollout]) -> dict[str, Rollout]:
    found = {rollout.flag: rollout for rollout in rollouts}
    if len(found) < len(rollouts):
        raise InvalidInputError("each rollout needs a flag of its own")
    return found


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _texts(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Return what segments can go by."""
    return {name: value for name, value in attributes.items() if isinstance(value, str)}


def _reason(choice: Choice) -> Reason:
    if choice.reason == "environment" and 0 < choice.share < BUCKETS:
        return Reason.SPLIT
    return REASONS.get(choice.reason, Reason.UNKNOWN)


def _wrong(default: T, code: ErrorCode, message: str) -> FlagResolutionDetails[T]:
    return FlagResolutionDetails(
        value=default, reason=Reason.ERROR, error_code=code, error_message=message
    )


def _is_new(choice: Choice, _: Force) -> bool:
    return choice.arm == "new"


def _arm(choice: Choice, _: Force) -> str:
    return choice.arm


def _whole_percent(choice: Choice, _: Force) -> int:
    return choice.share // 100


def _percent(choice: Choice, _: Force) -> float:
    return choice.share / 100


def _everything(choice: Choice, force: Force) -> Object:
    return {
        "mode": force.mode,
        "percent": choice.share / 100,
        "arm": choice.arm,
        "reason": choice.reason,
        "revision": choice.revision,
        "counted": choice.counted,
        "is_shadowed": choice.is_shadowed,
    }
