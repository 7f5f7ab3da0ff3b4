"""An app-server that misbehaves on command; a program of its own, without any of the project's code.

Speaks as much of the lines as a turn needs. What it does is the last word of a turn's text:
`plain` answers; the others are the functions below. A turn runs in a thread of its own, so that
the others go on, unless it is about the whole process.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

numbers = itertools.count(1)
writing = threading.Lock()
refusals: dict[str, int] = {}


def write(data: bytes) -> None:
    with writing:
        while data:
            data = data[os.write(1, data) :]


def say(message: dict[str, Any]) -> None:
    write(json.dumps(message).encode() + b"\n")


def delta(thread: str, text: str) -> None:
    params = {"threadId": thread, "turnId": "t", "itemId": "i", "delta": text}
    say({"method": "item/agentMessage/delta", "params": params})


def plain(thread: str) -> None:
    item = {"type": "agentMessage", "id": "i", "text": "", "phase": None}
    say({"method": "item/started", "params": {"threadId": thread, "turnId": "t", "item": item}})
    delta(thread, "fine")
    item["text"] = "fine"
    say({"method": "item/completed", "params": {"threadId": thread, "turnId": "t", "item": item}})
    end(thread)


def end(thread: str) -> None:
    turn: dict[str, Any] = {"id": "t", "status": "completed", "items": [], "error": None}
    say({"method": "turn/completed", "params": {"threadId": thread, "turn": turn}})


def hold(thread: str) -> None:
    """Say one word, and no more."""
    delta(thread, "held")


def stopped(thread: str) -> None:
    delta(thread, "held")
    os.kill(os.getpid(), signal.SIGSTOP)


def killed(thread: str) -> None:
    delta(thread, "held")
    os.kill(os.getpid(), signal.SIGKILL)


def exits(thread: str) -> None:
    delta(thread, "held")
    os._exit(3)


def garbage(thread: str) -> None:
    """Lines that are no messages, then an answer as if nothing had been."""
    for line in (b"", b"nonsense", b"{", b"[]", b"null", b'{"id":{}}', b"\xff\xfe", b'{"id":"?","result":1}'):
        write(line + b"\n")
    write(b"[" * 100_000 + b"\n")
    plain(thread)


def babble(thread: str) -> None:
    """Nothing but nonsense from now on."""
    with writing:
        while True:
            os.write(1, b"nonsense\n" * 1000)


def long(thread: str) -> None:
    delta(thread, "x" * 10_000_000)
    end(thread)


def too_long(thread: str) -> None:
    write(b'{"' + b"x" * (33 * 2**20))


def noisy(thread: str) -> None:
    """100 MB of log, of which the last byte must be taken before the answer comes."""
    left = 100 * 2**20
    while left:
        left -= os.write(2, b"log\n" * min(left // 4, 2**18))
    plain(thread)


def closed(thread: str) -> None:
    delta(thread, "held")
    os.close(1)


def flood(thread: str) -> None:
    """200 MB for one turn, as fast as it goes."""
    line = (
        json.dumps(
            {
                "method": "item/agentMessage/delta",
                "params": {"threadId": thread, "turnId": "t", "itemId": "i", "delta": "x" * 10_000},
            }
        ).encode()
        + b"\n"
    )
    for _ in range(200):
        write(line * 100)


def orphans(thread: str) -> None:
    """Start what no signal to a group reaches, as commands outside a sandbox are, and die."""
    environ = {name: value for name, value in os.environ.items() if name == "CODEXGATE_CHILD"}
    subprocess.Popen(["/usr/bin/setsid", "/bin/sleep", "3001"], env=environ)
    shell = "(setsid sleep 3003 &) ; exec sleep 3004"
    subprocess.Popen(["/bin/sh", "-c", shell], env=environ, start_new_session=True)
    delta(thread, "held")


def stubborn(thread: str) -> None:
    """Neither the end of its input nor SIGTERM ends it."""
    plain(thread)


TURNS: dict[str, Callable[[str], None]] = {
    name: act
    for name, act in list(globals().items())
    if callable(act) and getattr(act, "__annotations__", {}) == {"thread": str, "return": None}
}
WHOLE = ("stopped", "killed", "exits", "closed")


def result(method: str, params: dict[str, Any]) -> Any:
    match method:
        case "initialize":
            return {"userAgent": "fake/0.0.0 (test)"}
        case "account/read":
            return {"account": None, "requiresOpenaiAuth": False}
        case "model/list":
            return {"data": [{"id": "fake", "model": "fake"}], "nextCursor": None}
        case "thread/start":
            return {"thread": {"id": f"thread-{next(numbers)}"}}
        case "turn/start":
            return {"turn": {"id": "t", "status": "inProgress", "items": []}}
        case _:
            return {}


def take(message: dict[str, Any]) -> None:
    method, id, params = message.get("method", ""), message.get("id"), message.get("params", {})
    word = params["input"][-1]["text"].split()[-1] if method == "turn/start" else ""
    name, _, times = word.partition("=")
    if name == "overloaded" and refusals.setdefault(word, int(times)):
        refusals[word] -= 1
        say({"id": id, "error": {"code": -32001, "message": "Server overloaded; retry later."}})
        return
    if id is not None:
        say({"id": id, "result": result(method, params)})
    if word == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if word in WHOLE:
        TURNS[word](params["threadId"])
    elif word:
        act = TURNS.get(name, plain)
        threading.Thread(target=act, args=(params["threadId"],), daemon=True).start()


def main() -> None:
    for line in sys.stdin.buffer:
        take(json.loads(line))
    if signal.getsignal(signal.SIGTERM) == signal.SIG_IGN:
        signal.pause()


if __name__ == "__main__":
    main()
