"""The registry is data: a host's file is laid over it, and is refused with a reason."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest

from llm_common.errors import ConfigurationError
from llm_common.routing import LLMTask, load_registry, plan
from llm_common.types import RateLimits


@pytest.fixture
def host(tmp_path: Path):
    def write(text: str) -> str:
        path = tmp_path / "registry.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_the_shipped_registry_is_read_once() -> None:
    assert load_registry() is load_registry()


def test_a_host_adds_a_provider_and_a_model(host) -> None:
    path = host("""
        [providers.acme]
        wire = "openai"
        base_url = "http://127.0.0.1:1/v1"
        key_env = "ACME_TOKEN"
        [[providers.acme.quirks]]
        match = "^big"
        drop = ["seed"]
        [models.big]
        context = 1000
        max_output = 100
        at = { acme = "big-1" }
        [tasks.chat]
        acme = ["big"]
    """)
    registry = load_registry(path)
    (found,) = plan(registry, provider="acme", task=LLMTask.CHAT, environ={"ACME_TOKEN": "k"})
    assert (found.model.id, found.model.drop) == ("big-1", ("seed",))
    assert found.model.default_max_tokens == 100
    assert plan(registry, provider="openai", model="gpt-4o", api_key="k")


def test_a_host_overrides_key_by_key(host) -> None:
    registry = load_registry(
        host('[models."gpt-4o"]\nmax_output = 77\n[tasks.chat]\nopenai = ["gpt-4o-mini"]\n')
    )
    spec = registry.models["openai"]["gpt-4o"]
    assert (spec.max_output_tokens, spec.context_tokens) == (77, 128_000)
    assert registry.tasks[LLMTask.CHAT]["openai"] == ("gpt-4o-mini",)
    assert registry.tasks[LLMTask.CHAT]["anthropic"]


def test_the_setting_names_the_file(host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_COMMON_REGISTRY", host('[models."gpt-4o"]\nmax_output = 78\n'))
    assert load_registry().models["openai"]["gpt-4o"].max_output_tokens == 78


def test_a_changed_file_is_read_again(host) -> None:
    path = host('[models."gpt-4o"]\nmax_output = 1\n')
    assert load_registry(path).models["openai"]["gpt-4o"].max_output_tokens == 1
    host('[models."gpt-4o"]\nmax_output = 2\n')
    os.utime(path, ns=(1, 1))
    assert load_registry(path).models["openai"]["gpt-4o"].max_output_tokens == 2


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[providers.acme\n", "line 1"),
        ("[provider.acme]\n", "line 1: provider is not a section"),
        ("providers = 3\n", "providers must be a table"),
        ("[providers]\nacme = 3\n", "providers.acme must be a table"),
        ('[providers.openai]\n\nwires = "x"\n', "line 3: providers.openai.wires is unknown"),
        ("[providers.openai]\nkeyless = 1\n", "line 2: providers.openai.keyless must be of type"),
        ('[providers.openai]\nwire = "smoke"\n', "line 2: providers.openai.wire must be openai or"),
        ('[providers.x]\nstructured = "y"\n', "providers.x.structured must be json_schema"),
        ('[[providers.x.quirks]]\nmatches = "y"\n', "line 2: providers.x.quirks.matches"),
        ("[models.m]\ncontext = 5\n[models.m.at]\nopenai = 'm'\n", "models.m needs max_output"),
        ("[models.m]\ncontext = true\n", "line 2: models.m.context must be of type int"),
        (
            "[models.m]\ncontext = 1\nmax_output = 1\nat = { nobody = 'm' }\n",
            "models.m.at.nobody is no provider here",
        ),
        ("[tasks.dance]\nopenai = []\n", "line 1: tasks.dance is no task"),
        ('[tasks.chat]\nopenai = "gpt-4o"\n', "line 2: tasks.chat.openai must be of type list"),
        ("[[providers.x.quirks]]\ndrop = []\n", "providers.x.quirks needs match"),
        ("[[providers.x.quirks]]\nmatch = '('\n", "providers.x.quirks.match is no regular"),
        ("[providers.x]\nquirks = [3]\n", "providers.x.quirks must be a table"),
        ("[models.m]\ncontext = 1\nmax_output = 1\nat = { openai = 3 }\n", "models.m.at.openai"),
        ("[tasks.chat]\nopenai = [3]\n", "tasks.chat.openai must list names"),
        (
            "[providers.x]\n[providers.x.limits]\nrpm = 0\n",
            "line 3: providers.x.limits.rpm must be 1",
        ),
        ("[providers.x.limits]\n\nrps = 1\n", "line 3: providers.x.limits.rps is unknown"),
        ("[models.m]\nlimits = 3\n", "line 2: models.m.limits must be a table"),
        (
            "[providers.x.limits]\nrpm = 5\n[models.m]\n[models.m.limits]\ntpm = 1.5\nrpm = 1.5\n",
            "line 5: models.m.limits.tpm must be of type int",
        ),
        (
            "[providers.x.limits]\nrpm = 5\n[models.'m-1.5'.limits]\nrpm = true\n",
            "line 4: models.m-1.5.limits.rpm must be of type int",
        ),
        ("[models.m]\n# rpm\nlimits = { rpm = -1 }\n", "line 3: models.m.limits.rpm must be 1"),
        (
            "[models.m.ceiling]\ninput_usd_per_million = 1\n",
            "line 1: models.m.ceiling needs output_usd_per_million",
        ),
        (
            "[providers.x.ceiling]\ninput_usd_per_million = 1\noutput_usd_per_million = 'much'\n",
            "line 3: providers.x.ceiling.output_usd_per_million must be USD",
        ),
        (
            "[providers.x.ceiling]\ninput_usd_per_million = nan\noutput_usd_per_million = 1\n",
            "line 2: providers.x.ceiling.input_usd_per_million must be USD",
        ),
        (
            "[models.m.ceiling]\ninput_usd_per_million = 1\noutput_usd_per_million = -1\n",
            "line 3: models.m.ceiling.output_usd_per_million must be USD",
        ),
        (
            "[models.m.ceiling]\ninput_usd_per_million = true\noutput_usd_per_million = 1\n",
            "line 2: models.m.ceiling.input_usd_per_million must be USD",
        ),
        (
            "[models.m.ceiling]\ninput_usd_per_million = 1\noutput_usd_per_million = 1\nusd = 1\n",
            "line 4: models.m.ceiling.usd is unknown",
        ),
        ("[models.m]\nceiling = 1\n", "line 2: models.m.ceiling must be a table"),
    ],
)
def test_a_malformed_file_is_refused_with_its_key_and_line(host, text: str, named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_registry(host(text))
    assert named in str(caught.value)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ConfigurationError, match="can't be read"):
        load_registry("/nowhere/registry.toml")


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "registry.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="can't be read"):
        load_registry(str(path))


def test_limits_and_ceilings_are_the_hosts_for_a_provider_or_a_model(host) -> None:
    registry = load_registry(
        host("""
            [providers.openai]
            limits = { rpm = 500 }
            [providers.openai.ceiling]
            input_usd_per_million = 0.1
            output_usd_per_million = "0.30000000000000000001"
            [models."gpt-4o".limits]
            tpm = 30_000
            max_concurrent = 4
            [models."gpt-4o-mini".ceiling]
            input_usd_per_million = 1
            output_usd_per_million = 2
        """)
    )

    def found(model: str):
        return plan(registry, provider="openai", model=model, api_key="k", environ={})[0]

    key, both = found("gpt-4o").lane.meters
    assert key[1] == RateLimits(rpm=500)
    assert both[1] == RateLimits(tpm=30_000, max_concurrent=4)
    assert found("gpt-4o-mini").lane.meters == (key,)
    ceiling = found("gpt-4o").ceiling
    assert ceiling is not None
    assert ceiling.input == Decimal("1e-7")
    assert ceiling.output == Decimal("0.30000000000000000001").scaleb(-6)
    own = found("gpt-4o-mini").ceiling
    assert own is not None
    assert own.output == Decimal("0.000002")


def test_none_is_shipped() -> None:
    registry = load_registry()
    terms = [*registry.terms.values(), *(p.terms for p in registry.providers.values())]
    assert terms
    assert all(each.limits is None and each.ceiling is None for each in terms)
