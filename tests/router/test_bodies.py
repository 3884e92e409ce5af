"""Bodies: untouched but for what has to change, and refused cleanly where no engine could read them."""

import json
from typing import Any

import pytest

from kvlease.router.bodies import LONG_BYTES, MOST_FIELDS, Api, BadBody, decode_fields, for_release, read_body

BYTES = (
    b'{"model":"m", "prompt":"caf\\u00e9 \\ud83d\\ude00","max_tokens":5, "a_new_field" : {"x": [1.0, 1e400, '
    b'123456789012345678901234567890]}, "temperature":0.10}'
)


def sent(body: bytes) -> dict[str, Any]:
    return dict(json.loads(body))


def test_a_decode_engine_gets_the_clients_own_bytes() -> None:
    body = read_body(Api.COMPLETIONS, BYTES).for_decode(None, keep_lease=False)
    for part in (b'"caf\\u00e9 \\ud83d\\ude00"', b"[1.0, 1e400, 123456789012345678901234567890]", b"0.10"):
        assert part in body
    assert list(sent(body)) == list(sent(BYTES))


def test_a_decode_engine_gets_the_offer_and_keeps_the_lease_of_what_it_refuses() -> None:
    params = {"do_remote_prefill": True, "remote_block_ids": [[1]], "kv_lease": {"token": "0f"}}
    body = read_body(Api.COMPLETIONS, BYTES)
    assert sent(body.for_decode(params, keep_lease=True))["kv_transfer_params"] == {
        **params,
        "kv_lease_on_reject": "return",
    }
    assert sent(body.for_decode(params, keep_lease=False))["kv_transfer_params"] == params
    assert sent(for_release(params))["kv_transfer_params"] == params


@pytest.mark.parametrize(
    ("api", "limits"),
    [
        (Api.COMPLETIONS, {"max_tokens": 1}),
        (Api.CHAT, {"max_tokens": 1, "max_completion_tokens": 1}),
        (Api.RESPONSES, {"max_output_tokens": 1}),
    ],
)
def test_a_prefill_engine_computes_the_prompt_and_no_more(api: Api, limits: dict[str, int]) -> None:
    kept = {"model": "lora", "cache_salt": "s", "priority": 3, "tools": [{"type": "function"}], "user": "u"}
    dropped = {
        **{"stream_options": {"include_usage": True}, "min_tokens": 4, "n": 3, "logprobs": 2, "top_logprobs": 2},
        **{"logprob_token_ids": [1], "echo": True, "stop": ["x"], "stop_token_ids": [7], "return_token_ids": True},
    }
    prompt = {Api.COMPLETIONS: "prompt", Api.CHAT: "messages", Api.RESPONSES: "input"}[api]
    body = kept | dropped | dict.fromkeys(limits, 99) | {prompt: "what", "stream": True}
    got = sent(read_body(api, json.dumps(body).encode()).for_prefill())
    assert {name: got[name] for name in (*kept, prompt)} == kept | {prompt: "what"}
    assert not dropped.keys() & got.keys()
    assert {name: got[name] for name in limits} == limits
    assert (got["stream"], got["ignore_eos"]) == (False, True)
    assert got["kv_transfer_params"]["do_remote_decode"] is True


@pytest.mark.parametrize(
    "field",
    [
        b'"kv_transfer_params":{"do_remote_prefill":true}',
        b'"kv_tr\\u0061nsfer_params":{"do_remote_prefill":true}',
        b'"kv_transfer_params":1,"kv_transfer_params":{"x":1}',
        b'"vllm_xargs":{"kv_transfer_params":"x","other":1}',
    ],
)
def test_what_clients_must_not_write_is_taken_out(field: bytes) -> None:
    body = read_body(Api.COMPLETIONS, b'{"model":"m",' + field + b',"prompt":"p"}')
    assert b"do_remote_prefill" not in body.for_decode(None, keep_lease=False)
    assert "kv_transfer_params" not in json.dumps(sent(body.for_decode(None, keep_lease=False)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[1]",
        b"null",
        b"{",
        b'{"a":1} {"b":2}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":tru}',
        b"\xff\xfe{}",
        b'{"\xff":1}',
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"stream":"perhaps"}',
        b'{"stream":{}}',
        b'{"vllm_xargs":[1]}',
        b'{"prompt":["a",',
    ],
)
def test_bodies_that_no_engine_could_answer(body: bytes) -> None:
    with pytest.raises(BadBody) as said:
        read_body(Api.COMPLETIONS, body)
    assert len(str(said.value)) < 200


@pytest.mark.parametrize(("said", "stream"), [("true", True), ("1", True), ('"true"', True), ("null", False)])
def test_a_stream_is_asked_for_as_vllm_takes_it(said: str, stream: bool) -> None:
    assert read_body(Api.COMPLETIONS, b'{"stream":%s}' % said.encode()).stream is stream


