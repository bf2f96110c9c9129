"""What the proxy saw of a call, as the event that is counted. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from tokentide_common.events import MAX_COUNT, UsageEvent
from tokentide_common.identity import call_id_for, derived_call_id, scope_of
from tokentide_common.key_directory import KeyRecord
from tokentide_proxy.attribution import RequestFacts
from tokentide_proxy.exchange import Attribution, Observed, Outcome, Upstream

_WORD: Final = re.compile(r"[A-Za-z0-9._:/@+ -]{1,256}")
_MAX_WEB_SEARCHES: Final = 2**20
_COUNTS: Final = (
    *("input_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_5m_tokens"),
    *("cache_write_1h_tokens", "output_tokens", "reasoning_tokens", "web_search_requests"),
)


def usage_event(
    *,
    key: KeyRecord,
    upstream: Upstream,
    attribution: Attribution,
    facts: RequestFacts,
    request_id: str,
    observed: Observed,
    outcome: Outcome,
    own_id: str,
) -> UsageEvent:
    """Return the event of an exchange with a provider.

    `request_id` is the provider's own, from its header; `own_id` names the exchange where the provider gave
    no id at all, as when it was never reached. What a finished answer says is final; a call that broke off
    says `aborted`, and its tokens are a lower bound, which any other source's may exceed.
    """
    session_id = attribution.session_id or facts.session_id
    response_id = _word(observed.response_id)
    call_id = call_id_for(
        request_id=request_id if upstream.dialect == "anthropic" else "",
        message_id=response_id if upstream.dialect == "anthropic" else "",
        response_id=response_id if upstream.dialect != "anthropic" else "",
        session_id=scope_of(response_id, session_id, key.key_id),
        provider=upstream.provider,
    )
    started = datetime.fromtimestamp(outcome.started_at, UTC)
    event = UsageEvent(
        call_id=call_id or derived_call_id("proxy", key.key_id, own_id),
        source="proxy",
        occurred_at=started,
        observed_at=started,
        message_id=response_id,
        request_id=request_id,
        client=attribution.client,
        session_id=session_id,
        provider=upstream.provider,
        model=_word(observed.model) or _word(facts.model),
        status=outcome.status,
        http_status=outcome.http_status,
        error_type=_word(observed.error_type) or outcome.error_type,
        duration_ms=outcome.duration_ms,
        ttft_ms=outcome.ttft_ms,
    )
    _attribute(event, key, attribution, facts)
    _fill_in(event, observed)
    return event


def _attribute(event: UsageEvent, key: KeyRecord, attribution: Attribution, facts: RequestFacts) -> None:
    """Say whom it is for: the request's own word first, but never for the organisation."""
    event.org_id = key.org_id
    event.key_id = key.key_id
    event.machine_id = key.machine_id
    event.user_id = attribution.user_id or key.user_id
    event.user_email = attribution.user_email or key.user_email
    event.account_id = attribution.account_id or facts.account_id
    event.device_id = attribution.device_id or facts.device_id
    event.project = attribution.project or key.project
    event.team = attribution.team or key.team
    event.department = attribution.department or key.department
    event.agent = attribution.agent
    event.tags = attribution.tags


def _fill_in(event: UsageEvent, observed: Observed) -> None:
    """Say what the answer said, within the bounds of an event."""
    event.stop_reason = _word(observed.stop_reason)
    event.service_tier = _word(observed.service_tier)
    event.speed = _word(observed.speed)
    event.inference_geo = _word(observed.inference_geo)
    counts = [getattr(observed, name) for name in _COUNTS]
    if min(counts) < 0 or max(counts) > MAX_COUNT:
        counts = [min(max(count, 0), MAX_COUNT) for count in counts]
    for name, count in zip(_COUNTS, counts, strict=True):
        if count:
            setattr(event, name, count)
    event.reasoning_tokens = min(event.reasoning_tokens, event.output_tokens)
    event.web_search_requests = min(event.web_search_requests, _MAX_WEB_SEARCHES)


def _word(text: str) -> str:
    """Return an id or a closed word; anything that does not look like one could be content."""
    return text if text and _WORD.fullmatch(text) else ""
