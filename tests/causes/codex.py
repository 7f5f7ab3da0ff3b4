"""What is wrong with Codex: the real program, with surroundings or a wrapper that spoil one thing at a time."""

import asyncio
import re

from codexgate.backends.codex import find
from codexgate.backends.codex.find import find_binary
from tests.causes.bench import PASSWORD, PATIENCE, Bench, Cause, Step, both, environ, obey, patience
from tests.servers.faulty import program

REAL = find_binary("")
PROVIDER = 'model_provider = "x"\n[model_providers.x]\nname = "x"\nbase_url = "http://127.0.0.1:9/v1"\n'
RESPONSES = PROVIDER + 'wire_api = "responses"\n'


def wrapped(**cases: str) -> Step:
    """The Codex of the settings does something of its own for some commands, by their first word."""

    def change(bench: Bench) -> None:
        lines = [f"{name.replace('_', '-')}) {text} ;;" for name, text in cases.items()]
        text = "\n".join(['case "${1#--}" in', *lines, f'*) exec {REAL} "$@" ;;', "esac"])
        bench.environ["CODEXGATE_CODEX_BINARY"] = str(program(bench.folder / "bin/codex", text))

    return change


def config(text: str) -> Step:
    def change(bench: Bench) -> None:
        (bench.codex_home / "config.toml").write_text(text)

    return change


def nowhere(bench: Bench) -> None:
    """No package brings one along, and none is on the path."""
    bench.patch.setattr(find, "_packaged", lambda: None)


def in_a_file(bench: Bench) -> None:
    file = bench.folder / "mine.toml"
    file.write_text('[codex]\nbinary = "/nowhere/codex"\n')
    bench.environ["CODEXGATE_CONFIG"] = str(file)


def taken_out(bench: Bench) -> None:
    (bench.folder / "mine.toml").write_text("")


def on_the_path(bench: Bench) -> None:
    program(bench.folder / "bin/codex", f'exec {REAL} "$@"')


PACKAGE = "lib/node_modules/@openai/codex"


def npm(bench: Bench) -> None:
    script = program(bench.folder / PACKAGE / "bin/codex.js", "")
    script.write_text("#!/usr/bin/env node\n// Unified entry point for the Codex CLI.\n")
    bench.environ["CODEXGATE_CODEX_BINARY"] = str(script)


def npm_with_its_program(bench: Bench) -> None:
    program(bench.folder / PACKAGE / "vendor" / find._target() / "bin/codex", f'exec {REAL} "$@"')


def another_home(bench: Bench) -> None:
    bench.environ["CODEX_HOME"] = str(bench.folder / "new-home")


def signed_out(bench: Bench) -> None:
    """OpenAI's own models, which need a login."""
    config("")(bench)
    bench.usual[re.escape(str(REAL))] = "codex"


