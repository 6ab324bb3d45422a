"""Do ledger, counters and the provider's invoice agree?"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from llm_common.testing import ProviderServer
from tests.servers import fetch


@dataclass(frozen=True)
class Books:
    """What the ledger and the counters of a database say; amounts in USD.

    Attributes:
        final: sum and number of rows whose cost is known.
        estimated: sum and number of rows charged at their bound: what was on the wire at a kill.
        external: what was spent elsewhere.
        held: what counters say is held, in nano-dollars.
        leased: what leases have left, in nano-dollars.
        overspent: by how much any counter is over its limit, held money included.
    """

    final: tuple[Decimal, int]
    estimated: tuple[Decimal, int]
    external: Decimal
    held: int
    leased: int
    overspent: Decimal


def books(url: str) -> Books:
    """Read them."""
    sums = {
        kind: (total, rows)
        for kind, total, rows in fetch(
            url,
            "SELECT CASE WHEN kind = 'external' THEN 'external'"
            " WHEN cost_source = 'estimated' THEN 'estimated' ELSE 'final' END,"
            " sum(cost_usd), count(*) FROM cost_tracking GROUP BY 1",
        )
    }
    ((held, over),) = fetch(
        url,
        "SELECT sum(held_nano)::bigint, max(spent_usd + held_nano / 1e9::numeric - limit_usd)"
        " FROM llm_budget_counters",
    )
    ((leased,),) = fetch(url, "SELECT coalesce(sum(left_nano), 0)::bigint FROM llm_leases")
    nothing = (Decimal(0), 0)
    return Books(
        sums.get("final", nothing),
        sums.get("estimated", nothing),
        sums.get("external", nothing)[0],
        held,
        leased,
        max(over, Decimal(0)),
    )


def check(url: str, provider: ProviderServer, limit: Decimal) -> Books:
    """Check that the numbers add up, when every process has ended and been replayed."""
    found = books(url)
    (price,) = {line.amount for line in provider.invoice.lines}
    in_flight = len(provider.invoice.lines) - found.final[1]
    assert found.final == (price * found.final[1], found.final[1])
    assert 0 <= in_flight <= found.estimated[1], "the provider charged for a call without a row"
    assert provider.invoice.total_usd == found.final[0] + price * in_flight
    assert found.estimated[0] >= price * in_flight
    assert found.external + found.final[0] + found.estimated[0] <= limit
    assert (found.overspent, found.held, found.leased) == (0, 0, 0)
    return found
