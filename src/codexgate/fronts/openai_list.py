"""Lists and their pages, as every list of OpenAI's API has them. Source: API reference, "Pagination"."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import Fault, GateError, invalid

LIMIT = 100


def page(
    entries: Sequence[tuple[str, Any]], query: Mapping[str, str], *, default: int = 20
) -> dict[str, Any]:
    """The page of `entries`, (id, object) the oldest first, that `query` asks for.

    `limit` 1 to 100, `order` asc or desc (the default), `after` an id. Raises GateError naming the
    parameter at fault.
    """
    limit = query.get("limit", str(default))
    if not re.fullmatch("[0-9]{1,3}", limit) or not 1 <= int(limit) <= LIMIT:
        raise invalid(f"`limit` is a number from 1 to {LIMIT}.", "limit")
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise invalid("`order` is asc or desc.", "order")
    listed = list(entries) if order == "asc" else list(reversed(entries))
    if after := query.get("after"):
        at = next((index for index, (id, _) in enumerate(listed) if id == after), None)
        if at is None:
            message = f"There is no '{after}' in this list."
            raise GateError(Fault("not_found", message, code="item_not_found", param="after"))
        listed = listed[at + 1 :]
    shown = listed[: int(limit)]
    return {
        "object": "list",
        "data": [entry for _, entry in shown],
        "first_id": shown[0][0] if shown else "",
        "last_id": shown[-1][0] if shown else "",
        "has_more": len(listed) > len(shown),
    }
