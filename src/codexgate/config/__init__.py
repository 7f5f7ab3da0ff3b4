"""Settings out of layers: defaults < file < other programs' variables < `CODEXGATE_*` < flags.

The mechanism only: what settings there are is a msgspec struct that is handed in, whose fields
are settings, sections (structs of settings) or tables (`dict[str, Struct]`, as `[aliases.NAME]`).
It must not know a single setting by name, nor where files are looked for. Whatever is wrong, in
whichever layer, is a `GateError` that says where, what and which name was probably meant.
"""

from .layers import FILE_VARIABLE, Foreign, Loaded, load
from .schema import Row, describe, masked
from .values import MASK, Secret

__all__ = ["FILE_VARIABLE", "MASK", "Foreign", "Loaded", "Row", "Secret", "describe", "load", "masked"]
