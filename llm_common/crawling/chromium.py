"""One Chromium: found, started through crawl4ai, measured, closed, and killed if it stays."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import uuid4

from .. import settings
from ..extras import require
from ..telemetry import event

EXECUTABLES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""Names of a browser that the system brings; without one, Playwright's own is used."""

_CLOSE_S = 5.0
_IDLE_S = 1.0
_EMPTY = float("inf")
"""Of a free tab that shows nothing: there is nothing more to stop."""
_SETTLE_MS = 2_000
_SETTLED = """async (most) => {
    const until = performance.now() + most;
    while (performance.now() < until && !(document.body?.innerText ?? "").trim())
        await new Promise(resolve => setTimeout(resolve, 50));
}"""
"""Waits until scripts have written something; a page with text is not waited for."""


def executable() -> str | None:
    """Return the system's Chromium; None leaves it to Playwright."""
    return next(filter(None, map(shutil.which, EXECUTABLES)), None)


class _Quiet:
    """crawl4ai's log, without a reader: it quotes pages and URLs."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_args, **_more: None  # pyright: ignore[reportUnknownLambdaType, reportUnknownVariableType]


@dataclass(eq=False)
class Chromium:
    """A running browser and what it has done.

    Attributes:
        strategy: crawl4ai's, which opens and closes the pages.
        mark: in the command line of the browser's process, and of no other.
        driver: the process between Playwright and the browser.
        served: pages so far; `busy` of them at this moment.
        retired: takes no further page.
        tabs: those that are free, and since when.
    """

    strategy: Any
    mark: str
    driver: Any
    served: int = 0
    busy: int = 0
    retired: bool = False
    tabs: dict[str, float] = field(default_factory=dict[str, float])

    def take_tab(self) -> str:
        """Return the tab that was free for the shortest time, or the name of a new one."""
        return self.tabs.popitem()[0] if self.tabs else uuid4().hex

    def keep_tab(self, tab: str) -> None:
        """Let the next page have a tab: it shows one sooner than a new tab does."""
        self.tabs[tab] = time.monotonic()

    def idle_tabs(self) -> list[str]:
        """Take the tabs that nobody wanted for a while; without a page in work, all of them."""
        since = time.monotonic() - (_IDLE_S if self.busy else 0)
        idle = [tab for tab, kept_at in self.tabs.items() if kept_at <= since]
        for tab in idle:
            del self.tabs[tab]
        return idle

    async def empty_tab(self, tab: str) -> None:
        """Show nothing in a tab, so that the scripts of its last page run no longer."""
        if not self.is_alive():
            return
        _context, page, _since = self.strategy.browser_manager.sessions[tab]
        try:
            await page.goto("about:blank", timeout=_CLOSE_S * 1000)
        except Exception as error:  # noqa: BLE001 - Playwright's own, of a page that hangs or is gone
            event("browser.tab_lost", level=logging.DEBUG, error=type(error).__name__)
            self.retired = True
        else:
            self.tabs = {tab: _EMPTY, **self.tabs}

    async def drop_tab(self, tab: str) -> None:
        """Close a tab that failed; one that does not answer goes with its browser."""
        try:
            await asyncio.wait_for(self.strategy.kill_session(tab), _CLOSE_S)
        except Exception as error:  # noqa: BLE001 - Playwright's own, of a page that hangs or is gone
            event("browser.tab_lost", level=logging.DEBUG, error=type(error).__name__)
            self.retired = True

    def is_alive(self) -> bool:
        """Tell whether the browser still answers to us."""
        browser = self.strategy.browser_manager.browser
        return browser is not None and browser.is_connected()

    def memory_bytes(self) -> int:
        """Return the memory of the browser's processes; what they share is split among them."""
        return sum(_memory(process) for process in self._processes())

    async def close(self) -> None:
        """Close the browser and its driver; what is left after five seconds each is killed."""
        manager = self.strategy.browser_manager
        for closing in (manager.browser.close, manager.playwright.stop):
            try:
                await asyncio.wait_for(closing(), _CLOSE_S)
            except Exception as error:  # noqa: BLE001 - Playwright's own; what can't be closed is killed
                event("browser.killed", level=logging.WARNING, error=type(error).__name__)
            finally:
                self.kill()
        self.kill_driver()

    def kill(self) -> None:
        """Kill the processes of this browser, and only those."""
        psutil = require("psutil", "crawl")
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def kill_driver(self) -> None:
        """Kill the process through which Playwright spoke to the browser."""
        psutil = require("psutil", "crawl")
        with contextlib.suppress(psutil.NoSuchProcess):
            self.driver.kill()

    def _processes(self) -> list[Any]:
        psutil = require("psutil", "crawl")
        found: list[Any] = []
        for process in psutil.Process().children(recursive=True):
            try:
                if self.mark in process.cmdline():
                    found += [process, *process.children(recursive=True)]
            except psutil.Error:
                continue
        return list({process.pid: process for process in found}.values())


