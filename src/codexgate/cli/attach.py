"""What a person hands to `chat` beside the prompt: files and standard input, as parts of a message.

Looks at contents, never at names, to tell a picture from text. Knows no terminal and no gate.
"""

import base64
from pathlib import Path

import msgspec

from ..chat import Format, Image, Part, Text
from ..errors import invalid
from ..flat import block, one_line


def parts(prompt: str, stdin: bytes, files: list[Path]) -> tuple[Part, ...]:
    """The message: the prompt, what was piped in, the files' texts, then the pictures.

    Texts are separated by a blank line. Raises GateError for a file that cannot be sent.
    """
    texts, images = [prompt] if prompt else [], []
    for data, name in [(stdin, "")] * bool(stdin) + [(_read(file), file.name) for file in files]:
        media_type = image_type(data)
        if media_type:
            images.append(Image(media_type, base64.b64encode(data).decode()))
        elif name:
            texts.append(block(_decode(data, name), one_line(name).replace("`", "'")))
        else:
            texts.append(_decode(data, "Standard input").rstrip("\n"))
    text = "\n\n".join(part for part in texts if part)
    return ((Text(text),) if text else ()) + tuple(images)


def image_type(data: bytes) -> str:
    """The media type of a PNG, JPEG, GIF or WebP picture; of anything else nothing."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ""


def schema(file: Path) -> Format:
    """The JSON Schema in `file`, as the format of the answer. Raises GateError."""
    try:
        read = msgspec.json.decode(_read(file))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(f"{file} is not JSON: {error}.") from error
    if not isinstance(read, dict):
        raise invalid(f"{file} is not a JSON Schema: it must hold an object.")
    return Format("schema", read, "".join(c if c.isalnum() else "_" for c in file.stem) or "answer")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise invalid(f"{file} cannot be read: {error.strerror}.") from error


def _decode(data: bytes, name: str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        advice = "Text (UTF-8) and PNG, JPEG, GIF and WebP pictures can be sent."
        raise invalid(f"{name} is neither text nor a picture.", advice=advice)
    return text
