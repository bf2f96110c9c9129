"""Letters and what they are good for, on SQLite and PostgreSQL, with a real mail server."""

from __future__ import annotations

import asyncio
import io

import msgspec
import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from infra.desks import PASSWORD, VISITOR, audited, letters_of, mailed_secret, replicas
from infra.mail_server import mail_server
from infra.process import free_port
from infra.waiting import until
from tokentide_common.accounts_schema import outbox, users
from tokentide_common.database import reading_async, writing_async
from tokentide_common.errors import InvalidRequest, RateLimited, Unauthorized
from tokentide_query_api.accounts import recovery
from tokentide_query_api.accounts.auth_shapes import LogIn, SignUp
from tokentide_query_api.accounts.carriers import Smtp, Terminal, carrier_of
from tokentide_query_api.accounts.letters import Letter
from tokentide_query_api.accounts.lockout import RULES
from tokentide_query_api.accounts.login import log_in
from tokentide_query_api.accounts.outbox import ATTEMPTS, Outbox
from tokentide_query_api.accounts.sessions import rotate
from tokentide_query_api.accounts.signup import sign_up

ANN = "ann@example.com"
NEW = "a new password of mine"


@pytest.fixture
async def pair(database_url):
    async with replicas(database_url, 2, public_url="https://tokentide.example") as desks:
        yield desks


@pytest.fixture
def desk(pair):
    return pair[0]


@pytest.fixture
async def ann(desk):
    return await sign_up(desk, SignUp(email=ANN, password=PASSWORD), VISITOR)


def attempt(password: str) -> LogIn:
    return LogIn(email=ANN, password=password)


async def unsent(desk) -> int:
    async with reading_async(desk.engine) as connection:
        waiting = sa.select(sa.func.count()).where(outbox.c.sent_at.is_(None))
        return int((await connection.execute(waiting)).scalar_one())


async def test_a_letter_confirms_an_address_once(pair, ann):
    desk = pair[0]
    secret = await mailed_secret(desk, ANN, "verify-email")
    work = [recovery.verify_email(one, secret, VISITOR) for one in pair]
    ended = await asyncio.gather(*work, return_exceptions=True)
    assert sorted(type(one).__name__ for one in ended) == ["InvalidRequest", "NoneType"]
    async with reading_async(desk.engine) as connection:
        assert (await connection.execute(sa.select(users.c.email_verified_at))).scalar_one() is not None
    assert "user.email_verified" in await audited(desk, ann.organisation.id)


async def test_a_link_is_good_for_its_own_purpose_and_for_a_while(desk, ann):
    secret = await mailed_secret(desk, ANN, "verify-email")
    answers = set()
    for wrong in (
        recovery.reset_password(desk, secret, NEW, VISITOR),
        recovery.verify_email(desk, "made-up", VISITOR),
    ):
        with pytest.raises(InvalidRequest) as caught:
            await wrong
        answers.add(f"{caught.value.stable_code} {caught.value.detail}")
    desk.clock.pass_by(days=3)
    with pytest.raises(InvalidRequest) as caught:
        await recovery.verify_email(desk, secret, VISITOR)
    answers.add(f"{caught.value.stable_code} {caught.value.detail}")
    assert len(answers) == 1


async def test_a_forgotten_password_is_chosen_anew_and_all_sessions_end(pair, ann):
    desk, other = pair
    for _ in range(3):
        with pytest.raises(Unauthorized):
            await log_in(desk, attempt("not my password"), VISITOR)
    await recovery.forgot_password(desk, ANN, VISITOR)
    await recovery.forgot_password(desk, "Ann@Example.com ", VISITOR)
    secret = await mailed_secret(desk, ANN, "reset-password")
    await recovery.reset_password(other, secret, NEW, VISITOR)
    with pytest.raises(Unauthorized):
        await rotate(desk, ann.refresh_token, VISITOR.actor())
    await desk.people.refresh()
    with pytest.raises(Unauthorized):
        await desk.access.admit({"authorization": f"Bearer {ann.access_token}"})
    with pytest.raises(Unauthorized):
        await log_in(desk, attempt(PASSWORD), VISITOR)
    assert (await log_in(desk, attempt(NEW), VISITOR)).user.email_verified
    letters = await letters_of(desk, ANN)
    earlier = [text for text in letters if "reset-password" in text and secret not in text]
    assert len(earlier) == 1
    with pytest.raises(InvalidRequest):  # the other link is void with it
        await recovery.reset_password(desk, earlier[0].partition("#token=")[2].split()[0], NEW, VISITOR)
    assert "was changed" in letters[-1]
    assert "password.reset" in await audited(desk, ann.organisation.id)


async def test_nobody_learns_who_has_an_account_by_forgetting_a_password(desk, ann):
    statements: list[str] = []
    sa.event.listen(
        desk.engine.sync_engine, "before_cursor_execute", lambda *args: statements.append(args[2])
    )
    work = []
    for email in (ANN, "nobody@example.com"):
        statements.clear()
        assert await recovery.forgot_password(desk, email, VISITOR) is None
        work.append([text for text in statements if "SAVEPOINT" not in text])
    assert work[0] == work[1]
    assert await letters_of(desk, "nobody@example.com") == []


async def test_a_letter_gives_no_password_to_who_comes_in_by_an_identity_provider(desk, ann):
    async with writing_async(desk.engine) as connection:
        await connection.execute(sa.update(users).values(password_hash=None))
    await recovery.forgot_password(desk, ANN, VISITOR)
    assert not [text for text in await letters_of(desk, ANN) if "reset-password" in text]


