"""OpenAI's model objects. Source: OpenAI API reference, "Models"."""

from collections.abc import Mapping
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


def render_list(models: Mapping[str, Model]) -> dict[str, Any]:
    """All of them, by the ids that a caller may use."""
    return {"object": "list", "data": [render(model, id) for id, model in models.items()]}
