"""`make bench`: what the gate costs, as ratios in one run on one machine.

The yardstick is a bare aiohttp reverse proxy that parses nothing ("bare"); both stand before the
same Ollama that answers canned bytes, so that only the way through is measured. Start-up is
measured against `python -c pass`. Absolute times are not stable; ratios are.

Run it with nothing else going on; `--quick` for a look.
"""

import argparse
import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
from aiohttp import web

from codexgate.backends.codex import Codex, CodexOptions
from codexgate.backends.codex.child import Child
from codexgate.dialects.codex import wire
from tests.servers.codex_home import MODEL, make_codex_home
from tests.servers.gateway import serving
from tests.servers.responses import ScriptedResponses, Text

CHUNKS = 500
"""Of the streamed answer."""
WORD = b'{"model":"m","created_at":"2026-11-21T10:00:00.123Z","message":{"role":"assistant","content":" word"},"done":false}\n'
END = b'{"model":"m","created_at":"2026-11-21T10:00:00.123Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","prompt_eval_count":9,"eval_count":9}\n'
ASK = b'{"model":"m","messages":[{"role":"user","content":"%s"}],"stream":%s}'
TAGS = b'{"models":[{"name":"m","model":"m","modified_at":"2026-11-21T10:00:00Z","size":1,"digest":"d","details":{}}]}'
SHOW = b'{"capabilities":["completion"],"model_info":{"general.architecture":"x","x.context_length":8192},"details":{}}'


Rows = list[tuple[str, float, str]]
"""What was measured, the ratio, the figure to reach."""


class Canned(asyncio.Protocol):
    """An Ollama whose answers are bytes made beforehand; a prompt with `stream` in it gets `CHUNKS` lines."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, found, rest = self.data.partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
        if found and len(rest) >= length:
            self.data = b""
            self.answer(head, rest)

    def answer(self, head: bytes, body: bytes) -> None:
        path = head.split(b" ", 2)[1]
        if path != b"/api/chat" and not path.startswith(b"/v1"):
            plain = {b"/api/tags": TAGS, b"/api/show": SHOW, b"/api/ps": b'{"models":[]}'}.get(
                path, b'{"version":"0.13.5"}'
            )
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                % len(plain)
                + plain
            )
            return
        many = b"STREAM" in body[:200]
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        lines = [WORD] * (CHUNKS if many else 5) + [END]
        for start in range(0, len(lines), 10):
            self.transport.write(
                b"".join(b"%x\r\n%s\r\n" % (len(line), line) for line in lines[start : start + 10])
            )
        self.transport.write(b"0\r\n\r\n")


async def upstream(port: int) -> None:
    """Be the canned Ollama."""
    server = await asyncio.get_running_loop().create_server(Canned, "127.0.0.1", port)
    await server.serve_forever()


async def bare(port: int, target: str) -> None:
    """Be a reverse proxy that parses nothing."""
    session = aiohttp.ClientSession(auto_decompress=False)

    async def forward(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        async with session.post(
            f"{target}/api/chat", data=body, headers={"Content-Type": "application/json"}
        ) as answer:
            response = web.StreamResponse(status=answer.status)
            await response.prepare(request)
            async for data in answer.content.iter_any():
                await response.write(data)
            await response.write_eof()
            return response

    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/chat/completions", forward)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


async def ask(port: int, body: bytes, until: bytes, times: int) -> list[float]:
    """Send one request after the other over one connection; the seconds of each."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    request = head % (port, len(body)) + body
    took: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        writer.write(request)
        await reader.readuntil(until)
        took.append(time.perf_counter() - began)
    writer.close()
    return took


