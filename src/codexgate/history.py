"""A conversation as a list of messages: what of it is new, what was left open, what of it fits. Pure.

Clients differ in what they send of a conversation that somebody else keeps: the new messages, the
whole history, a window of it, an edited one, answers as they showed them. Knows no store, no model.
"""

import re
from collections.abc import Callable, Sequence
from itertools import chain

from .chat import Document, Image, Message, Part, Role, StoredFile, Text, ToolCall

PICTURE = 1000
"""Tokens that a picture, or a file whose content is not known, is taken for."""
OVERHEAD = 4
"""Tokens that a message is beyond its text: its role, and what sets it off."""

_DETAILS = re.compile(r"<details\b.*?</details>", re.DOTALL)
"""How Open WebUI keeps thinking within an answer."""


def trimmed(text: str) -> str:
    """`text` without what clients put around it or take away."""
    return _DETAILS.sub("", text).strip()


def split(messages: Sequence[Message]) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """The instructions among `messages`, and the others."""
    system = tuple(message for message in messages if message.role in ("system", "developer"))
    return system, tuple(message for message in messages if message.role not in ("system", "developer"))


def continued(kept: tuple[Message, ...], sent: tuple[Message, ...]) -> tuple[Message, ...]:
    """The conversation that is meant by who sends `sent` where `kept` is known; neither has instructions.

    Answers tell histories from news: nobody but the model makes them. What holds none is all new.
    What begins with the whole of `kept`, or ends `kept` and goes on, is known so far. Any other
    history was edited, shortened or asked again, and takes the place of `kept` from where it differs.
    """
    same = 0
    while same < min(len(kept), len(sent)) and is_same(kept[same], sent[same]):
        same += 1
    if same == len(kept):
        return kept + sent[same:]
    answered = next((at for at in range(len(sent), 0, -1) if sent[at - 1].role == "assistant"), 0)
    if not answered:
        return kept + sent
    window = kept[len(kept) - answered :] if same < len(sent) and answered <= len(kept) else ()
    if window and all(map(is_same, window, sent)):
        return kept + sent[answered:]
    return kept[:same] + sent[same:]


def is_same(kept: Message, sent: Message) -> bool:
    """Whether `sent` is what a client makes of `kept`."""
    if kept.role != sent.role or kept.tool_call_id != sent.tool_call_id:
        return False
    if kept.role != "assistant":
        return trimmed(kept.text) == trimmed(sent.text) and _others(kept) == _others(sent)
    if kept.tool_calls or sent.tool_calls:  # their ids are enough to know it by
        return _calls(kept) == _calls(sent)
    return _says(trimmed(sent.text), [trimmed(part.text) for part in kept.parts if isinstance(part, Text)])


def settled(messages: Sequence[Message]) -> tuple[Message, ...]:
    """`messages`, with a result for every call that the conversation left behind without one.

    Models' APIs refuse such a call, and a client that sends only what is new cannot mend it.
    """
    found: list[Message] = []
    open: list[ToolCall] = []
    for message in messages:
        if message.role == "tool":
            open = [call for call in open if call.id != message.tool_call_id]
        else:
            found += map(_no_result, open)
            open = list(message.tool_calls)
        found.append(message)
    if found and found[-1].role == "tool":
        found += map(_no_result, open)
    return tuple(found)


def fit(messages: Sequence[Message], limit: float, weigh: Callable[[Message], float]) -> tuple[Message, ...]:
    """`messages` without as many of the oldest as it takes to weigh at most `limit`, if that is possible.

    Whole turns go, and of the last one, which is never empty, calls together with their results; never
    the instructions, the last user message or what comes last.
    """
    system, others = split(messages)
    weight = sum(map(weigh, messages))
    if weight <= limit or not others:
        return tuple(messages)
    *turns, last = _groups(others, "user")
    *steps, end = _groups(last, "user", "assistant")
    question = steps[:1] if steps and steps[0][0].role == "user" else []
    steps = steps[len(question) :]
    gone = 0
    for group in (*turns, *steps):
        if weight <= limit:
            break
        weight -= sum(map(weigh, group))
        gone += 1
    left = turns[gone:] + question + steps[max(0, gone - len(turns)) :] + [end]
    return system + tuple(chain.from_iterable(left))


def tokens(message: Message) -> int:
    """About how many tokens a model sees in `message`: four bytes of text are one, or less."""
    words = [message.text, message.name, *(call.name + call.arguments for call in message.tool_calls)]
    return OVERHEAD + sum(map(_bytes, words)) // 4 + sum(map(_tokens, message.parts))


def size(message: Message) -> int:
    """About how many bytes `message` takes where it is kept."""
    words = [message.text, message.name, *(call.name + call.arguments for call in message.tool_calls)]
    data = [part.data for part in message.parts if isinstance(part, Image | Document)]
    return 100 + sum(map(_bytes, words)) + sum(map(len, data))


def _tokens(part: Part) -> int:
    match part:
        case Text():
            return 0  # counted with the others
        case Image() | StoredFile():
            return PICTURE
        case Document():
            return len(part.data) // 5  # base64


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _groups(messages: Sequence[Message], *beginners: Role) -> list[list[Message]]:
    """`messages` cut before each that has one of these roles."""
    groups: list[list[Message]] = []
    for message in messages:
        if not groups or message.role in beginners:
            groups.append([])
        groups[-1].append(message)
    return groups


def _says(text: str, said: Sequence[str]) -> bool:
    """Whether `text` shows the messages of an answer in their order, the last one at its end.

    What stands before and between them, an agent's activity, was ours to show and is not compared.
    """
    *before, last = said or [""]
    at = 0
    for each in before:
        found = text.find(each, at)
        if found < 0:
            return False
        at = found + len(each)
    return text[at:].endswith(last)


def _others(message: Message) -> list[Part]:
    return [part for part in message.parts if not isinstance(part, Text)]


def _calls(message: Message) -> list[tuple[str, str]]:
    return [(call.id, call.name) for call in message.tool_calls]


def _no_result(call: ToolCall) -> Message:
    return Message("tool", (Text("No result was sent."),), call.name, tool_call_id=call.id)