async def start(proxy: str, user_agent: str) -> Chromium:
    """Start a browser that reaches the web through a proxy only.

    Raises:
        MissingExtraError: crawl4ai is not installed.
        Exception: the browser does not start; Playwright's own error.
    """
    # crawl4ai and litellm would make folders in the home folder, fetch prices and advertise.
    os.environ.setdefault("CRAWL4_AI_BASE_DIRECTORY", str(settings.state_dir()))
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("CRAWL4AI_NO_CLOUD_NOTICE", "1")
    strategies = await asyncio.to_thread(require, "crawl4ai.async_crawler_strategy", "crawl")
    managers = require("crawl4ai.browser_manager", "crawl")
    config = require("crawl4ai", "crawl").BrowserConfig(
        headless=True,
        user_agent=user_agent,
        ignore_https_errors=False,
        verbose=False,
        extra_args=[
            (mark := f"--llm-common={uuid4().hex}"),
            # Nothing leaves beside the proxy.
            "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
            "--disable-background-networking",
            # Nobody looks at them.
            "--blink-settings=imagesEnabled=false",
            "--disable-remote-fonts",
        ],
    )

    class Manager(managers.BrowserManager):
        """crawl4ai's manager, with the system's browser and our proxy."""

        def _build_browser_args(self) -> dict[str, Any]:
            found = {"executable_path": path} if (path := executable()) else {}
            # <-loopback>: Chromium would pass by a proxy on its way to loopback.
            way_out = {"proxy": {"server": proxy, "bypass": "<-loopback>"}}
            theirs = super()._build_browser_args()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            return {**theirs, **found, **way_out}

    strategy = strategies.AsyncPlaywrightCrawlerStrategy(config, logger=_Quiet())
    strategy.browser_manager = Manager(browser_config=config, logger=_Quiet())
    strategy.set_hook("before_goto", _keep_answer)
    strategy.set_hook("before_retrieve_html", _settle)
    await strategy.start()
    return Chromium(strategy, mark, _driver(mark))


async def _keep_answer(page: Any, **more: Any) -> Any:
    """Keep the last answer of the page itself: crawl4ai tells that of the first redirect."""
    shared = more["config"].shared_data

    def keep(answer: Any) -> None:
        if answer.request.is_navigation_request() and answer.frame == page.main_frame:
            shared["answer"] = answer

    page.on("response", keep)
    shared["forget"] = partial(page.remove_listener, "response", keep)
    return page


async def _settle(page: Any, **_more: Any) -> Any:
    await page.evaluate(_SETTLED, _SETTLE_MS)
    return page


def _driver(mark: str) -> Any:
    """Return the process that started the browser with this mark."""
    psutil = require("psutil", "crawl")
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            driver = process.parent()
            if mark in process.cmdline() and driver is not None and driver.pid != os.getpid():
                return driver
    raise RuntimeError("the browser ended as soon as it was started")


def _memory(process: Any) -> int:
    psutil = require("psutil", "crawl")
    try:
        full = process.memory_full_info()
    except psutil.Error:
        return 0
    # Linux alone tells a proportional share; elsewhere what a process has for itself.
    return int(getattr(full, "pss", full.uss))
