"""The settings of `kvlease router`: all of them, what each may be, and what is refused.

`NUMBERS` has a row for each number, from which the command's options, the check and the table on the operator's page
are made.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

from kvlease.admin.settings import is_loopback
from kvlease.errors import ConfigError
from kvlease.routing.admission import AdmissionLimits
from kvlease.routing.policy import RetryPolicy, TimeLimits

KEYS_VARIABLE = "KVLEASE_ROUTER_API_KEY"
"""The environment variable with the keys that clients have to send, separated by commas."""
ENGINE_KEY_VARIABLE = "KVLEASE_ROUTER_ENGINE_API_KEY"
"""The environment variable with the key that the router sends to engines."""
HOST = "127.0.0.1"
"""The address that is listened on unless another is chosen: who wants others to come says so."""
MIN_KEY = 16
"""The fewest characters of a client's key."""
_KEY = re.compile(r"[\x21-\x2b\x2d-\x7e]+")
_DNS = re.compile(r"(?P<host>[\w.-]+):(?P<port>\d{1,5})", re.ASCII)


class NumberSetting(NamedTuple):
    """A setting that is a number."""

    name: str
    """The field of `RouterSettings`."""
    low: float
    high: float
    unit: str
    """The thing that it counts, such as "seconds"; "" for a share."""
    meaning: str
    """The part of a sentence that says what it is."""
    whole: bool = False

    @property
    def flag(self) -> str:
        """The option of the command."""
        return "--" + self.name.removesuffix("_s").replace("_", "-")


_DAY = 86_400.0
_POLICY = RetryPolicy()
_ADMISSION = AdmissionLimits()
NUMBERS: tuple[NumberSetting, ...] = (
    NumberSetting("port", 0, 65_535, "", "port to listen on; 0 is any that is free", whole=True),
    NumberSetting("max_in_flight", 1, 1_000_000, "requests", "most requests that run at a time", whole=True),
    NumberSetting("max_queued", 0, 1_000_000, "requests", "most requests that wait for their turn", whole=True),
    NumberSetting("queue_timeout_s", 0.01, 3600.0, "seconds", "longest wait for a turn, then 429"),
    NumberSetting("max_body_bytes", 1024, 1 << 31, "bytes", "longest body of a request", whole=True),
    NumberSetting("connect_timeout_s", 0.01, 60.0, "seconds", "longest time for a connection to an engine"),
    NumberSetting("prefill_timeout_s", 0.01, _DAY, "seconds", "longest time for P's answer"),
    NumberSetting("first_token_timeout_s", 0.01, _DAY, "seconds", "longest time for D's first token"),
    NumberSetting("between_tokens_timeout_s", 0.01, _DAY, "seconds", "longest silence of D within a stream"),
    NumberSetting("whole_answer_timeout_s", 0.01, _DAY, "seconds", "longest time for an answer that is no stream"),
    NumberSetting("prefill_attempts", 1, 16, "attempts", "most prefills asked for a request", whole=True),
    NumberSetting("decode_attempts", 1, 16, "attempts", "most decodes asked for a request", whole=True),
    NumberSetting("retry_ratio", 0.0, 1.0, "", "most retries, as a part of all requests"),
    NumberSetting("watch_interval_s", 0.05, 60.0, "seconds", "time between two looks at an engine"),
    NumberSetting("watch_timeout_s", 0.05, 60.0, "seconds", "time after which an engine has not answered a look"),
    NumberSetting("dns_interval_s", 0.5, 3600.0, "seconds", "time between two look-ups of a name"),
    NumberSetting("drain_timeout_s", 0.0, _DAY, "seconds", "longest time for requests that run, after SIGTERM"),
)
"""All settings that are numbers, in the order of the command's help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSettings:
    """All that an operator may choose. It raises `ConfigError` for what is not allowed."""

    prefill: tuple[str, ...] = ()
    """The URLs of prefill engines that do not change."""
    decode: tuple[str, ...] = ()
    """The URLs of decode engines that do not change."""
    engines_file: Path | None = None
    """The file with lists of engines, read again when it changes."""
    prefill_dns: tuple[str, ...] = ()
    """Names with ports, each of whose addresses is a prefill engine."""
    decode_dns: tuple[str, ...] = ()
    """Names with ports, each of whose addresses is a decode engine."""

    host: str = HOST
    port: int = 8000
    max_in_flight: int = _ADMISSION.in_flight
    max_queued: int = _ADMISSION.queue
    queue_timeout_s: float = _ADMISSION.wait_s
    max_body_bytes: int = 64_000_000
    connect_timeout_s: float = _POLICY.limits.connect_s
    prefill_timeout_s: float = _POLICY.limits.prefill_s
    first_token_timeout_s: float = _POLICY.limits.first_token_s
    between_tokens_timeout_s: float = _POLICY.limits.between_tokens_s
    whole_answer_timeout_s: float = _POLICY.limits.whole_answer_s
    prefill_attempts: int = _POLICY.prefill_attempts
    decode_attempts: int = _POLICY.decode_attempts
    retry_ratio: float = _POLICY.retry_ratio
    watch_interval_s: float = 0.5
    watch_timeout_s: float = 2.0
    dns_interval_s: float = 5.0
    drain_timeout_s: float = 60.0

    continue_streams: bool = _POLICY.continue_streams
    """True: a greedy stream whose D died goes on at another one."""
    whole_prompt_on_decoder: bool = _POLICY.whole_prompt_on_decoder
    """True: where no P can be asked, D computes the prompt itself."""
    api_keys: frozenset[str] = field(default=frozenset(), repr=False)
    """The keys of which a client has to send one; none: the client's `Authorization` goes on to engines."""
    engine_key: str | None = field(default=None, repr=False)
    """The key that engines get in the place of the client's."""

    def __post_init__(self) -> None:
        for number in NUMBERS:
            _check_number(number, getattr(self, number.name))
        for flag, names in (("--prefill-dns", self.prefill_dns), ("--decode-dns", self.decode_dns)):
            for name in names:
                name_and_port(name, flag)
        _check_engines(self)
        _check_keys(self)

    def policy(self) -> RetryPolicy:
        """Returns the policy of retries."""
        limits = TimeLimits(
            connect_s=self.connect_timeout_s,
            prefill_s=self.prefill_timeout_s,
            first_token_s=self.first_token_timeout_s,
            between_tokens_s=self.between_tokens_timeout_s,
            whole_answer_s=self.whole_answer_timeout_s,
        )
        return RetryPolicy(
            prefill_attempts=self.prefill_attempts,
            decode_attempts=self.decode_attempts,
            retry_ratio=self.retry_ratio,
            whole_prompt_on_decoder=self.whole_prompt_on_decoder,
            continue_streams=self.continue_streams,
            limits=limits,
        )

    def admission(self) -> AdmissionLimits:
        """Returns the bounds of what is taken."""
        return AdmissionLimits(in_flight=self.max_in_flight, queue=self.max_queued, wait_s=self.queue_timeout_s)


