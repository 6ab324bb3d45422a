"""Rollouts through OpenFeature's own client: every type of value, reason and code of error."""

from __future__ import annotations

import asyncio
import importlib
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode, ProviderNotReadyError
from openfeature.flag_evaluation import FlagEvaluationDetails, Reason
from openfeature.provider import ProviderStatus
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

from llm_common.database import Database
from llm_common.errors import ConfigurationError, InvalidInputError, MissingExtraError
from llm_common.integrations import openfeature as integration
from llm_common.integrations.openfeature import ERRORS, REASONS, ExposureHook, RolloutProvider
from llm_common.rollout import Exposure, Rollout, keeper
from llm_common.rollout.commands import change, wanted
from tests import children
from tests.rollout.test_keeper import Flaky
from tests.servers import fetch

FLAG = "bill-analysis"
UNIT = EvaluationContext("unit-1")
HERE = EvaluationContext("unit-1", {"jurisdiction": "California", "page": 7})
DEFAULTS: dict[str, Any] = {
    "boolean": True, "string": "mine", "integer": -1, "float": -0.5, "object": {"mine": 1}
}  # fmt: skip
"""A default of each type that no rollout would return."""

Set = Callable[..., Awaitable[None]]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("LLM_COMMON_ROLLOUT_POLL_S", "0.05")
    # What a busy machine has not read again in two seconds counts here all the same.
    monkeypatch.setattr(keeper, "LEAST_STALE_S", 60.0)
    for name in ("USE_NEW_LLM_FRAMEWORK", "USE_NEW_LLM_FRAMEWORK_PERCENTAGE"):
        monkeypatch.delenv(name, raising=False)
    yield
    api.shutdown()


@pytest.fixture
async def rollout(db: Database) -> AsyncIterator[Rollout]:
    async with Rollout(FLAG, db) as started:
        yield started


@pytest.fixture
def client(rollout: Rollout) -> OpenFeatureClient:
    api.set_provider_and_wait(RolloutProvider(rollout))
    return api.get_client()


@pytest.fixture
def set_to(rollout: Rollout) -> Set:
    """Set the rollout, and wait until it has read that."""

    async def set_it(value: str, action: str = "set", **more: Any) -> None:
        assert rollout.db is not None
        to = wanted(value) | more
        await change(rollout.db, rollout.project, FLAG, action, reason="a test", to=to)

        def is_set() -> bool:
            return rollout.state is not None and rollout.state.mode == to["mode"]

        await children.until(is_set)

    return set_it


def ask(
    client: OpenFeatureClient,
    context: EvaluationContext | None = UNIT,
    kind: str = "boolean",
    flag: str = FLAG,
) -> FlagEvaluationDetails[Any]:
    return getattr(client, f"get_{kind}_details")(flag, DEFAULTS[kind], context)


async def ask_all(
    client: OpenFeatureClient, context: EvaluationContext | None = UNIT, flag: str = FLAG
) -> dict[str, FlagEvaluationDetails[Any]]:
    """Ask for every type of value, both ways, which must agree."""
    answers = {kind: ask(client, context, kind, flag) for kind in DEFAULTS}
    for kind, answer in answers.items():
        later = getattr(client, f"get_{kind}_details_async")
        assert await later(flag, DEFAULTS[kind], context) == answer
    return answers


async def refused(
    client: OpenFeatureClient, context: EvaluationContext | None = UNIT, flag: str = FLAG
) -> tuple[ErrorCode | None, str | None]:
    """Ask for every type of value; each is the caller's default, with the one error."""
    answers = await ask_all(client, context, flag)
    assert {kind: answer.value for kind, answer in answers.items()} == DEFAULTS
    assert {answer.reason for answer in answers.values()} == {Reason.ERROR}
    (error,) = {(answer.error_code, answer.error_message) for answer in answers.values()}
    return error


async def test_the_new_arm_in_every_type(client, set_to):
    await set_to("12.5", allow=["unit-1"])
    answers = await ask_all(client)
    revision = answers["object"].value["revision"]
    assert {kind: answer.value for kind, answer in answers.items()} == {
        "boolean": True,
        "string": "new",
        "integer": 100,
        "float": 100.0,
        "object": {
            "mode": "percent",
            "percent": 100.0,
            "arm": "new",
            "reason": "allowed",
            "revision": revision,
            "counted": False,
            "is_shadowed": False,
        },
    }
    assert revision > 0
    for answer in answers.values():
        assert (answer.variant, answer.reason) == ("new", Reason.TARGETING_MATCH)
        assert answer.error_code is None
        assert answer.flag_metadata == {
            "rollout_reason": "allowed",
            "rollout_share": 10_000,
            "rollout_revision": revision,
        }


