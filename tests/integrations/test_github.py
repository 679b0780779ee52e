"""Who may write to our repository, against the sandbox's GitHub over real requests, and beside GitHub's own models."""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest
from githubkit import GitHub as Kit, TokenAuthStrategy
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from orderup.errors import Invalid, Misconfigured, OutcomeUnknown, Resting, UpstreamFailed, UpstreamRefused
from orderup.integrations.github import API_VERSION, GitHub, User, is_login, open_github, rest_of_github
from orderup.integrations.upstream import Reply, UpstreamMetrics
from orderup.sandbox import Sandbox, serve_sandbox
from orderup.sandbox.github import MOST_A_DAY
from orderup.settings import Settings
from tests.integrations.stranger import Stranger, meet_stranger, says

REPOSITORY = "cake-inc/website"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with serve_sandbox(scale=1_000) as sandbox:
        yield sandbox


@pytest.fixture
async def stranger() -> AsyncIterator[Stranger]:
    async with meet_stranger() as stranger:
        yield stranger


def settings_for(base_url: str) -> Settings:
    return Settings(github_base_url=base_url, github_token=SecretStr("a-token"), github_repository=REPOSITORY)


@pytest.fixture
async def github(sandbox: Sandbox) -> AsyncIterator[GitHub]:
    settings = settings_for(f"{sandbox.base_url}/github")
    async with open_github(settings, UpstreamMetrics(CollectorRegistry())) as github:
        yield github


@pytest.fixture
async def asking(stranger: Stranger) -> AsyncIterator[GitHub]:
    """Who asks the stranger."""
    async with open_github(settings_for(stranger.url), UpstreamMetrics(CollectorRegistry())) as github:
        yield github


async def test_somebody_is_found_by_his_login_in_any_case(sandbox: Sandbox, github: GitHub) -> None:
    ada = sandbox.github.users["ada-lovelace"]
    assert await github.find_user("Ada-Lovelace") == User(ada.id, "ada-lovelace", "User")
    assert await github.find_user("nobody") is None
    found = await github.find_user("cake-inc")
    assert found is not None
    assert found.type == "Organization"


async def test_somebody_is_invited_accepts_and_is_removed(sandbox: Sandbox, github: GitHub) -> None:
    assert not await github.is_collaborator("octocat")
    assert await github.invite("octocat") == "invited"
    assert await github.invite("octocat") == "invited"
    [invitation] = await github.invitations()
    assert (invitation.login, invitation.is_expired) == ("octocat", False)
    assert invitation.user_id == sandbox.github.users["octocat"].id
    assert not await github.is_collaborator("octocat")
    sandbox.github.accept("octocat")
    assert await github.is_collaborator("octocat")
    assert await github.invitations() == []
    assert await github.invite("octocat", permission="maintain") == "has access"
    assert list(sandbox.github.collaborators.values()) == ["maintain"]
    for _ in range(2):
        await github.remove("octocat")
        assert not await github.is_collaborator("octocat")


async def test_who_has_not_accepted_is_removed_by_withdrawing_his_invitation(sandbox: Sandbox, github: GitHub) -> None:
    await github.invite("octocat")
    await github.remove("octocat")
    [invitation] = await github.invitations()
    for _ in range(2):
        await github.withdraw(invitation.id)
    assert await github.invitations() == []
    assert sandbox.github.invitations == {}


async def test_an_expired_invitation_stays_and_says_so(sandbox: Sandbox, github: GitHub) -> None:
    await github.invite("octocat")
    sandbox.github.expire("octocat")
    [invitation] = await github.invitations()
    assert invitation.is_expired


async def test_invitations_are_read_page_by_page(sandbox: Sandbox, github: GitHub) -> None:
    for number in range(205):
        sandbox.github.sent.clear()
        sandbox.github.add_user(f"baker-{number}")
        await github.invite(f"baker-{number}")
    assert [each.login for each in await github.invitations()] == [f"baker-{number}" for number in range(205)]
    assert sandbox.github.asked["invitations"] == 3


