"""The checks on a trial's request: what was offered, and whether it was read under its lease."""

from collections.abc import Iterator

from kvlease.doctor.findings import Check, Symptom, error, warning
from kvlease.doctor.hand_off import HandOff
from kvlease.doctor.running import host_of
from kvlease.doctor.setups import HOST_VARIABLE
from kvlease.doctor.variable_checks import is_loopback, is_unspecified

_PASS_ON = 'have the router give decode engines the prefill\'s "kv_transfer_params" whole, with "kv_lease" in it'


@error("trial-failed", "A trial request that was not answered", "Clients' requests go the same way.")
def trial_failed(trial: HandOff) -> Iterator[Symptom]:
    for answered in (trial.prefill, trial.answer):
        if answered is not None and not answered.good:
            status = "no answer" if answered.status is None else f"HTTP {answered.status}"
            yield Symptom(f"{status} to a completion: {answered.said}", "see this engine's log", answered.url)


@error(
    "no-offer",
    "A prefill engine that offers nothing to decode engines",
    "Every decode engine computes the prompt itself.",
)
def no_offer(trial: HandOff) -> Iterator[Symptom]:
    if trial.prefill is not None and trial.prefill.good and not trial.prefill.params:
        yield Symptom(
            "no kv_transfer_params in the answer to a prefill",
            'write --kv-transfer-config with "kv_role": "kv_producer" on prefill engines',
            trial.prefill.url,
        )


@error(
    "no-lease",
    "A prefill that is offered without a lease",
    "It is read as from stock: a decode engine that comes late reads what belongs to others, and answers wrongly.",
)
def no_lease(trial: HandOff) -> Iterator[Symptom]:
    if trial.prefill is None or not trial.prefill.params or "kv_lease" in trial.prefill.params:
        return
    declined = trial.prefill.params.get("do_remote_prefill") is False
    yield Symptom(
        "no kv_lease in kv_transfer_params" + (", and no blocks" if declined else ""),
        "see kvlease:declined_offers_total and its log" if declined else "run kvlease on this engine",
        trial.prefill.url,
    )


@error(
    "remote-host",
    "A side channel that others cannot reach",
    "Decode engines are told to fetch handshake and lease card there.",
)
def remote_host(trial: HandOff) -> Iterator[Symptom]:
    if trial.prefill is None or not trial.prefill.params:
        return
    host = str(trial.prefill.params.get("remote_host"))
    elsewhere = is_loopback(host) and not is_loopback(host_of(trial.prefill.url))
    if is_unspecified(host) or elsewhere:
        yield Symptom(f"remote_host {host}", f"set {HOST_VARIABLE} to the address of this engine", trial.prefill.url)


@warning(
    "side-channel-unreachable",
    "A side channel that cannot be reached from here",
    "If decode engines cannot either, they read nothing from this engine.",
)
def side_channel_unreachable(trial: HandOff) -> Iterator[Symptom]:
    if trial.prefill is not None and trial.prefill.params and trial.side_channel is not None:
        params = trial.prefill.params
        yield Symptom(
            f"{params.get('remote_host')}:{params.get('remote_port')}: {trial.side_channel}",
            f"open the port for decode engines; see {HOST_VARIABLE} of this engine, and that no router changes it",
            trial.prefill.url,
        )


@error(
    "lease-dropped",
    "A read without its fence, though the prefill engine granted a lease",
    "kv_lease was lost on the way: a late read is answered wrongly, and nobody is told.",
)
def lease_dropped(trial: HandOff) -> Iterator[Symptom]:
    if trial.engines_tell and trial.rose.get("unfenced", 0) > 0:
        change = _PASS_ON if trial.by_router else "run kvlease on this decode engine"
        yield Symptom("kvlease:unfenced_reads_total rose with the trial", change, _answerer(trial))


@error(
    "not-read",
    "A prefill that was offered and not read",
    "The decode engine computed the prompt again, or failed the request.",
)
def not_read(trial: HandOff) -> Iterator[Symptom]:
    if not trial.engines_tell or trial.rose.get("intact", 0) > 0 or trial.rose.get("unfenced", 0) > 0:
        return
    if trial.answer is None or not trial.answer.good:
        return
    rose = ", ".join(name for name in ("not intact", "lost", "claimed") if trial.rose.get(name, 0) > 0) or "nothing"
    yield Symptom(
        f"a lease was granted; of reads and claims rose: {rose}",
        f"{_PASS_ON}; give all engines' URLs" if trial.by_router else "see kvlease:fence_checks_total and its log",
        _answerer(trial),
    )


@warning(
    "router-without-prefill",
    "A router that used none of the given prefill engines",
    "Nothing was handed over: the router does not divide this request, or uses engines that were not given.",
)
def router_without_prefill(trial: HandOff) -> Iterator[Symptom]:
    if trial.by_router and trial.answer is not None and trial.answer.good and not trial.engines_tell:
        yield Symptom(
            "kvlease:grants_total did not rise with the trial",
            "give the URLs of all engines behind it; or see that the router runs in its mode for prefill and decode",
            trial.answer.url,
        )


def _answerer(trial: HandOff) -> str:
    return trial.answer.url if trial.answer is not None else ""


CHECKS: tuple[Check[HandOff], ...] = (
    trial_failed,
    no_offer,
    no_lease,
    remote_host,
    side_channel_unreachable,
    lease_dropped,
    not_read,
    router_without_prefill,
)
