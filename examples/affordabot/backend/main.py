"""The application: `uvicorn backend.main:app`."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response

from .bills import bills_of_environment
from .routers import admin
from .services.llm.choice import open_desk

# llm_common says nothing until somebody listens: here that an arm fell back, or was rolled back.
logging.basicConfig(level=logging.WARNING)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Connect once per process."""
    app.state.bills = bills_of_environment()
    async with open_desk(app.state.bills.db) as desk:
        app.state.desk = desk
        yield


app = FastAPI(title="affordabot", lifespan=lifespan)
app.include_router(admin.router)


@app.middleware("http")
async def say_who_served(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    """Name the process in each answer, so that a rollout can be followed from outside."""
    response = await call_next(request)
    response.headers["x-served-by"] = str(os.getpid())
    return response