async def test_who_was_invited_by_mail_has_no_login(asking: GitHub, stranger: Stranger) -> None:
    stranger.says = says(200, b'[{"id":1,"invitee":null,"expired":true}]')
    [invitation] = await asking.invitations()
    assert (invitation.login, invitation.user_id, invitation.is_expired) == (None, None, True)


async def test_our_token_goes_nowhere_else_for_a_next_page(asking: GitHub, stranger: Stranger) -> None:
    for elsewhere in ("https://evil.example/page", f"{stranger.url}.evil.example/", f"{stranger.url}evil/"):
        stranger.says = says(200, b"[]", link=f'<{elsewhere}>; rel="next"')
        with pytest.raises(UpstreamFailed, match="somewhere else"):
            await asking.invitations()
    assert len(stranger.asked) == 3


# what goes wrong


@pytest.mark.parametrize(
    "login",
    ["", ".", "..", "../../../user", "a/b", "a?b", "a b", "a--b", "-a", "a-", "a" * 40, "zoë", "a\n", "a%2fb", "🍰"],
)
async def test_what_nobody_can_be_called_is_never_asked_for(sandbox: Sandbox, github: GitHub, login: str) -> None:
    calls: list[Callable[[str], Awaitable[object]]] = [
        github.find_user,
        github.is_collaborator,
        github.invite,
        github.remove,
    ]
    for call in calls:
        with pytest.raises(Invalid, match="no login at GitHub"):
            await call(login)
    assert sandbox.github.asked.total() == 0


def test_what_somebody_can_be_called() -> None:
    for login in ("a", "octocat", "ada-lovelace", "A1-b2-C3", "a" * 39, "ada_cake"):
        assert is_login(login)


async def test_a_no_is_told_in_githubs_words(sandbox: Sandbox, github: GitHub) -> None:
    with pytest.raises(UpstreamRefused, match="GitHub answered 422: Validation Failed; cake-inc cannot be given"):
        await github.invite("cake-inc")
    with pytest.raises(UpstreamRefused, match="GitHub answered 404: Not Found"):
        await github.invite("nobody")
    sandbox.github.is_admin = False
    for call in (github.invite, github.remove):
        with pytest.raises(UpstreamRefused, match="403: Must have admin rights to Repository"):
            await call("octocat")
    assert sandbox.github.invitations == {}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>\nno", "422: <html> no"),
        (b"{}", "422: {}"),
        (b'{"message":"No","errors":["a",{"message":"b"},{"code":"c"}]}', "422: No; a; b$"),
    ],
)
async def test_a_no_in_any_shape_is_told(asking: GitHub, stranger: Stranger, body: bytes, said: str) -> None:
    stranger.says = says(422, body)
    with pytest.raises(UpstreamRefused, match=said):
        await asking.invite("octocat")


async def test_a_repository_that_we_may_not_see_is_no_proof_that_somebody_has_no_access(
    sandbox: Sandbox, github: GitHub
) -> None:
    """Else whoever is fired kept his access as soon as our token had lost its own."""
    sandbox.github.repository = "cake-inc/elsewhere"
    for call in (github.is_collaborator, github.remove):
        with pytest.raises(UpstreamRefused, match="404: Not Found"):
            await call("octocat")
    with pytest.raises(UpstreamRefused, match="404: Not Found"):
        await github.withdraw(1)
    with pytest.raises(UpstreamRefused, match="404: Not Found"):
        await github.invitations()


async def test_whoever_is_no_user_any_more_has_no_access_either(github: GitHub) -> None:
    await github.remove("nobody")
    assert not await github.is_collaborator("nobody")


async def test_a_repository_with_another_name_is_told(asking: GitHub, stranger: Stranger) -> None:
    for status in (301, 307):
        stranger.says = says(status, b'{"message":"Moved Permanently"}', location="https://evil.example/")
        with pytest.raises(UpstreamRefused, match=f"{REPOSITORY} has another name now: set GITHUB_REPOSITORY"):
            await asking.invite("octocat")


