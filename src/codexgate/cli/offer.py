"""Which gate and which of its models another program is pointed to, and how much each model sees.

A gate that runs is asked, else one is opened for a moment. Shows nothing and writes nothing.
"""

import difflib
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from .. import apikey
from ..assemble import open_gate
from ..connect.clients import first, first_for_codex, tellable
from ..errors import Fault, GateError
from ..gate import Alias
from ..records import Model
from ..settings import Settings
from . import remote


class Offer(NamedTuple):
    """A gate and its models."""

    url: str
    """Its root."""
    model: Model
    """The one to name, by `id`; with nothing else when nothing is known of it."""
    models: dict[str, Model]
    """All that are known, by the names that the gate has for them, `model` among them."""
    windows: dict[str, int]
    """Tokens that each of those gets that Codex can be told of, by name; see `windows`."""
    warning: str = ""


async def find(settings: Settings, url: str, name: str, *, for_codex: bool) -> Offer:
    """The gate at `url`, else as the settings say, and its model `name`, else the best to begin with.

    Raises GateError when a model must be found and nothing can be reached.
    """
    where = remote.root(url) if url else remote.listens_at(settings.server)
    name = name or settings.default_model
    try:
        models = await _models(settings, where, ask=bool(url) or not for_codex, alone=bool(url))
    except GateError:
        if not name:
            raise
        models = {}
    name = name or (for_codex and first_for_codex(models)) or first(models)
    if not name:
        advice = "Start a backend, or name a model: --model ID"
        raise GateError(Fault("unavailable", "The gate has no model that chats.", advice))
    alias = settings.aliased.get(name)
    target = alias.model if alias else name
    found = models.get(target) or models.get(target.partition("/")[2])
    warning = ""
    if models and not found:
        near = difflib.get_close_matches(name, models, 1)
        warning = f"The gate has no model '{name}' now." + (f" Did you mean {near[0]}?" if near else "")
    model = msgspec.structs.replace(found, id=name) if found else Model(name, "")
    models = {name: model, **models}  # the first in the list, and by the very name that is asked for
    return Offer(where, model, models, windows(models, settings, {name: alias} if alias else {}), warning)


def windows(
    models: Mapping[str, Model], settings: Settings, aliases: Mapping[str, Alias] | None = None
) -> dict[str, int]:
    """How many tokens a model really gets, for those that Codex can be told of."""
    return {
        name: _window(model, settings, (aliases or {}).get(name))
        for name, model in models.items()
        if tellable(model)
    }


def _window(model: Model, settings: Settings, alias: Alias | None) -> int:
    if model.backend != "ollama":
        return model.context
    options = settings.ollama
    asked = alias.options.get("num_ctx") if alias else None
    fixed = asked if isinstance(asked, int) and asked > 0 else options.num_ctx
    return min(filter(None, (model.context, fixed, options.max_num_ctx)))


async def _models(settings: Settings, where: str, *, ask: bool, alone: bool) -> dict[str, Model]:
    """What the gate offers. `ask`: over HTTP first; `alone`: nothing but that gate will do.

    For Codex the settings come first: over HTTP nobody tells how much of its window a model gets.
    """
    if ask and not where.startswith("unix:"):
        try:
            key = apikey.effective(settings)
            return await remote.models(where, key.secret.reveal() if key else "")
        except GateError as error:
            if alone or error.fault.kind not in ("unavailable", "timeout"):
                raise
    async with open_gate(settings) as gate:
        return await gate.names()
