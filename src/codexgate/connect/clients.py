"""Each client's settings for the gate, as texts and the files they belong into.

Pure: knows neither whether a file is there nor how it is written. What a client reads was looked
up in its documentation; Codex's part was tried with codex 0.163 (`tests/test_connect_codex.py`).
"""

import json
import re
import shlex
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from ..errors import invalid
from ..records import Model

KEY_VARIABLE = "GATE_API_KEY"
"""Where clients find the key that let one choose the name; `CODEXGATE_*` are the gate's own settings."""
SHOW_KEY = "codexgate key show"
_UNKNOWN_WINDOW = 32_768
_UNESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff]")

Format = Literal["toml", "yaml list", "yaml map", "yaml models"]


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """The gate, as a client is to see it."""

    url: str
    """Its root, without a path: `http://127.0.0.1:8140`; `unix:/run/gate.sock` for a Unix socket."""
    model: Model
    """Whose `id` is the name that the client asks for."""
    needs_key: bool = False
    key: str = ""
    """The key itself, for those who want to see it."""
    catalog: Path | None = None
    """Codex's list of models, when there is one."""

    @property
    def socket(self) -> str:
        """The path of the Unix socket; empty when it is a port."""
        return self.url.removeprefix("unix:") if self.url.startswith("unix:") else ""

    @property
    def base(self) -> str:
        """The base URL of OpenAI's API."""
        return "http://localhost/v1" if self.socket else f"{self.url}/v1"

    @property
    def shell_key(self) -> str:
        """The key as a word of a shell."""
        return shlex.quote(self.key) if self.key else f'"$({SHOW_KEY})"'

    def can(self, ability: str) -> bool:
        """Whether the model can; of one that nothing is known of, yes."""
        return not self.model.abilities or ability in self.model.abilities


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """The clients' own configuration files."""

    codex: Path
    llm: Path
    aider: Path
    continue_: Path
    vscode: Path


class Snippet(msgspec.Struct, frozen=True):
    """Something to paste."""

    about: str
    """What it is for, when it is not for a file."""
    text: str
    """Lines, the last one without its end."""
    file: Path | None = None
    format: Format | None = None
    """How `text` is put into `file`; `None` when that is left to the person."""

    @property
    def shown(self) -> str:
        """`text` with what stands above it in the file."""
        return f"models:\n{textwrap.indent(self.text, '  ')}" if self.format == "yaml models" else self.text


class Advice(msgspec.Struct, frozen=True):
    """Everything that one client is told."""

    snippets: tuple[Snippet, ...]
    notes: tuple[str, ...] = ()
    """What else to know or do, in the order of doing."""
    unwritable: str = ""
    """Why there is no file to be written."""

    @property
    def writable(self) -> tuple[Snippet, ...]:
        """What `--write` writes."""
        return tuple(snippet for snippet in self.snippets if snippet.format)


def advise(client: str, target: Target, places: Places) -> Advice:
    """The settings of `client`, one of `CLIENTS`. Raises GateError for one that cannot do what it must."""
    if target.socket and client not in ("curl", "openai-python"):
        advice = "Let the gate listen on a port, and name it: --url http://127.0.0.1:8140"
        raise invalid(f"{client} cannot connect to a Unix socket.", "url", advice=advice)
    return CLIENTS[client](target, places)


def shortly(url: str, models: Mapping[str, Model], default: str, *, needs_key: bool) -> tuple[Snippet, ...]:
    """What the gate tells of itself where it shows itself: the beginning of what each client is told.

    `models` are by the names to ask for them; `default` is named rather than the first, where it is set.
    """
    target = Target(url=url, model=Model(default or first(models) or "ID", ""), needs_key=needs_key)
    if target.socket:
        return (_curl_line(target),)
    key = f"what `{SHOW_KEY}` prints" if needs_key else "none"
    lines = [f"base_url = {quoted(target.base)}", f"api_key = {quoted(key)}"]
    lines.append(f"model = {quoted(target.model.id)}")
    told = [Snippet("For OpenAI clients:", "\n".join(lines))]
    told.append(Snippet("For Open WebUI:", _open_webui_shell(target).text))
    if not needs_key and (name := default or first_for_codex(models)):  # `codex --oss` sends none
        target = Target(url=url, model=Model(name, ""))
        told.append(Snippet("For codex --oss:", _codex_oss(target).text))
    return tuple(told)


def first(models: Mapping[str, Model]) -> str:
    """The name of the first that chats, as far as is known; empty when none does."""
    return next(
        (name for name, model in models.items() if not model.abilities or "chat" in model.abilities), ""
    )


