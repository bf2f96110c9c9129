"""What real clients sent decodes to the same flat records whichever encoding it is in."""

import json
from collections import Counter

import pytest

from infra.otlp_bodies import DATA_DIR, DECODE, Capture, captures, in_both_encodings
from tokentide_ingest.otlp.kept import KEPT

CAPTURES = captures()


@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_a_captured_request_says_the_same_in_json_and_in_protobuf(capture: Capture) -> None:
    as_json, as_protobuf = in_both_encodings(capture)
    decode = DECODE[capture.signal]
    # Compared as text too, where 1 is not 1.0 and not True.
    assert repr(decode(as_json, "json", KEPT)) == repr(decode(as_protobuf, "protobuf", KEPT))


@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_nothing_that_a_real_client_sends_is_refused(capture: Capture) -> None:
    decoded = DECODE[capture.signal](capture.body, capture.encoding, KEPT)
    assert (decoded.rejected, decoded.reasons) == (0, [])


def test_every_finished_claude_code_call_is_among_the_records_once() -> None:
    for run in sorted(path for path in (DATA_DIR / "claude-code").iterdir() if path.is_dir()):
        requests = json.loads((run / "manifest.json").read_text())["upstream_requests"]
        finished = sum(request["status"] == 200 and request["completed"] for request in requests)
        told = sum(
            record.name == "api_request"
            for capture in CAPTURES
            if capture.run == run.name and capture.signal == "logs"
            for record in DECODE["logs"](capture.body, capture.encoding, KEPT).items
        )
        # A stream that was cut has an event too, and a count of its own in the log.
        assert told - finished in (0, 1), run.name
        assert told == finished or run.name == "16-cut-stream-retry"


def test_codex_events_have_the_name_of_the_event_and_the_time_of_its_observation() -> None:
    records = [
        record
        for capture in CAPTURES
        if capture.client == "codex" and capture.signal == "logs"
        for record in DECODE["logs"](capture.body, capture.encoding, KEPT).items
    ]
    assert Counter(r.name for r in records)["codex.sse_event"] > 0
    assert all(record.time_ns > 1_795_000_000 * 10**9 for record in records)


def test_of_a_trace_only_the_spans_about_a_model_are_left() -> None:
    spans = {
        capture.client: [s.name for s in DECODE["traces"](capture.body, capture.encoding, KEPT).items]
        for capture in CAPTURES
        if capture.signal == "traces"
    }
    assert spans["codex"] == ["handle_responses"]
    assert Counter(spans["claude-code"])["claude_code.llm_request"] == 2


def test_points_have_the_temporality_that_the_client_was_asked_for() -> None:
    found = {
        (capture.run, point.temporality)
        for capture in CAPTURES
        if capture.client == "claude-code" and capture.signal == "metrics"
        for point in DECODE["metrics"](capture.body, capture.encoding, KEPT).items
    }
    cumulative = {run for run, temporality in found if temporality == "cumulative"}
    assert cumulative == {"11-cumulative-temporality"}
    assert ("11-cumulative-temporality", "delta") not in found


def test_nothing_is_built_of_an_attribute_that_is_not_named() -> None:
    content = {"prompt", "prompt_text", "user_prompt", "response", "tool_input", "tool_parameters"}
    content |= {"full_command", "arguments", "output", "request_text", "response_text", "function_args"}
    seen = {
        key
        for capture in CAPTURES
        for item in DECODE[capture.signal](capture.body, capture.encoding, KEPT).items
        for key in (*item.attributes, *item.resource)
    }
    assert seen <= KEPT
    assert not seen & content
