"""What is wrong with Ollama, or with any server that `codex --oss` is sent to."""

from collections.abc import Callable
from typing import Any

from codexgate.doctor import ollama_models
from tests.causes.bench import (
    MODEL,
    PASSWORD,
    PATIENCE,
    Bench,
    Cause,
    Step,
    both,
    doctor,
    environ,
    gate,
    model,
    obey,
    patience,
    pulled,
    pulls,
    routes,
    serves,
    take,
    with_other,
)
from tests.servers.faulty import GARBAGE, HANG, Answer, only_v1, program, tag
from tests.servers.faulty import ollama as good

OPENAI_ONLY = both(
    with_other(lambda: only_v1(MODEL)), environ(CODEX_OSS_BASE_URL="http://127.0.0.1:OTHER/v1")
)
V1 = "http://127.0.0.1:11434/v1"
RIGHT = f"export CODEX_OSS_BASE_URL={V1}"
OSS = "codex --oss --local-provider ollama -m"
EMBEDS: dict[str, Any] = {"nomic-embed-text:latest": ("embedding",), MODEL: ("completion", "tools")}
BEHIND = environ(HTTPS_PROXY="http://proxy.invalid:3128")
"""The doctor does not ask the registry itself."""
MANIFEST = "/v2/library/tiny/manifests/1b"
TINY = "OTHER/library/tiny:1b"
"""A model of another registry."""
NETWORK = "Look after the network, or the proxy of Ollama's service (not of your shell). This shows more."


async def stopped(bench: Bench) -> None:
    await bench.server.stop()


async def started(bench: Bench) -> None:
    await bench.server.start()


def embeds(name: str) -> Step:
    values = environ(CODEXGATE_EMBEDDINGS_PROVIDER="ollama", CODEXGATE_EMBEDDINGS_MODEL=name)
    return both(pulls("embedding"), serves_also(lambda: good(EMBEDS)), values)


def serves_also(made: Callable[[], dict[str, Answer]]) -> Step:
    def change(bench: Bench) -> None:
        bench.server.routes |= made()

    return change


def loaded(size: int, vram: int = 5_000_000_000) -> Step:
    entry = {**tag(MODEL), "size_vram": vram, "context_length": size}
    return routes(api_ps={"models": [entry]})


def gpu(bench: Bench) -> None:
    """There is one in this machine."""
    bench.patch.setattr(ollama_models, "GPUS", (bench.folder,))


def script(version: str) -> Step:
    """An `ollama` program of this version, which tells as the real one does."""

    def change(bench: Bench) -> None:
        text = f"""\
        echo "ollama version is 0.13.5"
        echo "Warning: client version is {version}"
        """
        program(bench.folder / "bin/ollama", text)

    return change


IN_FRONT = both(
    environ(CODEXGATE_OPENAI_SERVER_BASE_URL="http://127.0.0.1:OTHER/v1", CODEXGATE_BACKENDS="server"), gate
)


async def locked(bench: Bench) -> None:
    await take(OPENAI_ONLY, bench)
    bench.other.key = PASSWORD


async def elsewhere(bench: Bench) -> None:
    """The gate's Ollama has the model, and Codex is sent to another one."""
    await take(with_other(lambda: good({"gemma3:4b": ("completion", "tools")})), bench)
    environ(CODEX_OSS_BASE_URL="http://127.0.0.1:OTHER/v1")(bench)


async def installed_there(bench: Bench) -> None:
    bench.other.routes = good()


def put(value: str) -> Step:
    """What a person puts where a command leaves a word."""

    def change(bench: Bench) -> None:
        bench.value = value.replace("URL", bench.server.url)

    return change


def refusing(reason: str) -> Step:
    """Ollama does not get a model, for a reason of its registry's or its network's."""
    body = f'{{"status": "pulling manifest"}}\n{{"error": "{reason}"}}\n'.encode()
    return both(BEHIND, model("tiny:1b"), routes(api_pull=body))


def unlisted(answer: Answer) -> Step:
    """A model that is not installed, and a registry that answers so."""
    return both(with_other(lambda: {MANIFEST: answer}), model(TINY))


