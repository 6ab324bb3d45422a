"""`llm-common costs alerts`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from .. import admin, outbox
from ..cost_tracker.alerts import alert_text, deliver_alerts
from ..errors import ConfigurationError
from .common import Where, out, print_json


async def alerts(where: Where, *, deliver: bool, as_json: bool) -> None:
    """Print the newest alerts of the project, after delivering what is pending if asked to.

    Raises:
        ConfigurationError: to deliver, but no webhook is set.
    """
    if deliver and outbox.webhook_url() is None:
        raise ConfigurationError("no webhook to deliver to: set LLM_COMMON_ALERT_WEBHOOK")
    tracker = await where.tracker()
    if deliver:
        await deliver_alerts(tracker.db, [where.project])
    found = await admin.alerts(tracker.db, where.project)
    await tracker.aclose()
    if as_json:
        print_json([alert.model_dump(mode="json") for alert in found])
    else:
        out.print(_table(where.project, found))


def _table(project: str, found: Sequence[admin.Alert]) -> Table:
    table = Table("raised", "alert", "state", title=f"Alerts of {project}", title_justify="left")
    for alert in found:
        state = " ".join(word for word in (alert.state, alert.last_error) if word)
        raised = alert.created_at.strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(raised, alert_text(project, alert.body), state)
    return table
