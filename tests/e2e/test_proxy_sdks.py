"""Programs with the providers' own SDKs notice nothing of the proxy, and every token of theirs is counted."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from infra.embedded import COMMAND, Caller, Embedded, Keys, environment
from infra.fake_answers import Answer
from infra.fake_provider import FakeProvider
from infra.sdk_programs import (
    PROGRAMS,
    Target,
    anthropic_client,
    async_anthropic_client,
    async_openai_client,
    chat,
    content,
    gemini_client,
    message,
    openai_client,
)
from infra.waiting import until

PROVIDERS_KEY = "sk-CANARY-of-the-provider"
PREFIXES = {"anthropic": "", "openai": "/openai", "gemini": "/gemini"}
DIRECT_PREFIXES = {"anthropic": "", "openai": "/v1", "gemini": ""}


def listed(caller: Caller) -> dict[str, dict[str, Any]]:
    """Every call of the organisation, by the provider's id of the answer."""
    answer = caller.ask("calls", **{"from": "2026-01-01", "to": "2030-01-01"}, limit=500)
    calls = {call["message_id"] or call["call_id"]: call for call in answer["items"]}
    assert len(calls) == len(answer["items"]), "a call is listed twice"
    return calls


def through(system: Embedded, sdk: str, keys: Keys, **headers: str) -> Target:
    """The proxy, with the program's own provider key and the organisation's key beside it."""
    named = {"x-tokentide-key": keys.proxy_key, **headers}
    return Target(system.ready["proxy"] + PREFIXES[sdk], PROVIDERS_KEY, named)


def directly(provider: FakeProvider, sdk: str) -> Target:
    return Target(provider.url + DIRECT_PREFIXES[sdk], PROVIDERS_KEY)


def assert_counted(call: dict[str, Any], answer: Answer) -> None:
    assert call["model"] == answer.model
    assert {name: call[name] for name in answer.buckets} == answer.buckets
    assert (call["status"], call["http_status"], call["sources"]) == ("ok", 200, ["proxy"])
    assert call["duration_ms"] >= call["ttft_ms"]


def ask_anthropic(to: Target, text: str) -> str:
    with anthropic_client(to) as client:
        return client.messages.create(**message(text)).id


def ask_openai(to: Target, text: str) -> str:
    with openai_client(to) as client:
        return client.chat.completions.create(**chat(text)).id


def ask_gemini(to: Target, text: str) -> str:
    with gemini_client(to) as client:
        return client.models.generate_content(**content(text)).response_id or ""


ASKED = {"anthropic": ask_anthropic, "openai": ask_openai, "gemini": ask_gemini}


def errors_of_sdks(name: str) -> tuple[type[Exception], ...]:
    """What each SDK raises for a refusal that Anthropic's and OpenAI's have a name for."""
    import anthropic
    import openai
    from google.genai import errors

    return (getattr(anthropic, name), getattr(openai, name), errors.ClientError)


# Google's SDK does what aiohttp discourages.
@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_program_gets_the_same_and_each_of_its_calls_is_counted_exactly(
    program: str, system: Embedded, provider: FakeProvider, keys: Keys
) -> None:
    sdk = program.partition("-")[0]
    with FakeProvider() as bare:
        expected = await PROGRAMS[program](directly(bare, sdk))
    before = len(provider.account), len(provider.asked)
    assert await PROGRAMS[program](through(system, sdk, keys)) == expected
    account = {answer.message_id: answer for answer in provider.account[before[0] :]}
    assert account.keys() == {answer.message_id for answer in bare.account}
    caller = system.caller(keys)
    calls = await until(lambda: len(found := listed(caller)) == len(account) and found)
    for message_id, answer in account.items():
        assert_counted(calls[message_id], answer)
    assert {call["user_id"] for call in calls.values()} == {"dev"}
    for asked in provider.asked[before[1] :]:
        assert "tt_p_" not in str(asked), "our key is for us"


def test_an_error_is_the_same_error_and_a_call_without_tokens(
    system: Embedded, provider: FakeProvider, keys: Keys
) -> None:
    for (sdk, ask), kind in zip(ASKED.items(), errors_of_sdks("BadRequestError"), strict=True):
        with pytest.raises(kind) as told:
            ask(through(system, sdk, keys), "[[bad]]")
        with pytest.raises(kind) as bare:
            ask(directly(provider, sdk), "[[bad]]")
        assert str(told.value) == str(bare.value)
        assert "CANARY-of-the-error" in str(told.value)


async def test_a_refused_attempt_and_its_repetition_are_two_calls_of_which_one_has_tokens(
    system: Embedded, provider: FakeProvider, keys: Keys
) -> None:
    async with async_anthropic_client(through(system, "anthropic", keys)) as client:
        answer = await client.messages.create(**message("[[overloaded]]"))
    caller = system.caller(keys)
    calls = await until(lambda: len(found := listed(caller)) == 2 and found)
    assert_counted(calls.pop(answer.id), provider.account[-1])
    (refused,) = calls.values()
    assert (refused["status"], refused["http_status"]) == ("error", 529)
    assert (refused["input_tokens"], refused["output_tokens"]) == (0, 0)


