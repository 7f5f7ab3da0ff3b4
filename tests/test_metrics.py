"""What Prometheus reads: well formed, true, and of a size that no caller can choose."""

import asyncio
import re

import pytest

from codexgate.events import Done, TextDelta, Usage
from codexgate.records import Health
from codexgate.server.app import Listen
from codexgate.server.metrics import SECONDS, Family, Metrics, expose, gauge
from tests.servers.gateway import client, serving
from tests.servers.scripted import Scripted
from tests.support import run

CHAT = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\.)*",?)+)\})? ([0-9.e+-]+)')
Samples = dict[tuple[str, str], float]


def parse(text: str) -> Samples:
    """Values by name and labels; fails for what Prometheus would not read."""
    assert text.endswith("\n")
    samples: Samples = {}
    told: set[str] = set()
    family = kind = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family = line.split()[2]
            assert family not in told and not told.add(family)  # type: ignore[func-returns-value]
        elif line.startswith("# TYPE "):
            assert line.split()[2] == family
            kind = line.split()[3]
            assert kind in ("counter", "gauge", "histogram")
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            name, labels, value = match.groups(default="")
            ends = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            assert name in [family + end for end in ends]
            assert (name, labels) not in samples
            samples[name, labels] = float(value)
    return samples


async def scrape(url: str, key: str = "") -> Samples:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with client(url) as session, session.get("/metrics", headers=headers) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        return parse(await answer.text())


def test_an_answer_is_counted_with_its_tokens() -> None:
    async def scenario() -> None:
        backend = Scripted(TextDelta("hello"), Usage(prompt=7, completion=3), Done("stop"))
        async with serving(backend) as url, client(url) as session:
            for stream in (True, False):
                async with session.post("/v1/chat/completions", json={**CHAT, "stream": stream}) as answer:
                    await answer.read()
            seen = await scrape(url)
        route = 'route="/v1/chat/completions"'
        assert seen["codexgate_requests_total", f'method="POST",{route},status="200"'] == 2
        assert seen["codexgate_request_seconds_count", route] == 2
        assert seen["codexgate_request_seconds_bucket", f'{route},le="+Inf"'] == 2
        assert seen["codexgate_first_token_seconds_count", 'backend="scripted"'] == 2
        assert seen["codexgate_tokens_total", 'backend="scripted",direction="input"'] == 14
        assert seen["codexgate_tokens_total", 'backend="scripted",direction="output"'] == 6
        assert seen["codexgate_streams_open", ""] == 0

    run(scenario())


def test_a_backend_that_is_down_is_not_up() -> None:
    async def scenario() -> None:
        well, ill = Scripted(name="well"), Scripted(name="ill")
        ill.health = Health("down", "it is down")
        async with serving(well, ill) as url:
            seen = await scrape(url)
        assert seen["codexgate_backend_up", 'backend="well"'] == 1
        assert seen["codexgate_backend_up", 'backend="ill"'] == 0

    run(scenario())


def test_a_stream_is_open_until_it_ends() -> None:
    async def scenario() -> None:
        backend = Scripted(TextDelta("hello"), TextDelta("x"), Done("stop"))
        async with serving(backend) as url, client(url) as session:
            go = asyncio.Event()
            backend.steps.insert(1, go)
            async with session.post("/v1/chat/completions", json={**CHAT, "stream": True}) as answer:
                assert (await scrape(url))["codexgate_streams_open", ""] == 1
                go.set()
                await answer.read()
            assert (await scrape(url))["codexgate_streams_open", ""] == 0

    run(scenario())


def test_a_caller_cannot_make_it_grow() -> None:
    async def scenario() -> Samples:
        async with serving(Scripted()) as url, client(url) as session:
            for index in range(20):
                method = ("PUT", "PATCH", "PURGE")[index % 3]
                async with session.request(method, f"/v1/models/{index}") as answer:
                    assert answer.status == 405
                async with session.get(f"/nothing/{index}") as answer:
                    assert answer.status == 404
                async with session.get(f"/v1/models/{index}") as answer:
                    assert answer.status == 404
            return await scrape(url)

    seen = run(scenario())
    requests = {labels: value for (name, labels), value in seen.items() if name == "codexgate_requests_total"}
    assert requests == {
        'method="-",route="-",status="404"': 20,
        'method="-",route="-",status="405"': 20,
        'method="GET",route="/v1/models/{id}",status="404"': 20,
    }


def test_with_a_key_set_it_needs_the_key() -> None:
    async def scenario() -> None:
        async with serving(Scripted(), listen=Listen(drain=0, key="cg-secret")) as url:
            async with client(url) as session, session.get("/metrics") as answer:
                assert answer.status == 401
            assert await scrape(url, "cg-secret")

    run(scenario())


def test_a_histogram_counts_into_every_bucket_that_is_large_enough() -> None:
    metrics = Metrics()
    for seconds in (0.0, SECONDS[0], 1.5, 10_000.0):
        metrics.request("GET", "/x", 200, seconds)
    seen = parse(expose(metrics.families()))
    counts = [value for (name, _), value in seen.items() if name == "codexgate_request_seconds_bucket"]
    assert counts == sorted(counts) and (counts[0], counts[-2], counts[-1]) == (2, 3, 4)
    assert seen["codexgate_request_seconds_sum", 'route="/x"'] == pytest.approx(10_001.505)


def test_labels_are_escaped() -> None:
    text = expose([gauge("g", "What it is.", {(("name", 'a"b\\c\nd'),): 1})])
    assert text == '# HELP g What it is.\n# TYPE g gauge\ng{name="a\\"b\\\\c\\nd"} 1.0\n'
    assert expose([Family("c", "counter", "Big.", [("", (), 123_456_789)])]).endswith("c 123456789.0\n")
