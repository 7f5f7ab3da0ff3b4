"""The doctor about Ollama, and about any server that `codex --oss` is sent to. Its causes: `tests/causes`."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from codexgate.backends.codex.find import find_binary
from codexgate.backends.ollama import OllamaOptions
from codexgate.backends.openai import OpenAIOptions
from codexgate.doctor import ollama, ollama_seen, oss, registry, whose
from codexgate.doctor.run import Found
from codexgate.doctor.words import Asked, Status
from codexgate.errors import Fault
from codexgate.settings import Settings
from tests.causes.bench import MODEL, Bench, Cause, bench, checks, gate, patience, take
from tests.causes.ollama import CAUSES, loaded
from tests.servers.faulty import HANG, Faulty, only_v1
from tests.servers.faulty import ollama as good
from tests.support import run


async def look(made: Bench) -> dict[str, Found]:
    return await checks(made, "ollama")


SAID = {
    "an OpenAI-only server behind `codex --oss`": "failed to start pull: HTTP 404 Not Found",
    "an Ollama without OpenAI's API": "No running Ollama server detected",
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
            await take(cause.spoil, made)
            assert SAID[cause.what] in await codex_oss(made)
            row = (await look(made))[cause.id].row
            assert row.status == "fail"
            assert SAID[cause.what] in row.why or "pull" in row.why

    run(scenario())


async def codex_oss(made: Bench) -> str:
    """What `codex --oss` writes in these surroundings."""
    unused = str(made.other.port)  # stands for Ollama's own, at which there may be one here
    environ = {"CODEX_OSS_PORT": unused, **made.asked().environ}
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
                rows = await look(made)
                assert {found.row.status for found in rows.values()} == {"ok"}, rows

    run(scenario())


def test_no_ollama_is_no_news_unless_somebody_wants_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with Faulty({}) as dead:
            await dead.stop()
        options = OllamaOptions(url=dead.url)
        monkeypatch.setattr(ollama_seen, "DEFAULT", dead.url)
        monkeypatch.setattr(ollama_seen, "OllamaOptions", lambda: options)  # the port that nobody chose
        quiet = Asked(Settings(ollama=options), {"PATH": str(tmp_path)}, tmp_path)
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
        ("/", "ok", "is a root; clients want http://"),
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
            row = (await look(made))["ollama.base_url"].row
            assert (row.status, says in row.summary) == (status, True), row
            command = f"codexgate doctor --url {made.server.url}/v1"
            assert status == "ok" or (row.remedy and row.remedy.command == command)

    run(scenario())


def test_a_small_window_is_no_fault_where_codex_goes_through_a_gate(tmp_path: Path) -> None:
    """The gate may have loaded the model so small itself, and makes its window as large as is needed."""

    async def scenario() -> None:
        async with bench(tmp_path) as made:
            await take(loaded(4096), made)
            row = (await look(made))["ollama.context"].row
            assert (row.status, "`codexgate serve`" in row.remedy.text if row.remedy else "") == (
                "fail",
                True,
            )
            await take(gate, made)
            through = made.environ["CODEX_OSS_BASE_URL"]
            assert (await look(made))["ollama.context"].row.status == "ok"
            made.environ["CODEX_OSS_BASE_URL"] = f"{made.server.url}/v1"
            row = (await look(made))["ollama.context"].row
            assert (row.status, "the gate, which runs:" in row.remedy.text if row.remedy else "") == (
                "warning",
                True,
            )
            made.url = through
            rows = await look(made)
            assert {found.row.status for found in rows.values()} == {"ok"}, rows
            assert "window of 4,096 tokens. The gate loads" in rows["ollama.context"].row.summary

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
            if answer is HANG:
                patience(2.0)(made)
            row = (await look(made))["ollama.registry"].row
            assert (row.status, says in row.summary) == (status, True), row
            assert theirs.seen == ["GET /v2/library/tiny/manifests/1b"]

    run(scenario())


def test_a_registry_without_a_name_or_behind_a_proxy(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as made:
            made.model = "registry.invalid/library/tiny:1b"
            row = (await look(made))["ollama.registry"].row
            assert row.status == "fail" and "registry.invalid" in row.summary
            made.environ["HTTPS_PROXY"] = "http://proxy.invalid:3128"
            row = (await look(made))["ollama.registry"].row
            assert row.status == "skipped" and row.remedy and "service" in row.remedy.text
            made.model = MODEL
            assert "ollama.registry" not in await look(made)

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
        ("demo-embed", "", ""),
        ("gpu/big", "", ""),
        ("big", "", ""),
        ("small", "", "small"),
        ("big", "http://h/v1", "big"),
        ("org/model", "http://h/v1", "org/model"),
        ("", "", ""),
    ],
)
def test_whose_model_it_is(model: str, url: str, name: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Faulty(good()) as server, Faulty(only_v1("big", "qwen3:8b")) as gpu:
            settings = Settings(
                aliases={"fast": "ollama/qwen3:8b"},
                backends=("ollama", "gpu", "demo"),
                ollama=OllamaOptions(url=server.url),
                openai={"gpu": OpenAIOptions(base_url=f"{gpu.url}/v1")},
            )
            assert await whose.ollama_model(Asked(settings, {}, tmp_path, model, url)) == name

    run(scenario())


@pytest.mark.parametrize(
    ("model", "listed", "safe"),
    [
        ("tiny", only_v1("big"), True),
        ("tiny", {"/v1/models": HANG}, False),
        ("ollama/tiny", {"/v1/models": HANG}, True),
    ],
)
def test_a_model_is_pulled_unasked_only_where_no_other_backend_may_have_it(
    model: str, listed: dict[str, Any], safe: bool, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with bench(tmp_path) as made, Faulty(listed) as box:
            made.environ |= {"CODEXGATE_OPENAI_BOX_BASE_URL": f"{box.url}/v1", "HTTPS_PROXY": "http://p:1"}
            made.environ["CODEXGATE_BACKENDS"], made.model = "ollama,box", model
            if not safe:
                made.patch.setattr(whose, "PATIENCE", 0.2)
            remedy = (await look(made))["ollama.model.installed"].row.remedy
            assert remedy and (remedy.command, remedy.safe) == ("codexgate models pull tiny", safe)

    run(scenario())


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
                    rows = await look(made)
                    json.dumps(msgspec.to_builtins(list(rows.values())))

    run(scenario())
