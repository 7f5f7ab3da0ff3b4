"""Puts what a backend can read in the place of every file: its text, or the picture that it is.

A `ports.Stage`. What is new in a conversation must be readable, or it is refused by name; what has been
lost since it was said is a note in its place, so that the conversation can go on. Judges files by their
bytes alone.
"""

import asyncio
import base64
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import aclosing

import msgspec

from .. import sniff
from ..activity import block, one_line
from ..chat import Document, Image, Message, Part, StoredFile, Text
from ..errors import Fault, GateError, invalid
from ..ports import Batches, FileStore, Route, Run
from . import pdf

FILE = 50 * 1024**2
"""Bytes of a file that a model is to read."""
TOTAL = 64 * 1024**2
"""Characters of all that is put into one request; a small id or PDF can stand for much."""
READERS = 2
"""PDFs that are read at once."""
KEPT = 8
"""Texts of PDFs that are kept, since a client sends the whole conversation with every turn."""


class Attachments:
    """The stage; without a store no id means anything."""

    def __init__(self, files: FileStore | None = None) -> None:
        self._files = files
        self._readers = asyncio.Semaphore(READERS)
        self._texts: OrderedDict[bytes, str] = OrderedDict()
        """By the digest of the PDF, the one used last at the end."""

    def __call__(self, route: Route, run: Run) -> Batches:
        """See `ports.Stage`."""
        messages = route.request.messages
        wanted = (StoredFile,) if "documents" in route.backend.honours else (StoredFile, Document)
        if not any(isinstance(part, wanted) for message in messages for part in message.parts):
            return run(route)
        return self._answer(route, run)

    async def _answer(self, route: Route, run: Run) -> Batches:
        request = route.request
        reading = _Reading(self, request.caller, whole="documents" in route.backend.honours)
        messages = await reading.messages(request.messages)
        changed = msgspec.structs.replace(request, messages=messages)
        async with aclosing(run(msgspec.structs.replace(route, request=changed))) as batches:
            async for batch in batches:
                yield batch

    async def load(self, id: str, owner: str) -> tuple[str, bytes]:
        """Name and content of a stored file. Raises GateError."""
        if self._files is None:
            raise GateError(Fault("not_found", "This gate keeps no files.", code="file_not_found"))
        record = await self._files.load(id, owner)
        if record.size > FILE:
            raise _too_long(record.name)
        async with aclosing(self._files.content(record)) as pieces:
            return record.name, b"".join([piece async for piece in pieces])

    async def pdf(self, data: bytes, name: str) -> str:
        """The text of a PDF. Raises GateError."""
        digest = await asyncio.to_thread(lambda: hashlib.sha256(data).digest())
        text = self._texts.pop(digest, None)
        if text is None:
            async with self._readers:
                text = await pdf.text_of(data, name)
        self._texts[digest] = text
        while len(self._texts) > KEPT:
            self._texts.popitem(last=False)
        return text


class _Reading:
    """The files of one request. `whole`: the backend reads documents itself."""

    def __init__(self, stage: Attachments, owner: str, *, whole: bool) -> None:
        self._stage = stage
        self._owner = owner
        self._whole = whole
        self._left = TOTAL

    async def messages(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """The messages, with what can be read in the place of files. Raises GateError."""
        answered = max((at for at, message in enumerate(messages) if message.role == "assistant"), default=-1)
        return tuple([await self._message(one, new=at > answered) for at, one in enumerate(messages)])

    async def _message(self, message: Message, *, new: bool) -> Message:
        if all(isinstance(part, Text | Image) for part in message.parts):
            return message
        parts = [await self._part(part, new=new) for part in message.parts]
        return msgspec.structs.replace(message, parts=_apart(message.parts, parts))

    async def _part(self, part: Part, *, new: bool) -> Part:
        if not isinstance(part, StoredFile | Document) or (self._whole and isinstance(part, Document)):
            return part
        try:
            read = await self._read(part)
        except GateError as error:
            if new or error.fault.kind not in ("not_found", "invalid_request"):
                raise
            lost = "is gone" if error.fault.kind == "not_found" else "cannot be read"
            return Text(f"[file {one_line(part.name)} {lost}]")
        self._left -= len(read.text if isinstance(read, Text) else read.data)
        if self._left < 0:
            message = "The files of this conversation are too large together."
            raise invalid(message, code="file_unreadable", advice="Send fewer, or parts of them.")
        return read

    async def _read(self, part: StoredFile | Document) -> Text | Image | Document:
        if isinstance(part, StoredFile):
            name, data = await self._stage.load(part.id, self._owner)
        else:
            name, data = part.name, await asyncio.to_thread(_decoded, part)
        name = one_line(name).replace("`", "'")
        if media_type := sniff.image_type(data):
            return Image(media_type, await _encoded(data))
        if isinstance(part, StoredFile) and part.as_image:
            advice = "PNG, JPEG, GIF and WebP are."
            raise invalid(f"The file {name} is no picture.", code="file_unreadable", advice=advice)
        if self._whole:
            media_type = "application/pdf" if sniff.is_pdf(data) else "application/octet-stream"
            return Document(name, media_type, await _encoded(data))
        if sniff.is_pdf(data):
            return Text(block(await self._stage.pdf(data, name), name))
        text = await asyncio.to_thread(sniff.text, data)
        if text is None:
            advice = "Text, PDF, and PNG, JPEG, GIF and WebP pictures can be read."
            raise invalid(f"The file {name} cannot be read.", code="file_unreadable", advice=advice)
        return Text(block(text, name))


def _apart(before: Sequence[Part], after: Sequence[Part]) -> tuple[Part, ...]:
    """`after`, whose new texts stand in paragraphs of their own when the texts are joined."""
    last = len(after) - 1
    return tuple(
        Text(("\n\n" if at else "") + new.text + ("\n\n" if at < last else ""))
        if isinstance(new, Text) and new is not old
        else new
        for at, (old, new) in enumerate(zip(before, after, strict=True))
    )


def _decoded(part: Document) -> bytes:
    if len(part.data) > FILE // 3 * 4:
        raise _too_long(part.name)
    try:
        return base64.b64decode(part.data, validate=True)
    except ValueError:  # of characters that are not ASCII, too
        raise invalid(f"The file {one_line(part.name)} is not base64.", code="file_unreadable") from None


async def _encoded(data: bytes) -> str:
    return (await asyncio.to_thread(base64.b64encode, data)).decode()


def _too_long(name: str) -> GateError:
    message = f"The file {one_line(name)} is too long to be read: more than {FILE} bytes."
    return invalid(message, code="file_unreadable", advice="Send a part of it.")
