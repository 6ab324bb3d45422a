"""Which deployments are tried, in which order, with which keys."""

from __future__ import annotations

import pytest

from llm_common.errors import (
    ConfigurationError,
    InvalidInputError,
    MissingKeyError,
    UnknownModelError,
)
from llm_common.routing import Deployment, LLMTask, Registry, load_registry, plan

REGISTRY = load_registry()
BARE = ("gpt-4o", "gpt-4o-mini", "gpt-5-mini", "claude-3.5-sonnet", "claude-sonnet-4.5")


def planned(registry: Registry = REGISTRY, **options: object) -> tuple[Deployment, ...]:
    options.setdefault("environ", {})
    options.setdefault("api_key", None if options["environ"] else "sk-1")
    return plan(registry, **options)  # type: ignore[arg-type]


def test_a_bare_name_becomes_each_providers_own_id() -> None:
    ids = {
        (provider, name): planned(provider=provider, model=name)[0].model.id
        for provider, name in (
            ("openai", "gpt-4o"),
            ("openrouter", "gpt-4o"),
            ("openrouter", "claude-3.5-sonnet"),
            ("anthropic", "claude-sonnet-4.5"),
            ("anthropic", "claude-sonnet-4-5"),
            ("gemini", "gemini-2.5-pro"),
            ("openrouter", "gemini-2.5-flash"),
            ("zai", "glm-4.6"),
            ("groq", "llama-3.3-70b"),
            ("mistral", "mistral-large"),
            ("deepseek", "deepseek-chat"),
        )
    }
    assert list(ids.values()) == [
        "gpt-4o",
        "openai/gpt-4o",
        "anthropic/claude-3.5-sonnet",
        "claude-sonnet-4-5",
        "claude-sonnet-4-5",
        "gemini-2.5-pro",
        "google/gemini-2.5-flash",
        "glm-4.6",
        "llama-3.3-70b-versatile",
        "mistral-large-latest",
        "deepseek-chat",
    ]


def test_openrouter_has_every_name_of_the_plan() -> None:
    assert all(planned(provider="openrouter", model=name) for name in BARE)


def test_keys_multiply_deployments_and_models_come_first() -> None:
    environ = {
        "OPENAI_API_KEY_10": "ten",
        "OPENAI_API_KEY": "one",
        "OPENAI_API_KEY_2": " two ",
        "OPENAI_API_KEY_3": "",
        "OPENAI_API_KEY_4": "one",
        "OPENAI_API_KEY_OLD": "no",
        "XOPENAI_API_KEY": "no",
    }
    found = planned(provider="openai", models=["gpt-4o", "gpt-4o-mini"], environ=environ)
    assert [(d.model.name, d.key_alias, d.key) for d in found] == [
        (model, alias, key)
        for model in ("gpt-4o", "gpt-4o-mini")
        for alias, key in (
            ("OPENAI_API_KEY", "one"),
            ("OPENAI_API_KEY_2", "two"),
            ("OPENAI_API_KEY_10", "ten"),
        )
    ]
    assert [d.alias for d in found[:2]] == ["openai/gpt-4o#1", "openai/gpt-4o#2"]
    assert "two" not in repr(found)


def test_a_key_argument_is_the_only_key() -> None:
    environ = {"OPENAI_API_KEY": "one", "OPENAI_API_KEY_2": "two"}
    (found,) = planned(provider="openai", model="gpt-4o", api_key="mine", environ=environ)
    assert (found.key, found.key_alias) == ("mine", "argument")


def test_no_key_names_the_variable() -> None:
    with pytest.raises(MissingKeyError, match="ZAI_API_KEY"):
        planned(provider="zai", model="glm-4.6", api_key=None)


def test_the_endpoint_is_argument_then_environment_then_registry() -> None:
    def endpoint(**options: object) -> str | None:
        return planned(provider="zai", model="glm-4.6", api_key="k", **options)[0].base_url

    environ = {"ZAI_BASE_URL": "http://env"}
    assert endpoint() == REGISTRY.providers["zai"].base_url
    assert endpoint(environ=environ) == "http://env"
    assert endpoint(environ=environ, base_url="http://arg") == "http://arg"