@pytest.mark.parametrize(
    ("api", "fields", "whole"),
    [
        (Api.COMPLETIONS, {"prompt": "p"}, False),
        (Api.COMPLETIONS, {"prompt": [1, 2, 3]}, False),
        (Api.COMPLETIONS, {"prompt": ["one"]}, False),
        (Api.COMPLETIONS, {"prompt": [[1, 2]]}, False),
        (Api.COMPLETIONS, {"prompt": ["one", "two"]}, True),
        (Api.COMPLETIONS, {"prompt": [[1], [2]]}, True),
        (Api.COMPLETIONS, {"prompt": "p", "echo": True}, False),
        (Api.COMPLETIONS, {"prompt": "p", "echo": True, "logprobs": 0}, True),
        (Api.COMPLETIONS, {"prompt": "p", "echo": True, "max_tokens": 0}, True),
        (Api.COMPLETIONS, {"prompt": "p", "prompt_logprobs": 0}, True),
        (Api.COMPLETIONS, {"prompt": "p", "prompt_logprobs": None}, False),
        (Api.CHAT, {"messages": [], "use_beam_search": True}, True),
        (Api.CHAT, {"messages": [], "truncate_prompt_tokens": -1}, True),
        (Api.CHAT, {"messages": [], "truncate_prompt_tokens": 5}, False),
        (Api.CHAT, {"messages": [], "truncate_prompt_tokens": "-1"}, True),
        (Api.CHAT, {"messages": [], "truncate_prompt_tokens": " -1"}, True),
        (Api.COMPLETIONS, {"prompt": "p", "prompt_embeds": "e"}, True),
        (Api.COMPLETIONS, {"prompt": "", "prompt_embeds": "e"}, True),
        (Api.COMPLETIONS, {"prompt": None, "prompt_embeds": ["e"]}, False),
        (Api.RESPONSES, {"input": "p", "tools": [{"type": "function", "name": "n" * 1_000_000}]}, True),
        (Api.RESPONSES, {"input": "p", "truncation": "disabled"}, False),
        (Api.RESPONSES, {"input": "p", "truncation": "auto"}, True),
        (Api.RESPONSES, {"input": "p", "previous_response_id": "r"}, True),
        (Api.RESPONSES, {"input": "p", "background": True}, True),
        (Api.RESPONSES, {"input": "p", "tools": [{"type": "function"}, {"type": "custom"}]}, False),
        (Api.RESPONSES, {"input": "p", "tools": [{"type": "mcp"}]}, True),
    ],
)
def test_which_requests_go_whole_to_a_decode_engine(api: Api, fields: dict[str, Any], whole: bool) -> None:
    assert read_body(api, json.dumps(fields).encode()).whole is whole


@pytest.mark.parametrize(
    ("prompt", "whole"),
    [
        (b"[%s1,2]", False),
        (b"[%s-1]", False),
        (b"[%s]", False),
        (b'[%s"a"%s]', False),
        (b"[%s[1,2]%s]", False),
        (b'[%s"a","b"]', True),
        (b"[%s[1],[2]]", True),
    ],
)
def test_no_spaces_hide_that_prompts_are_several(prompt: bytes, whole: bool) -> None:
    body = b'{"prompt":' + prompt.replace(b"%s", b" \t\r\n" * 40) + b"}"
    assert read_body(Api.COMPLETIONS, body).whole is whole


def test_a_long_body_is_read_as_a_short_one_is() -> None:
    body = b'{"stream":true,"kv\\u005ftransfer_params":1,"n":2,"n":1,"prompt":"%s"}' % (b"x" * LONG_BYTES)
    read = read_body(Api.COMPLETIONS, body)
    assert list(read.fields) == ["stream", "n", "prompt"]
    assert not read.several
    with pytest.raises(BadBody, match="not UTF-8"):
        decode_fields(body.replace(b'"n"', b'"\xff"'))


def test_a_body_with_thousands_of_fields_is_refused_early() -> None:
    body = b"{" + b",".join(b'"%d":1' % number for number in range(MOST_FIELDS)) + b',"prompt":"p"'
    assert len(decode_fields(body.replace(b'"0":1,', b"") + b"}" + b" " * LONG_BYTES)) == MOST_FIELDS
    with pytest.raises(BadBody, match="more than 1,000 fields"):
        # It is not read to its end, which is missing.
        decode_fields(body + b',"q":1' + b" " * LONG_BYTES)


@pytest.mark.parametrize("name", ["stream", "vllm_xargs"])
def test_a_field_that_is_looked_into_has_a_bound(name: str) -> None:
    with pytest.raises(BadBody, match="more than 1,000,000 bytes") as caught:
        read_body(Api.COMPLETIONS, b'{"%s":{"a":"%s"}}' % (name.encode(), b"x" * 1_000_000))
    assert caught.value.param == name


def test_a_long_prompt_has_a_short_key() -> None:
    bodies = [read_body(Api.COMPLETIONS, json.dumps({"prompt": "x" * 100_000 + end}).encode()) for end in "ab"]
    assert bodies[0].affinity_key() == bodies[1].affinity_key()
    assert len(bodies[0].affinity_key()) < 20_000
    other = read_body(Api.COMPLETIONS, json.dumps({"prompt": "x" * 100_000, "cache_salt": "s"}).encode())
    assert other.affinity_key() != bodies[0].affinity_key()
