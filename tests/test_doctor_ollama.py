"""The doctor about Ollama, and about any server that `codex --oss` is sent to.

Each cause is a server or surroundings that behave that way: the row that names it, the mend, and
green again.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from codexgate.backends.codex.find import find_binary
from codexgate.backends.ollama import OllamaOptions
from codexgate.doctor import embeddings, ollama, oss, registry, target
from codexgate.doctor.words import Asked, Row, Status
from codexgate.embedding import EmbeddingOptions
from codexgate.errors import Fault
from codexgate.settings import Settings
from tests.servers.faulty import GARBAGE, HANG, Faulty, only_v1, program, search_path, tag
from tests.servers.faulty import ollama as good
from tests.support import run

MODEL = "qwen3:8b"


@dataclass
class Bench:
    """A good Ollama, and surroundings in which everything works: what a cause then spoils."""

    folder: Path
    server: Faulty
    other: Faulty
    """A server that is not running yet."""
    environ: dict[str, str] = field(default_factory=dict)
    model: str = MODEL
    url: str | None = None
    """`--url`; `None`: none, and the settings name the server."""
    embeds: str = ""
    """The model of Ollama that the settings let embed."""
    ollama_url: str | None = None
    """What the settings name instead of the server."""

    def asked(self) -> Asked:
        embedding = EmbeddingOptions(provider="ollama" if self.embeds else "", model=self.embeds)
        options = OllamaOptions(url=self.ollama_url or self.server.url)
        settings = Settings(ollama=options, embeddings=embedding)
        environ = {
            "PATH": search_path(self.folder / "bin"),
            "CODEX_OSS_BASE_URL": f"{self.server.url}/v1",
            **self.environ,
        }
        environ = {name: value for name, value in environ.items() if value}
        return Asked(settings, environ, self.folder, self.folder, self.model, self.url or "")

    async def look(self) -> dict[str, Row]:
        asked = self.asked()
        looks = [check.look(asked) for check in (*ollama.CHECKS, *oss.CHECKS, *embeddings.CHECKS)]
        return {row.id: row for rows in await asyncio.gather(*looks) for row in rows}


@asynccontextmanager
async def bench(folder: Path) -> AsyncIterator[Bench]:
    async with Faulty(good()) as server, Faulty({}) as other:
        await other.stop()
        yield Bench(folder, server, other)
        await other.stop()


Step = Callable[[Bench], Awaitable[None] | None]


@dataclass(frozen=True)
class Cause:
    """What is wrong, the row that names it, and what mends it."""

    what: str
    id: str
    spoil: Step
    mend: Step
    says: str
    status: Status = "fail"
    remedy: str = ""
    """Part of the command or text that mends it."""


def routes(**changes: Any) -> Step:
    """The server answers otherwise at some paths (`api_tags=404`)."""

    def change(bench: Bench) -> None:
        for name, answer in changes.items():
            bench.server.routes["/" + name.replace("_", "/")] = answer

    return change


def serves(made: Callable[[], dict[str, Any]]) -> Step:
    def change(bench: Bench) -> None:
        bench.server.routes = made()

    return change


def environ(**values: str) -> Step:
    """Variables; `URL` in a value stands for the server's, `PORT` for its port, `OTHER` for a dead one's."""

    def change(bench: Bench) -> None:
        for name, value in values.items():
            value = value.replace("URL", bench.server.url).replace("PORT", str(bench.server.port))
            bench.environ[name] = value.replace("OTHER", str(bench.other.port))

    return change


def model(name: str) -> Step:
    def change(bench: Bench) -> None:
        bench.model = name

    return change


def embeds(name: str) -> Step:
    def change(bench: Bench) -> None:
        bench.server.routes = good(EMBEDS)
        bench.embeds = name

    return change


def both(*steps: Step) -> Step:
    async def change(bench: Bench) -> None:
        for step in steps:
            await take(step, bench)

    return change


async def take(step: Step, bench: Bench) -> None:
    if (doing := step(bench)) is not None:
        await doing


async def stopped(bench: Bench) -> None:
    await bench.server.stop()


async def started(bench: Bench) -> None:
    await bench.server.start()


def loaded(size: int, vram: int = 5_000_000_000) -> Step:
    entry = {**tag(MODEL), "size_vram": vram, "context_length": size}
    return routes(api_ps={"models": [entry]})


def script(version: str) -> Step:
    """An `ollama` program of this version, which tells as the real one does."""

    def change(bench: Bench) -> None:
        text = f"""\
        echo "ollama version is 0.13.5"
        echo "Warning: client version is {version}"
        """
        program(bench.folder / "bin/ollama", text)

    return change


def wrong_port(bench: Bench) -> None:
    bench.ollama_url = bench.other.url


def right_port(bench: Bench) -> None:
    bench.ollama_url = None
    bench.server.routes = good()


async def elsewhere(bench: Bench) -> None:
    """The gate's Ollama has the model, and Codex is sent to another one."""
    bench.other.routes = good()
    await bench.other.start()
    bench.ollama_url = bench.other.url
    bench.server.routes = good({"gemma3:4b": ("completion", "tools")})