def test_offline_needs_an_address_and_no_key() -> None:
    with pytest.raises(ConfigurationError, match="OFFLINE_BASE_URL"):
        planned(provider="offline", model="extractive", api_key=None)
    environ = {"OFFLINE_BASE_URL": "http://127.0.0.1:1/v1"}
    (found,) = planned(provider="offline", task="review", environ=environ, api_key=None)
    assert (found.model.id, found.key) == ("offline/extractive", "offline")
    assert found.base_url == "http://127.0.0.1:1/v1"


def test_offline_is_chosen_by_nobody_else() -> None:
    for models in REGISTRY.models.values():
        for spec in models.values():
            assert (spec.id == "offline/extractive") is (spec.provider == "offline")


@pytest.mark.parametrize("task", list(LLMTask))
def test_every_task_has_models_at_every_provider_with_an_api_of_its_own(task: LLMTask) -> None:
    for provider in ("openai", "anthropic", "gemini", "zai", "groq", "mistral", "deepseek"):
        found = planned(provider=provider, task=task)
        assert len(found) >= 2, provider
    assert planned(provider="openrouter", task=str(task))


def test_a_reviewer_is_of_another_family_than_the_writer() -> None:
    writer = planned(provider="openrouter", task="generate")[0].model.id
    reviewer = planned(provider="openrouter", task="review")[0].model.id
    assert writer.split("/")[0] != reviewer.split("/")[0]


def test_models_win_over_model_and_model_over_task() -> None:
    names = [
        planned(provider="openai", **options)[0].model.name
        for options in (
            {"models": ["gpt-4.1"], "model": "gpt-4o", "task": "chat"},
            {"model": "gpt-5", "task": "chat"},
        )
    ]
    assert names == ["gpt-4.1", "gpt-5"]


def test_a_model_named_twice_is_tried_once() -> None:
    assert len(planned(provider="openai", models=["gpt-4o", "gpt-4o"])) == 1


def test_nothing_asked_is_an_error() -> None:
    with pytest.raises(InvalidInputError, match="model="):
        planned(provider="openai")


def test_an_unknown_model_gets_suggestions() -> None:
    with pytest.raises(UnknownModelError, match="gpt-4o-mini"):
        planned(provider="openai", model="gpt-4o-minny")
    with pytest.raises(UnknownModelError, match="claude-sonnet"):
        planned(provider="anthropic", model="gpt-4o")


def test_unknown_tasks_and_providers_are_named() -> None:
    with pytest.raises(UnknownModelError, match="summarize"):
        planned(provider="openai", task="dance")
    with pytest.raises(ConfigurationError, match="openrouter"):
        planned(provider="nonesuch", model="m")


def test_an_id_that_litellm_knows_passes_with_its_facts() -> None:
    (found,) = planned(provider="mistral", model="codestral-latest")
    assert found.model.context_tokens == found.model.max_output_tokens == 128_000
    (same,) = planned(provider="mistral", model="mistral/codestral-latest")
    assert same.model.id == "codestral-latest"


def test_a_reseller_takes_a_vendors_id_as_it_is() -> None:
    (found,) = planned(provider="openrouter", model="some-vendor/some-model")
    assert found.model.id == "some-vendor/some-model"
    assert found.model.extra == {"usage": {"include": True}}
    with pytest.raises(UnknownModelError):
        planned(provider="openrouter", model="some-model")


def test_a_server_of_the_hosts_own_takes_any_model() -> None:
    (found,) = planned(provider="openai", model="my-finetune", base_url="http://127.0.0.1:1")
    assert found.model.id == "my-finetune"


