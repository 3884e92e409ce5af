"""Whether the local engine makes steps: its agent renews for one that does (R25, docs/decisions/0017)."""


class EngineWatch:
    """Hears of steps, and tells whether the engine stands still.

    It does in one step for longer than the stall limit, or between two of them for longer than it takes to begin one,
    since it is paused (vllm 41180, 58041).
    """

    def __init__(self, stall_limit_s: float, paused_after_s: float, now: float) -> None:
        self._stall_limit_s = stall_limit_s
        self._paused_after_s = paused_after_s
        self._moved_at = now
        self._stepping = True

    def take_on(self, now: float) -> None:
        """It has taken a request on while it had none: it was idle, made no steps, and is not wedged.

        (A paused one that takes another on stays paused.)
        """
        self._moved_at = max(self._moved_at, now)

    def hear(self, at: float, stepping: bool) -> bool:
        """It began its latest step at `at`, or (not `stepping`) has ended it then. True when that is news."""
        self._stepping = stepping
        if at <= self._moved_at:
            return False
        self._moved_at = at
        return True

    def stands_still(self, now: float) -> bool:
        """Whether nothing is to be renewed for it."""
        limit_s = self._stall_limit_s if self._stepping else self._paused_after_s
        return now - self._moved_at > limit_s
