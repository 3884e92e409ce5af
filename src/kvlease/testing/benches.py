"""Benches for one half of the protocol, whose time passes only here, and whose effects the tests read."""

from typing import TypeVar

from kvlease.protocol import TIMING, Cause, Endpoint, Fingerprint, LeaseCard, LeaseRef, Lessee, Lessor, Timing, resolve
from kvlease.protocol.effects import Effect, Lapse, Revive, Send
from kvlease.protocol.messages import VERSION, Ack, Bye, FromConsumer, FromProducer, Hello, Message, Renew, Welcome

P, P2 = 0xA1, 0xA2
D, D2 = 0xD1, 0xD2
STEP_S = 0.05
M = TypeVar("M", bound=Message)


def sent(effects: list[Effect], kind: type[M]) -> list[M]:
    """The messages of this kind among the effects."""
    return [e.message for e in effects if isinstance(e, Send) and isinstance(e.message, kind)]


def ends(effects: list[Effect]) -> dict[int, Cause]:
    """The leases that are over by these effects, and why."""
    return {e.token: e.cause for e in effects if isinstance(e, Lapse)}


def revived(effects: list[Effect]) -> list[int]:
    """The leases that live again by these effects."""
    return [e.token for e in effects if isinstance(e, Revive)]


class LessorBench:
    """A lessor with vLLM's default settings (term 30 s, extension 20 s, renewals every 5 s) unless told otherwise."""

    def __init__(self, timing: Timing = TIMING, **settings: float) -> None:
        self.now = 100.0
        self.config = resolve({f"kv_lease_{key}": value for key, value in settings.items()})
        self.lessor = Lessor(self.config, P, self.now, timing)
        self._seq = 0

    def grant(self, *tokens: int) -> None:
        for token in tokens:
            self.lessor.grant(token, self.now)

    def hear(self, peer: int, message: FromConsumer) -> list[Effect]:
        self.lessor.receive(peer, message, self.now)
        return self.lessor.take_effects()

    def next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def hello(self, peer: int = D) -> Welcome:
        effects = self.hear(peer, Hello(VERSION, peer, self.next_seq(), "decode", b"address"))
        return sent(effects, Welcome)[0]

    def renew(self, claims: list[int] | None = None, drops: list[int] | None = None, peer: int = D) -> list[Effect]:
        number = self.lessor.sessions[peer].number if peer in self.lessor.sessions else 0
        return self.hear(peer, Renew(self.next_seq(), claims or [], drops or [], number))

    def claim(self, *tokens: int, peer: int = D) -> Ack:
        """Opens a session where there is none, claims these tokens in it, and returns the answer."""
        if peer not in self.lessor.sessions:
            self.hello(peer)
        return sent(self.renew(list(tokens), peer=peer), Ack)[0]

    def bye(self, peer: int = D) -> list[Effect]:
        return self.hear(peer, Bye(self.next_seq()))

    def lose_peer(self, peer: int = D) -> list[Effect]:
        self.lessor.peer_lost(peer, self.now)
        return self.lessor.take_effects()

    def wait(self, duration_s: float) -> list[Effect]:
        """Lets time pass while the agent is awake, and returns the effects."""
        end, effects = self.now + duration_s, []
        while self.now < end:
            self.now = min(self.now + STEP_S, end)
            self.lessor.advance(self.now)
            effects += self.lessor.take_effects()
        return effects

    def wait_renewing(self, duration_s: float, peer: int = D) -> list[Effect]:
        """Lets time pass while the consumer renews as it should, and returns the effects."""
        effects: list[Effect] = []
        for _ in range(round(duration_s / self.config.renew_interval_s)):
            effects += self.wait(self.config.renew_interval_s)
            effects += self.renew(peer=peer)
        return effects

    def end(self, *tokens: int) -> None:
        """Tells the lessor that the words of these leases are clear in every worker."""
        for token in tokens:
            self.lessor.cleared(token, self.now)

    def turn(self) -> list[Effect]:
        """Does what is due now, and returns the effects."""
        self.lessor.advance(self.now)
        return self.lessor.take_effects()


class LesseeBench:
    """A lessee whose producers answer as the test says."""

    endpoint: Endpoint = ("prefill", 5600)

    def __init__(self, stall_limit_s: float = 120.0, timing: Timing = TIMING) -> None:
        self.now = 100.0
        self.lessee = Lessee("decode", D, b"address of D", stall_limit_s, self.now, timing)
        self.last_seq = 0
        """The seq of the last message that the lessee sent."""

    def ref(self, token: int, producer: int = P) -> LeaseRef:
        return LeaseRef(producer, token, 0, 30_000, Fingerprint(1, 0))

    def track(
        self, holder: str, token: int, producer: int = P, endpoint: Endpoint | None = None, siblings: bool = False
    ) -> list[Effect]:
        self.lessee.track(holder, self.ref(token, producer), endpoint or self.endpoint, siblings, self.now)
        return self.turn()

    def untrack(self, holder: str) -> list[Effect]:
        self.lessee.untrack(holder, self.now)
        return self.turn()

    def turn(self) -> list[Effect]:
        self.lessee.advance(self.now)
        effects = self.lessee.take_effects()
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, Hello | Renew | Bye):
                self.last_seq = effect.message.seq
        return effects

    def fetched(self, card: LeaseCard | None, endpoint: Endpoint | None = None) -> list[Effect]:
        self.lessee.card_fetched(endpoint or self.endpoint, card, self.now)
        return self.turn()

    def card(self, producer: int = P) -> LeaseCard:
        return LeaseCard([VERSION], producer, b"address of P", [])

    def hear(self, message: FromProducer, producer: int = P) -> list[Effect]:
        self.lessee.receive(producer, message, self.now)
        return self.turn()

    def welcome(self, hello: Hello, producer: int = P, session: int = 1) -> list[Effect]:
        """Makes the producer open the session, with an extension of 20 s and a renewal every 5 s."""
        return self.hear(Welcome(VERSION, producer, hello.seq, 30_000, 20_000, 5_000, 250, session), producer)

    def open(self, holder: str = "r1", token: int = 1, siblings: bool = False) -> Renew:
        """Tracks one lease, and returns the first renewal of the session that opens for it."""
        self.track(holder, token, siblings=siblings)
        hello = sent(self.fetched(self.card()), Hello)[0]
        return sent(self.welcome(hello), Renew)[0]

    def open_and_held(self, holder: str = "r1", token: int = 1, siblings: bool = False) -> Renew:
        renew = self.open(holder, token, siblings)
        assert renew.claims == [token]
        self.hear(Ack(renew.seq, []))
        return renew

    def wait(self, duration_s: float, *, awake: bool = True) -> list[Effect]:
        """Lets time pass while the engine makes steps (`awake`) or not, and nobody answers; returns the effects."""
        end, effects = self.now + duration_s, []
        while self.now < end:
            self.now = min(self.now + STEP_S, end)
            if awake:
                self.lessee.progress(self.now)
            effects += self.turn()
        return effects

    def wait_answered(self, duration_s: float) -> list[Effect]:
        """Lets time pass while every renewal is acknowledged at once, and returns the effects."""
        end, effects = self.now + duration_s, []
        while self.now < end:
            news = self.wait(STEP_S)
            effects += news
            for renew in sent(news, Renew):
                effects += self.hear(Ack(renew.seq, []))
        return effects
