"""The whole system in front of a collector: what waits survives it, and says nothing of what it holds."""

from infra.embedded import Embedded
from infra.otlp_collector import RecordingCollector
from infra.tees import waiting
from infra.telemetry import payloads
from infra.waiting import until

# Its client was told to send prompts, and this one stands in a body.
RUN = payloads("02-bash-protobuf-prompts")
CONTENT = b"Run a greeting command."


async def test_copies_survive_the_death_of_the_system_and_only_the_collector_learns_what_they_hold(
    own_system: Embedded,
) -> None:
    collector = RecordingCollector()
    settings = {
        "TOKENTIDE_OTLP_FORWARD_URL": collector.url,
        "TOKENTIDE_OTLP_FORWARD_HEADERS": "authorization=Basic%20COLLECTOR-SECRET",
    }
    own_system.start(**settings)
    sender = own_system.sender()
    for payload in RUN:
        answer = sender.post(payload.path, content=payload.body, headers=payload.headers)
        assert answer.status_code == 200
    metrics = sender.get("/metrics").content
    copies = waiting(own_system.data_dir)
    assert len(copies) == len(RUN)
    own_system.kill()

    held = b"".join(path.read_bytes() for path in copies)
    assert CONTENT in held, "the copies are whole"
    paths = "".join(str(path) for path in own_system.data_dir.rglob("*")).encode()
    said = own_system.err.encode() + metrics + paths
    assert CONTENT not in said
    assert b"COLLECTOR-SECRET" not in said + held
    assert own_system.credentials["machine_key"].encode() not in said + held

    await collector.start()
    try:
        own_system.start_again(**settings)
        await until(lambda: len(collector.received) == len(RUN), what="the copies arrive")
        await until(lambda: waiting(own_system.data_dir) == [])
    finally:
        await collector.stop()
    assert sorted(collector.bodies) == sorted(payload.body for payload in RUN)
    assert {tuple(got.header("authorization")) for got in collector.received} == {("Basic COLLECTOR-SECRET",)}
    assert own_system.caller().summary()["calls"] == 2
