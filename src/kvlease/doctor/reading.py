"""Reads configurations: JSON, command lines and scripts, Kubernetes manifests, values of charts, Ray's files."""

import json
import re
import shlex
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from kvlease.console.commands import BadArguments
from kvlease.doctor.setups import CONFIG, EngineSetup, PodSettings, arguments_of

INSTALL_YAML = "pip install pyyaml"
DEFAULT_GRACE_S = 30.0
"""Kubernetes' own, where a pod has no terminationGracePeriodSeconds."""
_ENGINE = re.compile(r"(^|[\s/.])(vllm serve|vllm\.entrypoints\.\S+|dynamo\.vllm)(\s|$)")
_SUBSTITUTED = re.compile(r"\$\([^()]*\)")
_DEEPEST, _MOST_NODES = 100, 1_000_000
"""The levels and values of a tree, at most, with each that stands at several places counted at all of them."""
_ENDS = {";", "&", "&&", "|", "||", "\n"}
_VARIABLE = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_WRITE = "give --config a file, the JSON of --kv-transfer-config, or a `vllm serve …` command line in quotes"


def read(text: str, environment: Mapping[str, str]) -> list[EngineSetup]:
    """Returns the engines of one --config: a file, JSON, a command line, or "-" for standard input.

    `environment` is what a command line finds around it. Raises `BadArguments` where there is no engine in it.
    """
    if text == "-":
        setups = _of_content("standard input", sys.stdin.read(), environment)
    elif _is_file(text):
        setups = _of_content(text, Path(text).read_text(encoding="utf-8", errors="replace"), environment)
    elif text.lstrip().startswith("{") or _is_command(text):
        # In quotes, a command line goes on in the next line without a backslash.
        setups = _of_content("--config", re.sub(r"\n\s+(?=-)", " ", text), environment)
    else:
        raise BadArguments(f"{text!r} is no file here: {_WRITE}")
    if not setups:
        raise BadArguments(f"{text[:60]!r} has no engine with a {CONFIG}: {_WRITE}")
    return setups


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        # A long command line is no name of a file.
        return False


def _is_command(text: str) -> bool:
    return f"--{CONFIG}" in text.replace("_", "-") or _ENGINE.search(text) is not None


def _of_content(name: str, content: str, environment: Mapping[str, str]) -> list[EngineSetup]:
    if content.lstrip().startswith(("{", "[")):
        return list(_in_tree(_bounded(_json(content, name), name), name))
    if name.endswith((".yaml", ".yml")) or re.search(r"^\s*-?\s*(kind|containers|engine_kwargs|args):", content, re.M):
        return [setup for document in _yaml(content, name) for setup in _in_tree(_bounded(document, name), name)]
    return list(_in_script(content, name, environment))


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise BadArguments(f"{name} is no JSON: {fault}; {_WRITE}") from None


def _yaml(text: str, name: str) -> list[Any]:
    try:
        import yaml
    except ModuleNotFoundError:
        raise BadArguments(f"{name} is YAML, and PyYAML is not installed here: `{INSTALL_YAML}` installs it") from None
    try:
        return list(yaml.safe_load_all(text))
    except (yaml.YAMLError, ValueError, RecursionError) as fault:
        raise BadArguments(f"{name} is no YAML: {' '.join(str(fault).split())}") from None


# -- command lines ----------------------------------------------------------------------------------------------------


def _in_script(text: str, name: str, environment: Mapping[str, str]) -> Iterator[EngineSetup]:
    """Yields the engines that a script starts; `export` holds from there on."""
    exported = dict(environment)
    commands = list(_commands(text, name))
    starting = [words for words in commands if _is_command(" ".join(words))]
    for words in commands:
        variables = dict(exported)
        rest = [*words]
        while rest and (rest[0] in ("export", "env", "exec") or _VARIABLE.fullmatch(rest[0])):
            if (given := _VARIABLE.fullmatch(rest.pop(0))) is not None:
                variables[given[1]] = given[2]
        if not rest and words[:1] == ["export"]:
            exported = variables
        elif words in starting:
            number = f", engine {starting.index(words) + 1}" if len(starting) > 1 else ""
            yield _of_words(rest, name + number, variables | _given_to_docker(rest))


