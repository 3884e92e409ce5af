"""The watch over the local engine's steps: its agent renews only while it makes them (R25, docs/decisions/0017)."""


class EngineWatch:
    """Is told of steps, and tells whether the engine stands still.

    It stands still when one step takes longer than the stall limit, or when the time between two steps is longer than
    it takes to begin one, since the engine is paused (vllm 41180, 58041).
    """

    def __init__(self, stall_limit_s: float, paused_after_s: float, now: float) -> None:
        self._stall_limit_s = stall_limit_s
        self._paused_after_s = paused_after_s
        self._moved_at = now
        self._stepping = True

    def take_on(self, now: float) -> None:
        """The engine has taken a request on while it had none: it was idle, made no steps, and is not stuck.

        (A paused one that takes another on stays paused.)
        """
        self._moved_at = max(self._moved_at, now)

    def hear(self, at: float, stepping: bool) -> bool:
        """The engine began its latest step at `at`, or (not `stepping`) ended it then. Tells whether that is new."""
        self._stepping = stepping
        if at <= self._moved_at:
            return False
        self._moved_at = at
        return True

    def stands_still(self, now: float) -> bool:
        """Tells whether the engine stands still, so that nothing is to be renewed for it."""
        limit_s = self._stall_limit_s if self._stepping else self._paused_after_s
        return now - self._moved_at > limit_s