def from_environment(environment: Mapping[str, str]) -> tuple[frozenset[str], str | None]:
    """Returns the clients' keys and the engines' key. Keys are in no command line, where other users could read them.

    Raises `ConfigError`.
    """
    text = environment.get(KEYS_VARIABLE, "")
    keys = frozenset(key for part in text.split(",") if (key := part.strip()))
    for key in keys:
        if len(key) < MIN_KEY or not _KEY.fullmatch(key):
            raise ConfigError(
                f"{KEYS_VARIABLE} has a key of {len(key)} characters, or with some that are no printable ASCII: each "
                f"must have at least {MIN_KEY}, without spaces; for example the output of `openssl rand -hex 32`"
            )
    engine_key = environment.get(ENGINE_KEY_VARIABLE) or None
    if engine_key is not None and not re.fullmatch(r"[\x21-\x7e]+", engine_key):
        raise ConfigError(
            f"{ENGINE_KEY_VARIABLE} has characters that are no printable ASCII, or spaces: write the key that engines "
            "have as --api-key"
        )
    return keys, engine_key


def name_and_port(text: str, flag: str) -> tuple[str, int]:
    """Returns the two parts of "NAME:PORT". Raises `ConfigError`."""
    found = _DNS.fullmatch(text)
    if found is None or not 1 <= int(found["port"]) <= 65_535:
        raise ConfigError(
            f"{flag} is {text!r}: it must be a name and a port, for example {flag} decode.llm.svc.cluster.local:8000"
        )
    return found["host"], int(found["port"])


def _check_number(setting: NumberSetting, value: object) -> None:
    kinds = int if setting.whole else int | float
    if isinstance(value, bool) or not isinstance(value, kinds) or not setting.low <= value <= setting.high:
        what = "a whole number" if setting.whole else "a number"
        of = f" of {setting.unit}" if setting.unit else ""
        raise ConfigError(
            f"{setting.flag} is {value!r}: the {setting.meaning}, must be {what}{of} from {setting.low:g} to "
            f"{setting.high:g}, for example {setting.flag} {default_of(setting.name):g}"
        )


def default_of(name: str) -> float:
    """Returns the default of a setting that is a number."""
    (found,) = (each.default for each in fields(RouterSettings) if each.name == name)
    assert isinstance(found, int | float)
    return found


def _check_engines(settings: RouterSettings) -> None:
    if settings.engines_file is not None:
        return
    if not (settings.decode or settings.decode_dns):
        raise ConfigError(
            "there is no decode engine: name them by --decode URL…, --decode-dns NAME:PORT or --engines FILE"
        )
    if not (settings.prefill or settings.prefill_dns):
        raise ConfigError(
            "there is no prefill engine: name them by --prefill URL…, --prefill-dns NAME:PORT or --engines FILE"
        )
    if both := sorted(set(settings.prefill) & set(settings.decode)):
        raise ConfigError(f"{both[0]} is named by --prefill and by --decode: an engine has one part; name it once")


def _check_keys(settings: RouterSettings) -> None:
    if settings.engine_key and not settings.api_keys and not is_loopback(settings.host):
        raise ConfigError(
            f"{ENGINE_KEY_VARIABLE} is set, {KEYS_VARIABLE} is not, and --host is {settings.host}: whoever reaches the "
            f"router would use the engines with its key; set {KEYS_VARIABLE} to what clients have to send"
        )
