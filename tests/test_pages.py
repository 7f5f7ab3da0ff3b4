"""The first page and the documentation: readable, escaped, quiet, and nothing a stranger should see."""

import html.parser
from collections.abc import Mapping

import pytest

from codexgate import __version__
from codexgate.backends.demo import Demo, DemoOptions
from codexgate.connect.clients import shortly
from codexgate.records import Health, Model
from codexgate.server.app import Listen
from tests.servers.gateway import client, serving
from tests.servers.scripted import Scripted
from tests.support import run

KEY = "cg-secret"
NASTY = '<script>alert("x")</script>'


class Page(html.parser.HTMLParser):
    """What is in a page; fails when its tags are not balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.addresses: set[str] = set()
        self.anchors: set[str] = set()
        self.text = ""
        self.prose = ""
        """What stands in paragraphs and in tables."""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            assert not name.startswith("on") and name != "style"
            if name in ("href", "src", "action"):
                self.addresses.add(value or "")
            if name == "id":
                self.anchors.add(value or "")
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("p", "td", "li"):
            self.prose += data


async def get(url: str, path: str, key: str = "") -> tuple[Page, Mapping[str, str]]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with client(url) as session, session.get(path, headers=headers) as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
        return Page(await answer.text()), answer.headers


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_needs_no_network_and_no_script(path: str) -> None:
    async def scenario() -> None:
        async with serving(Demo(DemoOptions(pace=0))) as url:
            page, headers = await get(url, path)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert not page.tags & {"script", "img", "link", "iframe", "form", "base"}
        assert all(address.startswith(("/", "#")) and "//" not in address for address in page.addresses)

    run(scenario())


def test_the_first_page_tells_what_is_here_and_how_to_connect() -> None:
    async def scenario() -> None:
        ill = Scripted(name="ill", models=())
        ill.health = Health("down", "does not answer", advice="Start it.")
        async with serving(Demo(DemoOptions(pace=0)), ill) as url:
            page, _ = await get(url, "/")
            assert f'base_url = "{url}/v1"' in page.text
            for told in (__version__, "demo", "ready", "ill", "down", "does not answer", "Start it."):
                assert told in page.text
            assert "/docs" in page.addresses
            named = {"demo": Model("demo", "demo", context=128_000, abilities=frozenset({"chat", "tools"}))}
            for snippet in shortly(url, named, "", needs_key=False):
                assert f"# {snippet.about}\n{snippet.text}\n" in page.text
            assert "does not answer. Start it." in page.text

    run(scenario())


def test_names_from_elsewhere_are_escaped() -> None:
    async def scenario() -> None:
        model = Model(id=NASTY, backend="x", abilities=frozenset({"chat"}))
        backend = Scripted(name="x", models=(model,))
        backend.health = Health("ready", NASTY)
        async with serving(backend) as url:
            page, _ = await get(url, "/")
            assert "script" not in page.tags and page.text.count(NASTY) == 3

    run(scenario())


def test_with_a_key_set_a_stranger_learns_only_the_name() -> None:
    async def scenario() -> None:
        async with serving(Demo(), listen=Listen(drain=0, key=KEY)) as url:
            stranger, _ = await get(url, "/")
            friend, _ = await get(url, "/", KEY)
            assert "demo" in friend.text and "demo" not in stranger.text
            assert "base_url" not in stranger.text and KEY not in friend.text

    run(scenario())


def test_every_route_and_schema_is_in_the_documentation_and_every_link_leads_somewhere() -> None:
    async def scenario() -> None:
        async with serving(Demo()) as url:
            page, _ = await get(url, "/docs")
            async with client(url) as session, session.get("/openapi.json") as answer:
                document = await answer.json()
        assert [path for path in document["paths"] if path not in page.text] == []
        assert set(document["components"]["schemas"]) <= page.anchors
        inside = {address.removeprefix("#") for address in page.addresses if address.startswith("#")}
        assert inside <= page.anchors
        assert "`" not in page.prose
        assert f"curl {url}/v1/chat/completions -H 'Content-Type: application/json'" in page.text

    run(scenario())
