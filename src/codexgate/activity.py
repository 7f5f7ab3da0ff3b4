"""Text from tools made fit to stand in Markdown: cleaned, shortened, and fenced in.

What a command printed is nobody's Markdown: it must not close the block that it stands in, and must
not steer the terminal on which it ends up. The machines here take it in pieces, cut anywhere, and
what they return does not depend on the cuts. Pure; knows no event.
"""

import re

LINES_SHOWN = 5
"""Of a command's output and of a diff: enough to follow, too little to drown the answer."""
LINE_SHOWN = 1000
"""Characters of one such line: minified files have a single one."""

# ECMA-48, 5.4 and 5.6. A string ends at ST or BEL (xterm), or where CAN, SUB or another escape breaks
# it off. A CSI that is longer than any real one is no CSI: what is held back has to have a bound.
_CSI = r"(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,8}"
_STRING = r"(?P<string>\x1b[]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x18\x1a\x1b\x9c]*"
_CONTROLS = re.compile(
    rf"(?P<unfinished>(?:{_CSI}|{_STRING}(?P<escape>\x1b?)|\x1b[ -/]{{0,8}})\Z)"
    rf"|{_CSI}[@-~]"
    rf"|{_STRING.replace('?P<string>', '?:')}(?:[\x07\x18\x1a\x9c]|\x1b\\|(?=\x1b))"
    r"|\x1b[ -/]{0,8}[0-~]"
    r"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
)
_TICKS = re.compile("`+")
_RUN = re.compile(r"\*{4,}")