ABSENT = "llama3:70b"
V1 = only_v1(MODEL)
EMBEDS: dict[str, Any] = {"nomic-embed-text:latest": ("embedding",), MODEL: ("completion", "tools")}
REGISTERED = {"/v2/library/tiny/manifests/1b": {"schemaVersion": 2}}

CAUSES = (
    Cause(
        "an OpenAI-only server behind `codex --oss`",
        "ollama.pull.shim",
        serves(lambda: only_v1(MODEL)),
        serves(good),
        "no /api/tags (404)",
        remedy="CODEX_OSS_BASE_URL=http://127.0.0.1:8140/v1 codex --oss --local-provider ollama -m qwen3:8b",
    ),
    Cause(
        "a server that has neither API, or wants a key",
        "ollama.pull.shim",
        serves(lambda: {"/v1/models": 401}),
        serves(good),
        "neither /v1/models (401)",
    ),
    Cause(
        "a server for `codex --oss` that has not the model",
        "ollama.pull.shim",
        elsewhere,
        right_port,
        "has no qwen3:8b",
        remedy="codexgate models pull qwen3:8b",
    ),
    Cause(
        "a model that is not installed",
        "ollama.model.installed",
        both(model("qwen3:32b"), environ(HTTPS_PROXY="http://proxy.invalid:3128")),
        both(model(MODEL), environ(HTTPS_PROXY="")),
        "qwen3:32b is not installed. Near: qwen3:8b",
        remedy="codexgate models pull qwen3:32b",
    ),
    Cause(
        "a tag that is left out",
        "ollama.model.tag",
        both(serves(lambda: good({"qwen3:latest": ("completion", "tools")})), model("qwen3")),
        model("qwen3:latest"),
        "qwen3 is installed as qwen3:latest",
        "warning",
        "-m qwen3:latest",
    ),
    Cause("nothing listens", "ollama.server", stopped, started, "nothing listens there", remedy="ollama"),
    Cause("the wrong port", "ollama.server", wrong_port, right_port, "nothing listens there"),
    Cause(
        "a server that takes connections and says nothing",
        "ollama.server",
        routes(api_tags=HANG, api_version=HANG),
        serves(good),
        "did not answer in time",
    ),
    Cause(
        "something else on Ollama's port",
        "ollama.server",
        serves(lambda: {"/api/tags": 403}),
        serves(good),
        "is no Ollama (403)",
    ),
    Cause(
        "something that answers everything on Ollama's port",
        "ollama.server",
        routes(api_tags={"hello": "world"}),
        serves(good),
        "is no Ollama",
    ),
    Cause(
        "something that is no HTTP server on Ollama's port",
        "ollama.server",
        routes(api_tags=GARBAGE, api_version=GARBAGE),
        serves(good),
        "did not answer in proper HTTP",
    ),
    Cause(
        "`OLLAMA_HOST` that points elsewhere",
        "ollama.host",
        environ(OLLAMA_HOST="http://127.0.0.1:OTHER"),
        environ(OLLAMA_HOST="URL"),
        "nothing answers",
    ),
    Cause(
        "`OLLAMA_HOST` without a scheme, which Codex does not read",
        "ollama.host",
        environ(OLLAMA_HOST="127.0.0.1:PORT", CODEX_OSS_BASE_URL=""),
        environ(CODEX_OSS_BASE_URL="URL/v1"),
        "is not where `codex --oss` looks",
        remedy="export CODEX_OSS_BASE_URL=",
    ),
    Cause(
        "`OLLAMA_HOST` with a scheme and without a port",
        "ollama.host",
        environ(OLLAMA_HOST="http://127.0.0.9"),
        environ(OLLAMA_HOST="URL"),
        "means port 80",
        remedy="export OLLAMA_HOST=http://127.0.0.9:11434",
    ),
    Cause(
        "a proxy that catches this machine",
        "ollama.proxy",
        environ(HTTP_PROXY="http://proxy.invalid:3128"),
        environ(NO_PROXY="localhost,127.0.0.1"),
        "HTTP_PROXY sends requests for 127.0.0.1, localhost to a proxy",
        remedy="export NO_PROXY=localhost,127.0.0.1,::1",
    ),
    Cause(
        "a base URL without `/v1`",
        "ollama.base_url",
        environ(CODEX_OSS_BASE_URL="URL"),
        environ(CODEX_OSS_BASE_URL="URL/v1"),
        "has no /v1 at its end",
        remedy="/v1",
    ),
    Cause(
        "a base URL without a scheme",
        "ollama.base_url",
        environ(CODEX_OSS_BASE_URL="127.0.0.1:PORT/v1"),
        environ(CODEX_OSS_BASE_URL="URL/v1"),
        "has no scheme",
        remedy="export CODEX_OSS_BASE_URL=http://",
    ),
    Cause(
        "a base URL with `/v1` twice",
        "ollama.base_url",
        environ(CODEX_OSS_BASE_URL="URL/v1/v1"),
        environ(CODEX_OSS_BASE_URL="URL/v1"),
        "has /v1 twice",
        remedy="/v1",
    ),
    Cause(
        "a base URL that ends in a slash, where the server minds",
        "ollama.base_url",
        environ(CODEX_OSS_BASE_URL="URL/v1/"),
        environ(CODEX_OSS_BASE_URL="URL/v1"),
        "ends in a slash",
        remedy="/v1",
    ),
    Cause(
        "an Ollama too old for Codex",
        "ollama.version",
        routes(api_version={"version": "0.13.3"}),
        routes(api_version={"version": "0.13.4"}),
        "wants 0.13.4",
        remedy="Update Ollama",
    ),
    Cause(
        "an `ollama` program newer than the server that runs",
        "ollama.version",
        script("0.14.2"),
        script("0.13.5"),
        "The `ollama` program is 0.14.2, the server that runs is 0.13.5",
        "warning",
        "ollama",
    ),
    Cause(
        "a model without tools",
        "ollama.model.tools",
        serves(lambda: good({MODEL: ("completion",)})),
        serves(good),
        "cannot use tools",
        remedy="codexgate models",
    ),
    Cause(
        "an embedding model used for chat",
        "ollama.model.kind",
        both(serves(lambda: good(EMBEDS)), model("nomic-embed-text")),
        model(MODEL),
        "embeds, and cannot chat",
        remedy="codexgate models",
    ),
    Cause(
        "a chat model used for embeddings",
        "ollama.embeddings",
        embeds(MODEL),
        embeds("nomic-embed-text"),
        "shall embed, but cannot",
        remedy="nomic-embed-text",
    ),
    Cause(
        "an embedding model that is not installed",
        "ollama.embeddings",
        embeds("bge-m3"),
        embeds("nomic-embed-text"),
        "is not installed",
        remedy="codexgate models pull bge-m3",
    ),
    Cause(
        "a loaded window smaller than what Codex sends",
        "ollama.context",
        loaded(4096),
        loaded(65536),
        "a window of 4,096 tokens",
        remedy="codex --oss",
    ),
    Cause(
        "`OLLAMA_CONTEXT_LENGTH` smaller than what Codex sends",
        "ollama.context",
        environ(OLLAMA_CONTEXT_LENGTH="4096"),
        environ(OLLAMA_CONTEXT_LENGTH="65536"),
        "OLLAMA_CONTEXT_LENGTH=4096",
    ),
    Cause(
        "a model that sees less than Codex sends",
        "ollama.context",
        serves(lambda: good(context=8192)),
        serves(good),
        "sees 8,192 tokens at most",
    ),
    Cause(
        "a model partly on the CPU",
        "ollama.gpu",
        loaded(65536, 2_500_000_000),
        loaded(65536),
        "50 % of qwen3:8b",
        "warning",
        "ollama stop qwen3:8b",
    ),
)


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.what)
def test_a_cause_is_named_and_mended(cause: Cause, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as made:
            await take(cause.spoil, made)
            row = (await made.look())[cause.id]
            assert row.status == cause.status, row
            assert cause.says in row.summary, row.summary
            assert row.why and row.remedy is not None
            assert cause.remedy in f"{row.remedy.text} {row.remedy.command}"
            await take(cause.mend, made)
            after = await made.look()
            assert cause.id not in after or after[cause.id].status == "ok", after[cause.id]
            assert {id: row for id, row in after.items() if row.status in ("fail", "warning")} == {}

    run(scenario())


SAID = {
    "an OpenAI-only server behind `codex --oss`": "failed to start pull: HTTP 404 Not Found",
    "a server for `codex --oss` that has not the model": "failed to start pull: HTTP 404 Not Found",
    "nothing listens": "No running Ollama server detected",
    "a proxy that catches this machine": "No running Ollama server detected",
    "`OLLAMA_HOST` without a scheme, which Codex does not read": "No running Ollama server detected",
    "a base URL without a scheme": "No running Ollama server detected",
    "an Ollama too old for Codex": "Ollama 0.13.3 is too old.",
}
"""What Codex says where it fails at its start; that is all a person has before asking the doctor."""


@pytest.mark.parametrize(
    "cause", [each for each in CAUSES if each.what in SAID], ids=lambda cause: cause.what
)
def test_the_real_codex_fails_as_the_row_says(cause: Cause, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as made:
            made.environ["HTTP_PROXY"] = ""
            await take(cause.spoil, made)
            assert SAID[cause.what] in await codex_oss(made)
            row = (await made.look())[cause.id]
            assert row.status == "fail"
            assert SAID[cause.what] in row.why or "pull" in row.why

    run(scenario())


async def codex_oss(made: Bench) -> str:
    """What `codex --oss` writes in these surroundings."""
    environ = {**made.asked().environ, "HOME": str(made.folder)}
    process = await asyncio.create_subprocess_exec(
        str(find_binary("")),
        *("exec", "--skip-git-repo-check", "--oss", "--local-provider", "ollama", "-m", made.model, "hi"),
        cwd=made.folder,
        env=environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode != 0
    return out.decode()


def test_where_all_is_well_nothing_is_said_to_be_wrong(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as made:
            for changed in ("", MODEL):
                made.model = changed
                rows = await made.look()
                assert {row.status for row in rows.values()} == {"ok"}, rows

    run(scenario())


def test_no_ollama_is_no_news_unless_somebody_wants_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with Faulty({}) as dead:
            await dead.stop()
        options = OllamaOptions(url=dead.url)
        monkeypatch.setattr(ollama, "OllamaOptions", lambda: options)  # the port that nobody chose
        quiet = Asked(Settings(ollama=options), {"PATH": str(tmp_path)}, tmp_path, tmp_path)
        (row, *rest) = await ollama.look(quiet)
        assert (row.id, row.status, rest) == ("ollama.server", "skipped", [])
        for wanted in ({"model": MODEL}, {"url": dead.url}, {"environ": {"OLLAMA_HOST": "127.0.0.1"}}):
            (row, *_) = await ollama.look(msgspec.structs.replace(quiet, **wanted))
            assert row.status == "fail"

    run(scenario())


@pytest.mark.parametrize(
    ("ending", "status", "says"),
    [
        ("", "ok", "is a root; clients want http://"),
        ("/v1", "ok", "is a base URL"),
        ("/v1/v1", "fail", "has /v1 twice"),
        ("/v1/", "fail", "ends in a slash"),
    ],
)
def test_a_url_may_name_the_root_or_what_clients_want(
    ending: str, status: Status, says: str, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as made:
            made.url = made.server.url + ending
            row = (await made.look())["ollama.base_url"]
            assert (row.status, says in row.summary) == (status, True), row
            command = f"codexgate doctor --url {made.server.url}/v1"
            assert status == "ok" or (row.remedy and row.remedy.command == command)

    run(scenario())


# The registry


@pytest.mark.parametrize(
    ("answer", "status", "says"),
    [
        ({"schemaVersion": 2}, "ok", "The registry has"),
        (404, "fail", "The registry has no"),
        (429, "skipped", "answers 429"),
        (HANG, "fail", "did not answer in time"),
    ],
)
def test_the_registry_is_asked_for_a_model_that_is_missing(
    answer: Any, status: Status, says: str, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as made, Faulty({"/v2/library/tiny/manifests/1b": answer}) as theirs:
            made.model = f"{theirs.url}/library/tiny:1b"
            row = (await made.look())["ollama.registry"]
            assert (row.status, says in row.summary) == (status, True), row
            assert theirs.seen == ["GET /v2/library/tiny/manifests/1b"]

    run(scenario())


def test_a_registry_without_a_name_or_behind_a_proxy(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as made:
            made.model = "registry.invalid/library/tiny:1b"
            row = (await made.look())["ollama.registry"]
            assert row.status == "fail" and "registry.invalid" in row.summary
            made.environ["HTTPS_PROXY"] = "http://proxy.invalid:3128"
            row = (await made.look())["ollama.registry"]
            assert row.status == "skipped" and row.remedy and "service" in row.remedy.text
            made.model, made.environ = MODEL, {}
            assert "ollama.registry" not in await made.look()

    run(scenario())


@pytest.mark.parametrize(
    ("model", "where"),
    [
        ("qwen3", ("https://registry.ollama.ai", "/v2/library/qwen3/manifests/latest")),
        ("qwen3:8b", ("https://registry.ollama.ai", "/v2/library/qwen3/manifests/8b")),
        ("me/mine:1", ("https://registry.ollama.ai", "/v2/me/mine/manifests/1")),
        ("hf.co/me/mine:Q4", ("https://hf.co", "/v2/me/mine/manifests/Q4")),
    ],
)
def test_where_a_manifest_is(model: str, where: tuple[str, str]) -> None:
    assert registry.manifest(model) == where


PULLS = (
    ("pull model manifest: 412: requires a newer version of Ollama", "ollama_too_old", "Update Ollama"),
    ('pull model manifest: Get "https://r/": dial tcp: i/o timeout', "registry_unreachable", "network"),
    ("proxyconnect tcp: dial tcp 10.0.0.1:3128: connection refused", "registry_unreachable", "proxy"),
)


@pytest.mark.parametrize(("message", "code", "advice"), PULLS)
def test_a_pull_that_failed_is_a_row(message: str, code: str, advice: str) -> None:
    fault = Fault("unavailable", message, "Check the network and try again.", code)
    row = registry.pull_row(MODEL, fault)
    assert (row.id, row.status, row.summary) == ("ollama.registry", "fail", message)
    assert row.remedy and advice in row.remedy.text


# What is meant


@pytest.mark.parametrize(
    ("model", "url", "name"),
    [
        ("qwen3:8b", "", "qwen3:8b"),
        ("ollama/qwen3:8b", "", "qwen3:8b"),
        ("fast", "", "qwen3:8b"),
        ("codex/gpt-5", "", ""),
        ("demo", "", ""),
        ("gpu/big", "", ""),
        ("org/model", "http://h/v1", "org/model"),
        ("", "", ""),
    ],
)
def test_whose_model_it_is(model: str, url: str, name: str, tmp_path: Path) -> None:
    settings = msgspec.convert(
        {"aliases": {"fast": "ollama/qwen3:8b"}, "openai": {"gpu": {"base_url": "http://h/v1"}}},
        Settings,
        dec_hook=lambda kind, value: kind(value),
    )
    assert target.ollama_model(Asked(settings, {}, tmp_path, tmp_path, model, url)) == name


@pytest.mark.parametrize(
    ("no_proxy", "excepted"),
    [
        ("", False),
        ("example.org", False),
        ("localhost", False),
        ("127.0.0.1", True),
        ("*", True),
        ("127.0.0.0/8", True),
        ("10.0.0.0/8, 127.0.0.1", True),
    ],
)
def test_what_no_proxy_excepts(no_proxy: str, excepted: bool) -> None:
    assert oss.excepted("127.0.0.1", no_proxy) == excepted


def test_a_server_that_answers_nonsense_breaks_nothing(tmp_path: Path) -> None:
    nonsense: list[Any] = [
        b"",
        b"[]",
        b"null",
        b'{"models": 1}',
        b'{"models": [1]}',
        b"\xff",
        b"[" * 9999,
        500,
    ]
    paths = ("/api/version", "/api/tags", "/api/ps", "/api/show", "/v1/models")

    async def scenario() -> None:
        async with bench(tmp_path) as made:
            for path in paths:
                for body in nonsense:
                    made.server.routes = {**good(), path: body}
                    rows = await made.look()
                    json.dumps(msgspec.to_builtins(list(rows.values())))

    run(scenario())