async def rate(port: int, body: bytes, until: bytes, clients: int, times: int) -> tuple[float, float]:
    """Requests a second, and the median seconds of one."""
    await ask(port, body, until, 20)
    began = time.perf_counter()
    took = await asyncio.gather(*(ask(port, body, until, times // clients) for _ in range(clients)))
    seconds = time.perf_counter() - began
    return times // clients * clients / seconds, statistics.median(one for each in took for one in each)


def start_up(times: int) -> Rows:
    """How often `python -c pass` fits into the commands' start."""
    program = str(Path(sys.executable).with_name("codexgate"))
    environ = {**os.environ, "CODEXGATE_BACKENDS": "demo"}

    def seconds(*command: str) -> float:
        def once() -> float:
            began = time.perf_counter()
            subprocess.run(
                command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
            )
            return time.perf_counter() - began

        return statistics.median(once() for _ in range(times))

    nothing = seconds(sys.executable, "-c", "pass")
    goals = {"--version": "≤ 3", "--help": "≤ 16", "models": "≤ 16"}
    return [
        (f"codexgate {word} / python -c pass", seconds(program, word) / nothing, goal)
        for word, goal in goals.items()
    ]


async def through(ports: dict[str, int], scale: int) -> Rows:
    """The gate next to the bare proxy. A row is a ratio; more is better but where it says so."""
    gate, other = ports["gate"], ports["bare"]
    rows: Rows = []
    last = b"0\r\n\r\n"
    cases = [
        ("req/s, c=1", ASK % (b"hi", b"true"), 1, 600, "≥ 1.2"),
        ("req/s, c=16", ASK % (b"hi", b"true"), 16, 1600, "≥ 2.0"),
        ("req/s with a 200 KB request, c=4", ASK % (b"x" * 200_000, b"true"), 4, 200, "≥ 0.8"),
        ("chunks/s", ASK % (b"STREAM", b"true"), 1, 60, "≥ 1.4"),
    ]
    for name, body, clients, times, goal in cases:
        mine, my_p50 = await rate(gate, body, last, clients, times * scale)
        theirs, their_p50 = await rate(other, body, last, clients, times * scale)
        rows.append((name, mine / theirs, goal))
        if clients == 1 and "req/s" in name:
            direct = (await rate(ports["upstream"], body, last, 1, times * scale))[1]
            rows.append(
                ("added p50 at c=1 (less is better)", (my_p50 - direct) / (their_p50 - direct), "≤ 0.8")
            )
    return rows


async def codex_deltas(count: int) -> Rows:
    """What the gate adds to each delta of the real app-server, on the way from its pipe to a client's socket."""
    taken: list[float] = []
    take = Child._take

    def stamped(self: Child, line: bytes) -> None:
        if wire.AGENT_MESSAGE_DELTA.encode() in line:
            taken.append(time.perf_counter())
        take(self, line)

    Child._take = stamped  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as folder:
            seen = await _seen(Path(folder), count)
    finally:
        Child._take = take  # type: ignore[method-assign]
    added = sorted((there - here) * 1000 for here, there in zip(taken, seen, strict=True))
    return [
        ("Codex: added per delta, median (ms)", statistics.median(added), "≤ 0.2"),
        ("Codex: added per delta, p99 (ms)", added[int(len(added) * 0.99)], ""),
        ("Codex: added to the first delta (ms)", (seen[0] - taken[0]) * 1000, "≤ 5"),
    ]


async def _seen(folder: Path, count: int) -> list[float]:
    """When a client saw each of `count` deltas."""
    async with ScriptedResponses() as provider:
        provider.script("paced", [Text([f"{n} " for n in range(count)], pause=0.002)])
        home = make_codex_home(folder / "home", provider.url)
        codex = Codex(CodexOptions(), folder / "data", {**os.environ, "CODEX_HOME": str(home)})
        async with serving(codex, described=False) as url, aiohttp.ClientSession() as session:
            body = {"model": MODEL, "messages": [{"role": "user", "content": "SC:paced"}], "stream": True}
            async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                deltas = (line async for line in answer.content if b'"delta":{"content":"' in line)
                return [time.perf_counter() async for _ in deltas]


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--be", choices=["upstream", "bare"], help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--target", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.be:
        asyncio.run(upstream(given.port) if given.be == "upstream" else bare(given.port, given.target))
        return
    scale = 1 if given.quick else 5
    rows = start_up(5 * scale)
    rows += with_servers(lambda ports: asyncio.run(through(ports, scale)))
    rows += asyncio.run(codex_deltas(100 * scale))
    print(f"{'metric':40} {'':>8}  to reach")  # noqa: T201
    for name, ratio, goal in rows:
        print(f"{name:40} {ratio:8.2f}  {goal}")  # noqa: T201


def with_servers(measure: Callable[[dict[str, int]], Rows]) -> Rows:
    """Run `measure` while the canned Ollama, the bare proxy and the gate run, each in a process."""
    ports = dict(zip(("upstream", "bare", "gate"), free_ports(3), strict=True))
    target = f"http://127.0.0.1:{ports['upstream']}"
    me = [sys.executable, "-m", "tests.bench", "--port"]
    with tempfile.TemporaryDirectory() as folder:
        environ = {
            **os.environ,
            "CODEXGATE_DATA_DIR": folder,
            "CODEXGATE_OLLAMA_URL": target,
            "CODEXGATE_BACKENDS": "ollama",
        }
        serve = [sys.executable, "-m", "codexgate", "serve", "--port", str(ports["gate"])]
        commands = [
            [*me, str(ports["upstream"]), "--be", "upstream"],
            [*me, str(ports["bare"]), "--be", "bare", "--target", target],
            serve,
        ]
        processes: list[subprocess.Popen[bytes]] = []
        try:
            for command, port in zip(commands, ports.values(), strict=True):  # the gate finds its Ollama
                processes.append(subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL))
                asyncio.run(reachable(port))
            return measure(ports)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at this moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


async def reachable(port: int) -> None:
    """Wait until something listens there."""
    async with asyncio.timeout(20):
        while not await _connects(port):
            await asyncio.sleep(0.05)


async def _connects(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    mine, theirs = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
    writer.close()
    return bool(mine != theirs)  # TCP may connect a port that nobody listens on to itself


if __name__ == "__main__":
    main()