async def test_a_percentage_is_that_of_the_unit_and_an_integer_is_rounded_down(client, set_to):
    there = {"attribute": "jurisdiction", "values": ["California"], "share": 9_999}
    await set_to("12.59", segments=[there])
    assert [ask(client, UNIT, kind).value for kind in ("float", "integer")] == [12.59, 12]
    assert [ask(client, HERE, kind).value for kind in ("float", "integer")] == [99.99, 99]


async def test_the_arm_is_the_rollouts_own(client, rollout, set_to):
    await set_to("30")
    units = [f"unit-{i}" for i in range(200)]
    arms = [client.get_string_value(FLAG, "old", EvaluationContext(unit)) for unit in units]
    assert arms == [rollout.arm(unit) for unit in units]
    assert set(arms) == {"old", "new"}


@pytest.mark.parametrize(
    ("value", "more", "context", "arm", "reason", "why"),
    [
        ("100", {}, UNIT, "new", "SPLIT", "hash"),
        ("on", {}, UNIT, "new", "STATIC", "on"),
        ("99.99", {}, UNIT, "new", "SPLIT", "hash"),
        ("0.01", {}, UNIT, "old", "SPLIT", "hash"),
        ("50", {"allow": ["unit-1"]}, UNIT, "new", "TARGETING_MATCH", "allowed"),
        ("50", {"deny": ["unit-1"]}, UNIT, "old", "TARGETING_MATCH", "denied"),
        ("0.01", {"segments": [("jurisdiction", "California")]}, HERE, "new", "TARGETING_MATCH",
         "segment"),
        ("0.01", {"segments": [("jurisdiction", "California")]}, UNIT, "old", "SPLIT", "hash"),
        ("0.01", {"segments": [("page", "7")]}, HERE, "old", "SPLIT", "hash"),
        ("off", {}, UNIT, "old", "DISABLED", "off"),
        ("shadow", {}, UNIT, "old", "STATIC", "shadow"),
    ],
)  # fmt: skip
async def test_reasons(client, set_to, value, more, context, arm, reason, why):
    segments = [
        {"attribute": name, "values": [text], "share": 10_000}
        for name, text in more.get("segments", [])
    ]
    await set_to(value, **more | {"segments": segments})
    answer = ask(client, context, "string")
    assert (answer.value, answer.reason) == (arm, Reason(reason))
    assert answer.flag_metadata["rollout_reason"] == why


async def test_a_flag_that_nobody_has_set_has_its_default(client):
    answer = ask(client)
    assert (answer.value, answer.reason) == (False, Reason.DEFAULT)


async def test_a_rollout_that_was_rolled_back_is_disabled(client, set_to):
    await set_to("off", action="roll_back")
    answer = ask(client)
    assert (answer.value, answer.reason) == (False, Reason.DISABLED)
    assert answer.flag_metadata["rollout_reason"] == "rolled_back"


@pytest.mark.parametrize(
    ("use", "percentage", "arm", "reason"),
    [
        ("false", "", "old", Reason.STATIC),
        ("true", "", "new", Reason.STATIC),
        ("", "99.99", "new", Reason.SPLIT),
        ("", "100", "new", Reason.STATIC),
    ],
)
async def test_the_environment(monkeypatch, empty_url, use, percentage, arm, reason):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("SUPABASE_URL", raising=False)
    monkeypatch.setenv("USE_NEW_LLM_FRAMEWORK", use)
    monkeypatch.setenv("USE_NEW_LLM_FRAMEWORK_PERCENTAGE", percentage)
    api.set_provider_and_wait(RolloutProvider(Rollout(FLAG)))
    answer = ask(api.get_client(), kind="string")
    assert (answer.value, answer.reason) == (arm, reason)
    assert answer.flag_metadata["rollout_reason"] == "environment"


async def test_an_environment_that_cannot_be_read_is_a_general_error(monkeypatch, db):
    monkeypatch.setenv("USE_NEW_LLM_FRAMEWORK", "perhaps")
    async with Rollout(FLAG, db) as rollout:
        api.set_provider_and_wait(RolloutProvider(rollout))
        code, message = await refused(api.get_client())
    assert code == ErrorCode.GENERAL
    assert message == "a variable of the environment can't be read"


