"""OpenAI's model objects. Source: OpenAI API reference, "Models"."""

from collections.abc import Sequence
from typing import Any

from ..records import Model


def render(model: Model, id: str) -> dict[str, Any]:
    """One model under the `id` that a caller may use."""
    return {
        "id": id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by or model.backend,
    }


def render_list(models: Sequence[Model]) -> dict[str, Any]:
    """All of them. A bare id goes to the first that has it, so a later one keeps its prefix."""
    listed: dict[str, Any] = {}
    for model in models:
        id = model.id if model.id not in listed else f"{model.backend}/{model.id}"
        listed[id] = render(model, id)
    return {"object": "list", "data": list(listed.values())}