def first_for_codex(models: Mapping[str, Model]) -> str:
    """The name of the first that calls tools, and that Codex can be told of; empty when there is none."""
    return next(
        (name for name, model in models.items() if tellable(model) and "tools" in model.abilities), ""
    )


def tellable(model: Model) -> bool:
    """Whether Codex can be told of it: its own models it knows, and has no need of a gate for them."""
    return bool(model.context) and model.backend != "codex" and "chat" in model.abilities


def quoted(text: str) -> str:
    """`text` as a string of TOML, YAML, JSON and Python alike."""
    written = json.dumps(text, ensure_ascii=False)
    return _UNESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", written)


def _codex(target: Target, places: Places) -> Advice:
    settings = {
        "model": target.model.id,
        "model_provider": "codexgate",
        "model_catalog_json": str(target.catalog) if target.catalog else "",
        "model_providers.codexgate.name": "codexgate",
        "model_providers.codexgate.base_url": target.base,
        "model_providers.codexgate.wire_api": "responses",
        "model_providers.codexgate.env_key": KEY_VARIABLE if target.needs_key else "",
    }
    text = "\n".join(f"{name} = {quoted(value)}" for name, value in settings.items() if value)
    profile = Snippet("", text, places.codex, "toml")
    use = Snippet("With that file, a profile of its own:", "codex -p codexgate")
    if target.needs_key:
        export = Snippet("The key, where Codex runs:", f"export {KEY_VARIABLE}={target.shell_key}")
        note = "`codex --oss` sends no key, so it cannot use this gate; the profile can."
        return Advice((profile, export, use), (note,))
    return Advice((_codex_oss(target), profile, use))


def _codex_oss(target: Target) -> Snippet:
    lines = [
        f"CODEX_OSS_BASE_URL={target.base} \\",
        f"codex exec --oss --local-provider ollama -m {shlex.quote(target.model.id)} \\",
    ]
    if target.catalog:
        lines.append(f"  -c model_catalog_json={shlex.quote(quoted(str(target.catalog)))} \\")
    return Snippet("Without a file:", "\n".join([*lines, '  "…"']))


def _open_webui_shell(target: Target) -> Snippet:
    lines = [
        f"export OPENAI_API_BASE_URL={target.base}",
        f"export OPENAI_API_KEY={target.shell_key if target.needs_key else 'none'}",
        f"export DEFAULT_MODELS={shlex.quote(target.model.id)}",
        "export ENABLE_FORWARD_USER_INFO_HEADERS=true",
        "open-webui serve",
    ]
    return Snippet("In a shell:", "\n".join(lines))


def _open_webui(target: Target, _: Places) -> Advice:
    return Advice(
        (_open_webui_shell(target),),
        (
            "The forwarded headers let a Codex chat go on with its own thread.",
            "Open WebUI keeps what it read at its first start; later: Admin Settings, Connections.",
            "In a container 127.0.0.1 is the container itself: name the gate by --url there.",
        ),
        "Open WebUI keeps its settings in a database of its own",
    )


def _llm(target: Target, places: Places) -> Advice:
    lines = [
        f"- model_id: {quoted(f'codexgate/{target.model.id}')}",
        "  aliases: [codexgate]",
        f"  model_name: {quoted(target.model.id)}",
        f"  api_base: {quoted(target.base)}",
    ]
    lines += ["  api_key_name: codexgate"] * target.needs_key
    lines += ["  supports_tools: true"] * target.can("tools")
    lines += ["  supports_schema: true"]
    lines += ["  vision: true"] * target.can("vision")
    snippets = [Snippet("", "\n".join(lines), places.llm, "yaml list")]
    if target.needs_key:
        text = f"llm keys set codexgate --value {target.shell_key}"
        snippets.append(Snippet("The key, once:", text))
    return Advice((*snippets, Snippet("Then:", 'llm -m codexgate "…"')))


def _aider(target: Target, places: Places) -> Advice:
    lines = [f"model: {quoted(f'openai/{target.model.id}')}", f"openai-api-base: {quoted(target.base)}"]
    if not target.needs_key:
        lines.append("openai-api-key: none")
    snippets = [Snippet("", "\n".join(lines), places.aider, "yaml map")]
    if target.needs_key:
        text = f"export OPENAI_API_KEY={target.shell_key}"
        snippets.append(Snippet("The key, where aider runs:", text))
    return Advice(tuple(snippets))


