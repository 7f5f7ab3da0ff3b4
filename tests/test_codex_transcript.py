"""Does a thread still hold what a client sends? What chat programs change is forgiven, edits are not."""

import pytest

from codexgate.chat import ChatRequest, Image, Message, Text, Tool, ToolCall
from codexgate.dialects.codex.transcript import continuation, is_stale, is_task, signature
from codexgate.errors import Fault

ANSWER = "\nBerlin is the capital.\n"


def user(text: str) -> Message:
    return Message("user", (Text(text),))


def assistant(text: str) -> Message:
    return Message("assistant", (Text(text),))


SYSTEM = Message("system", (Text("be kind"),))
FIRST = (SYSTEM, user("capital?"))
KEPT = signature(FIRST, (), ANSWER)
NEXT = user("and of France?")

HELD: dict[str, Message] = {
    "as it was": assistant(ANSWER),
    "trimmed": assistant("Berlin is the capital."),
    "with the activity that was shown before it": assistant("```sh\nls\n```\n\nBerlin is the capital."),
    "with its thinking folded in": assistant(
        '<details type="reasoning" done="true">\n<summary>Thought</summary>\n> hm\n</details>\nBerlin is the capital.'
    ),
}


@pytest.mark.parametrize("answer", HELD.values(), ids=HELD.keys())
def test_the_same_history_goes_on(answer: Message) -> None:
    assert continuation(KEPT, (*FIRST, answer, NEXT), ()) == (NEXT,)


def test_all_that_is_new_is_new() -> None:
    more = (user("one thing more"), NEXT)
    assert continuation(KEPT, (*FIRST, assistant(ANSWER), *more), ()) == more


PICTURE = Message("user", (Text("capital?"), Image("image/png", "AA==")))

OTHER: dict[str, tuple[Message, ...]] = {
    "an edited question": (SYSTEM, user("Capital?!"), assistant(ANSWER), NEXT),
    "an edited answer": (*FIRST, assistant("Bonn is the capital."), NEXT),
    "another system message": (
        Message("system", (Text("be rude"),)),
        user("capital?"),
        assistant(ANSWER),
        NEXT,
    ),
    "no system message": (user("capital?"), assistant(ANSWER), NEXT),
    "a picture that was not there": (SYSTEM, PICTURE, assistant(ANSWER), NEXT),
    "shortened": (SYSTEM, NEXT),
    "regenerated": FIRST,
    "nothing new": (*FIRST, assistant(ANSWER)),
    "the answer replaced by a question": (*FIRST, user(ANSWER), NEXT),
    "ending with a tool's result": (
        *FIRST,
        assistant(ANSWER),
        Message("tool", (Text("1"),), tool_call_id="c"),
    ),
}


@pytest.mark.parametrize("messages", OTHER.values(), ids=OTHER.keys())
def test_another_history_does_not(messages: tuple[Message, ...]) -> None:
    assert continuation(KEPT, messages, ()) is None


def test_a_thread_keeps_the_tools_it_was_started_with() -> None:
    messages = (*FIRST, assistant(ANSWER), NEXT)
    tools = (Tool("f", "d", {"type": "object"}),)
    assert continuation(KEPT, messages, tools) is None
    assert continuation(signature(FIRST, tools, ANSWER), messages, tools) == (NEXT,)
    assert continuation((), messages, ()) is None


def test_a_thread_keeps_the_sandbox_it_was_started_with() -> None:
    messages = (*FIRST, assistant(ANSWER), NEXT)
    kept = signature(FIRST, (), ANSWER, sandbox="read-only")
    assert continuation(kept, messages, (), sandbox="read-only") == (NEXT,)
    for other in (None, "workspace-write"):
        assert continuation(kept, messages, (), sandbox=other) is None
    assert continuation(KEPT, messages, (), sandbox="read-only") is None


def test_calls_and_results_are_part_of_the_history() -> None:
    call = Message("assistant", tool_calls=(ToolCall("c", "f", "{}"),))
    result = Message("tool", (Text("42"),), tool_call_id="c")
    kept = signature((user("x"), call, result), (), "done")
    assert continuation(kept, (user("x"), call, result, assistant("done"), NEXT), ()) == (NEXT,)
    other = Message("tool", (Text("43"),), tool_call_id="c")
    assert continuation(kept, (user("x"), call, other, assistant("done"), NEXT), ()) is None


def test_a_signature_holds_no_texts() -> None:
    assert "Berlin" not in str(KEPT) and "capital" not in str(KEPT)


@pytest.mark.parametrize(
    ("messages", "task"),
    [
        ((user("### Task:\nGenerate a title"),), True),
        ((user("  ###  Task: tags"),), True),
        ((SYSTEM, user("### Task:\nGenerate a title")), True),
        ((user("write the section\n### Task: of my README"),), False),
        ((user("hi"), assistant("hello"), user("### Task: x")), False),
        ((user("hi"),), False),
    ],
)
def test_errands_are_told_from_questions(messages: tuple[Message, ...], task: bool) -> None:
    assert is_task(ChatRequest("m", messages)) == task


@pytest.mark.parametrize(
    ("message", "stale"),
    [
        ("Codex refused: no rollout found for thread id 01a1", True),
        ("Codex refused: thread not found: 01a1", True),
        ("Codex refused: invalid session id: invalid character", True),
        ("Codex refused: invalid thread id: x", True),
        ("conversation not found", True),
        ("Codex refused: failed to load configuration", False),
        ("The Codex process was killed by SIGKILL.", False),
    ],
)
def test_a_thread_that_is_gone_is_told_by_its_text(message: str, stale: bool) -> None:
    assert is_stale(Fault("upstream", message)) == stale
