"""Actions in words."""

from kvlease.errors import BadMessage
from kvlease.protocol.messages import decode
from proof.explore.actions import Action
from proof.explore.draft import CONSUMERS, PRODUCER, receiver
from proof.explore.state import Item

_WORDS = {
    "pass": "a tick passes",
    "turn": "the agent of {0} takes a turn",
    "deliver": "{0} arrives",
    "hear": "P takes the news of its agent",
    "part": "worker {0} of P carries out the next part of its step",
    "write": "worker {0} of P writes",
    "finish": "P hears its workers, and offers what was prefilled",
    "hand": "lease {0} is handed to D{1}",
    "load": "D{0} schedules {1} to be read",
    "read": "D{0} reads for {1} from worker {2}",
    "fence": "D{0} reads a fence word for {1}",
    "thaw": "{0} goes on",
    "fill": "others are given all free blocks of P, and let go of them",
    "lose": "FAULT: {0} is lost",
    "double": "FAULT: another copy is made of {0}",
    "hold": "FAULT: held back is {0}",
    "hand_again": "FAULT: lease {0} is handed to D{1}, too",
    "abort": "FAULT: the user of {1} at D{0} goes away",
    "abort_prefill": "FAULT: the prefill is aborted as P hears its workers",
    "crash": "FAULT: D{0} is killed",
    "vanish": "FAULT: the machine of D{0} vanishes",
    "shut_down": "FAULT: D{0} shuts down",
    "producer_suspects": "FAULT: P's transport takes D{0} for dead",
    "consumer_suspects": "FAULT: D{0}'s transport takes P for dead",
    "restart": "FAULT: P is killed and started again",
    "reset": "FAULT: P resets its cache",
    "revoke": "FAULT: an operator ends lease {0:x}",
    "freeze": "FAULT: {0} stands still",
}
_ENGINES = frozenset({"turn", "freeze", "thaw"})


def describe(action: Action) -> str:
    """One line about an action. D1 and D2 are the consumers, P is the producer."""
    name, *arguments = action
    if name == "schedule":
        backwards = ", in blocks that were to be reused last" if len(arguments) > 1 else ""
        return f"P schedules a step with a prefill{backwards}" if arguments[0] else "P schedules a step"
    if name in _ENGINES:
        return _WORDS[name].format(_who(arguments[0]))
    if arguments and isinstance(arguments[0], Item):
        return _WORDS[name].format(_item(arguments[0]))
    if name in ("hand", "hand_again"):
        arguments = [arguments[0], arguments[1] + 1]
    elif arguments and name not in ("part", "write", "revoke"):
        arguments = [arguments[0] + 1, *arguments[1:]]
    return _WORDS[name].format(*arguments)


def _who(who: int) -> str:
    return "P" if who == PRODUCER else f"D{who + 1}"


def _item(item: Item) -> str:
    if item.kind == "message":
        return f"{_message(item.payload)} from {_sender(item.sender)} to {_who(receiver(item))}"
    return f"the card for D{item.to + 1}'s {'agent' if item.kind == 'card' else 'worker'}"


def _sender(incarnation: int) -> str:
    return f"D{CONSUMERS.index(incarnation) + 1}" if incarnation in CONSUMERS else f"P ({incarnation:x})"


def _message(payload: bytes) -> str:
    try:
        return str(decode(payload))
    except BadMessage as e:
        return f"bytes that are no message ({e})"