async def test_no_mailbox_is_filled(desk, ann):
    for _ in range(10):
        await recovery.forgot_password(desk, ANN, VISITOR)
    assert len([text for text in await letters_of(desk, ANN) if "reset-password" in text]) == 3


async def test_asking_for_letters_is_slowed_down_by_address(desk):
    for number in range(RULES["address"].free):
        await recovery.forgot_password(desk, f"user{number}@example.com", VISITOR)
    with pytest.raises(RateLimited):
        await recovery.forgot_password(desk, "another@example.com", VISITOR)


async def test_links_begin_with_the_public_address(desk, ann):
    (letter,) = await letters_of(desk, ANN)
    assert "https://tokentide.example/verify-email#token=" in letter


async def test_letters_go_to_the_mail_server_once_whatever_the_number_of_replicas(database_url):
    async with mail_server() as mail, replicas(database_url, 3, smtp_url=mail.url) as desks:
        for number in range(7):
            wish = SignUp(email=f"user{number}@example.com", password=PASSWORD)
            await sign_up(desks[number % 3], wish, VISITOR)
        for desk in desks:
            desk.outbox.wake()
        await until(lambda: len(mail.letters) >= 7)
        await until(lambda: _none_waits(desks[0]))
        assert sorted(str(letter["To"]) for letter in mail.letters) == [
            f"user{number}@example.com" for number in range(7)
        ]
        letter = mail.letters[0]
        assert letter["From"] == "Tokentide <tokentide@localhost>"
        assert "/verify-email#token=" in letter.get_content().replace("=\n", "")


async def _none_waits(desk) -> bool:
    return await unsent(desk) == 0


async def test_a_letter_that_is_refused_waits_and_goes_later(database_url):
    async with mail_server() as mail, replicas(database_url, smtp_url=mail.url) as (desk,):
        mail.refusals = 2
        await sign_up(desk, SignUp(email=ANN, password=PASSWORD), VISITOR)
        for refused in (1, 2):
            await until(lambda refused=refused: mail.refused == refused)
            desk.outbox.wake()
            assert await unsent(desk) == 1
            desk.clock.pass_by(minutes=5)
            desk.outbox.wake()
        await until(lambda: _none_waits(desk))
        assert len(mail.letters) == 1


async def test_a_mail_server_that_is_away_for_good_is_given_up_and_logged_without_the_letter(database_url):
    away = f"smtp://someone:{PASSWORD.replace(' ', '-')}@127.0.0.1:{free_port()}"
    with capture_logs() as logs:
        async with replicas(database_url, smtp_url=away) as (desk,):
            await sign_up(desk, SignUp(email=ANN, password=PASSWORD), VISITOR)
            secret = await mailed_secret(desk, ANN, "verify-email")
            for attempts in range(1, ATTEMPTS + 1):
                await until(lambda attempts=attempts: len(logs) >= attempts)
                desk.clock.pass_by(hours=2)
                desk.outbox.wake()
    assert [line["event"] for line in logs] == ["letter_not_sent"] * (ATTEMPTS - 1) + ["letter_given_up"]
    assert secret not in repr(logs)
    assert "horse" not in repr(logs)


async def test_a_letter_that_nobody_can_send_keeps_no_other_back(database_url):
    async with mail_server() as mail, replicas(database_url, smtp_url=mail.url) as (desk,):
        async with writing_async(desk.engine) as connection:
            await desk.outbox.post(connection, Letter("a@b.example\nBcc: c@d.example", "Hello", "A text.\n"))
            await desk.outbox.post(connection, Letter(ANN, "Hello", "A text.\n"))
        with capture_logs() as logs:
            desk.outbox.wake()
            await until(lambda: mail.letters and logs)
        assert [line["event"] for line in logs] == ["letter_not_sent"]
        assert [letter["To"] for letter in mail.letters] == [ANN]


async def test_a_letter_sealed_under_another_key_is_not_sent(pair, ann, database_url):
    carried = io.StringIO()
    async with replicas(database_url, secret_key="y" * 40) as (stranger,):
        post = Outbox(stranger.engine, stranger.safe, Terminal(carried), pair[0].clock)
        with capture_logs() as logs:
            post.start()
            await until(lambda: logs)
            await post.stop()
    assert logs[0]["event"] == "letter_cannot_be_opened"
    assert carried.getvalue() == ""


async def test_on_one_machine_without_a_mail_server_letters_are_shown_and_kept(desk):
    shown = io.StringIO()
    post = Outbox(desk.engine, desk.safe, Terminal(shown), desk.clock)
    async with writing_async(desk.engine) as connection:
        await post.post(connection, Letter(ANN, "Hello", "A text.\n"))
    post.start()
    await until(lambda: _none_waits(desk))
    await post.stop()
    assert "to ann@example.com: Hello" in shown.getvalue()
    assert "A text." in shown.getvalue()
    assert await letters_of(desk, ANN) == ["A text.\n"]


def test_who_carries_letters_follows_from_the_settings(desk):
    def carrier(**settings):
        return carrier_of(msgspec.structs.replace(desk.settings, **settings))

    assert carrier() is None
    assert isinstance(carrier(embedded=True), Terminal)
    assert isinstance(carrier(embedded=True, smtp_url="smtp://mail.example"), Smtp)


async def test_a_password_is_not_sent_to_a_mail_server_without_encryption(desk):
    async with mail_server() as mail:
        carrier = Smtp(f"smtp://someone:secret@127.0.0.1:{mail.port}", "t@example.com")
        with pytest.raises(Exception, match="did not take it"):
            await carrier.carry(Letter(ANN, "Hello", "A text.\n"), "msg_1")
        assert mail.letters == []
