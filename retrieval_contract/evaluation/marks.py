"""A few pairs marked in comparisons of many, noted tile after tile and looked at together.

Eight neighbouring booleans are one word. A tile costs a look at its words and a copy of those that are not zero; which
of the eight were marked is found out later, for many tiles at once.

Letters: B queries of a block, T candidates of a tile, P pairs.
"""

from typing import final

import numpy as np
from numpy.typing import NDArray

from retrieval_contract.arrays import BoolArray, Float32Array, Int64Array

Pairs = tuple[Int64Array, Int64Array, Float32Array]
"""Places in the block, candidate rows and rough scores, each [P]."""


@final
class Marks:
    """Marked pairs of a block."""

    def __init__(self, width: int) -> None:
        """Begin with none.

        Args:
            width: candidates T of a tile, a power of 2 from 8.
        """
        assert width >= 8 and width & (width - 1) == 0, "words do not cross rows, and a shift divides"
        self._width = width
        self._clear()

    def add(self, marked_BT: BoolArray, first_row: int, scores_BT: Float32Array | None = None) -> None:
        """Note a tile's.

        Args:
            marked_BT: contiguous.
            first_row: candidate row of its first column.
            scores_BT: contiguous, where `take` is to give scores.
        """
        words_BW = marked_BT.view(np.uint64).reshape(-1)
        # Of booleans, because the search among other numbers calls a function for each.
        places = np.flatnonzero(words_BW != 0)
        if places.size:
            self._places.append(places)
            self._words.append(words_BW[places])
            self._first_rows.append(first_row)
            if scores_BT is not None:
                self._scores.append(scores_BT.reshape(-1, 8)[places])
            self.size += len(places)

    def take(self) -> Pairs:
        """Give out all pairs, in the order of the tiles, and begin anew; scores are 0 where none were noted."""
        if not self._places:
            none = np.empty(0, np.int64)
            return none, none, np.empty(0, np.float32)
        bits_P = np.flatnonzero(np.concatenate(self._words).view(np.bool_))
        which_P = bits_P >> 3
        first_rows = np.repeat(self._first_rows, [len(places) for places in self._places])
        places_P = 8 * np.concatenate(self._places)[which_P] + (bits_P & 7)
        # Division of many integers would take as long as all else here.
        at_P, columns_P = places_P >> (self._width.bit_length() - 1), places_P & (self._width - 1)
        scores_P = np.concatenate(self._scores).reshape(-1)[bits_P] if self._scores else np.zeros(len(at_P), np.float32)
        rows_P = first_rows[which_P] + columns_P
        self._clear()
        return at_P, rows_P, scores_P

    def _clear(self) -> None:
        self.size = 0
        self._places: list[Int64Array] = []
        self._words: list[NDArray[np.uint64]] = []
        self._first_rows: list[int] = []
        self._scores: list[Float32Array] = []
