"""Whoever watches an engine's leases: a journal of events, and spans, where the configuration asks for them."""

from typing import TYPE_CHECKING

from kvlease.events.journal import Journal
from kvlease.events.lines import Writer
from kvlease.events.recorder import FactRecorder, Sink
from kvlease.events.spans import open_spans
from kvlease.vllm.settings import event_settings_of

if TYPE_CHECKING:
    from vllm.config import VllmConfig


def watch_scheduler(vllm_config: "VllmConfig", engine_id: str, incarnation: int) -> FactRecorder | None:
    """Returns the recorder of a scheduler's facts and its agent's, started; None where nobody asks for any. Raises
    `ConfigError`."""
    sinks: list[Sink] = []
    settings = event_settings_of(vllm_config)
    if settings is not None:
        rank = vllm_config.parallel_config.data_parallel_index
        sinks.append(Journal(settings, Writer(engine_id, rank, incarnation)))
    if vllm_config.observability_config.otlp_traces_endpoint:
        # The process of vLLM's scheduler has a tracer provider by now, as all its processes have.
        sinks.append(open_spans())
    return _started(sinks)


def watch_worker(vllm_config: "VllmConfig", engine_id: str, worker: int) -> FactRecorder | None:
    """Returns the recorder of a worker's facts, started; None where nobody asks for events. Raises `ConfigError`.

    A worker writes files of its own: what it reports to its scheduler stays as it is, and what it has read is written
    even if that dies.
    """
    settings = event_settings_of(vllm_config)
    if settings is None:
        return None
    rank = vllm_config.parallel_config.data_parallel_index
    return _started([Journal(settings, Writer(engine_id, rank, worker=worker))])


def _started(sinks: list[Sink]) -> FactRecorder | None:
    if not sinks:
        return None
    recorder = FactRecorder(sinks)
    recorder.start()
    return recorder