async def signed_in(bench: Bench) -> None:
    """By a key, since nobody is there to use a browser; Codex asks nobody whether it is a good one."""
    process = await asyncio.create_subprocess_exec(
        *(str(REAL), "login", "--with-api-key"),
        env=bench.environ,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    await process.communicate(b"sk-of-nobody\n")
    assert process.returncode == 0


def another_protocol(bench: Bench) -> None:
    """A Codex that calls a method otherwise than we do."""
    change = 'find "$5" -name "*.json" -exec sed -i.bak s,turn/start\\",turn/begin\\", {} +'
    wrapped(app_server=f'{REAL} "$@" && {change}')(bench)


def say(text: str, status: int = 0) -> str:
    return f'echo "{text}"; exit {status}'


NPM = "npm install -g @openai/codex"
ALLOW = "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
RENAME = "Give your provider another name; the address of Ollama is CODEX_OSS_BASE_URL."
TAKE_OUT = "Take the setting out: the packaged program, or the one on PATH, is found."

CONFIG = "~/codex-home/config.toml"
SED = f"sed -E -i.bak {{}} {CONFIG}"
WIRE = r"""-e 's/(wire_api[^=]*= *).chat./\1"responses"/g'"""
NAMES = r"-e 's/(model_providers?[^a-zA-Z0-9]+)({})([^a-zA-Z0-9_-])/\1my-\2\3/g'"
SPEAK = 'Set wire_api = "responses", and let the provider be the gate: it speaks that.'
INLINE = '[model_providers]\nollama = { name = "o", base_url = "http://127.0.0.1:9/v1" }\n'
TWO = (
    "model_provider = 'ollama'\n[model_providers.ollama]\nname = 'o'\nwire_api = 'chat'\n"
    '[ model_providers . "openai" ]\nname = "o"\n'
)

CAUSES = (
    Cause(13, "no Codex", "codex.program", nowhere, "is not installed", NPM, mend=on_the_path),
    Cause(
        13,
        "no Codex where the settings name one",
        "codex.program",
        environ(CODEXGATE_CODEX_BINARY="/nowhere/codex"),
        "is no program",
        "unset CODEXGATE_CODEX_BINARY",
        TAKE_OUT,
    ),
    Cause(
        13,
        "no Codex where a settings file names one",
        "codex.program",
        in_a_file,
        "is no program",
        "codexgate config",
        f"{TAKE_OUT} This shows where it stands.",
        mend=both(obey, taken_out),
    ),
    Cause(
        13,
        "npm's script without its program",
        "codex.program",
        npm,
        "finds no Codex for this machine",
        f"{NPM} --include=optional",
        mend=npm_with_its_program,
    ),
    Cause(
        13,
        "a Codex that is too old",
        "codex.version",
        wrapped(version=say("codex-cli 0.23.0")),
        "Codex 0.23.0 is too old",
        NPM,
        mend=wrapped(),
    ),
    Cause(
        13,
        "a program that is no Codex",
        "codex.version",
        wrapped(version=say("hello")),
        "did not work: hello",
        NPM,
        mend=wrapped(),
    ),
    Cause(
        13,
        "a Codex that hangs",
        "codex.version",
        both(wrapped(version="sleep 60"), patience(0.3)),
        "did not end within 0.3 s",
        NPM,
        mend=both(wrapped(), patience(PATIENCE)),
    ),
    Cause(
        13,
        "a Codex that is not signed in",
        "codex.login",
        signed_out,
        "not signed in",
        "codex login",
        mend=signed_in,
    ),
    Cause(
        13,
        "a `CODEX_HOME` that is not there",
        "codex.config",
        another_home,
        "is no folder",
        "mkdir -p ~/new-home",
        mend=both(obey, signed_in),
    ),
    Cause(
        13,
        'a `config.toml` with `wire_api = "chat"`',
        "codex.config",
        config(PROVIDER + 'wire_api = "chat"\n'),
        "no longer supported",
        SED.format(WIRE),
        SPEAK,
    ),
    Cause(
        13,
        "a `config.toml` with a reserved provider id",
        "codex.config",
        config(PROVIDER.replace("s.x]", "s.ollama]").replace('= "x"', '= "my-ollama"', 1)),
        "reserved built-in provider IDs",
        SED.format(NAMES.format("ollama")),
        RENAME,
    ),
    Cause(
        13,
        "a `config.toml` with two reserved provider ids and the old API, otherwise quoted",
        "codex.config",
        config(TWO),
        "no longer supported",
        SED.format(f"{WIRE} {NAMES.format('ollama|openai')}"),
        SPEAK,
    ),
    Cause(
        13,
        "a `config.toml` with a reserved provider id in a table of one line",
        "codex.config",
        config(INLINE),
        "reserved built-in provider IDs",
        f"${{EDITOR:-vi}} +1 {CONFIG}",
        RENAME,
        mend=config(RESPONSES),
    ),
    Cause(
        13,
        "a `config.toml` with a text where a table belongs",
        "codex.config",
        config(f'[mcp_servers.a]\ncommand = "x"\nenv = "TOKEN={PASSWORD}"\n'),
        "invalid type: string ********, expected a map",
        f"${{EDITOR:-vi}} +3 {CONFIG}",
        f"Mend {CONFIG}.",
        mend=config(RESPONSES),
    ),
    Cause(
        13,
        "a `config.toml` that is no TOML",
        "codex.config",
        config("model = \n"),
        "Codex refuses its settings",
        f"${{EDITOR:-vi}} +1 {CONFIG}",
        f"Mend {CONFIG}.",
        mend=config(RESPONSES),
    ),
    Cause(
        13,
        "a sandbox that cannot start",
        "codex.sandbox",
        wrapped(sandbox=say("bwrap: setting up uid map: Permission denied", 1)),
        "uid map: Permission denied",
        ALLOW,
        mend=wrapped(),
    ),
    Cause(
        14,
        "an app-server with another protocol",
        "codex.protocol",
        another_protocol,
        "lacks turn/start",
        "pip install --upgrade 'codexgate[codex]'",
        mend=wrapped(),
        status="warning",
    ),
)
