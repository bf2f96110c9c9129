"""What an answer says of the call."""

from __future__ import annotations


class Observed:
    """Numbers, ids and closed words, never content.

    Tokens are disjoint buckets as in `UsageEvent`. A reader fills in what it has seen so far at any moment.
    """

    model: str = ""
    response_id: str = ""
    """The provider's id of the message or response: `msg_…`, `resp_…`, `chatcmpl-…`, Gemini's responseId."""
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    web_search_requests: int = 0
    stop_reason: str = ""
    service_tier: str = ""
    speed: str = ""
    inference_geo: str = ""
    error_type: str = ""
    pending: bool = False
    """The provider works on it yet, in the background: what is asked for later tells the usage."""
    has_usage: bool = False
    """The answer has told any usage at all."""
    finished: bool = False
    """The answer's own end was seen (`message_stop`, `[DONE]`, `response.completed`, the end of JSON)."""
