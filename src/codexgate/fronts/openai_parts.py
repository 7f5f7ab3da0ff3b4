"""Pieces of requests that several of OpenAI's formats share. Source: OpenAI API reference."""

from collections.abc import Sequence

from ..errors import invalid


def data_url(url: str, at: str) -> tuple[str, str]:
    """Split a `data:` URL (RFC 2397) into media type and base64 text.

    Remote addresses are refused: the gate fetches nothing on a caller's behalf. `at`: the field.
    Raises GateError (invalid_request).
    """
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise invalid("Only inline `data:…;base64,` URLs are read; remote addresses are not fetched.", at)
    return head.removeprefix("data:").removesuffix(";base64").partition(";")[0], data


def texts_or_ids(
    given: str | Sequence[str | int | list[int]] | None, name: str
) -> tuple[str | tuple[int, ...], ...]:
    """One or many texts, or the token ids of one or of many; `name`: their field.

    Raises GateError (invalid_request) when there are none, or they are mixed.
    """
    if isinstance(given, str):
        return (given,)
    if not given:
        raise invalid(f"`{name}` is missing or empty.", name)
    texts = tuple(one for one in given if isinstance(one, str))
    lists = tuple(tuple(one) for one in given if isinstance(one, list))
    ids = tuple(one for one in given if isinstance(one, int))
    if len(given) not in (len(texts), len(lists), len(ids)):
        raise invalid(f"`{name}` mixes texts, token ids and arrays of token ids.", name)
    return (ids,) if ids else texts or lists
