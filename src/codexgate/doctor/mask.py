"""What a report must not show: secrets in whatever spelling, the home directory, the user's name.

A mask is made once, of everything that is secret in the settings and the environment; the runner
puts it over every text that leaves. It knows no check: what a check says is masked without its help.
"""

import asyncio
import base64
import json
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, quote_plus, unquote, unquote_plus

import msgspec

from ..apikey import LONGEST, key_file
from ..config import MASK, Secret
from .words import DEADLINE, Asked, Remedy, Row

T = TypeVar("T", Row, Remedy)

SHORTEST = 4
"""Characters that a secret has at least: what is shorter stands in any text by chance."""
WHO = "USER"
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH|COOKIE|DSN", re.IGNORECASE)
_ADDRESS_NAME = re.compile(r"URL|HOST|PROXY", re.IGNORECASE)
"""Of what is an address without a scheme too, as `frida:secret@gpu-box:11434`."""
_SETTINGS = frozenset("true false null auto basic bearer enabled disabled".split())
"""What stands in `USE_AUTH` and its like."""
_IN_URL = re.compile(r"(://)[^/\s@'\"]+@")
_LOGIN = r"([^\s/?#]+)@"
"""Behind the scheme: a name and a password, or what stands for both."""
_QUERY = re.compile(r"[?&]([^\s=&#]+)=([^\s&#]+)")
_WORDS = frozenset(
    "admin app codex codexgate demo docker gate key local memory model none npm ollama openai password "
    "postgres redis root server system test ubuntu user".split()
)
"""What commands and the paths in them are made of: in a path such a user is masked only where homes are. As
a secret it is what stands where none is needed (`OPENAI_API_KEY=ollama`)."""
_PATH = re.compile(r"(?<![\w./:-])/(?!v1\b|api\b)[^\s:'\"()]+")
"""A path of this machine, which no server has."""
_NAMED = (
    r"((?<=[/\\])(?:home|Users)[/\\]){}(?!\w)",
    r"((?<![\w.-])){}(?=@[\w[])",  # as in `frida@box`
    r"(\b(?i:user|username|logname|login|role|owner)\s?[=:]\s?[\"'“]?){}(?![\w-])",
    r"(\b(?i:user|username|login|role|owner|by|as)\s[\"'“(]?){}(?=[\"'”)]|[.,;]?\s*$|[.,;]\s)",
)
"""Where a word is a user's name; anywhere else it may be a word of ours (`disk`, `model`)."""


class Mask:
    """Hides what must not be seen; see the module."""

    def __init__(
        self, secrets: Iterable[str], home: Path, user: str, also: Mapping[Path, str] | None = None
    ) -> None:
        """`also`: further homes, and what stands for each."""
        hidden = {each for each in secrets if len(each) >= SHORTEST and each.lower() not in _WORDS}
        spelled = {each for secret in hidden for each in _spellings(secret)}
        ordered = sorted(spelled, key=len, reverse=True)  # one may begin another
        self._secrets = re.compile("|".join(map(re.escape, ordered))) if ordered else None
        homes = {**(also or {}), home: "~"}
        places = {
            spelling: shown
            for home, shown in homes.items()
            if str(home) not in ("/", ".")
            for spelling in _spellings(str(home))
        }
        self._homes = [(_place(each), places[each]) for each in sorted(places, key=len, reverse=True)]
        self._user = user
        self._named = [re.compile(where.format(re.escape(user))) for where in _NAMED] if user else []

    def text(self, text: str) -> str:
        """`text` without what must not be seen."""
        if self._secrets:
            text = self._secrets.sub(MASK, text)
        text = _IN_URL.sub(rf"\1{MASK}@", text)
        for home, shown in self._homes:
            text = home.sub(shown, text)
        for named in self._named:
            text = named.sub(rf"\1{WHO}", text)
        return text if self._user.lower() in _WORDS else _PATH.sub(self._in_path, text)

    def _in_path(self, path: re.Match[str]) -> str:
        _, first, *rest = path[0].split("/")
        told = (each.replace(self._user, WHO) if each.rstrip(".,;") == self._user else each for each in rest)
        return "/".join(["", first, *told])

    def command(self, text: str) -> str:
        """The same of a command, which still does what it did: `~` stands outside of its quotes."""
        return re.sub("'~(/?)", r"~\1'", self.text(text))

    def value(self, value: Any) -> Any:
        """A JSON value without it, names of fields included."""
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.text(str(name)): self.value(each) for name, each in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self.value(each) for each in value]
            case bool() | int() | float() | None:
                return value
            case _:
                return self.text(str(value))

    def row(self, row: Row) -> Row:
        """`row` without it; its id, category and status are words of ours."""
        remedy = row.remedy and msgspec.structs.replace(
            row.remedy, text=self.text(row.remedy.text), command=self.command(row.remedy.command)
        )
        return msgspec.structs.replace(
            row,
            summary=self.text(row.summary),
            why=self.text(row.why),
            remedy=remedy,
            details=self.value(row.details),
        )