# One word of a POSIX shell, as quoted by whoever joined the words of a command line.
_PART = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)|([\w@%+=:,./-])""", re.DOTALL)
_SHELL = re.compile(rf"(?:/[\w.+/-]*/)?(?:ba|z|da|k)?sh -l?c ((?:{_PART.pattern})+)", re.DOTALL)


class Controls:
    """Removes terminal control sequences from one text that comes in pieces.

    CSI, OSC, DCS, PM, APC, SOS and shorter escapes as a whole; of C0 all but tab, LF and CR; DEL and C1.
    A sequence that the text ends in is dropped.
    """

    def __init__(self) -> None:
        self._held = ""

    def strip(self, text: str) -> str:
        """What of the next piece may be shown; the beginning of a sequence waits for its end."""
        text, self._held = self._held + text, ""
        return text if text.isprintable() else _CONTROLS.sub(self._replace, text)

    def _replace(self, found: re.Match[str]) -> str:
        if found["unfinished"]:
            # Of a string only that it began counts: its text may be endless, and is dropped anyway.
            self._held = found["string"] + found["escape"] if found["string"] else found["unfinished"]
        return ""


class Stars:
    """Turns runs of four or more asterisks into a line end, in a text that comes in pieces.

    Source: Codex's reasoning summaries run their bold headings together, `**One****Two**`.
    """

    def __init__(self) -> None:
        self.held = ""
        """Asterisks at the end of the text so far: more may follow."""

    def feed(self, text: str) -> str:
        """What can be told now."""
        text = self.held + text
        told = text.rstrip("*")
        self.held = text[len(told) :][:4]  # more than four mean the same
        return _RUN.sub("\n", told)

    def rest(self) -> str:
        """What was held back, when something else comes between."""
        held, self.held = self.held, ""
        return _RUN.sub("\n", held)


class Output:
    """The lines to show of one tool's output: at most `LINES_SHOWN`, then a `…`.

    Blank lines count when another line follows them. CR ends a line as LF does: Markdown says so, and
    on a terminal it would let a line overwrite itself.
    """

    def __init__(self) -> None:
        self._controls = Controls()
        self._partial = ""
        self._return = False
        """A CR was the last character: an LF would belong to it."""
        self._blank = 0
        self._left = LINES_SHOWN

    def feed(self, text: str) -> list[str]:
        """The lines that are complete now, without their ends."""
        text = self._controls.strip(text) if self._left >= 0 else ""
        if not text:
            return []
        if self._return:
            text = text.removeprefix("\n")
        self._return = text.endswith("\r")
        *complete, partial = _lines(text)
        if complete:
            complete[0] = self._partial + complete[0]
            self._partial = ""
        self._partial = (self._partial + partial)[: LINE_SHOWN + 1]
        return [shown for line in complete for shown in self._show(line)]

    def rest(self) -> list[str]:
        """The line that has no end."""
        partial, self._partial = self._partial, ""
        return self._show(partial)

    def _show(self, line: str) -> list[str]:
        line = cut(line)
        if self._left < 0:
            return []
        if not line.strip():
            self._blank += 1
            return []
        lines, self._blank = [*[""] * min(self._blank, LINES_SHOWN), line], 0
        left, self._left = self._left, self._left - len(lines)
        return lines if len(lines) <= left else [*lines[:left], "…"]


class Fence:
    """A fenced code block that is written piece by piece."""

    def __init__(self, language: str = "") -> None:
        self.language = language
        self._ticks = ""

    def write(self, pieces: list[str]) -> str:
        """`pieces`, of one or more whole lines each, as they stand in the block; the first one opens it.

        A piece that would close the block does close it, and a longer fence is opened for it. Source:
        CommonMark 4.5; any line that begins with the fence counts, because some readers are laxer.
        """
        written = []
        for piece in pieces:
            if not self._ticks or self._is_closed_by(piece):
                written += [self._ticks] if self._ticks else []
                self._ticks = _longer(piece, 3)
                written.append(self._ticks + self.language)
            written.append(piece)
        return "".join(f"{line}\n" for line in written)

    def close(self) -> str:
        """The closing fence."""
        return self._ticks

    def _is_closed_by(self, piece: str) -> bool:
        return any(line.lstrip().startswith(self._ticks) for line in piece.split("\n"))


def clean(text: str) -> str:
    """A whole text without control sequences, each line ended by LF."""
    return "\n".join(_lines(Controls().strip(text)))


def shorten(text: str, lines: int = LINES_SHOWN) -> str:
    """The first `lines` lines, and a `…` when there are more."""
    kept = text.rstrip("\n").split("\n")
    return "\n".join([cut(line) for line in kept[:lines]] + ["…"] * (len(kept) > lines))


def cut(line: str, length: int = LINE_SHOWN) -> str:
    """The first `length` characters, and a `…` when there are more."""
    return line if len(line) <= length else line[:length] + "…"


def block(text: str, language: str = "") -> str:
    """A fenced code block that no run of back-ticks in `text` can close.

    Source: CommonMark 4.5, a fence is closed by one at least as long.
    """
    fence = _longer(text, 3)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def code(text: str) -> str:
    """`text` as code within a line. Source: CommonMark 6.1, a longer run of back-ticks holds shorter ones."""
    ticks = _longer(text, 1)
    pad = " " if len(ticks) > 1 else ""
    return f"{ticks}{pad}{one_line(text)}{pad}{ticks}"


def one_line(text: str) -> str:
    """`text` with every run of white space, line ends too, as one blank."""
    return " ".join(text.split())


def bare_command(command: str) -> str:
    """The command without the shell that Codex wraps it in: `/bin/bash -lc 'X'` is `X`."""
    wrapped = _SHELL.fullmatch(command)
    return _PART.sub(_unquote, wrapped[1]) if wrapped else command


def _unquote(part: re.Match[str]) -> str:
    single, double, escaped, bare = part.groups()
    if double is not None:
        return re.sub(r'\\([\\"$`\n])', lambda found: found[1].strip("\n"), double)
    return str(single if single is not None else escaped or bare)


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _longer(text: str, least: int) -> str:
    """Back-ticks, `least` or more, and more than stand together anywhere in `text`."""
    longest = max((len(run) for run in _TICKS.findall(text)), default=0)
    return "`" * max(least, longest + 1)
