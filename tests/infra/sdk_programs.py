"""Programs written with the providers' own SDKs: what each gets, in a form that can be compared.

A program is run against an address with a provider's key and headers, and returns everything that it was
given: whole answers, streamed ones, a call of a tool and what follows, and whatever else its API has.
The SDKs take seconds to load: only who runs a program loads them, not everybody who collects tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    import anthropic
    import openai
    from google import genai

MODEL: Final = {"anthropic": "claude-sonnet-5-5", "openai": "gpt-5", "gemini": "gemini-2.5-flash"}
SCHEMA: Final = {"type": "object", "properties": {"command": {"type": "string"}}}
TOOL: Final = {"name": "Bash", "description": "Run it", "input_schema": SCHEMA}
FUNCTION: Final = {"name": "Bash", "description": "Run it", "parameters": SCHEMA}


class Target(NamedTuple):
    """Where a program calls, and with what."""

    base: str
    """Without what the SDK adds."""
    key: str
    headers: dict[str, str] | None = None


Program = Callable[[Target], Awaitable[list[Any]]]


def anthropic_client(to: Target) -> anthropic.Anthropic:
    import anthropic

    return anthropic.Anthropic(base_url=to.base, api_key=to.key, default_headers=to.headers)


def async_anthropic_client(to: Target) -> anthropic.AsyncAnthropic:
    import anthropic

    return anthropic.AsyncAnthropic(base_url=to.base, api_key=to.key, default_headers=to.headers)


def openai_client(to: Target) -> openai.OpenAI:
    import openai

    return openai.OpenAI(base_url=to.base, api_key=to.key, default_headers=to.headers)


def async_openai_client(to: Target) -> openai.AsyncOpenAI:
    import openai

    return openai.AsyncOpenAI(base_url=to.base, api_key=to.key, default_headers=to.headers)


def gemini_client(to: Target) -> genai.Client:
    from google import genai

    options = genai.types.HttpOptions(base_url=to.base, headers=to.headers)
    return genai.Client(api_key=to.key, http_options=options)


def message(text: str, **other: Any) -> dict[str, Any]:
    """Return what to ask Anthropic."""
    asked = [{"role": "user", "content": f"CANARY-of-the-prompt {text}"}]
    return {"model": MODEL["anthropic"], "max_tokens": 99, "messages": asked, **other}


def chat(text: str, **other: Any) -> dict[str, Any]:
    """Return what to ask OpenAI."""
    asked = [{"role": "user", "content": f"CANARY-of-the-prompt {text}"}]
    return {"model": MODEL["openai"], "messages": asked, **other}


def content(text: str, **other: Any) -> dict[str, Any]:
    """Return what to ask Gemini."""
    return {"model": MODEL["gemini"], "contents": f"CANARY-of-the-prompt {text}", **other}


def _result_of(answer: Any, result: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"role": "assistant", "content": answer.model_dump()["content"]},
        {"role": "user", "content": [{"type": "tool_result", **result}]},
    ]


def _anthropic(to: Target) -> list[Any]:
    with anthropic_client(to) as client:
        whole = client.messages.create(**message("whole"))
        with client.messages.stream(**message("streamed")) as stream:
            events = [event.model_dump() for event in stream]
            streamed = stream.get_final_message()
        raw = [event.model_dump() for event in client.messages.create(**message("raw"), stream=True)]
        asked = message("[[call Bash]]", tools=[TOOL])
        called = client.messages.create(**asked)
        told = _result_of(called, {"tool_use_id": called.content[0].id, "content": "done"})
        followed = client.messages.create(**asked | {"messages": asked["messages"] + told})
        counted = client.messages.count_tokens(model=MODEL["anthropic"], messages=asked["messages"])
        models = list(client.models.list())
    answers = (whole, streamed, called, followed)
    ids = [answer._request_id for answer in (whole, called, followed)]
    return [*(one.model_dump() for one in (*answers, counted, *models)), events, raw, ids]


async def _anthropic_async(to: Target) -> list[Any]:
    async with async_anthropic_client(to) as client:
        questions = (message(f"async {number}") for number in range(4))
        wholes = await asyncio.gather(*(client.messages.create(**asked) for asked in questions))
        async with client.messages.stream(**message("async streamed", tools=[TOOL])) as stream:
            events = [event.model_dump() async for event in stream]
        raw = await client.messages.create(**message("async raw"), stream=True)
        pieces = [event.model_dump() async for event in raw]
    return [*(whole.model_dump() for whole in wholes), events, pieces]


def _openai(to: Target) -> list[Any]:
    tools: Any = [{"type": "function", "function": FUNCTION}]
    usage = {"include_usage": True}
    with openai_client(to) as client:
        whole = client.chat.completions.create(**chat("whole"))
        unasked = list(client.chat.completions.create(**chat("unasked"), stream=True))
        asked = list(client.chat.completions.create(**chat("asked"), stream=True, stream_options=usage))
        question = chat("[[call Bash]]", tools=tools)
        called = client.chat.completions.create(**question)
        call = called.choices[0].message
        result = {"role": "tool", "tool_call_id": call.tool_calls[0].id, "content": "done"}
        told = [*question["messages"], call.model_dump(exclude_none=True), result]
        followed = client.chat.completions.create(**question | {"messages": told})
        response = client.responses.create(model=MODEL["openai"], input="CANARY-of-the-prompt response")
        with client.responses.stream(model=MODEL["openai"], input="CANARY-of-the-prompt stream") as stream:
            # It would warn of generics of its own.
            events = [event.model_dump(warnings=False) for event in stream]
        models = list(client.models.list())
    assert all(chunk.usage is None for chunk in unasked), "nobody asked for it"
    every = (whole, *unasked, *asked, called, followed, response, *models)
    return [*(one.model_dump() for one in every), events]


async def _openai_async(to: Target) -> list[Any]:
    async with async_openai_client(to) as client:
        questions = (chat(f"async {number}") for number in range(4))
        wholes = await asyncio.gather(*(client.chat.completions.create(**asked) for asked in questions))
        stream = await client.chat.completions.create(**chat("async streamed"), stream=True)
        chunks = [chunk.model_dump() async for chunk in stream]
        prompt = "CANARY-of-the-prompt [[call Bash]] async"
        called = await client.responses.create(
            model=MODEL["openai"], input=prompt, stream=True, tools=[{"type": "function", **FUNCTION}]
        )
        events = [event.model_dump() async for event in called]
    return [*(whole.model_dump() for whole in wholes), chunks, events]


def _shown(answer: Any) -> Any:
    """Return an answer of Gemini's without the headers, which have the time of day."""
    return answer.model_dump(exclude={"sdk_http_response"})