async def test_a_program_that_leaves_ends_the_call_upstream_and_is_counted_with_what_is_known(
    system: Embedded, provider: FakeProvider, keys: Keys
) -> None:
    async def anthropic_leaves() -> str:
        async with async_anthropic_client(through(system, "anthropic", keys)) as client:
            stream = await client.messages.create(**message("[[endless]]"), stream=True)
            started: Any = await anext(aiter(stream))
            await stream.close()
        return started.message.id

    async def openai_is_cancelled() -> str:
        seen: list[str] = []
        first = asyncio.Event()

        async def read() -> None:
            async with async_openai_client(through(system, "openai", keys)) as client:
                async for chunk in await client.chat.completions.create(**chat("[[endless]]"), stream=True):
                    seen.append(chunk.id)
                    first.set()

        reading = asyncio.create_task(read())
        await first.wait()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        return seen[0]

    def gemini_closes() -> str:
        with gemini_client(through(system, "gemini", keys)) as client:
            stream = client.models.generate_content_stream(**content("[[endless]]"))
            seen = next(stream).response_id
            stream.close()
        return seen

    caller = system.caller(keys)
    for leave in (anthropic_leaves, openai_is_cancelled, lambda: asyncio.to_thread(gemini_closes)):
        provider.left.clear()
        name = await leave()
        assert await asyncio.to_thread(provider.left.wait, 10), "the provider is told, too"
        call = await until(lambda name=name: listed(caller).get(name))
        assert (call["status"], call["error_type"]) == ("aborted", "client_left")
    begun = next(call for call in listed(caller).values() if call["provider"] == "anthropic")
    assert begun["input_tokens"] > 0, "told at the start"


async def test_a_call_is_for_whom_its_headers_name(
    system: Embedded, provider: FakeProvider, keys: Keys
) -> None:
    named = {
        "x-tokentide-user": "Ada@Example.com",
        "x-tokentide-project": "engine",
        "x-cua-department": "research",
        "x-tokentide-team": "mill",
        "x-tokentide-session": "s-1",
        "x-tokentide-tags": "purpose=trial",
    }
    to = through(system, "openai", keys, **named)
    async with async_openai_client(to) as client:
        answer = await client.chat.completions.create(**chat("for whom"))
    caller = system.caller(keys)
    call = await until(lambda: listed(caller).get(answer.id))
    assert (call["user_email"], call["project"], call["team"]) == ("ada@example.com", "engine", "mill")
    assert (call["department"], call["session_id"]) == ("research", "s-1")
    assert call["tags"] == {"purpose": "trial"}
    sent = provider.asked[-1].headers
    assert [name for name in sent if name.startswith(("x-tokentide", "x-cua"))] == []


def provider_key(system: Embedded, *arguments: str, said: str = "") -> None:
    subprocess.run(
        [COMMAND, "provider-key", *arguments, "--data-dir", str(system.data_dir)],
        env=environment(system.data_dir.parent / "home"),
        input=said,
        text=True,
        timeout=60,
        check=True,
    )


async def test_a_key_of_ours_in_place_of_the_providers_is_replaced_by_the_one_that_is_kept(
    system: Embedded, provider: FakeProvider
) -> None:
    ours = system.credentials["proxy_key"]
    carried = {
        "anthropic": ("x-api-key", PROVIDERS_KEY),
        "openai": ("authorization", f"Bearer {PROVIDERS_KEY}"),
        "gemini": ("x-goog-api-key", PROVIDERS_KEY),
    }
    for sdk, ask in ASKED.items():
        to = Target(system.ready["proxy"] + PREFIXES[sdk], ours)
        with pytest.raises(errors_of_sdks("AuthenticationError"), match=f"no key for {sdk} is kept"):
            ask(to, "managed")
        provider_key(system, "set", sdk, said=f"{PROVIDERS_KEY}\n")
        await until(partial(asyncio.to_thread, answered, ask, to), what="the kept key works")
        sent = provider.asked[-1].headers
        name, value = carried[sdk]
        assert sent[name] == value
        assert ours not in str(sent)
    provider_key(system, "remove", "openai")
    to = Target(system.ready["proxy"] + PREFIXES["openai"], ours)
    await until(lambda: asyncio.to_thread(lambda: not answered(ask_openai, to)), what="it is forgotten")


def answered(ask: Callable[[Target, str], str], to: Target) -> bool:
    try:
        ask(to, "managed")
    except errors_of_sdks("AuthenticationError"):
        return False
    return True


async def test_without_any_key_of_ours_a_program_of_this_machine_is_its_user(
    system: Embedded, provider: FakeProvider
) -> None:
    own = Target(system.ready["proxy"], "sk-ant-CANARY-of-the-user")
    async with async_anthropic_client(own) as client:
        answer = await client.messages.create(**message("local"))
    assert provider.asked[-1].headers["authorization"] == "Bearer sk-ant-CANARY-of-the-user"
    caller = system.caller()
    assert_counted(await until(lambda: listed(caller).get(answer.id)), provider.account[-1])
    async with async_anthropic_client(own._replace(headers={"x-tokentide-key": "tt_p_wrong"})) as client:
        with pytest.raises(errors_of_sdks("AuthenticationError")[0]):
            await client.messages.create(**message("wrong"))


def test_the_environment_alone_points_a_program_at_the_proxy(
    system: Embedded, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    import anthropic
    import openai
    from google import genai

    proxy = system.ready["proxy"]
    addresses = {
        "ANTHROPIC_BASE_URL": proxy,
        "OPENAI_BASE_URL": f"{proxy}/openai/v1",
        "GOOGLE_GEMINI_BASE_URL": f"{proxy}/gemini",
    }
    for name, address in addresses.items():
        monkeypatch.setenv(name, address)
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, "sk-CANARY-of-the-user")
    before = len(provider.account)
    with anthropic.Anthropic() as first, openai.OpenAI() as second, genai.Client() as third:
        said = first.messages.create(**message("environment")).id
        told = second.chat.completions.create(**chat("environment")).id
        shown = third.models.generate_content(**content("environment")).response_id
    assert [answer.message_id for answer in provider.account[before:]] == [said, told, shown]
