"""When a training counts as hung: no sign of life for a time that follows from its own pace."""

from __future__ import annotations

from collections import deque
from statistics import median

READING_GRACE = 300.0
"""The least of seconds more that a silence may last until the first round: XGBoost builds its matrix then."""
_REMEMBERED = 200


class Pace:
    """Signs of life of a training: batches read, then rounds done.

    A training is hung when its last sign is older than `limit` seconds beyond three times the median
    interval of its rounds; while one round alone is done, the time to that one stands for an interval. Before the
    first round, when XGBoost builds its matrix, a silence may last as long as all that went before it in that phase,
    and READING_GRACE at least.
    """

    def __init__(self, *, limit: float, now: float) -> None:
        self._limit = limit
        self._began = self._last = now
        self._phase = "reading"
        self._intervals: deque[float] = deque(maxlen=_REMEMBERED)
        self._to_first = 0.0

    def beat(self, phase: str, now: float) -> None:
        """A sign of life in a phase: "reading" or "round"."""
        if phase != self._phase:
            self._phase = phase
            self._intervals.clear()
            self._to_first = now - self._last
            if phase == "reading":  # once more: a search's next trial
                self._began = now
        else:
            self._intervals.append(now - self._last)
        self._last = now

    def silence(self, now: float) -> float:
        """Seconds since the last sign of life."""
        return now - self._last

    def allowed(self) -> float:
        """Seconds that the present silence may last."""
        if self._phase == "reading":
            return self._limit + max(READING_GRACE, self._last - self._began)
        return self._limit + 3 * (median(self._intervals) if self._intervals else self._to_first)

    def hung(self, now: float) -> bool:
        return self.silence(now) > self.allowed()
