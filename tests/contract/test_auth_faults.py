"""What people's accounts do, and never show, while their database is locked or away; on both databases."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from infra.desks import PASSWORD, VISITOR, letters_of, mailed_secret, replicas
from infra.process import free_port
from tokentide_common.accounts_schema import invitations
from tokentide_common.database import Engine, open_async, open_database, writing_async
from tokentide_common.errors import TokentideError, Unauthorized
from tokentide_query_api.accounts import device_login, profile, recovery
from tokentide_query_api.accounts.auth_shapes import (
    Decision,
    LogIn,
    MyChange,
    NewDevice,
    PasswordChange,
    SignUp,
)
from tokentide_query_api.accounts.login import log_in
from tokentide_query_api.accounts.one_time import secret_digest
from tokentide_query_api.accounts.sessions import GRACE, rotate
from tokentide_query_api.accounts.signup import sign_up

ANN = "ann@example.com"
NEW = "tr0ubadour and a staple"
LAPTOP = NewDevice(machine_id="m-1", machine_name="laptop")


@pytest.fixture
async def desk(database_url):
    async with replicas(database_url) as (desk,):
        yield desk


@pytest.fixture
async def ann(desk):
    return await sign_up(desk, SignUp(email=ANN, password=PASSWORD), VISITOR)


@pytest.fixture
async def link(desk, ann):
    await recovery.forgot_password(desk, ANN, VISITOR)
    return await mailed_secret(desk, ANN, "reset-password")


def everything(desk, ann, link):
    """Return one of each thing that people do, under way."""
    bearer = {"authorization": f"Bearer {ann.access_token}"}

    async def leave() -> None:
        await profile.log_out(desk, await desk.access.admit(bearer), VISITOR)

    return {
        "log in": log_in(desk, LogIn(email=ANN, password=PASSWORD), VISITOR),
        "unknown": log_in(desk, LogIn(email="nobody@example.com", password=PASSWORD), VISITOR),
        "sign up": sign_up(desk, SignUp(email="bob@example.com", password=PASSWORD), VISITOR),
        "refresh": rotate(desk, ann.refresh_token, VISITOR.actor()),
        "forgot": recovery.forgot_password(desk, ANN, VISITOR),
        "reset": recovery.reset_password(desk, link, NEW, VISITOR),
        "device": device_login.begin(desk, LAPTOP, VISITOR),
        "log out": leave(),
    }


async def all_unavailable(desk, ann, link: str, within_s: float) -> None:
    began = time.monotonic()
    work = everything(desk, ann, link)
    ended = await asyncio.gather(*work.values(), return_exceptions=True)
    assert time.monotonic() - began < within_s
    kinds = {name: type(one).__name__ for name, one in zip(work, ended, strict=True)}
    assert set(kinds.values()) == {"Unavailable"}, kinds
    assert {one.status for one in ended} == {503}
    assert {one.stable_code for one in ended} == {"database_unavailable"}


def impatient(desk):
    """Return the desk with a database that waits for locks for a moment only, and not for ten seconds."""
    words = (
        "PRAGMA busy_timeout = 200"
        if desk.engine.dialect.name == "sqlite"
        else "SELECT set_config('lock_timeout', '200ms', false)"
    )
    engine = open_async(desk.engine.url.render_as_string(hide_password=False))

    def hurry(connection, _record) -> None:
        cursor = connection.cursor()
        cursor.execute(words)
        cursor.close()
        connection.commit()

    sa.event.listen(engine.sync_engine, "connect", hurry)
    return msgspec.structs.replace(desk, engine=engine)


def lock_all(engine: Engine) -> sa.Connection:
    connection = engine.connect()
    connection.begin()  # on SQLite that takes the lock of all who write
    if engine.dialect.name == "postgresql":
        names = "users, sessions, refresh_tokens, login_failures, one_time_secrets, device_logins"
        connection.exec_driver_sql(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE")
    return connection


async def test_with_the_database_locked_everything_is_told_to_come_back_and_then_works(
    desk, ann, link, database_url
):
    hurried = impatient(desk)
    engine = open_database(database_url)
    with lock_all(engine) as lock:
        await all_unavailable(hurried, ann, link, 20)
        # Who has come in stays in.
        await desk.access.admit({"authorization": f"Bearer {ann.access_token}"})
        lock.rollback()
    engine.dispose()
    await rotate(hurried, ann.refresh_token, VISITOR.actor())
    await log_in(hurried, LogIn(email=ANN, password=PASSWORD), VISITOR)
    await hurried.engine.dispose()


async def test_with_the_database_away_everything_is_told_to_come_back(desk, ann, link, tmp_path):
    url = f"sqlite:///{tmp_path}/nowhere/tokentide.db"
    if desk.engine.dialect.name == "postgresql":
        url = f"postgresql://tokentide@127.0.0.1:{free_port()}/tokentide"
    away = msgspec.structs.replace(desk, engine=open_async(url))
    await all_unavailable(away, ann, link, 20)
    await desk.access.admit({"authorization": f"Bearer {ann.access_token}"})
    await away.engine.dispose()


async def live_a_life(desk) -> tuple[set[str], list[str]]:
    """Do all that people can do; return the secrets of it, and what was said when it went wrong."""
    errors: list[str] = []

    async def wrong(work, kind: type[TokentideError]) -> None:
        with pytest.raises(kind) as caught:
            await work
        errors.append(f"{caught.value.detail} {caught.value.fields} {caught.value!r}")

    ann = await sign_up(desk, SignUp(email=ANN, password=PASSWORD), VISITOR)
    seen = {PASSWORD, NEW, ann.access_token, ann.refresh_token}
    await wrong(log_in(desk, LogIn(email=ANN, password=NEW), VISITOR), Unauthorized)
    opened = await rotate(desk, ann.refresh_token, VISITOR.actor())
    seen |= {opened.access_token, opened.refresh_token}
    seen.add(await mailed_secret(desk, ANN, "verify-email"))
    seen |= {await invited(desk, ann.organisation.id)}
    principal = await desk.access.admit({"authorization": f"Bearer {opened.access_token}"})
    codes = await device_login.begin(desk, LAPTOP, VISITOR)
    await wrong(device_login.ask(desk, codes.device_code, VISITOR), TokentideError)
    await device_login.decide(desk, principal, Decision(user_code=codes.user_code, approve=True), VISITOR)
    keys = await device_login.ask(desk, codes.device_code, VISITOR)
    await wrong(device_login.ask(desk, codes.device_code, VISITOR), TokentideError)
    waiting = await device_login.begin(desk, LAPTOP, VISITOR)
    seen |= {codes.device_code, codes.user_code, keys.machine_key, keys.api_key}
    seen |= {waiting.device_code, waiting.user_code, waiting.user_code.replace("-", "")}
    change = MyChange(password=PasswordChange(old=PASSWORD, new=NEW))
    await profile.change_me(desk, principal, change, None, VISITOR)
    await recovery.forgot_password(desk, ANN, VISITOR)
    reset = await mailed_secret(desk, ANN, "reset-password")
    seen.add(reset)
    await recovery.reset_password(desk, reset, PASSWORD, VISITOR)
    await wrong(recovery.reset_password(desk, reset, PASSWORD, VISITOR), TokentideError)
    desk.clock.pass_by(seconds=GRACE.total_seconds() + 1)
    await wrong(rotate(desk, ann.refresh_token, VISITOR.actor()), Unauthorized)
    assert len(await letters_of(desk, ANN)) == 4
    return seen, errors


async def invited(desk, org_id: str) -> str:
    secret = "an-invitation-that-nobody-may-read"
    row = {
        "invitation_id": "inv_1",
        "org_id": org_id,
        "email": "bob@example.com",
        "role": "member",
        "digest": secret_digest(secret),
        "created_at": desk.clock(),
        "expires_at": desk.clock().replace(year=2100),
    }
    async with writing_async(desk.engine) as connection:
        await connection.execute(sa.insert(invitations).values(row))
    bob = SignUp(email="bob@example.com", password=PASSWORD, invitation=secret)
    await sign_up(desk, bob, VISITOR)
    return secret


async def stored_bytes(desk) -> bytes:
    """Return all that the database has: of SQLite the bytes of its files, of PostgreSQL every column."""
    if desk.engine.dialect.name == "sqlite":
        file = Path(str(desk.engine.url.database))
        return b"".join(path.read_bytes() for path in file.parent.glob(f"{file.name}*"))
    found = []
    async with desk.engine.connect() as connection:
        names = sa.text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        for table in (await connection.execute(names)).scalars().all():
            rows = await connection.exec_driver_sql(f'SELECT t::text FROM "{table}" t')
            found += rows.scalars().all()
    return "\n".join(found).encode()


async def test_no_secret_is_in_the_database_the_logs_or_what_is_said(desk, capfd):
    with capture_logs() as logs:
        secrets, errors = await live_a_life(desk)
    stored = await stored_bytes(desk)
    assert b"ann@example.com" in stored  # that it looks in the right place
    said = capfd.readouterr()
    shown = "\n".join([repr(logs), *errors, said.out, said.err])
    for secret in secrets:
        assert secret.encode() not in stored
        assert secret.encode().hex().encode() not in stored
        assert secret not in shown
