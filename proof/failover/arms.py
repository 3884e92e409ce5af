"""The routers that are compared, each with the engines that it is put before."""

from dataclasses import dataclass

from proof.realengines.routers import ROUTER_NAMES, RouterKind
from proof.realengines.spec import Connector


@dataclass(frozen=True)
class FailoverArm:
    """A router, the connector of its engines, and the module that is run in the place of the router's own, if any."""

    name: str
    kind: RouterKind
    connector: Connector
    module: str | None = None
    title: str = ""

    @property
    def heading(self) -> str:
        """The head of its column."""
        return self.title or f"{ROUTER_NAMES[self.kind]}, {self.connector} engines"


OURS = FailoverArm("kvlease", "kvlease", "kvlease")
ARMS: tuple[FailoverArm, ...] = (
    OURS,
    FailoverArm("unfenced", "kvlease", "stock", "proof.failover.unfenced", "the same made to retry, stock engines"),
    FailoverArm("vllm-router", "vllm-router", "stock"),
    FailoverArm("toy", "toy", "stock"),
)
"""The arms in the order of the table. Those of one connector have the same engines in the same run."""
