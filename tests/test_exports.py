"""What `import llm_common` offers, and what it leaves alone."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import llm_common
from tests.support import REPOSITORY

HEAVY = ("litellm", "openai", "instructor", "supabase", "httpx", "psycopg", "aiohttp", "pydantic")
PUBLIC = {
    "AnalysisPipeline", "BillAnalysis", "BudgetExceededError", "ConversationMemory", "CostMetrics",
    "CostTracker", "EnrichmentPipeline", "InsufficientEvidenceError", "LLMClient",
    "LLMCommonError", "LLMResponse", "LLMTask", "ReviewCritique", "Rollout", "SearchResult",
    "WebSearchClient", "__version__",
    "drain_on_sigterm",
}  # fmt: skip
HOME = {
    "LLMClient": "llm_common.llm_client",
    "WebSearchClient": "llm_common.web_search",
    "CostTracker": "llm_common.cost_tracker",
}
"""Modules that hosts import by name."""


def modules() -> list[str]:
    """Return the name of every module of the package."""
    found = pkgutil.walk_packages(llm_common.__path__, "llm_common.")
    return [module.name for module in found if not module.name.endswith("__main__")]


def loaded_after(statement: str) -> list[str]:
    """Return the heavy packages that a fresh interpreter holds after a statement."""
    listing = f"print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    code = f"import sys, json\n{statement}\n{listing}"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return json.loads(run.stdout)


def test_the_public_names() -> None:
    assert set(llm_common.__all__) == PUBLIC
    assert set(dir(llm_common)) == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC - {"__version__"}))
def test_a_public_name_comes_from_its_module(name: str) -> None:
    value = getattr(llm_common, name)
    assert value.__name__ == name
    assert value.__module__.startswith("llm_common.")
    assert getattr(llm_common, name) is value


@pytest.mark.parametrize(("name", "module"), HOME.items())
def test_a_named_module_exports_its_class(name: str, module: str) -> None:
    assert getattr(importlib.import_module(module), name) is getattr(llm_common, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'LLMClinet'"):
        llm_common.LLMClinet  # noqa: B018


@pytest.mark.parametrize("name", modules())
def test_every_module_imports_and_keeps_its_promises(name: str) -> None:
    module: ModuleType = importlib.import_module(name)
    for exported in getattr(module, "__all__", ()):
        assert hasattr(module, exported), f"{name}.__all__ names {exported}"


def test_the_names_for_type_checkers_are_the_names_at_run_time() -> None:
    tree = ast.parse((REPOSITORY / "llm_common" / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    typed = {alias.name: node.module for node in imports for alias in node.names}
    assert typed == llm_common._HOME


def test_importing_the_package_imports_nothing_else() -> None:
    assert loaded_after("import llm_common") == []


def test_the_main_classes_leave_the_wires_alone() -> None:
    names = ", ".join(sorted(PUBLIC - {"__version__"}))
    assert loaded_after(f"from llm_common import {names}") == ["pydantic"]


def test_all_exceptions_have_one_base() -> None:
    from llm_common import errors

    found = [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, Exception)]
    assert len(found) > 20
    assert all(issubclass(error, llm_common.LLMCommonError) for error in found)
    tree = errors.__doc__ or ""
    assert [e.__name__ for e in found if e.__name__ not in tree] == []
