"""What a compatibility card asks about what agents need: tools, cancelling, the Responses API.

As `card_probes`, whose values it shares. Source: OpenAI's API reference ("Function calling",
"Responses", "Conversation state").
"""

import asyncio
import re
from typing import Any, NamedTuple

import msgspec

from .card_probes import CHAT, LONGER, SHORT, Case, Finding, asked, deltas, dig, entries, refusal
from .card_server import Stream

RESPONSES = "/v1/responses"
PAUSES = (0.3, 2.2)
"""Seconds before each look whether a server has stopped."""
LONG = 400
"""Tokens of the answer that is left early."""
GAUGES = re.compile(
    r"^(?:codexgate_streams_open|vllm:num_requests_running|llamacpp:requests_processing|sglang:num_running_reqs)"
    r"(?:\{[^}]*\})? ([\d.e+]+)$",
    re.MULTILINE,
)
"""What servers call the number of answers that they are making (`/metrics`, for Prometheus)."""

UNCALLED = "nothing was called, though tool_choice was required"

_PLACE = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_FUNCTION = {"name": "get_weather", "description": "The weather in one city.", "parameters": _PLACE}
_TOOL = {"type": "function", "function": _FUNCTION}
_QUESTION = "What is the weather in Paris and in Oslo? Call the tool once for each."


class _Call(NamedTuple):
    """One call, put together from its pieces."""

    index: Any
    id: Any
    name: Any
    arguments: str


# Tools


async def tools(case: Case) -> list[Finding]:
    """Whether calls can be put together: each piece with its index, each call with its id."""
    body = asked(case, _QUESTION, LONGER, stream=True, tools=[_TOOL], tool_choice="required")
    seen = await case.server.stream(CHAT, body)
    if not seen.is_stream:
        why = f"HTTP {seen.status}: {case.server.quote(seen.text)}"
        return [Finding("tool-call index and id", "no", why), Finding("parallel tools", "no", "no tools")]
    calls = _calls(seen)
    return [_numbered(case, calls), await _parallel(case, calls)]


def _calls(seen: Stream) -> list[_Call]:
    made: list[_Call] = []
    for delta in deltas(seen):
        for piece in entries(dig(delta, "tool_calls")):
            index, text = dig(piece, "index"), dig(piece, "function", "arguments")
            text = text if isinstance(text, str) else ""
            head = index, dig(piece, "id"), dig(piece, "function", "name")
            # A piece goes on with the call of its index, unless it clearly begins another.
            at = next((at for at in reversed(range(len(made))) if made[at].index == index), None)
            if at is None or (head[1] and made[at].id and head[1] != made[at].id):
                made.append(_Call(*head, text))
            else:
                made[at] = made[at]._replace(arguments=made[at].arguments + text)
    return made


def _numbered(case: Case, calls: list[_Call]) -> Finding:
    feature = "tool-call index and id"
    if not calls:
        return Finding(feature, "skipped", UNCALLED)
    missing = [
        name
        for name, there in (
            ("index", all(isinstance(call.index, int) for call in calls)),
            ("id", all(isinstance(call.id, str) and call.id for call in calls)),
            ("name", all(isinstance(call.name, str) and call.name for call in calls)),
        )
        if not there
    ]
    if missing:
        return Finding(feature, "no", f"calls come without {' and '.join(missing)}")
    first = calls[0]
    shown = case.server.quote(f"{first.index}, {first.id}, {first.name}({first.arguments})")
    if not _is_object(first.arguments):
        return Finding(feature, "partly", f"the arguments are no JSON object: {shown}")
    return Finding(feature, "yes", shown)


async def _parallel(case: Case, calls: list[_Call]) -> Finding:
    feature = "parallel tools"
    if len(calls) > 1:
        if len({call.index for call in calls}) < len(calls) or len({call.id for call in calls}) < len(calls):
            return Finding(feature, "no", f"{len(calls)} calls share an index or an id; clients mix them up")
        return Finding(feature, "yes", f"{len(calls)} calls in one answer, each with an index and an id")
    answer = await case.server.post(CHAT, _history(case))
    if answer.status != 200:
        return Finding(feature, "no", f"two calls in a history: {refusal(case, answer)}")
    made = "one call" if calls else "no call"
    return Finding(feature, "partly", f"the model made {made}; a history with two is accepted")


def _history(case: Case) -> dict[str, Any]:
    places = {"call_1": "Paris", "call_2": "Oslo"}
    calls = [
        {
            "id": id,
            "type": "function",
            "function": {"name": "get_weather", "arguments": f'{{"city":"{city}"}}'},
        }
        for id, city in places.items()
    ]
    results = [{"role": "tool", "tool_call_id": id, "content": "sunny"} for id in places]
    body = asked(case, _QUESTION, SHORT, tools=[_TOOL])
    body["messages"] += [{"role": "assistant", "content": None, "tool_calls": calls}, *results]
    return body


