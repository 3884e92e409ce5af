"""vLLM's own arguments, as far as they decide about devices, ports and names. Everything else is passed as it is."""

from collections.abc import Container, Sequence
from itertools import zip_longest

TENSOR = ("--tensor-parallel-size", "-tp")
PIPELINE = ("--pipeline-parallel-size", "-pp")
DATA = ("--data-parallel-size", "-dp")
SERVED_NAME = ("--served-model-name",)
MEMORY_SHARE = ("--gpu-memory-utilization",)
KEY = ("--api-key",)
OWN = {
    "--host": "engines listen on this machine alone; the router's address is --host before the --",
    "--port": "engines get ports of their own; the router's is --port before the --",
    "--uds": "the router asks engines over TCP",
    "--model": "give --model before the --",
    "--kv-transfer-config": "it is made from --connector and --extra-config, which stand before the --",
}
"""The arguments that are not vLLM's to be given here, and what to do instead."""
ROUTERS_OWN = ("--host", "--port")
"""The arguments of the router that are `kvlease up`'s own."""


def value_of(arguments: Sequence[str], names: Sequence[str]) -> str | None:
    """Returns the value of an argument by any of its names, the last one where it was given several times."""
    found = None
    for argument, following in zip_longest(arguments, arguments[1:]):
        name, equals, value = argument.partition("=")
        if _spelt(name) in names:
            found = value if equals else following
    return found


def number_of(arguments: Sequence[str], names: Sequence[str]) -> int:
    """Returns the value of an argument that is a number of parts; 1 where it was not given. Raises ValueError."""
    text = value_of(arguments, names)
    if text is None:
        return 1
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1024):
        raise ValueError(f"{names[0]} is {text!r}: it must be a whole number from 1 to 1,024")
    return int(text)


def devices_of(arguments: Sequence[str]) -> int:
    """Returns the number of devices that an engine with these arguments takes. Raises ValueError."""
    return number_of(arguments, TENSOR) * number_of(arguments, PIPELINE) * number_of(arguments, DATA)


def owned(arguments: Sequence[str], own: Container[str] = OWN) -> str | None:
    """Returns the first argument that is not vLLM's to be given here."""
    return next((name for each in arguments if (name := _spelt(each.partition("=")[0])) in own), None)


def _spelt(name: str) -> str:
    """An argument's name as vLLM's help has it: vLLM takes underscores as well."""
    return name.replace("_", "-") if name.startswith("--") else name