async def in_time(asked: Asked) -> Mask:
    """`of`, within the time of one check: what a dead disk does not tell, nobody else learns from it."""
    try:
        return await asyncio.wait_for(asyncio.to_thread(of, asked), DEADLINE)
    except TimeoutError:
        return of(asked, disk=False)


def of(asked: Asked, *, disk: bool = True) -> Mask:
    """The mask for what `asked` can bring to light; `disk`: also for what has to be looked up."""
    user = asked.environ.get("USER") or asked.environ.get("LOGNAME") or asked.environ.get("USERNAME") or ""
    hidden, also = [*secrets(asked)], {}
    if disk:
        hidden += _key(asked)
        also = dict.fromkeys(_account(), f"~{WHO}")  # `~` is what HOME says, in a command too
        with suppress(OSError):
            also[asked.home.resolve()] = "~"
    return Mask(hidden, asked.home, user or asked.home.name, also)


def _key(asked: Asked) -> Iterator[str]:
    with suppress(OSError):
        if (file := key_file(asked.settings)).is_file():  # a pipe never ends
            with file.open("rb") as opened:
                yield opened.read(LONGEST).decode("ascii", "replace").strip()


def _account() -> Iterator[Path]:
    """The home of who runs this, whatever HOME says."""
    with suppress(ImportError, KeyError, OSError):  # Windows has none; a container may not know its user
        import pwd

        home = Path(pwd.getpwuid(os.getuid()).pw_dir)
        yield home
        yield home.resolve()


def secrets(asked: Asked) -> Iterator[str]:
    """Secret settings, passwords and keys in addresses, and variables named like secrets."""
    yield from _settings(asked.settings)
    yield from _in_url(asked.url, "url")
    for name, value in asked.environ.items():
        plain = value.startswith(("/", "~")) or value.lower() in _SETTINGS  # SSH_AUTH_SOCK is a path
        if _SECRET_NAME.search(name) and not plain:
            yield value.strip()
        yield from _in_url(value, name)


def _settings(value: object, name: str = "") -> Iterator[str]:
    match value:
        case Secret():
            yield value.reveal()
            yield from _in_url(value.reveal(), name)
        case str():
            yield from _in_url(value, name)
        case msgspec.Struct():
            for name in value.__struct_fields__:
                yield from _settings(getattr(value, name), name)
        case dict():
            for each in value.values():
                yield from _settings(each, name)
        case list() | tuple():
            for each in value:
                yield from _settings(each, name)


def _in_url(text: str, name: str) -> Iterator[str]:
    """What is secret in the addresses in `text`, which is the value of `name`.

    A password, what stands for one (a name alone may be a token), and what the query names so.
    """
    begins = r"(?:^|\s|://)" if _ADDRESS_NAME.search(name) else "://"
    for login in re.findall(begins + _LOGIN, text):
        user, _, password = login.partition(":")
        yield password or user
        yield unquote(password or user)
    for asked, value in _QUERY.findall(text):
        if _SECRET_NAME.search(asked):
            yield value
            yield unquote_plus(value)


def _place(spelled: str) -> re.Pattern[str]:
    """Where a home stands: `/home/frida.old` is another folder; what is no path any more has no end."""
    return re.compile(re.escape(spelled) + r"(?![\w.-])" * bool(re.search("/|%2f", spelled, re.IGNORECASE)))


def _spellings(secret: str) -> Iterator[str]:
    """`secret` as it may stand in a text: plain, in an address, in JSON, in base64 wherever it begins."""
    yield secret
    yield from (json.dumps(secret, ensure_ascii=ascii)[1:-1] for ascii in (True, False))
    yield shlex.quote(secret).strip("'")
    for form in (quote(secret), quote(secret, safe=""), quote_plus(secret)):
        yield form
        yield re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), form)
    data = secret.encode("utf-8", "surrogatepass")
    yield data.hex()
    for offset in range(3):
        # Of what stands in the middle of a longer text, the outermost letters hang on its neighbours.
        whole = base64.b64encode(b"\0" * offset + data).decode().rstrip("=")
        first, last = (0, 2, 3)[offset], len(whole) - ((offset + len(data)) % 3 != 0)
        if len(core := whole[first:last]) >= SHORTEST:
            yield core
            yield core.replace("+", "-").replace("/", "_")