# Cancelling


async def cancel(case: Case) -> list[Finding]:
    """Whether the model stops when its reader leaves, where the server lets that be seen."""
    feature = "cancel reaches the model"
    before = await _busy(case, "/slots")
    path = "/slots" if before is not None else "/metrics"
    if before is None and (before := await _busy(case, path)) is None:
        return [Finding(feature, "skipped", "neither /slots nor /metrics tells what it is doing")]
    body = asked(case, "Count from 1 to 300, one number a line.", LONG, stream=True)
    async with case.server.begun(CHAT, body) as begun:
        during = await _busy(case, path) if begun else None
    if during is None or during <= before:
        return [Finding(feature, "skipped", "the answer was over before one could leave")]
    waited = 0.0
    for pause in PAUSES:
        await asyncio.sleep(pause)
        waited += pause
        if (now := await _busy(case, path)) is not None and now <= before:
            return [Finding(feature, "yes", f"{path} shows it at work, and idle {waited:.1f} s after")]
    return [Finding(feature, "no", f"{path} shows it at work {waited:.1f} s after its reader left")]


async def _busy(case: Case, path: str) -> float | None:
    """How many answers it makes now, if it tells."""
    answer = await case.server.get(path)
    if answer.status != 200:
        return None
    if isinstance(answer.data, list):  # llama.cpp, GET /slots
        return float(sum(dig(slot, "is_processing") is True for slot in answer.data))
    found = [float(number) for number in GAUGES.findall(answer.text)]
    return sum(found) if found else None


# Responses


async def responses(case: Case) -> list[Finding]:
    """A streamed response: its first event, and the last."""
    feature = "Responses: stream"
    body = {"model": case.model, "input": "Say hello.", "max_output_tokens": SHORT, "stream": True}
    seen = await case.server.stream(RESPONSES, body)
    if not seen.is_stream:
        return [Finding(feature, "no", f"HTTP {seen.status}: {case.server.quote(seen.text)}")]
    types = [kind for event in seen.events if isinstance(kind := dig(event, "type"), str)]
    last = types[-1] if types else ""
    made = next((event for event in seen.events if dig(event, "type") == last), None)
    id = dig(made, "response", "id")
    if not types or types[0] != "response.created":
        text = f"begins with {case.server.quote(types[0]) if types else 'nothing'}"
        return [Finding(feature, "no", f"{text}, not response.created")]
    if last not in ("response.completed", "response.incomplete") or not isinstance(id, str):
        text = f"ends with {case.server.quote(last)}, not response.completed"
        return [Finding(feature, "partly", text)]
    case.response = id
    return [Finding(feature, "yes", f"{len(types)} events, from response.created to {last}")]


async def state(case: Case) -> list[Finding]:
    """Whether a response can be gone on with; what knows none must not act as if it did."""
    feature = "Responses: state"
    if not case.response:
        return [Finding(feature, "skipped", "there is no response to go on with")]
    body = {"model": case.model, "input": "And again.", "max_output_tokens": SHORT}
    unknown = await case.server.post(RESPONSES, {**body, "previous_response_id": "resp_0123456789abcdef"})
    if unknown.status == 200:
        return [Finding(feature, "no", "previous_response_id is passed over: an unknown one is answered")]
    follow = await case.server.post(RESPONSES, {**body, "previous_response_id": case.response})
    if follow.status != 200:
        return [Finding(feature, "no", f"its own id: {refusal(case, follow)}")]
    if dig(follow.data, "previous_response_id") != case.response:
        return [Finding(feature, "partly", "goes on, but does not say with what")]
    return [Finding(feature, "yes", f"its own id is gone on with; an unknown one is HTTP {unknown.status}")]


async def response_tools(case: Case) -> list[Finding]:
    """A call as an item of its own."""
    feature = "Responses: tools"
    body = {
        "model": case.model,
        "input": "What is the weather in Paris?",
        "tools": [{"type": "function", **_FUNCTION}],
        "tool_choice": "required",
        "max_output_tokens": LONGER,
    }
    answer = await case.server.post(RESPONSES, body)
    if answer.status != 200:
        return [Finding(feature, "no", refusal(case, answer))]
    items = [item for item in entries(dig(answer.data, "output")) if dig(item, "type") == "function_call"]
    if not items:
        return [Finding(feature, "skipped", UNCALLED)]
    id, name, arguments = (dig(items[0], field) for field in ("call_id", "name", "arguments"))
    shown = case.server.quote(f"{id}, {name}({arguments})")
    if not isinstance(id, str) or not id or not isinstance(name, str):
        return [Finding(feature, "no", f"a call without call_id or name: {shown}")]
    if not isinstance(arguments, str) or not _is_object(arguments):
        return [Finding(feature, "partly", f"the arguments are no JSON object: {shown}")]
    return [Finding(feature, "yes", shown)]


def _is_object(text: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.DecodeError, RecursionError):
        return False