async def test_a_flag_without_a_rollout(client):
    code, message = await refused(client, flag="bill-anlysis")
    assert code == ErrorCode.FLAG_NOT_FOUND
    assert message == "rollouts here are: bill-analysis"


@pytest.mark.parametrize("context", [None, EvaluationContext(), EvaluationContext("")])
async def test_without_a_targeting_key(client, set_to, context):
    await set_to("on")
    assert (await refused(client, context))[0] == ErrorCode.TARGETING_KEY_MISSING
    directly = client.provider.resolve_integer_details(FLAG, -1, context)
    assert (directly.value, directly.error_code) == (-1, ErrorCode.TARGETING_KEY_MISSING)


async def test_a_targeting_key_that_is_no_id(client, set_to):
    await set_to("on")
    wrong: Any = 1.5
    assert (await refused(client, EvaluationContext(wrong)))[0] == ErrorCode.INVALID_CONTEXT


async def test_a_rollout_that_cannot_be_evaluated_is_a_general_error(db):
    class Broken(Rollout):
        @property
        def state(self):
            state = super().state
            return state and state.model_copy(update={"mode": "percent", "segments": (None,)})

    async with Broken(FLAG, db) as rollout:
        api.set_provider_and_wait(RolloutProvider(rollout))
        code, message = await refused(api.get_client())
    assert (code, message) == (ErrorCode.GENERAL, "the rollout could not be evaluated")


async def test_a_state_that_is_not_there_yet_is_waited_for_where_that_can_be(db):
    rollout = Rollout(FLAG, db)
    api.set_provider_and_wait(RolloutProvider(rollout))
    early = ask(api.get_client())
    assert (early.error_code, early.value) == (ErrorCode.PROVIDER_NOT_READY, True)
    later = await api.get_client().get_boolean_details_async(FLAG, True, UNIT)
    assert (later.error_code, later.value, later.reason) == (None, False, Reason.DEFAULT)
    await rollout.aclose()


async def test_a_database_that_goes_away_is_stale_and_the_old_arm(db, set_to, monkeypatch):
    monkeypatch.setattr(keeper, "LEAST_STALE_S", 0.3)
    await set_to("on")
    flaky = Flaky(db)
    async with Rollout(FLAG, flaky) as rollout:
        api.set_provider_and_wait(RolloutProvider(rollout))
        client = api.get_client()
        await children.until(lambda: ask(client).value is True)
        flaky.is_away = True
        await children.until(lambda: not ask(client).value)
        answer = ask(client)
        assert (answer.error_code, answer.reason) == (None, Reason.STALE)
        flaky.is_away = False
        await children.until(lambda: ask(client).value)


async def test_a_database_that_was_never_there_is_an_error_and_lets_the_host_start(db):
    flaky = Flaky(db)
    flaky.is_away = True
    async with Rollout(FLAG, flaky) as rollout:
        api.set_provider_and_wait(RolloutProvider(rollout))
        assert api.get_client().get_provider_status() == ProviderStatus.READY
        assert (await refused(api.get_client()))[0] == ErrorCode.PROVIDER_NOT_READY


async def test_a_provider_that_is_set_without_waiting_is_ready_with_its_states(rollout, set_to):
    await set_to("on")
    fresh = Rollout(FLAG, rollout.db)
    api.set_provider(RolloutProvider(fresh))
    client = api.get_client()
    before = ask(client)
    assert (before.error_code, before.value) == (ErrorCode.PROVIDER_NOT_READY, True)
    await children.until(lambda: client.get_provider_status() == ProviderStatus.READY)
    assert ask(client, kind="string").value == "new"
    await fresh._keeper.aclose()


async def test_an_event_loop_that_stands_still_is_not_waited_for_without_end(rollout, monkeypatch):
    provider = RolloutProvider(rollout)
    with ThreadPoolExecutor(1) as threads, monkeypatch.context() as impatient:
        impatient.setattr(integration, "LOAD_S", 0.05)
        starting = threads.submit(provider.initialize, UNIT)
        with pytest.raises(ProviderNotReadyError):
            starting.result()  # here, so the loop is blocked meanwhile
    resolved = provider.resolve_boolean_details(FLAG, True, UNIT)
    assert (resolved.value, resolved.error_code) == (True, ErrorCode.PROVIDER_NOT_READY)
    await asyncio.to_thread(provider.initialize, UNIT)
    assert provider.resolve_boolean_details(FLAG, True, UNIT).value is False


