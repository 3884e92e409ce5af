"""Why a benchmark gives no figures."""


class CannotRun(Exception):
    """This machine, or this installation, lacks what a benchmark needs. The message says what, and what to do."""