def _gemini(to: Target) -> list[Any]:
    from google.genai import types

    tool = types.Tool(function_declarations=[types.FunctionDeclaration(name="Bash", description="Run it")])
    with gemini_client(to) as client:
        whole = client.models.generate_content(**content("whole"))
        chunks = list(client.models.generate_content_stream(**content("streamed")))
        off = types.AutomaticFunctionCallingConfig(disable=True)
        config = types.GenerateContentConfig(tools=[tool], automatic_function_calling=off)
        called = client.models.generate_content(**content("[[call Bash]]", config=config))
    assert called.function_calls, "it was asked for"
    return [_shown(one) for one in (whole, *chunks, called)]


async def _gemini_async(to: Target) -> list[Any]:
    async with gemini_client(to).aio as client:
        questions = (content(f"async {number}") for number in range(4))
        wholes = await asyncio.gather(*(client.models.generate_content(**asked) for asked in questions))
        stream = await client.models.generate_content_stream(**content("async streamed"))
        chunks = [chunk async for chunk in stream]
    return [_shown(one) for one in (*wholes, *chunks)]


def _in_thread(program: Callable[[Target], list[Any]]) -> Program:
    async def run(to: Target) -> list[Any]:
        return await asyncio.to_thread(program, to)

    return run


PROGRAMS: Final[dict[str, Program]] = {
    "anthropic": _in_thread(_anthropic),
    "anthropic-async": _anthropic_async,
    "openai": _in_thread(_openai),
    "openai-async": _openai_async,
    "gemini": _in_thread(_gemini),
    "gemini-async": _gemini_async,
}
