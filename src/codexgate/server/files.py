"""`/v1/files`: uploads, lists, downloads."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from aiohttp import web

from ..errors import Fault, GateError, invalid
from ..fronts import openai_files
from ..ports import FileStore
from .context import CORE, caller
from .form import Form
from .guard import TRACE, reply_json
from .reply import STALL


async def upload(request: web.Request, purpose: str) -> web.Response:
    """`POST /v1/files`: a form whose part `file` is written to disk as it comes.

    `purpose`: of a file that is sent without one.
    """
    store = _files(request)
    form = Form(request, store.max_size)
    fields: dict[str, str] = {}
    name = ""
    async with store.receive() as incoming, aclosing(form.parts()) as parts:
        async for part in parts:
            if part.name != "file":
                fields[part.name or ""] = await form.text(part)
                continue
            if name:
                raise invalid("Only one file can be sent at a time.", "file", "invalid_form")
            name = openai_files.clean_name(part.filename or "")
            async with aclosing(form.pieces(part)) as pieces:
                async for piece in pieces:
                    await incoming.write(piece)
        if not name:
            raise invalid("There is no file: the form has no part `file`.", "file", "invalid_form")
        asked = openai_files.parse_form(fields, purpose)
        request[TRACE].unknown = asked.unknown
        record = await incoming.keep(caller(request), name, asked.purpose, asked.lifetime)
    return reply_json(openai_files.render(record))


async def listing(request: web.Request) -> web.Response:
    """`GET /v1/files`."""
    asked = openai_files.parse_query(request.query)
    found = await _files(request).list(
        caller(request),
        limit=asked.limit + 1,
        purpose=asked.purpose,
        after=asked.after,
        newest_first=asked.newest_first,
    )
    return reply_json(openai_files.render_list(found[: asked.limit], more=len(found) > asked.limit))


async def retrieve(request: web.Request) -> web.Response:
    """`GET /v1/files/{id}`."""
    return reply_json(openai_files.render(await _files(request).load(_id(request), caller(request))))


async def delete(request: web.Request) -> web.Response:
    """`DELETE /v1/files/{id}`."""
    await _files(request).delete(_id(request), caller(request))
    return reply_json(openai_files.render_deleted(_id(request)))


async def content(request: web.Request) -> web.StreamResponse:
    """`GET /v1/files/{id}/content`, to be saved and never shown."""
    store = _files(request)
    record = await store.load(_id(request), caller(request))
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": openai_files.disposition(record.name),
        "Content-Length": str(record.size),
    }
    response = web.StreamResponse(headers=headers)
    async with aclosing(store.content(record)) as pieces:
        piece = await anext(pieces, b"")  # before the head: what is lost is a real 404
        await response.prepare(request)
        if request.method != "HEAD":
            await _pass_on(request, response, piece, pieces)
    await response.write_eof()
    return response


async def _pass_on(
    request: web.Request, response: web.StreamResponse, piece: bytes, pieces: AsyncGenerator[bytes]
) -> None:
    try:
        while piece:
            async with asyncio.timeout(STALL):
                await response.write(piece)
            piece = await anext(pieces, b"")
    except (GateError, TimeoutError) as error:
        if request.transport is not None:
            request.transport.abort()  # nobody may take what came so far for all of it
        if isinstance(error, GateError):
            raise
        message = f"The file was not read for {STALL:g} s."
        raise GateError(Fault("timeout", message, code="too_slow")) from None


def _files(request: web.Request) -> FileStore:
    store = request.app[CORE].files
    if store is None:
        raise GateError(Fault("unavailable", "This gate keeps no files."))
    return store


def _id(request: web.Request) -> str:
    return request.match_info["id"]