def _continue(target: Target, places: Places) -> Advice:
    lines = [
        "- name: codexgate",
        "  provider: openai",
        f"  model: {quoted(target.model.id)}",
        f"  apiBase: {quoted(target.base)}",
        f"  apiKey: {f'${{{{ secrets.{KEY_VARIABLE} }}}}' if target.needs_key else 'none'}",
        "  roles: [chat, edit, apply]",
    ]
    if abilities := [name for name, own in _CONTINUE.items() if own in target.model.abilities]:
        lines.append(f"  capabilities: [{', '.join(abilities)}]")
    if target.model.context:
        lines += ["  defaultCompletionOptions:", f"    contextLength: {target.model.context}"]
    snippet = Snippet("", "\n".join(lines), places.continue_, "yaml models")
    if not target.needs_key:
        return Advice((snippet,))
    env = shlex.quote(str(places.continue_.parent / ".env"))
    text = f"(umask 077; echo {KEY_VARIABLE}={target.shell_key} >> {env})"
    return Advice((snippet, Snippet("The key, once:", text)))


_CONTINUE = {"tool_use": "tools", "image_input": "vision"}


def _vscode(target: Target, places: Places) -> Advice:
    window = target.model.context or _UNKNOWN_WINDOW
    answer = min(8192, window // 4)
    entry = {
        "name": "codexgate",
        "vendor": "customendpoint",
        "apiType": "chat-completions",
        **({} if target.needs_key else {"apiKey": "none"}),
        "models": [
            {
                "id": target.model.id,
                "name": f"{target.model.id} (codexgate)",
                "url": f"{target.base}/chat/completions",
                "toolCalling": target.can("tools"),
                "vision": target.can("vision"),
                "maxInputTokens": window - answer,
                "maxOutputTokens": answer,
            }
        ],
    }
    notes = ["It is for Copilot Chat in VS Code 1.122 and newer; what is in the list already stays there."]
    if target.needs_key:
        shown = f": {target.key}" if target.key else f", which `{SHOW_KEY}` prints"
        notes.append(f"Then `Chat: Manage Language Models`, `Update API Key`, and the key{shown}.")
    return Advice(
        (Snippet("", json.dumps([entry], indent=2, ensure_ascii=False), places.vscode),),
        tuple(notes),
        "VS Code writes this file anew itself, and would lose what marks our part of it",
    )


def _openai_python(target: Target, _: Places) -> Advice:
    arguments = [f"base_url={quoted(target.base)}"]
    lines = ["from openai import OpenAI", ""]
    if target.socket:
        lines.insert(0, "import httpx")
        lines += [f"transport = httpx.HTTPTransport(uds={quoted(target.socket)})"]
        arguments.append("http_client=httpx.Client(transport=transport)")
    if not target.needs_key:
        arguments.append('api_key="none"')
    lines += ["client = OpenAI(", *(f"    {argument}," for argument in arguments), ")"]
    lines += ["answer = client.responses.create(", f'    model={quoted(target.model.id)}, input="Why?"']
    lines += [")", "print(answer.output_text)"]
    program = Snippet("In Python:", "\n".join(lines))
    if not target.needs_key:
        return Advice((program,), (), _NO_FILE)
    export = Snippet("In a shell:", f"export OPENAI_API_KEY={target.shell_key}")
    return Advice((export, program), (), _NO_FILE)


def _curl_line(target: Target) -> Snippet:
    body = json.dumps(
        {"model": target.model.id, "messages": [{"role": "user", "content": "Why?"}]}, ensure_ascii=False
    )
    socket = f"--unix-socket {shlex.quote(target.socket)} " if target.socket else ""
    lines = [f"curl {socket}{target.base}/chat/completions \\"]
    if target.needs_key:
        shown = shlex.quote(f"Authorization: Bearer {target.key}")
        header = shown if target.key else f'"Authorization: Bearer $({SHOW_KEY})"'
        lines.append(f"  -H {header} \\")
    lines += ["  -H 'Content-Type: application/json' \\", f"  -d {shlex.quote(body)}"]
    return Snippet("In a shell:", "\n".join(lines))


def _curl(target: Target, _: Places) -> Advice:
    return Advice((_curl_line(target),), (), _NO_FILE)


_NO_FILE = "It has no configuration file"

CLIENTS: dict[str, Callable[[Target, Places], Advice]] = {
    "codex": _codex,
    "open-webui": _open_webui,
    "llm": _llm,
    "aider": _aider,
    "continue": _continue,
    "vscode": _vscode,
    "openai-python": _openai_python,
    "curl": _curl,
}
"""By the name that a person types."""