def test_a_provider_that_only_litellm_knows() -> None:
    environ = {"COHERE_API_KEY": "k"}
    (found,) = planned(provider="cohere", model="embed-v4.0", environ=environ)
    assert (found.wire, found.base_url, found.key) == ("litellm", None, "k")


@pytest.mark.parametrize(
    ("provider", "model", "wire"),
    [
        ("openai", "gpt-4o", "openai"),
        ("openrouter", "gpt-4o", "openai"),
        ("anthropic", "claude-haiku-4.5", "litellm"),
        ("gemini", "gemini-2.5-pro", "litellm"),
    ],
)
def test_the_wire_is_the_providers(provider: str, model: str, wire: str) -> None:
    assert planned(provider=provider, model=model)[0].wire == wire


def test_quirks_are_applied_by_the_id() -> None:
    thinking = planned(provider="openai", model="gpt-5-mini")[0].model
    assert thinking.drop == ("temperature",)
    assert thinking.rename == {"max_tokens": "max_completion_tokens"}
    assert thinking.default_max_tokens > 4096
    plain = planned(provider="openai", model="gpt-4o")[0].model
    assert (plain.drop, plain.rename) == ((), {})
    assert plain.default_max_tokens == 4096
    assert planned(provider="openrouter", model="gpt-5-mini")[0].model.drop == ()


def test_no_default_is_more_than_the_model_can_answer() -> None:
    for models in REGISTRY.models.values():
        for spec in models.values():
            least = 1 if spec.max_output_tokens else 0  # embeddings write nothing
            assert least <= spec.default_max_tokens <= spec.max_output_tokens, spec.id


def test_the_shipped_registry_is_as_large_as_promised() -> None:
    specs = {
        (spec.name, spec.provider)
        for models in REGISTRY.models.values()
        for spec in models.values()
        if spec.provider != "offline"
    }
    groups = {name for name, _ in specs}
    assert len(groups) >= 20
    assert len(specs) >= 50
    # One key each gives as many deployments.
    environ = {f"{provider.upper()}_API_KEY": "k" for _, provider in specs}
    found = [d for n, p in specs for d in planned(provider=p, model=n, environ=environ)]
    assert len({d.lane.id for d in found}) == len(specs) == 94
    assert len(groups) == 54


def test_another_providers_model_by_its_prefix() -> None:
    environ = {"OPENAI_API_KEY": "o", "ANTHROPIC_API_KEY": "a", "MISTRAL_API_KEY": "m"}
    found = planned(
        provider="openai",
        models=[
            "openai/gpt-4o",
            "anthropic/claude-sonnet-4.5",
            "gpt-4o-mini",
            "mistral/codestral-latest",
        ],
        environ=environ,
    )
    assert [(d.provider, d.model.id, d.key) for d in found] == [
        ("openai", "gpt-4o", "o"),
        ("anthropic", "claude-sonnet-4-5", "a"),
        ("openai", "gpt-4o-mini", "o"),
        ("mistral", "codestral-latest", "m"),
    ]
    assert [d.wire for d in found] == ["openai", "litellm", "openai", "openai"]


@pytest.mark.parametrize(
    ("provider", "name", "expected"),
    [
        ("openrouter", "openai/gpt-4o", ("openrouter", "openai/gpt-4o")),
        ("openrouter", "openai/gpt-9", ("openrouter", "openai/gpt-9")),
        ("openrouter", "deepseek/deepseek-reasoner", ("openrouter", "deepseek/deepseek-reasoner")),
        (
            "openrouter",
            "anthropic/claude-sonnet-4.5",
            ("openrouter", "anthropic/claude-sonnet-4.5"),
        ),
        # These are nobody's vendor names there.
        ("openrouter", "zai/glm-4.6", ("zai", "glm-4.6")),
        ("openrouter", "groq/gpt-oss-20b", ("groq", "openai/gpt-oss-20b")),
        ("groq", "openai/gpt-oss-20b", ("groq", "openai/gpt-oss-20b")),
        ("groq", "openai/gpt-4o", ("openai", "gpt-4o")),
        (
            "openai",
            "openrouter/anthropic/claude-sonnet-4.5",
            ("openrouter", "anthropic/claude-sonnet-4.5"),
        ),
    ],
)
def test_an_own_id_goes_before_another_providers_name(
    provider: str, name: str, expected: tuple[str, str]
) -> None:
    environ = {
        f"{p.upper()}_API_KEY": "k" for p in ("openai", "openrouter", "groq", "zai", "deepseek")
    }
    (found,) = planned(provider=provider, model=name, environ=environ)
    assert (found.provider, found.model.id) == expected