LISTED = both(with_other(lambda: {MANIFEST: {"schemaVersion": 2}}), pulls(), model(TINY))


async def listed_and_pulled(bench: Bench) -> None:
    await take(LISTED, bench)
    await pulled(bench)


OTHERS = "CODEXGATE_OPENAI_SERVER_BASE_URL=http://127.0.0.1:8000/v1 "


def before(variables: str, then: str = "start Codex against the gate") -> str:
    """How the gate is put before the server that these name."""
    return f"Put the gate in front of it, which has every route:\n  {variables}codexgate serve\nThen {then}:"


AS_PROVIDER = both(obey, environ(CODEX_OSS_BASE_URL="URL/v1"))
"""Codex is told of the gate, and `codex --oss` is left to Ollama."""


WIDER = "Start Ollama with OLLAMA_CONTEXT_LENGTH=65536, or go through the gate (`codexgate serve`):"

FIXED = doctor("--fix", "--yes")

CAUSES = (
    Cause(
        1,
        "an OpenAI-only server behind `codex --oss`",
        "ollama.pull.shim",
        OPENAI_ONLY,
        "no /api/tags (404)",
        f"CODEX_OSS_BASE_URL=http://127.0.0.1:8140/v1 {OSS} qwen3:8b",
        before(OTHERS),
        mend=IN_FRONT,
    ),
    Cause(
        1,
        "an OpenAI-only server behind `codex --oss`, and a gate that wants a key, which that does not send",
        "ollama.pull.shim",
        both(OPENAI_ONLY, environ(CODEXGATE_SERVER_API_KEY=PASSWORD)),
        "no /api/tags (404)",
        f"{OTHERS}codexgate connect codex -m qwen3:8b",
        before(OTHERS, "let Codex reach it as a provider, which has a key"),
        mend=AS_PROVIDER,
    ),
    Cause(
        1,
        "an Ollama without OpenAI's API",
        "ollama.pull.shim",
        routes(v1_models=404),
        "has /api/tags, but no /v1/models (404)",
        f"CODEX_OSS_BASE_URL=http://127.0.0.1:8140/v1 {OSS} qwen3:8b",
        before(""),
        mend=gate,
    ),
    Cause(
        1,
        "a server that wants a key",
        "ollama.pull.shim",
        locked,
        "neither /v1/models (401)",
        f"CODEX_OSS_BASE_URL=http://127.0.0.1:8140/v1 {OSS} qwen3:8b",
        before(f"{OTHERS}CODEXGATE_OPENAI_SERVER_API_KEY=KEY "),
        mend=both(environ(CODEXGATE_OPENAI_SERVER_API_KEY=PASSWORD), IN_FRONT),
    ),
    Cause(
        1,
        "a server that has neither API",
        "ollama.pull.shim",
        both(with_other(dict), environ(CODEX_OSS_BASE_URL="http://127.0.0.1:OTHER/v1"), put("URL/v1")),
        "neither /v1/models (404)",
        "export CODEX_OSS_BASE_URL=URL",
        "Name the server's own base URL; most end in /v1.",
    ),
    Cause(
        6,
        "the address of one route in place of a base URL",
        "ollama.pull.shim",
        environ(CODEX_OSS_BASE_URL="URL/v1/chat/completions"),
        "neither /v1/models (404)",
        RIGHT,
        "Name the server's own base URL; most end in /v1.",
    ),
    Cause(
        2,
        "a server for `codex --oss` that has not the model",
        "ollama.pull.shim",
        elsewhere,
        "has no qwen3:8b",
        "CODEXGATE_OLLAMA_URL=http://127.0.0.1:8000 codexgate models pull qwen3:8b",
        mend=installed_there,
    ),
    Cause(
        2,
        "a model that is not installed",
        "ollama.model.installed",
        both(pulls(), model("qwen3:32b"), BEHIND),
        "qwen3:32b is not installed. Near: qwen3:8b",
        "codexgate models pull qwen3:32b",
    ),
    Cause(
        2,
        "a model that the registry has not",
        "ollama.registry",
        unlisted(404),
        "The registry has no",
        text="See https://ollama.com/library for the names.",
        mend=model(MODEL),
    ),
    Cause(
        3,
        "a tag that is left out",
        "ollama.model.tag",
        both(serves(lambda: good({"qwen3:latest": ("completion", "tools")})), model("qwen3")),
        "qwen3 is installed as qwen3:latest",
        f"CODEX_OSS_BASE_URL={V1} {OSS} qwen3:latest",
        mend=model("qwen3:latest"),
        status="warning",
    ),
    Cause(
        4,
        "nothing listens",
        "ollama.server",
        both(script("0.13.5"), stopped),
        "nothing listens there",
        "ollama serve",
        mend=started,
    ),
    Cause(
        4,
        "no Ollama is installed",
        "ollama.server",
        stopped,
        "nothing listens there",
        text="Install it: https://ollama.com/download",
        mend=both(script("0.13.5"), started),
    ),
    Cause(
        4,
        "the wrong port",
        "ollama.server",
        environ(CODEXGATE_OLLAMA_URL="http://127.0.0.1:OTHER"),
        "Nothing at http://127.0.0.1:8000, but an Ollama at http://127.0.0.1:11434.",
        "export CODEXGATE_OLLAMA_URL=http://127.0.0.1:11434",
    ),
    Cause(
        4,
        "a server that takes connections and says nothing",
        "ollama.server",
        both(routes(api_tags=HANG, api_version=HANG), patience(0.5)),
        "did not answer in time",
        "sudo systemctl restart ollama",
        mend=both(serves(good), patience(PATIENCE)),
    ),
    Cause(
        4,
        "something that is no HTTP server on Ollama's port",
        "ollama.server",
        both(
            with_other(lambda: {"/api/tags": GARBAGE, "/api/version": GARBAGE}),
            environ(CODEXGATE_OLLAMA_URL="http://127.0.0.1:OTHER"),
            put("URL"),
        ),
        "did not answer in proper HTTP",
        "export CODEXGATE_OLLAMA_URL=URL",
        "Say where Ollama is, as http://HOST:PORT.",
    ),
    Cause(
        4,
        "something else where the settings look for Ollama",
        "ollama.server",
        both(with_other(lambda: {"/api/tags": 403}), environ(CODEXGATE_OLLAMA_URL="http://127.0.0.1:OTHER")),
        "is no Ollama (403)",
        "export CODEXGATE_OLLAMA_URL=http://127.0.0.1:11434",
    ),
    Cause(
        4,
        "something that answers everything where the settings look for Ollama",
        "ollama.server",
        both(
            with_other(lambda: {"/api/tags": {"hello": "world"}}),
            environ(CODEXGATE_OLLAMA_URL="http://127.0.0.1:OTHER"),
        ),
        "is no Ollama",
        "export CODEXGATE_OLLAMA_URL=http://127.0.0.1:11434",
    ),
    Cause(
        4,
        "`OLLAMA_HOST` that points elsewhere",
        "ollama.host",
        environ(OLLAMA_HOST="http://127.0.0.1:OTHER"),
        "nothing answers. Ollama answers at http://127.0.0.1:11434.",
        "unset OLLAMA_HOST",
    ),
    Cause(
        4,
        "`OLLAMA_HOST` without a scheme, which Codex does not read",
        "ollama.host",
        environ(OLLAMA_HOST="127.0.0.1:PORT", CODEX_OSS_BASE_URL=""),
        "is not where `codex --oss` looks",
        RIGHT,
    ),
    Cause(
        4,
        "`OLLAMA_HOST` with a scheme and without a port",
        "ollama.host",
        environ(OLLAMA_HOST="http://127.0.0.9"),
        "means port 80",
        "export OLLAMA_HOST=http://127.0.0.9:11434",
        mend=environ(OLLAMA_HOST="URL"),
    ),
    Cause(
        4,
        "`OLLAMA_HOST` where nothing answers, and no Ollama is installed",
        "ollama.host",
        both(stopped, environ(OLLAMA_HOST="127.0.0.1:PORT")),
        "nothing answers.",
        text="Install it: https://ollama.com/download",
        mend=both(script("0.13.5"), started),
    ),
    Cause(
        5,
        "a proxy that catches this machine",
        "ollama.proxy",
        environ(HTTP_PROXY="http://proxy.invalid:3128"),
        "HTTP_PROXY sends requests for 127.0.0.1, localhost to a proxy",
        "export NO_PROXY=localhost,127.0.0.1,::1",
    ),
    Cause(
        5,
        "a proxy with exceptions, this machine not among them",
        "ollama.proxy",
        environ(http_proxy="http://proxy.invalid:3128", no_proxy="intra.example"),
        "http_proxy sends requests for 127.0.0.1, localhost to a proxy",
        "export NO_PROXY=intra.example,localhost,127.0.0.1,::1 no_proxy=intra.example,localhost,127.0.0.1,::1",
    ),
    Cause(
        5,
        "a proxy with exceptions, this machine by one of its names among them",
        "ollama.proxy",
        environ(HTTP_PROXY="http://proxy.invalid:3128", NO_PROXY="localhost,intra.example"),
        "HTTP_PROXY sends requests for 127.0.0.1 to a proxy",
        "export NO_PROXY=localhost,intra.example,127.0.0.1,::1",
    ),
    Cause(
        6,
        "a base URL without `/v1`",
        "ollama.base_url",
        environ(CODEX_OSS_BASE_URL="URL"),
        "has no /v1 at its end",
        RIGHT,
    ),
    Cause(
        6,
        "a base URL without `/v1` that ends in a slash, as a browser has it",
        "ollama.base_url",
        environ(CODEX_OSS_BASE_URL="URL/"),
        "has no /v1 at its end",
        RIGHT,
    ),
    Cause(
        6,
        "a base URL with `/v1` twice",
        "ollama.base_url",
        environ(CODEX_OSS_BASE_URL="URL/v1/v1"),
        "has /v1 twice",
        RIGHT,
    ),
    Cause(
        6,
        "a base URL with a doubled slash, where the server minds",
        "ollama.base_url",
        environ(CODEX_OSS_BASE_URL="URL//v1"),
        "has a doubled slash",
        RIGHT,
    ),
    Cause(
        6,
        "a base URL that ends in a slash, where the server minds",
        "ollama.base_url",
        environ(CODEX_OSS_BASE_URL="URL/v1/"),
        "ends in a slash",
        RIGHT,
    ),
    Cause(
        6,
        "a base URL without a scheme",
        "ollama.base_url",
        environ(CODEX_OSS_BASE_URL="127.0.0.1:PORT/v1"),
        "has no scheme",
        RIGHT,
    ),
    Cause(
        7,
        "an Ollama too old for Codex",
        "ollama.version",
        routes(api_version={"version": "0.13.3"}),
        "wants 0.13.4",
        text="Update Ollama: https://ollama.com/download",
        mend=routes(api_version={"version": "0.13.4"}),
    ),
    Cause(
        7,
        "an Ollama too old for the model: its registry answers 412",
        "ollama.registry",
        refusing("pull model manifest: 412: requires a newer version of Ollama"),
        "412",
        text="Update Ollama: https://ollama.com/download",
        mend=both(pulls(), pulled),
        look=FIXED,
    ),
    Cause(
        7,
        "an `ollama` program newer than the server that runs",
        "ollama.version",
        script("0.14.2"),
        "The `ollama` program is 0.14.2, the server that runs is 0.13.5",
        "sudo systemctl restart ollama",
        mend=routes(api_version={"version": "0.14.2"}),
        status="warning",
    ),
    Cause(
        8,
        "a registry that does not answer",
        "ollama.registry",
        both(unlisted(HANG), patience(2.0)),
        "did not answer in time",
        "curl -v http://127.0.0.1:8000/v2/",
        NETWORK,
        mend=listed_and_pulled,
    ),
    Cause(
        8,
        "a registry whose name is not found",
        "ollama.registry",
        model("registry.invalid/library/tiny:1b"),
        "has a host name that cannot be resolved",
        "curl -v https://registry.invalid/v2/",
        NETWORK,
        mend=listed_and_pulled,
    ),
    Cause(
        8,
        "a registry that Ollama does not reach",
        "ollama.registry",
        refusing("pull model manifest: Get https://registry.ollama.ai: dial tcp 1.2.3.4:443: i/o timeout"),
        "i/o timeout",
        "codexgate models pull tiny:1b",
        "Check the network and try again; what was downloaded is kept.",
        mend=both(pulls(), obey),
        look=FIXED,
    ),
    Cause(
        8,
        "a registry whose name Ollama does not find",
        "ollama.registry",
        refusing(
            "pull model manifest: Get https://registry.ollama.ai: lookup registry.ollama.ai: no such host"
        ),
        "no such host",
        "codexgate models pull tiny:1b",
        "Check the network and try again; what was downloaded is kept.",
        mend=both(pulls(), obey),
        look=FIXED,
    ),
    Cause(
        8,
        "a proxy of Ollama's service that does not work",
        "ollama.registry",
        refusing("proxyconnect tcp: dial tcp 10.0.0.1:3128: connection refused"),
        "proxyconnect",
        "sudo systemctl edit ollama",
        "Mend the proxy of Ollama's service, not of your shell.",
        mend=both(pulls(), pulled),
        look=FIXED,
    ),
    Cause(
        9,
        "a model without tools",
        "ollama.model.tools",
        both(
            serves(lambda: good({"gemma3:4b": ("completion",), MODEL: ("completion", "tools")})),
            model("gemma3:4b"),
        ),
        "cannot use tools",
        "codexgate models",
        "Take a model that can use tools.",
        mend=both(obey, model(MODEL)),
    ),
    Cause(
        10,
        "an embedding model used for chat",
        "ollama.model.kind",
        both(serves(lambda: good(EMBEDS)), model("nomic-embed-text:latest")),
        "embeds, and cannot chat",
        "codexgate models",
        "Take a chat model.",
        mend=both(obey, model(MODEL)),
    ),
    Cause(
        10,
        "a chat model used for embeddings",
        "ollama.embeddings",
        embeds(MODEL),
        "shall embed, but cannot",
        "export CODEXGATE_EMBEDDINGS_MODEL=nomic-embed-text",
    ),
    Cause(
        10,
        "an embedding model that is not installed",
        "ollama.embeddings",
        embeds("bge-m3"),
        "is not installed",
        "codexgate models pull bge-m3",
    ),
    Cause(
        11,
        "a loaded window smaller than what Codex sends",
        "ollama.context",
        loaded(4096),
        "a window of 4,096 tokens",
        f"CODEX_OSS_BASE_URL=http://127.0.0.1:8140/v1 {OSS} qwen3:8b",
        WIDER,
        mend=loaded(65536),
    ),
    Cause(
        11,
        "`OLLAMA_CONTEXT_LENGTH` smaller than what Codex sends",
        "ollama.context",
        environ(OLLAMA_CONTEXT_LENGTH="4096"),
        "OLLAMA_CONTEXT_LENGTH=4096",
        f"CODEX_OSS_BASE_URL=http://127.0.0.1:8140/v1 {OSS} qwen3:8b",
        WIDER,
        mend=loaded(65536),
    ),
    Cause(
        11,
        "a model that sees less than Codex sends",
        "ollama.context",
        both(serves(lambda: good(context=8192))),
        "sees 8,192 tokens at most",
        "codexgate models",
        "Take a model that sees more.",
        mend=both(obey, serves(good)),
    ),
    Cause(
        12,
        "a model partly on the CPU",
        "ollama.gpu",
        loaded(65536, 2_500_000_000),
        "50 % of qwen3:8b",
        "ollama stop qwen3:8b",
        mend=loaded(65536),
        status="warning",
    ),
    Cause(
        12,
        "a model on the CPU, though there is a GPU",
        "ollama.gpu",
        both(gpu, loaded(65536, 0)),
        "0 % of qwen3:8b",
        "ollama stop qwen3:8b",
        mend=loaded(65536),
        status="warning",
    ),
)
