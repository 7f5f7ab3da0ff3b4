"""What a file is, judged by its bytes, never by its name or by what somebody says it is. Pure."""

_TEXT_CONTROLS = frozenset(b"\t\n\v\f\r\x1b")
"""Control characters that occur in text; escape in what a terminal wrote."""
_CONTROLS = frozenset(range(32)) - _TEXT_CONTROLS | {127}


def image_type(data: bytes) -> str:
    """The media type of a PNG, JPEG, GIF or WebP picture; of anything else nothing."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ""


def is_pdf(data: bytes) -> bool:
    """Whether it is a PDF; white space or a byte order mark before the header is common."""
    return data[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"%PDF-")


def text(data: bytes) -> str | None:
    """The text that `data` is: UTF-8, UTF-16 with a byte order mark, else Latin-1; `None` for no text."""
    utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        read = data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        # Any bytes are Latin-1, so there only what no text holds tells a program from a letter.
        return data.decode("latin-1") if not utf16 and _CONTROLS.isdisjoint(data) else None
    return None if "\0" in read else read
