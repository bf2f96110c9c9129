"""Which role sees what: of calls, of dimensions, of rankings."""

from __future__ import annotations

import pytest

from tokentide_common.errors import Forbidden
from tokentide_query_api.accounts.people import Privacy
from tokentide_query_api.accounts.principal import Principal
from tokentide_query_api.activity_words import ACTIVITY_DIMENSIONS
from tokentide_query_api.dimensions import DIMENSIONS, dimension
from tokentide_query_api.parameters import BY, FILTERS, Arguments
from tokentide_query_api.pseudonyms import Pseudonyms
from tokentide_query_api.rankings import ranking_sight
from tokentide_query_api.scope import Scope
from tokentide_query_api.statement import Statement, near_users
from tokentide_query_api.store_wall import wall
from tokentide_query_api.visibility import PERSONAL, require_sight_of, sight_of


def principal(role: str, *, user_id: str = "usr_me", email: str = "Me@Example.com") -> Principal:
    return Principal("org_a", role, "user", user_id, user_id, email)  # type: ignore[arg-type] -- the test's words


@pytest.mark.parametrize("role", ["owner", "admin"])
def test_owners_and_admins_see_everything_of_their_organisation(role: str) -> None:
    sight = sight_of(principal(role))
    assert (sight.org_id, sight.own, sight.people) == ("org_a", None, True)


OWN = f"({near_users('{p1:Array(String)}')} AND x.user_id IN {{p1:Array(String)}})"
FOLDED = "lowerUTF8(x.user_email) IN {p%d:Array(String)}"


@pytest.mark.parametrize(
    ("user_id", "email", "condition"),
    [
        ("u", "", f"({OWN})"),
        ("", "E@x", f"({FOLDED % 1})"),
        ("u", "E@x", f"({OWN} OR {FOLDED % 2})"),
    ],
)
def test_members_see_their_own_calls_and_nothing_empty_ever_matches(
    user_id: str, email: str, condition: str
) -> None:
    sight = sight_of(principal("member", user_id=user_id, email=email))
    statement = Statement(Scope(sight, 0, 1))
    sql = statement.ledger("1", [])
    assert condition in sql
    assert [""] not in statement.params.values()
    assert ["E@x"] not in statement.params.values()  # compared in lower case


def test_a_members_key_of_nobody_is_told_so_instead_of_seeing_everything_or_nothing() -> None:
    with pytest.raises(Forbidden) as caught:
        sight_of(principal("member", user_id="", email=""))
    assert caught.value.stable_code == "owner_needed"


def test_viewers_tell_nobody_apart_by_any_dimension_filter_or_tag() -> None:
    sight = sight_of(principal("viewer"))
    assert sight.own is None
    for name in [*sorted(PERSONAL - {"tags"} & {*DIMENSIONS, *ACTIVITY_DIMENSIONS}), "tag.env"]:
        known = DIMENSIONS if name in DIMENSIONS else ACTIVITY_DIMENSIONS
        with pytest.raises(Forbidden):
            require_sight_of(sight, dimension(name, known))
        if known is DIMENSIONS:
            with pytest.raises(Forbidden):
                Arguments(f"not_{name}=x".encode(), FILTERS, sight).filters()
            with pytest.raises(Forbidden):
                Arguments(f"by=model,{name}".encode(), (BY,), sight).dimensions(BY, least=1)
    Arguments(b"by=agent,model&team=x", (*FILTERS, BY), sight).filters()


@pytest.mark.parametrize(
    ("role", "privacy", "scope", "names"),
    [
        ("admin", "private", "users", "all"),
        ("member", "open", "users", "all"),
        ("member", "pseudonymous", "users", "pseudonyms"),
        ("member", "pseudonymous", "machines", "pseudonyms"),
        ("member", "pseudonymous", "models", "all"),
        ("member", "private", "users", "own"),
        ("member", "private", "machines", None),
        ("member", "private", "projects", "all"),
        ("viewer", "open", "users", "all"),
        ("viewer", "pseudonymous", "users", None),
        ("viewer", "private", "users", None),
        ("viewer", "private", "machines", None),
        ("viewer", "private", "teams", "all"),
    ],
)
def test_rankings_name_others_as_far_as_the_organisation_allows(
    role: str, privacy: Privacy, scope: str, names: str | None
) -> None:
    if names is None:
        with pytest.raises(Forbidden):
            ranking_sight(principal(role), privacy, scope)
        return
    seen = ranking_sight(principal(role), privacy, scope)
    assert seen.names == names
    if names in ("own", "pseudonyms"):
        assert seen.own == ({"usr_me", "Me@Example.com"} if scope == "users" else set())


def test_a_pseudonym_stays_the_same_and_says_nothing_outside_its_organisation() -> None:
    one, again, other = Pseudonyms("a" * 32), Pseudonyms("a" * 32), Pseudonyms("b" * 32)
    name = one.of("org_a", "users", "alice")
    assert name == again.of("org_a", "users", "alice")
    assert "alice" not in name
    others = {other.of("org_a", "users", "alice"), one.of("org_b", "users", "alice")}
    assert name not in others | {one.of("org_a", "users", "bob"), one.of("org_a", "machines", "alice")}


@pytest.mark.parametrize("org_id", ["", "a'b", "a b", "a\\", "a\n", "ü", "a" * 65, "{org:String}"])
def test_no_id_that_could_end_a_text_gets_into_the_walls_condition(org_id: str) -> None:
    with pytest.raises(ValueError, match="id"):
        wall([org_id])
