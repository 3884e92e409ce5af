"""The settings of the agent's own listener."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass

from kvlease.errors import ConfigError

LISTEN = "kv_lease_listen"
TOKEN_VARIABLE = "KVLEASE_ADMIN_TOKEN"
EXAMPLE = "127.0.0.1:9410"
MIN_TOKEN = 16
"""The fewest characters of a bearer token."""
_ADDRESS = re.compile(r"(?P<host>[\w.-]+|\[[0-9a-fA-F:.]+\]):(?P<port>\d{1,5})", re.ASCII)
_TOKEN = re.compile(rf"[\x21-\x7e]{{{MIN_TOKEN},}}")


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """The place where an agent listens for its operator, and what it asks of whoever comes."""

    host: str
    port: int
    token: str | None = None
    """The bearer token that every request has to carry; None: no request has to."""

    def __repr__(self) -> str:
        # Settings are logged, and the token is a secret.
        return f"ListenSettings({self.host!r}, {self.port}, {'with' if self.token else 'without'} a token)"


def listen_settings(settings: Mapping[str, object], environment: Mapping[str, str], rank: int) -> ListenSettings | None:
    """Returns where to listen, if anywhere: `kv_lease_listen` is "host:port", to whose port the rank is added.

    Of `environment` only `KVLEASE_ADMIN_TOKEN` is read. Raises `ConfigError`.
    """
    value = settings.get(LISTEN)
    if value is None:
        return None
    found = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ConfigError(
            f'{LISTEN} is {value!r}: it must be an address and a port, for example {{"{LISTEN}": "{EXAMPLE}"}}'
        )
    host, port = found["host"].strip("[]"), int(found["port"])
    if not 1 <= port <= port + rank <= 65535:
        raise ConfigError(
            f"{LISTEN} is {value!r}: the port, to which an engine adds its data-parallel rank ({rank}), must be from 1 "
            f'to 65,535, for example {{"{LISTEN}": "{EXAMPLE}"}}'
        )
    return ListenSettings(host, port + rank, _token(host, environment))


def _token(host: str, environment: Mapping[str, str]) -> str | None:
    token = environment.get(TOKEN_VARIABLE)
    if token is None:
        if is_loopback(host):
            return None
        raise ConfigError(
            f"{LISTEN} is on {host}, where others than this machine's users can come: set {TOKEN_VARIABLE} to a secret "
            f"that they have to send as a bearer token, for example the output of `openssl rand -hex 32`, or listen on "
            f"{EXAMPLE}"
        )
    if not _TOKEN.fullmatch(token):
        raise ConfigError(
            f"{TOKEN_VARIABLE} has {len(token)} characters, or some that are no printable ASCII: it must have at least "
            f"{MIN_TOKEN}, without spaces; for example the output of `openssl rand -hex 32`"
        )
    return token


def is_loopback(host: str) -> bool:
    """Tells whether only this machine reaches the host, as far as its name alone tells."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
