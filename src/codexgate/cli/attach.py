"""What a person hands to `chat` beside the prompt: files and standard input, as parts of a message.

Looks at contents, never at names, to tell pictures and PDFs from text. Knows no terminal and no gate.
"""

import base64
import os
from pathlib import Path

import msgspec

from .. import sniff
from ..chat import Document, Format, Image, Part, Text
from ..errors import invalid
from ..flat import block, one_line


def parts(prompt: str, stdin: bytes, files: list[Path]) -> tuple[Part, ...]:
    """The message: the prompt, what was piped in, the files' texts, then pictures and PDFs.

    Texts are separated by a blank line. Raises GateError for a file that cannot be sent.
    """
    texts = [prompt] if prompt else []
    others: list[Image | Document] = []
    named = [(_read(file), os.fsencode(file.name).decode("utf-8", "replace")) for file in files]
    for data, name in [(stdin, "")] * bool(stdin) + named:
        if media_type := sniff.image_type(data):
            others.append(Image(media_type, base64.b64encode(data).decode()))
        elif sniff.is_pdf(data):
            encoded = base64.b64encode(data).decode()
            others.append(Document(one_line(name) or "Standard input", "application/pdf", encoded))
        elif name:
            texts.append(block(_decode(data, name), one_line(name).replace("`", "'")))
        else:
            texts.append(_decode(data, "Standard input").rstrip("\n"))
    text = "\n\n".join(part for part in texts if part)
    return ((Text(text),) if text else ()) + tuple(others)


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
    text = sniff.text(data)
    if text is None:
        advice = "Text, PDF, and PNG, JPEG, GIF and WebP pictures can be sent."
        raise invalid(f"{name} is neither text nor a picture nor a PDF.", advice=advice)
    return text