def _commands(text: str, name: str) -> Iterator[list[str]]:
    """Yields the words of each command. Words in $(…) are kept together, comments left out."""
    plain = _SUBSTITUTED.sub(lambda found: re.sub(r"\s", "_", found[0]), re.sub(r"\\\r?\n", " ", text))
    plain = re.sub(r"^\s*#.*$", "", plain, flags=re.MULTILINE)
    lexer = shlex.shlex(plain, posix=True, punctuation_chars=";&|\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    words: list[str] = []
    try:
        for word in lexer:
            if word.strip("\n") in _ENDS or not word.strip("\n"):
                yield words
                words = []
            else:
                words.append(word)
    except ValueError as fault:
        raise BadArguments(f"{name} cannot be read as a command line: {fault}") from None
    yield words


def _given_to_docker(words: Sequence[str]) -> dict[str, str]:
    pairs = [after for word, after in pairwise(words) if word in ("-e", "--env")]
    return {found[1]: found[2] for pair in pairs if (found := _VARIABLE.fullmatch(pair)) is not None}


def _of_words(
    words: Sequence[str], name: str, variables: Mapping[str, str], pod: PodSettings | None = None
) -> EngineSetup:
    """The engine that a command line starts."""
    arguments = arguments_of(words)
    transfer, fault = _transfer(arguments)
    framework = "Dynamo" if "dynamo.vllm" in words else "vLLM"
    return EngineSetup(name, transfer, arguments, variables, pod, framework, fault)


def _transfer(arguments: Mapping[str, str]) -> tuple[dict[str, Any], str | None]:
    """The value of --kv-transfer-config, whole or in parts such as --kv-transfer-config.kv_role; or its fault."""
    text = arguments.get(CONFIG, "{}")
    try:
        transfer = json.loads(text)
    except (ValueError, RecursionError) as fault:
        return {}, f"{text[:60]!r} is no JSON: {fault}"
    if not isinstance(transfer, dict):
        return {}, f"{text[:60]!r} is no JSON object"
    for name, value in arguments.items():
        if name.startswith(f"{CONFIG}."):
            *above, last = name.removeprefix(f"{CONFIG}.").split(".")
            inner = transfer
            for part in above:
                inner = inner.setdefault(part, {})
                if not isinstance(inner, dict):
                    return {}, f"--{name} has its place in a value that is no JSON object"
            inner[last] = _value(value)
    return transfer, None


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


# -- trees ------------------------------------------------------------------------------------------------------------


def _bounded(tree: Any, name: str) -> Any:
    """Returns the tree. Raises `BadArguments` for a very deep one, or one that YAML's aliases make endless."""
    level, seen = [tree], 0
    for _ in range(_DEEPEST):
        level = [inner for each in level for inner in _inside(each)]
        seen += len(level)
        if not level:
            return tree
        if seen > _MOST_NODES:
            break
    raise BadArguments(f"{name} is deeper or larger than any configuration: {_WRITE}")


def _inside(tree: Any) -> Collection[Any]:
    if isinstance(tree, Mapping):
        return tree.values()
    return tree if isinstance(tree, list) else ()


def _in_tree(tree: Any, name: str) -> Iterator[EngineSetup]:
    """Yields the engines anywhere in a tree of mappings: pods of whatever kind, charts' values, engine_kwargs."""
    if isinstance(tree, list):
        for number, item in enumerate(tree):
            yield from _in_tree(item, name if len(tree) == 1 else f"{name}[{number}]")
        return
    if not isinstance(tree, Mapping):
        return
    if "kv_connector" in tree:
        yield EngineSetup(name, dict(tree))
        return
    own = next((tree[key] for key in ("kv_transfer_config", CONFIG) if key in tree), None)
    if own is not None:
        yield _of_settings(tree, own, name)
    named = tree.get("metadata")
    if "kind" in tree and isinstance(named, Mapping):
        name = f"{name}: {tree['kind']}/{named.get('name', '')}"
    if isinstance(tree.get("containers"), list):
        yield from _in_pod(tree, name)
    for key, below in tree.items():
        if key not in ("containers", "kv_transfer_config", CONFIG):
            inner = name if key in ("spec", "template", "items", "metadata") else f"{name}: {key}"
            yield from _in_tree(below, inner if isinstance(below, Mapping | list) else name)


def _of_settings(tree: Mapping[str, Any], own: Any, name: str) -> EngineSetup:
    """The engine of a mapping of arguments: Ray's engine_kwargs, or a file for `vllm serve --config`."""
    arguments = {str(key).replace("_", "-"): str(value) for key, value in tree.items() if not isinstance(value, dict)}
    transfer, fault = (own, None) if isinstance(own, Mapping) else _transfer({CONFIG: str(own)})
    return EngineSetup(
        name,
        dict(transfer),
        # A flag is written `true` there.
        {key: "" if value == "True" else value for key, value in arguments.items() if value != "False"},
        framework="Ray" if name.endswith("engine_kwargs") else "vLLM",
        unreadable=fault,
    )


def _in_pod(pod: Mapping[str, Any], name: str) -> Iterator[EngineSetup]:
    grace = pod.get("terminationGracePeriodSeconds")
    for container in pod["containers"]:
        if not isinstance(container, Mapping):
            continue
        variables = _variables(container.get("env"))
        words = [str(word) for key in ("command", "args") for word in _list(container.get(key))]
        words = [_expanded(word, variables) for word in words]
        if not _is_command(" ".join(words)):
            continue
        settings = PodSettings(
            _pre_stop(container),
            float(grace) if isinstance(grace, int | float) else DEFAULT_GRACE_S,
            "host" if pod.get("hostNetwork") else name,
        )
        place = f"{name}, container {container.get('name', '')}"
        script = next((word for word in words if "\n" in word or " --" in word), None)
        if script is None:
            yield _of_words(words, place, variables, settings)
            continue
        for setup in _in_script(script, place, variables):
            yield replace(setup, pod=settings)


def _expanded(word: str, variables: Mapping[str, str]) -> str:
    """The word with each $(NAME) as Kubernetes replaces it."""
    return re.sub(r"\$\((\w+)\)", lambda found: variables.get(found[1], found[0]), word)


def _variables(entries: Any) -> dict[str, str]:
    """A container's environment; what comes from elsewhere, as status.podIP, has a value that is known later."""
    found: dict[str, str] = {}
    for entry in _list(entries):
        if isinstance(entry, Mapping) and "name" in entry:
            found[str(entry["name"])] = str(entry["value"]) if "value" in entry else f"$({entry['name']})"
    return found


def _pre_stop(container: Mapping[str, Any]) -> str | None:
    hook = _mapping(_mapping(container.get("lifecycle")).get("preStop"))
    if "exec" in hook:
        return " ".join(str(word) for word in _list(_mapping(hook["exec"]).get("command")))
    if "httpGet" in hook:
        return f"GET {_mapping(hook['httpGet']).get('path', '/')}"
    return f"sleep {_mapping(hook['sleep']).get('seconds', 0)}" if "sleep" in hook else None


def _mapping(value: Any) -> Mapping[str, Any]:
    """The value, if it is a mapping: what somebody has written by mistake is taken for nothing."""
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