async def test_no_more_than_fifty_are_invited_a_day_and_the_next_one_waits() -> None:
    async with serve_sandbox() as sandbox:
        settings = settings_for(f"{sandbox.base_url}/github")
        async with open_github(settings, UpstreamMetrics(CollectorRegistry())) as github:
            for number in range(MOST_A_DAY + 1):
                sandbox.github.add_user(f"baker-{number}")
            for number in range(MOST_A_DAY):
                assert await github.invite(f"baker-{number}") == "invited"
            with pytest.raises(Resting) as caught:
                await github.invite(f"baker-{MOST_A_DAY}")
            assert caught.value.seconds == 3600
            assert await github.invite("baker-0") == "invited"
            await github.remove("baker-0")


@pytest.mark.parametrize(
    ("status", "body", "headers", "seconds"),
    [
        (403, b'{"message":"no"}', {"retry-after": "7"}, 7),
        (429, b"", {"retry-after": "7", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "99999999999"}, 7),
        (403, b"", {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "{now}+100"}, 100),
        (429, b"", {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "{now}+100"}, 100),
        (403, b"", {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "{now}+999999"}, 3600),
        (403, b"", {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "5"}, 1),
        (403, b"", {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "soon"}, 60),
        (403, b"", {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "9" * 40}, 60),
        (403, b"", {"x-ratelimit-remaining": "0"}, 60),
        (403, b'{"message":"You have exceeded a secondary rate limit"}', {"x-ratelimit-remaining": "9"}, 60),
        (429, b"", {}, 60),
        (403, b'{"message":"Must have admin rights"}', {"x-ratelimit-remaining": "9"}, None),
        (503, b"", {"retry-after": "9"}, 9),
        (503, b"", {}, None),
        (200, b"", {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "{now}+100"}, None),
    ],
)
def test_each_way_to_ask_for_a_rest_is_heard(
    status: int, body: bytes, headers: dict[str, str], seconds: float | None
) -> None:
    now = int(time.time())
    told = {
        name: str(now + int(text.partition("+")[2])) if text.startswith("{now}") else text
        for name, text in headers.items()
    }
    rest = rest_of_github(Reply(status, told, body))
    assert (rest is None) is (seconds is None)
    if rest is not None and seconds is not None:
        assert rest.total_seconds() == pytest.approx(seconds, abs=30 if seconds == 100 else 0.1)


@pytest.mark.parametrize("status", [403, 429])
async def test_a_limit_pauses_and_a_missing_right_does_not(sandbox: Sandbox, github: GitHub, status: int) -> None:
    sandbox.github.switch(status=status, retry_after_seconds=90, times=1)
    with pytest.raises(UpstreamFailed) as caught:
        await github.invite("octocat")
    assert caught.value.retry_after == timedelta(seconds=90)
    sandbox.github.switch(status=403, times=1)
    with pytest.raises(UpstreamRefused, match="403"):
        await github.invite("octocat")


@pytest.mark.parametrize("switched", [{"body": "reset"}, {"status": 502}, {"body": "hang"}])
async def test_all_can_be_said_again(sandbox: Sandbox, github: GitHub, switched: dict[str, object]) -> None:
    github.upstream.deadline = 0.5 if switched.get("body") == "hang" else 30
    for route in ("invite", "remove"):
        sandbox.github.switch(route=route, takes_effect=True, **switched)
        call = github.invite if route == "invite" else github.remove
        with pytest.raises(UpstreamFailed) as caught:
            await call("octocat")
        assert not isinstance(caught.value, OutcomeUnknown)
        sandbox.github.restore()
        await call("octocat")
    assert len(sandbox.github.invitations) == 1


async def test_a_token_that_was_revoked_is_not_tried_again_and_again(sandbox: Sandbox, github: GitHub) -> None:
    sandbox.github.switch(status=401)
    for _ in range(3):
        with pytest.raises(Resting):
            await github.remove("octocat")
    assert sandbox.github.asked.total() == 1


async def test_the_check_says_whether_we_may_invite_and_changes_nothing(sandbox: Sandbox, github: GitHub) -> None:
    assert await github.check() == "may invite to cake-inc/website"
    sandbox.github.is_admin = False
    with pytest.raises(UpstreamRefused, match="Administration, write"):
        await github.check()
    assert sandbox.github.asked == {"read_repository": 2}


