"""LangChain's own standard tests of chat models, on chat completions and on responses of a real gate.

Run by `tests/test_langchain.py` in a process of its own: they need plugins, and leave sockets open.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

from codexgate.backends.demo import Demo, DemoOptions
from codexgate.stores.sqlite_responses import Responses
from tests.servers.gateway import serving


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gate in a thread of its own, since these tests block."""
    urls: list[str] = []
    begun, stop = threading.Event(), threading.Event()
    kept = Responses(tmp_path_factory.mktemp("kept") / "responses.db")

    async def serve() -> None:
        async with serving(Demo(DemoOptions(pace=0)), kept=kept) as url:
            urls.append(url)
            begun.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert begun.wait(10)
    yield urls[0]
    stop.set()
    thread.join()


@pytest.fixture
def benchmark() -> Callable[..., Any]:
    """What one of the tests would measure with is not ours to measure."""
    return lambda timed, *args: timed(*args)


@pytest.fixture
def vcr() -> Any:
    """And there is nothing to record: the gate is here."""
    return contextlib.nullcontext()


class TestChatCompletions(ChatModelIntegrationTests):
    """As `ChatOpenAI` speaks by default."""

    @pytest.fixture(autouse=True)
    def _served(self, gate: str) -> None:
        self.url = gate

    @property
    def chat_model_class(self) -> Any:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": "demo",
            "base_url": f"{self.url}/v1",
            "api_key": "any",
            "max_retries": 0,
            "stream_usage": True,
            "http_async_client": httpx.AsyncClient(),  # the shared one would outlive a test's loop
        }


class TestResponses(TestChatCompletions):
    """As it speaks when told to use responses."""

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {**super().chat_model_params, "use_responses_api": True}
