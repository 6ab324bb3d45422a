"""How long `import llm_common` takes, next to importing pydantic: `make bench`.

Best of seven fresh interpreters each, their own start subtracted. Exits 1 above the bound.
"""

from __future__ import annotations

import subprocess
import sys
import time

ROUNDS = 7
BOUND = 1.3


def best(statement: str) -> float:
    """Return the shortest time of a fresh interpreter that runs a statement, in seconds."""
    return min(_once(statement) for _ in range(ROUNDS))


def _once(statement: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - began


def main() -> int:
    """Print both times and their ratio."""
    start = best("pass")
    ours = best("import llm_common") - start
    pydantic = best("import pydantic; pydantic.BaseModel") - start
    client = best("from llm_common import LLMClient") - start
    print(f"import pydantic; pydantic.BaseModel   {pydantic * 1000:6.1f} ms   1.00")
    print(f"import llm_common                     {ours * 1000:6.1f} ms   {ours / pydantic:.2f}")
    print(
        f"from llm_common import LLMClient      {client * 1000:6.1f} ms   {client / pydantic:.2f}"
    )
    print(f"bound for import llm_common                       {BOUND:.2f}")
    return int(ours > BOUND * pydantic)


if __name__ == "__main__":
    sys.exit(main())