def test_a_server_of_the_hosts_own_keeps_what_looks_like_anothers() -> None:
    (found,) = planned(
        provider="openai", model="deepseek/deepseek-chat", base_url="http://127.0.0.1:1"
    )
    assert (found.provider, found.model.id) == ("openai", "deepseek/deepseek-chat")


def test_another_providers_unknown_model_is_its_own_error() -> None:
    with pytest.raises(UnknownModelError, match="anthropic has no model 'gpt-4o'"):
        planned(provider="openai", model="anthropic/gpt-4o")


def test_models_without_a_key_are_left_out_while_another_remains() -> None:
    models = ["anthropic/claude-sonnet-4.5", "gpt-4o"]
    (found,) = planned(provider="openai", models=models, environ={"OPENAI_API_KEY": "o"})
    assert found.model.name == "gpt-4o"
    with pytest.raises(MissingKeyError, match="ANTHROPIC_API_KEY"):
        planned(provider="openai", models=models, environ={"GROQ_API_KEY": "g"})
    # The argument is the client's own provider's.
    (found,) = planned(provider="openai", models=models, api_key="mine")
    assert found.key == "mine"


def test_one_model_by_two_names_is_tried_once() -> None:
    found = planned(provider="openai", models=["gpt-4o", "openai/gpt-4o"])
    assert len(found) == 1


def test_a_plan_is_made_anew_when_what_it_was_made_from_changes() -> None:
    environ = {"OPENAI_API_KEY": "one"}

    def found() -> list[tuple[str, str | None]]:
        made = planned(provider="openai", model="gpt-4o", environ=environ)
        return [(d.key, d.base_url) for d in made]

    own = REGISTRY.providers["openai"].base_url
    assert found() == [("one", own)]
    assert planned(provider="openai", model="gpt-4o", environ=environ) is planned(
        provider="openai", model="gpt-4o", environ=environ
    )
    environ["OPENAI_API_KEY"] = "two"
    assert found() == [("two", own)]
    environ["OPENAI_API_KEY_7"] = "three"
    assert found() == [("two", own), ("three", own)]
    environ["OPENAI_BASE_URL"] = "http://127.0.0.1:1"
    assert found()[0] == ("two", "http://127.0.0.1:1")
    del environ["OPENAI_API_KEY_7"], environ["OPENAI_BASE_URL"]
    environ["UNRELATED"] = "x"
    assert found() == [("two", own)]


def test_lanes_are_by_endpoint_key_and_model_and_do_not_tell_the_key() -> None:
    def lane(**options: object) -> str:
        return planned(**{"provider": "openai", "model": "gpt-4o", **options})[0].lane.id

    first = lane(api_key="secret-one")
    assert first == lane(environ={"OPENAI_API_KEY_3": "secret-one"})
    others = {
        lane(api_key="secret-two"),
        lane(api_key="secret-one", model="gpt-4o-mini"),
        lane(api_key="secret-one", base_url="http://127.0.0.1:1"),
        lane(api_key="secret-one", provider="openrouter"),
    }
    assert len(others | {first}) == 5
    (found,) = planned(provider="openai", model="gpt-4o", api_key="secret-one")
    assert "secret" not in repr(found)
    assert found.lane.context_tokens == 128_000
    unlisted = planned(provider="openrouter", model="some-vendor/some-model")[0]
    assert unlisted.lane.context_tokens == 0
