"""Tables as uploads: limits hold while they are read, and their names lead nowhere."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import gettempdir
from typing import Any
from uuid import uuid4

import pytest
import xlsxwriter

from tests.enrichment.world import World

from .conftest import COUNT
from .serving import TOKEN, Api

MOST = 2_000_000
CONFIG = json.dumps({"model": "gpt-4o-mini", "retry_delay_seconds": 0.01})


def table(world: World) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["name", "state"])
    writer.writeheader()
    writer.writerows(world.rows())
    return text.getvalue().encode()


def workbook(world: World, tmp_path: Path) -> bytes:
    path = tmp_path / "people.xlsx"
    book = xlsxwriter.Workbook(path)
    sheet = book.add_worksheet()
    for number, row in enumerate([{"name": "name", "state": "state"}, *world.rows()]):
        sheet.write_row(number, 0, [row["name"], row["state"]])
    book.close()
    return path.read_bytes()


def form(world: World, content: bytes, name: str = "people.csv") -> dict[str, Any]:
    request = world.request(["party"]).model_dump_json()
    return {"files": {"file": (name, content)}, "data": {"request": request, "config": CONFIG}}


async def test_a_file_is_a_job(api: Api, world: World, tmp_path: Path) -> None:
    files = {"people.csv": table(world), "people.xlsx": workbook(world, tmp_path)}
    for name, content in files.items():
        told = await api.ok("POST", "/jobs", **form(world, content, name))
        status = await api.over(told["job_id"])
        assert (status["status"], status["progress"]["completed"]) == ("completed", COUNT)
        rows = (await api.ok("GET", f"/jobs/{told['job_id']}/rows"))["rows"]
        assert [row["original_data"] for row in rows] == world.rows()


async def test_the_same_file_and_key_is_the_same_job(api: Api, world: World) -> None:
    headers = {"Idempotency-Key": "k"}
    given = form(world, table(world))
    first = await api.post("/enrichment/jobs", headers=headers, **given)
    second = await api.post("/enrichment/jobs", headers=headers, **given)
    assert (first.status_code, second.status_code) == (202, 200)
    assert first.json()["job_id"] == second.json()["job_id"]
    other = form(world, table(world) + b"Somebody Else,CA\n")
    assert (await api.refused("POST", "/jobs", headers=headers, **other))[0] == 409


@pytest.mark.parametrize(
    "name",
    ["../../etc/{0}.csv", "/tmp/{0}.csv", "..\\{0}.csv", "{0}.csv\x00.csv", "é{0}\n.CSV"],
)
async def test_a_name_is_not_a_path(api: Api, world: World, tmp_path: Path, name: str) -> None:
    own = uuid4().hex
    told = await api.ok("POST", "/jobs?start=false", **form(world, table(world), name.format(own)))
    assert told["status"] == "pending"
    for folder in (Path.cwd(), Path(gettempdir()), Path("/etc"), tmp_path.parent):
        assert not [file for file in folder.glob("*") if own in file.name]


@pytest.mark.parametrize("name", ["people", "people.csv.exe", "people.html", ".csv"])
async def test_a_name_that_says_no_format(api: Api, world: World, name: str) -> None:
    status, said = await api.refused("POST", "/jobs", **form(world, table(world), name))
    assert (status, said.partition(" in ")[0]) == (422, "the name of the file must end")


async def test_what_a_form_lacks_or_holds_too_much_of(api: Api, world: World) -> None:
    whole = form(world, table(world))
    request = whole["data"]["request"]
    refusals = {
        "the form has no part 'file'": {"files": {"x": (None, "y")}, "data": {}},
        "the form takes file, request and config, not 'x'": {
            **whole, "data": {"request": request, "x": "y"},
        },
        "the form has no part 'request'": {**whole, "data": {}},
        "request can't be used: Invalid JSON": {**whole, "data": {"request": "{"}},
        "config can't be used: batch_size": {
            **whole, "data": {"request": request, "config": '{"batch_size": 0}'},
        },
        "where state is written is for the server": {
            **whole, "data": {"request": request, "config": '{"state_persistence_path": "/x"}'},
        },
    }  # fmt: skip
    for said, given in refusals.items():
        if "not 'x'" not in said and "no part 'file'" in said:
            given = {"files": {"request": (None, request)}}
        status, detail = await api.refused("POST", "/jobs", **given)
        assert (status, said in detail) == (422, True), detail
    two = {"files": [("file", ("a.csv", b"a")), ("file", ("b.csv", b"b"))], "data": whole["data"]}
    assert (await api.refused("POST", "/jobs", **two))[0] == 422
    assert await api.ok("GET", "/jobs") == {"jobs": []}


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=a", b"--b\r\n"),
        ("multipart/form-data; boundary=a", b"--a\r\nno colon\r\n\r\n"),
        ("application/json", b"{"),
        ("application/json", b"\xff"),
    ],
)
async def test_a_body_that_is_broken(api: Api, kind: str, content: bytes) -> None:
    status, _ = await api.refused("POST", "/jobs", headers={"Content-Type": kind}, content=content)
    assert status == 422


async def test_a_body_of_another_kind(api: Api) -> None:
    for headers in ({"Content-Type": "text/csv"}, {}):
        status, said = await api.refused("POST", "/jobs", headers=headers, content=b"name\n")
        assert (status, said) == (
            415,
            "send application/json, or multipart/form-data with a file",
        )


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=a"])
async def test_an_upload_is_read_no_further_than_the_limit(api: Api, kind: str) -> None:
    """It never ends, and the answer comes all the same; the sockets hold some megabytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    head = f"POST /enrichment/jobs HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n"
    writer.write(f"{head}Content-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    first = b'--a\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
    answering = asyncio.create_task(reader.readline())
    sent = 0
    part = first if "form" in kind else b"["
    while not answering.done() and sent < 20 * MOST:
        writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        sent += len(part)
        await writer.drain()
        await asyncio.sleep(0)
        part = b"1,\n" * 5000
    assert b"413" in await answering
    assert sent < 20 * MOST
    writer.close()


async def test_an_upload_that_says_its_size_is_not_read(api: Api) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    head = f"POST /enrichment/jobs HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n"
    kind = f"Content-Type: application/json\r\nContent-Length: {MOST + 1}\r\n\r\n"
    writer.write((head + kind).encode())
    assert b"413" in await reader.readline()
    writer.close()


async def test_other_bodies_have_a_limit_too(api: Api) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b" " * 10_000

    status, said = await api.refused(
        "POST",
        "/reviews/x/accept",
        content=endless(),
        headers={"Content-Type": "application/json"},
    )
    assert (status, said) == (413, "the body is larger than 1,000,000 bytes")


def packed_zeros() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("xl/worksheets/sheet1.xml", b"\0" * 30_000_000)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "name", "status", "said"),
    [
        (b"name,state\n" + b"a,b\n" * 100_001, "a.csv", 413, "more than 100,000 rows: split it"),
        (b"name,state\n" + b"a" * 40_000 + b",b\n", "a.csv", 413, "row 1, column 'name': more"),
        (",".join(f"c{n}" for n in range(501)).encode() + b"\n1\n", "a.csv", 413, "500 columns"),
        (packed_zeros(), "a.xlsx", 413, "far more than its size"),
        (b"PK\x03\x04 and then nothing", "a.xlsx", 422, "damaged"),
        (b"no parquet", "a.parquet", 422, "damaged or no Parquet file"),
        (b"", "a.csv", 422, "empty"),
        (b"a,b\n1,2\n", "a.csv", 422, "the table has no column 'name', 'state'"),
    ],
    ids=["rows", "cell", "columns", "bomb", "zip", "parquet", "empty", "keys"],
)
async def test_a_table_that_will_not_do(
    api: Api, world: World, content: bytes, name: str, status: int, said: str
) -> None:
    got, detail = await api.refused("POST", "/jobs", **form(world, content, name))
    assert (got, said in detail) == (status, True), detail
    assert await api.ok("GET", "/jobs") == {"jobs": []}
