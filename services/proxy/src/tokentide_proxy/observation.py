"""What the proxy saw of a call, as the event that is counted. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from tokentide_common.events import MAX_COUNT, MAX_SEARCHES, UsageEvent
from tokentide_common.identity import call_id_for, derived_call_id, fitting, scope_of
from tokentide_proxy.exchange import RequestFacts, Upstream
from tokentide_proxy.observed import Observed
from tokentide_proxy.outcome import Outcome
from tokentide_proxy.usage.answer import model, name, word
from tokentide_proxy.whom import Whom

_GEMINI: Final = "google"


def usage_event(
    *,
    whom: Whom,
    upstream: Upstream,
    facts: RequestFacts,
    request_id: str,
    observed: Observed,
    outcome: Outcome,
    own_id: Callable[[], str],
) -> UsageEvent:
    """Return the event of an exchange with a provider.

    `own_id` names the exchange where the provider gave no id at all, as when it was never reached. What a
    finished answer says is final; the tokens of an aborted call are a lower bound.
    """
    response_id, session_id = name(observed.response_id), whom.session_id or facts.session_id
    scope = scope_of(response_id, session_id, whom.key_id)
    inputs, reads, writes, writes_5m, writes_1h, output, reasoning, searches = _counts(observed)
    # All at once: to set them one after the other takes three times as long.
    return UsageEvent(
        call_id=_call_id(upstream, request_id, response_id, scope)
        or derived_call_id("proxy", whom.key_id, own_id()),
        source="proxy",
        occurred_at=(started := datetime.fromtimestamp(outcome.started_at, UTC)),
        observed_at=started,
        message_id=response_id,
        request_id=request_id,
        client=whom.client,
        org_id=whom.org_id,
        user_id=whom.user_id,
        user_email=whom.user_email,
        account_id=whom.account_id or facts.account_id,
        device_id=whom.device_id or facts.device_id,
        machine_id=whom.machine_id,
        key_id=whom.key_id,
        session_id=session_id,
        project=whom.project,
        team=whom.team,
        department=whom.department,
        agent=whom.agent,
        tags=whom.tags,
        provider=upstream.provider,
        model=model(observed.model, facts.model),
        status=outcome.status,
        http_status=outcome.http_status,
        error_type=word(observed.error_type) or outcome.error_type,
        stop_reason=word(observed.stop_reason),
        service_tier=word(observed.service_tier),
        speed=word(observed.speed),
        inference_geo=word(observed.inference_geo),
        duration_ms=outcome.duration_ms,
        ttft_ms=outcome.ttft_ms,
        retry_attempt=whom.retry_attempt,
        input_tokens=inputs,
        cache_read_tokens=reads,
        cache_write_tokens=writes,
        cache_write_5m_tokens=writes_5m,
        cache_write_1h_tokens=writes_1h,
        output_tokens=output,
        reasoning_tokens=min(reasoning, output),
        web_search_requests=min(searches, MAX_SEARCHES),
    )


def _call_id(upstream: Upstream, request_id: str, response_id: str, scope: str) -> str:
    anthropic = upstream.dialect == "anthropic"
    call_id = call_id_for(
        request_id=request_id if anthropic else "",
        message_id=response_id if anthropic else "",
        response_id="" if anthropic else response_id,
        session_id=scope,
        # The dialect, not the upstream's name: Gemini's ids are known by themselves behind any gateway.
        provider=_GEMINI if upstream.dialect == "gemini" else upstream.provider,
    )
    return fitting(call_id, anthropic=anthropic)


def _counts(observed: Observed) -> tuple[int, ...]:
    """Return the tokens and searches of an answer, within the bounds of an event."""
    counts = (
        observed.input_tokens,
        observed.cache_read_tokens,
        observed.cache_write_tokens,
        observed.cache_write_5m_tokens,
        observed.cache_write_1h_tokens,
        observed.output_tokens,
        observed.reasoning_tokens,
        observed.web_search_requests,
    )
    for count in counts:  # compiled, this takes a tenth of `min` and `max`
        if count < 0 or count > MAX_COUNT:
            return tuple([min(max(count, 0), MAX_COUNT) for count in counts])
    return counts
