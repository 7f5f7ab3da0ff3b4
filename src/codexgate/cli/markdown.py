"""Markdown that is still being written: its finished blocks, and the one that may yet change.

Source: CommonMark is read line by line, so a block that is followed by another is finished for
good, whatever comes. Link references and raw HTML are switched off: the first reach back, the
second would be swallowed. Knows layout (rich), but neither events nor terminals.
"""

import re
from typing import ClassVar, TextIO

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.markdown import CodeBlock, Heading, HorizontalRule, Markdown, MarkdownElement
from rich.rule import Rule
from rich.syntax import Syntax
from rich.theme import Theme

_parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"]).disable("reference")
_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_TRAILING = re.compile(r" +((?:\x1b\[[0-9;]*m)*)$")
_MARKER = re.compile(r"(?:^|\n)[ \t]*(?:[-=*_+#>|`~]+|\d+[.)]?)[ \t]*$")
"""A last line that may be the beginning of anything: shown as text, it would jump."""


_THEME = Theme(
    {
        "markdown.h1": "bold underline",
        "markdown.h2": "bold",
        "markdown.h3": "bold",
        "markdown.h4": "italic",
        "markdown.code": "cyan",
        "markdown.item.bullet": "dim",
        "markdown.item.number": "dim",
        "markdown.block_quote": "dim",
        "markdown.table.border": "dim",
        "markdown.table.header": "bold",
        "markdown.link_url": "dim",
        "markdown.link": "underline",
    }
)
"""Few colours, all of them the terminal's own: they suit light and dark."""


def layout_console(file: TextIO, colour: bool) -> Console:
    """A console that lays out for the terminal behind `file`; with `colour` off it styles nothing."""
    return Console(
        file=file,
        theme=_THEME,
        force_terminal=True,
        color_system="standard" if colour else None,
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
    )


class Growing:
    """One Markdown text that grows."""

    def __init__(self, console: Console, style: str = "") -> None:
        """`console` lays out, and is not printed to."""
        self._console = console
        self._style = style
        self._pending = ""
        self._parsed = 0
        """How much of `_pending` was looked at for finished blocks."""

    def feed(self, text: str) -> None:
        """Append `text`; cheap, whatever was fed before."""
        self._pending += text

    def finished(self) -> list[list[str]]:
        """Lay out and forget the blocks that are finished by now, each as its lines."""
        end = self._pending.rfind("\n") + 1
        if end == self._parsed:
            return []
        blocks = _blocks(self._pending[:end])
        lines = self._pending.split("\n")
        done = [self._lay_out(tokens) for _, tokens in blocks[:-1]]
        if done:
            self._pending = "\n".join(lines[blocks[-1][0] :])
            end = self._pending.rfind("\n") + 1
        self._parsed = end
        return [block for block in done if block]

    def unfinished(self) -> list[str]:
        """The lines of what is still being written, as they look now; for show only."""
        text = self._pending.rstrip("\n")
        certain = _MARKER.sub("", text)
        blocks = [self._lay_out(tokens) for _, tokens in _blocks(certain)]
        return separated([block for block in blocks if block])

    def rest(self) -> list[list[str]]:
        """Lay out and forget everything that is left; the text is over."""
        blocks = [self._lay_out(tokens) for _, tokens in _blocks(self._pending)]
        self._pending, self._parsed = "", 0
        return [block for block in blocks if block]

    def _lay_out(self, tokens: list[Token]) -> list[str]:
        return lay_out(self._console, _Block(tokens, self._style))


def separated(blocks: list[list[str]]) -> list[str]:
    """The lines of `blocks` with one empty line between two of them."""
    lines: list[str] = []
    for block in blocks:
        lines += [*([""] if lines else []), *block]
    return lines


def lay_out(console: Console, renderable: object) -> list[str]:
    """What `console` would print, as lines without blanks at their ends and empty ones around."""
    with console.capture() as capture:
        console.print(renderable)
    lines = [_TRAILING.sub(r"\1", line) for line in capture.get().split("\n")]
    full = [index for index, line in enumerate(lines) if _STYLE.sub("", line)]
    return lines[full[0] : full[-1] + 1] if full else []


def _blocks(text: str) -> list[tuple[int, list[Token]]]:
    """(first line, tokens) of every block at the outermost level."""
    blocks: list[tuple[int, list[Token]]] = []
    for token in _parser.parse(text):
        if token.level == 0 and token.nesting >= 0 and token.map:
            blocks.append((token.map[0], []))
        if blocks:
            blocks[-1][1].append(token)
    return blocks


class _Heading(Heading):
    LEVEL_ALIGN: ClassVar[dict[str, JustifyMethod]] = dict.fromkeys(Heading.LEVEL_ALIGN, "left")


class _CodeBlock(CodeBlock):
    """Code in the terminal's own colours, with nothing before it that would be copied along."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Syntax(
            str(self.text).rstrip(),
            self.lexer_name,
            theme="ansi_dark",
            background_color="default",
            word_wrap=True,
        )


class _Rule(HorizontalRule):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Rule(style="dim")


class _Block(Markdown):
    """Tokens that are parsed already."""

    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "heading_open": _Heading,
        "fence": _CodeBlock,
        "code_block": _CodeBlock,
        "hr": _Rule,
    }

    def __init__(self, tokens: list[Token], style: str) -> None:
        # An address is shown beside its text: a link that hides it would be the model's to choose.
        super().__init__("", style=style or "none", hyperlinks=False)
        self.parsed = tokens
