"""The plan as a compose file: one service for each process, all on the host's network. It needs the package yaml."""

from typing import Any

from kvlease.up.engines import SCRATCH_VARIABLES
from kvlease.up.machine import VISIBLE
from kvlease.up.plan import Deployment, Launch
from kvlease.up.systemd import MARGIN_S, drain_command

NAME = "kvlease"
PYTHON = "python3"
"""The name of Python in an image."""
IMAGE = "${KVLEASE_IMAGE:?name an image with vLLM, NIXL and kvlease: the first lines of this file say how to make one}"
CACHE = "~/.cache/huggingface:/root/.cache/huggingface"
HEAD = """\
# The processes that `kvlease up` would start, as containers on the host's network. The image needs vLLM, NIXL and
# kvlease; from vLLM's own one it is made in a checkout of kvlease with
#
#   FROM {base}
#   COPY . /kvlease
#   RUN pip install '/kvlease[router]'
#
#   docker build -t kvlease-vllm . && KVLEASE_IMAGE=kvlease-vllm docker compose -f compose.yml up
"""
GPU_IMAGE = "vllm/vllm-openai:v0.32.0"
CPU_IMAGE = "an image of vLLM 0.32 for the CPU, or of another version that kvlease is tested with"


def as_compose(decided: Deployment, drain_s: int, image: str | None = None) -> str:
    """Returns the file. `image` None: it is named by the variable KVLEASE_IMAGE."""
    import yaml

    services = {launch.name: _service(decided, launch, drain_s, image or IMAGE) for launch in decided.launches}
    document = {"name": NAME, "services": services}
    text: str = yaml.safe_dump(document, sort_keys=False, width=1000, allow_unicode=True)
    on_gpus = any(launch.devices for launch in decided.engines)
    return HEAD.format(base=GPU_IMAGE if on_gpus else CPU_IMAGE) + "\n" + text


def _service(decided: Deployment, launch: Launch, drain_s: int, image: str) -> dict[str, Any]:
    service: dict[str, Any] = {
        "image": image,
        # vLLM's image would put its own command in front.
        "entrypoint": [],
        "command": [_literal(word) for word in _in_container(launch.command)],
        # Engines and router find each other at the same addresses as without containers.
        "network_mode": "host",
        "ipc": "host",
        "init": True,
        "ulimits": {"memlock": -1},
        "environment": _environment(launch),
        "restart": "unless-stopped",
        "stop_grace_period": f"{drain_s + MARGIN_S}s",
        "healthcheck": {
            "test": ["CMD", PYTHON, "-c", _health(launch)],
            "interval": "10s",
            "timeout": "6s",
            "start_period": "600s",
        },
    }
    if launch.role == "prefill" and launch.listener:
        drained = _in_container(tuple(drain_command(decided, launch, drain_s)))
        service["pre_stop"] = [{"command": list(drained)}]
    if launch.cores:
        service["cpuset"] = ",".join(map(str, launch.cores))
    if launch.role == "router":
        # Services end in the reverse order: the router's requests first, while engines still serve them.
        service["depends_on"] = [engine.name for engine in decided.engines]
    else:
        service["volumes"] = _volumes(decided)
    if launch.devices:
        device = {"driver": "nvidia", "device_ids": list(launch.devices), "capabilities": ["gpu"]}
        service["deploy"] = {"resources": {"reservations": {"devices": [device]}}}
    return {key: value for key, value in service.items() if value != {}}


def _in_container(command: tuple[str, ...]) -> tuple[str, ...]:
    """A command by the names that its program has in an image."""
    program = "vllm" if command[1:2] == ("serve",) else PYTHON
    return (program, *command[1:])


def _environment(launch: Launch) -> dict[str, str]:
    # A container has temporary files of its own, and sees its devices alone.
    left_out = (*SCRATCH_VARIABLES, VISIBLE)
    return {name: _literal(value) for name, value in launch.environment.items() if name not in left_out}


def _volumes(decided: Deployment) -> list[str]:
    if decided.model_directory is None:
        return [CACHE]
    return [f"{_literal(str(decided.model_directory))}:{_literal(str(decided.model_directory))}:ro"]


def _health(launch: Launch) -> str:
    return f"import urllib.request as asked; asked.urlopen('{launch.url}{launch.ready}', timeout=5)"


def _literal(text: str) -> str:
    """A text in which compose puts in no variables."""
    return text.replace("$", "$$")
