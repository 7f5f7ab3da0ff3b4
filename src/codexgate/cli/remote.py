"""A gate that runs somewhere, over HTTP: its models, and how it is asked in place of one's own.

It opens no gate of its own. What a model can and how much it sees is told by the gate's Ollama API; a gate
without that API leaves it open.
"""

import asyncio
import ipaddress
import re
from http import HTTPStatus

import msgspec

from .. import apikey
from ..backends.http import Http
from ..backends.openai import OpenAIOptions
from ..config import Secret
from ..dialects.ollama import models as catalog
from ..errors import Fault, GateError, invalid
from ..records import Model
from ..settings import ServerOptions, Settings

PATIENCE = 1.0
"""Seconds for the gate to take a connection."""
ANSWER = 5.0
"""Seconds for it to answer: it waits a second for a backend that does not."""
LIMIT = 16 * 2**20
"""Bytes of an answer."""
AT_ONCE = 8
_URL = re.compile(r"(?a)https?://(?:[\w.-]+|\[[\da-fA-F:.]+])(?::\d{1,5})?(?:/[\w.~%/-]*)?")


class _Entry(msgspec.Struct):
    id: str
    owned_by: str = ""


class _Listed(msgspec.Struct):
    data: list[_Entry]


def root(url: str) -> str:
    """The gate's root that a person means by `url`, which may end in `/v1`. Raises GateError."""
    if url.startswith("unix:") and len(url) > len("unix:"):
        return url
    if not _URL.fullmatch(url):
        raise invalid("The gate's URL must look like http://HOST:PORT, without a password.", "url")
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def listens_at(server: ServerOptions) -> str:
    """Where a gate with these settings is reached from this machine. Raises GateError for port 0."""
    if not server.port:
        raise invalid("The gate listens on a port of its own choice.", advice="Say which: --url URL")
    try:
        address = ipaddress.ip_address(server.host)
    except ValueError:
        return f"http://{server.host}:{server.port}"
    if address.is_unspecified:  # it listens on every address; here it is this machine's
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"http://{host}:{server.port}"


async def models(url: str, key: str) -> dict[str, Model]:
    """The models of the gate at `url`, by the names it has for them.

    Raises GateError: `unavailable` or `timeout` when none answers, `authentication` for a wrong key,
    `upstream` when it is no gate.
    """
    http = Http(
        url,
        connect_timeout=PATIENCE,
        headers={"Authorization": f"Bearer {key}"} if key else {},
        advice="Start it with `codexgate serve`, or say where it is: --url URL",
    )
    turn = asyncio.Semaphore(AT_ONCE)
    try:
        listed = _read(await _ask(http, "GET", "/v1/models"))
        found = await asyncio.gather(*(_look(http, entry, turn) for entry in listed.data))
        return {model.id: model for model in found}
    finally:
        await http.aclose()


async def instead(settings: Settings, url: str, model: str) -> Settings:
    """These settings for who asks the gate at `url`: that is the one backend, whatever it has.

    `model`: what it is asked for, in any name that it knows. Raises GateError as `models` does.
    """
    key = apikey.effective(settings)
    secret = key.secret if key else Secret()
    there = await models(root(url), secret.reveal())
    wanted = model or settings.default_model
    chatting = [id for id, found in there.items() if not found.abilities or "chat" in found.abilities]
    names = tuple(dict.fromkeys([*filter(None, [wanted]), *chatting]))
    if not names:
        raise GateError(Fault("not_found", f"The gate at {url} has no model that chats."))
    gate = OpenAIOptions(base_url=f"{root(url)}/v1", api_key=secret, models=names)
    return msgspec.structs.replace(
        settings, backends=("gate",), openai={"gate": gate}, aliases={}, default_model=wanted
    )


async def _look(http: Http, entry: _Entry, turn: asyncio.Semaphore) -> Model:
    async with turn:
        try:
            answer = await _ask(http, "POST", "/api/show", msgspec.json.encode({"model": entry.id}))
            shown = catalog.show(answer)
        except GateError:
            return Model(entry.id, "", owned_by=entry.owned_by)
    abilities = catalog.abilities(shown.capabilities)
    return Model(entry.id, "", owned_by=entry.owned_by, abilities=abilities, context=shown.context)


async def _ask(http: Http, method: str, path: str, body: bytes | None = None) -> bytes:
    async with http.send(method, path, body, first_byte_timeout=ANSWER, idle_timeout=ANSWER) as response:
        answer = await response.read(LIMIT)
        if response.status == HTTPStatus.UNAUTHORIZED:
            message = f"The gate at {http.where} wants another API key."
            raise GateError(Fault("authentication", message, "Show ours: codexgate key show"))
        if response.status != HTTPStatus.OK:
            raise GateError(Fault("upstream", f"{http.where} answered with status {response.status}."))
        return answer


def _read(answer: bytes) -> _Listed:
    try:
        return msgspec.json.decode(answer, type=_Listed)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise GateError(Fault("upstream", "What listens there does not answer as a gate does.")) from error
