"""Whether the model of Ollama that the memory's settings name is there, and embeds."""

from contextlib import suppress

from ..dialects.ollama import models as catalog
from ..errors import GateError
from .reach import ask
from .target import pull, root
from .words import Asked, Check, Remedy, Row

ID = "ollama.embeddings"
WHY = "Memories are found by their vectors: without them none can be kept or found."


async def look(asked: Asked) -> list[Row]:
    """Ask Ollama what that model can; nothing when another provider embeds, or none is named."""
    options, url = asked.settings.embeddings, asked.settings.ollama.url
    if options.provider != "ollama" or not options.model or asked.url:
        return []
    name = options.model.removeprefix("ollama/")
    answer = await ask(root(url), "/api/show", {"model": name})
    details = {"embeddings.model": name, "POST /api/show": str(answer)}
    if answer.status == 404:
        remedy = Remedy("Install it.", pull(asked, url, name), safe=True)
        return [
            Row(ID, "memory", "fail", f"{name}, which shall embed, is not installed.", WHY, remedy, details)
        ]
    can = None
    if answer.ok:
        with suppress(GateError):
            can = catalog.show(answer.body).capabilities
    if can is None:
        return [Row(ID, "memory", "skipped", f"What {name} can is not told.", details=details)]
    if "embedding" in can:
        return [Row(ID, "memory", "ok", f"{name} embeds.", details=details)]
    why = f"{WHY} Ollama says: this model does not support embeddings."
    remedy = Remedy("Name a model that embeds.", "export CODEXGATE_EMBEDDINGS_MODEL=nomic-embed-text")
    summary = f"{name} shall embed, but cannot: it is a chat model."
    return [Row(ID, "memory", "fail", summary, why, remedy, details | {"capabilities": can})]


CHECKS = (Check((ID,), "memory", look, 3.0),)