async def test_without_a_repository_there_is_no_github() -> None:
    with pytest.raises(Misconfigured, match="GITHUB_REPOSITORY"):
        async with open_github(Settings(), UpstreamMetrics(CollectorRegistry())):
            pass


# beside a client made from GitHub's own description of its API


@pytest.fixture
async def kit(sandbox: Sandbox) -> AsyncIterator[Kit[TokenAuthStrategy]]:
    async with Kit("a-token", base_url=f"{sandbox.base_url}/github", auto_retry=False, http_cache=False) as kit:
        yield kit


async def test_what_the_stand_in_answers_fits_githubs_models(sandbox: Sandbox, kit: Kit[TokenAuthStrategy]) -> None:
    """Reading `parsed_data` is what holds an answer against its model."""
    repos = kit.rest(API_VERSION).repos
    user = (await kit.rest(API_VERSION).users.async_get_by_username("octocat")).parsed_data
    assert (user.login, user.type) == ("octocat", "User")
    repository = (await repos.async_get("cake-inc", "website")).parsed_data
    assert repository.full_name == REPOSITORY
    assert repository.permissions
    assert repository.permissions.admin
    invited = await repos.async_add_collaborator("cake-inc", "website", "octocat", permission="push")
    assert (invited.status_code, invited.parsed_data.permissions) == (201, "write")
    [invitation] = (await repos.async_list_invitations("cake-inc", "website")).parsed_data
    assert invitation.invitee
    assert (invitation.invitee.login, invitation.expired) == ("octocat", False)
    sandbox.github.accept("octocat")
    assert (await repos.async_check_collaborator("cake-inc", "website", "octocat")).status_code == 204
    assert (await repos.async_remove_collaborator("cake-inc", "website", "octocat")).status_code == 204


async def test_we_ask_as_the_description_says(asking: GitHub, stranger: Stranger) -> None:
    """Each call twice: by us, and by the client made from the description. Method, path, body and version are equal."""
    async with Kit("a-token", base_url=stranger.url, auto_retry=False, http_cache=False) as kit:
        repos = kit.rest(API_VERSION).repos
        users = kit.rest(API_VERSION).users
        cake, website = REPOSITORY.split("/")
        user = b'{"login":"octocat","id":1,"type":"User"}'
        pairs: list[tuple[int, bytes, Callable[[], Awaitable[object]], Callable[[], Awaitable[object]]]] = [
            (200, user, lambda: asking.find_user("octocat"), lambda: users.async_get_by_username("octocat")),
            (
                204,
                b"",
                lambda: asking.is_collaborator("octocat"),
                lambda: repos.async_check_collaborator(cake, website, "octocat"),
            ),
            (
                204,
                b"",
                lambda: asking.invite("octocat", permission="triage"),
                lambda: repos.async_add_collaborator(cake, website, "octocat", permission="triage"),
            ),
            (
                204,
                b"",
                lambda: asking.remove("octocat"),
                lambda: repos.async_remove_collaborator(cake, website, "octocat"),
            ),
            (200, b"[]", asking.invitations, lambda: repos.async_list_invitations(cake, website, per_page=100)),
            (204, b"", lambda: asking.withdraw(7), lambda: repos.async_delete_invitation(cake, website, 7)),
            (
                200,
                b'{"full_name":"x/y","permissions":{"admin":true}}',
                asking.check,
                lambda: repos.async_get(cake, website),
            ),
        ]
        for status, body, ours, theirs in pairs:
            stranger.asked.clear()
            stranger.says = says(status, body)
            await ours()
            await theirs()
            own, other = stranger.asked
            assert own.line == other.line
            assert json.loads(own.body or b"null") == json.loads(other.body or b"null")
            assert own.headers["x-github-api-version"] == other.headers["x-github-api-version"]
            assert own.headers["authorization"] == "Bearer a-token"
            assert own.headers["accept"] == "application/vnd.github+json"
            assert own.headers["user-agent"]
