"""Exact search among vectors that are held in memory. Blocking; safe in several threads."""

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

ROOM = 1.5
"""How much larger than needed a matrix is made when it has to grow."""


class Vectors:
    """Unit vectors of one length with their ids, which only grow."""

    def __init__(self, dimension: int) -> None:
        self._lock = threading.Lock()
        self._ids: Ids = np.empty(0, np.int64)
        self._rows: Floats = np.empty((0, dimension), np.float32)
        self._count = 0

    @property
    def last(self) -> int:
        """The largest id; 0 when there is none."""
        return int(self._ids[self._count - 1]) if self._count else 0

    def extend(self, ids: Sequence[int], packed: bytes) -> None:
        """Add vectors at the end. Those who search meanwhile see them or not."""
        with self._lock:
            count = self._count + len(ids)
            if count > len(self._ids):
                room = max(count, int(self._count * ROOM))
                grown, rows = np.empty(room, np.int64), np.empty((room, self._rows.shape[1]), np.float32)
                grown[: self._count], rows[: self._count] = (
                    self._ids[: self._count],
                    self._rows[: self._count],
                )
                self._ids, self._rows = grown, rows
            self._ids[self._count : count] = ids
            self._rows[self._count : count] = np.frombuffer(packed, "<f4").reshape(len(ids), -1)
            self._count = count

    def keep(self, ids: Sequence[int]) -> None:
        """Forget all but these."""
        with self._lock:
            stay = np.isin(self._ids[: self._count], np.asarray(ids, np.int64))
            self._ids, self._rows = self._ids[: self._count][stay], self._rows[: self._count][stay]
            self._count = len(self._ids)

    def search(
        self, vector: Sequence[float], limit: int, among: Sequence[int] | None = None
    ) -> list[tuple[float, int]]:
        """The `limit` nearest, all or `among` these ids: cosine distance and id, the nearest first."""
        with self._lock:
            ids, rows = self._ids[: self._count], self._rows[: self._count]
        if among is not None:
            meant = np.isin(ids, np.asarray(among, np.int64))
            ids, rows = ids[meant], rows[meant]
        # Faster than `rows @ vector`, on one core instead of all: another is looking for the words.
        near = np.vecdot(rows, np.asarray(vector, np.float32))
        if len(near) > limit:
            best = np.argpartition(near, -limit)[-limit:]
            ids, near = ids[best], near[best]
        order = np.lexsort((ids, -near))
        return [(1 - float(near[at]), int(ids[at])) for at in order]