async def test_a_provider_that_was_shut_down_leaves_its_rollouts_open(client, rollout, set_to):
    await set_to("on")
    assert ask(client).value is True
    client.provider.shutdown()
    assert (await refused(client))[0] == ErrorCode.PROVIDER_NOT_READY
    assert rollout.arm("unit-1") == "new"
    client.provider.initialize(UNIT)
    assert ask(client, kind="string").value == "new"


async def test_other_threads_may_ask(client, set_to):
    await set_to("on")
    assert (await asyncio.to_thread(ask, client, UNIT, "string")).value == "new"


def test_every_reason_of_a_rollout_is_told() -> None:
    told = set(re.findall(r"``(\w+)``", Exposure.__doc__ or ""))
    assert REASONS.keys() | ERRORS.keys() == told - {"fell_back"}  # which is no evaluation


async def test_one_flag_has_one_rollout(rollout) -> None:
    for made in (RolloutProvider, ExposureHook):
        with pytest.raises(InvalidInputError, match="a flag of its own"):
            made(rollout, rollout)


async def exposures(rollout: Rollout, url: str) -> list[tuple[Any, ...]]:
    await asyncio.sleep(0)  # the hook hands over to the event loop
    await rollout._recorder.flush()
    return fetch(
        url,
        "SELECT unit_id, arm, reason, share, counted, revision FROM llm_rollout_exposures"
        " ORDER BY seq",
    )


async def test_the_hook_records_what_decides_which_code_runs(client, rollout, set_to, database_url):
    await set_to("99.99")
    client.add_hooks([ExposureHook(rollout)])
    await ask_all(client)
    revision = rollout.state.revision
    one = ("unit-1", "new", "hash", 9_999, False, revision)
    assert await exposures(rollout, database_url) == [one] * 4  # a boolean and a string, twice
    counted = await look_at(rollout)
    assert counted["new"]["units"] == {}
    assert counted["new"]["due"] == 0


async def look_at(rollout: Rollout) -> Any:
    """Read the tally as the guardrails do."""
    asked = {"every_s": 0, "slow_ms": 1, "grace_s": 0, "at_once": True}
    assert rollout.db is not None
    key = {"project": rollout.project, "flag": FLAG}
    return await rollout.db.call("llm_rollout_look", asked | key)


async def test_the_hook_leaves_errors_and_other_providers_alone(
    client, rollout, set_to, database_url
):
    await set_to("on")
    client.add_hooks([ExposureHook(rollout)])
    await refused(client, EvaluationContext())
    await refused(client, flag="another")
    api.set_provider_and_wait(InMemoryProvider({FLAG: InMemoryFlag("off", {"off": False})}))
    assert ask(client).value is False
    assert await exposures(rollout, database_url) == []
    api.set_provider_and_wait(RolloutProvider(rollout))
    assert ask(client).value is True
    assert len(await exposures(rollout, database_url)) == 1


async def test_the_hook_records_from_other_threads(client, rollout, set_to, database_url):
    await set_to("off")
    client.add_hooks([ExposureHook(rollout)])
    await asyncio.gather(*(asyncio.to_thread(ask, client) for _ in range(20)))
    assert (
        await exposures(rollout, database_url)
        == [("unit-1", "old", "off", 0, False, rollout.state.revision)] * 20
    )


def test_a_hook_whose_event_loop_has_ended_says_so_and_the_evaluation_stands(
    monkeypatch, caplog
) -> None:
    monkeypatch.setenv("USE_NEW_LLM_FRAMEWORK", "true")
    for name in ("DATABASE_URL", "SUPABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    rollout = Rollout(FLAG)

    async def made() -> ExposureHook:
        return ExposureHook(rollout)

    hook = asyncio.run(made())
    api.set_provider_and_wait(RolloutProvider(rollout))
    client = api.get_client()
    client.add_hooks([hook])
    assert ask(client, kind="string").value == "new"
    assert "rollout.not_recorded" in caplog.text


def test_a_hook_needs_an_event_loop() -> None:
    with pytest.raises(ConfigurationError, match="event loop"):
        ExposureHook()


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, integration.__name__)
    monkeypatch.setitem(sys.modules, "openfeature.hook", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'llm-common\[openfeature\]'"):
        importlib.import_module(integration.__name__)
