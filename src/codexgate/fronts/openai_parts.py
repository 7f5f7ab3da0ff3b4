"""What the parts of a message share in every OpenAI format. Source: OpenAI API reference."""

from ..errors import invalid


def data_url(url: str, at: str) -> tuple[str, str]:
    """Split a `data:` URL (RFC 2397) into media type and base64 text.

    Remote addresses are refused: the gate fetches nothing on a caller's behalf.
    """
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise invalid("Only inline `data:…;base64,` URLs are read; remote addresses are not fetched.", at)
    return head.removeprefix("data:").removesuffix(";base64").partition(";")[0], data
