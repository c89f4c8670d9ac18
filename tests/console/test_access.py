"""Who may look at the console."""

from pathlib import Path
from urllib.parse import quote

import pytest

from dashboards.console.__main__ import EXIT_REFUSED, main
from dashboards.console.access import COOKIE, SECURITY_HEADERS, RefusedToStart, check_start, digest_of
from dashboards.console.app import ConsoleSettings
from tests.console.asked import Asker, running

TOKEN = "a token of the test, long enough"
NOWHERE = "http://127.0.0.1:9"
PAGES = (
    "/",
    "/dashboards",
    "/d/spillway-cost",
    "/traces",
    "/trace/ab",
    "/logs",
    "/runbooks/lake",
    "/api/hops",
    "/static/console.js",
    "/ledger",
    "/alerts",
)


def settings(**more: object) -> ConsoleSettings:
    return ConsoleSettings(NOWHERE, NOWHERE, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.9.1"])
def test_on_the_loopback_it_starts_without_a_token(host: str) -> None:
    check_start(host, "")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "console.example", ""])
def test_where_others_can_reach_it_it_starts_with_a_token_only(host: str) -> None:
    check_start(host, TOKEN)
    with pytest.raises(RefusedToStart, match="token"):
        check_start(host, "")


def test_a_token_that_can_be_guessed_is_refused() -> None:
    with pytest.raises(RefusedToStart, match="shorter than 16"):
        check_start("127.0.0.1", "short")


def test_the_process_says_why_it_does_not_start(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPILLWAY_CONSOLE_TOKEN", raising=False)
    assert EXIT_REFUSED == main(["--host", "0.0.0.0"])
    assert "give it a token" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["127.0.0.1:8088", "localhost:8088", "LOCALHOST", "[::1]:8088", "[::1]"])
async def test_loopback_names_are_answered(host: str) -> None:
    async with running(settings()) as asker:
        assert 200 == (await asker.get("/dashboards", host=host)).status


@pytest.mark.parametrize("host", ["evil.example:8088", "127.0.0.1.evil.example", "", "10.0.0.7:8088", "localhost.evil.example"])
async def test_a_name_that_was_bound_to_the_loopback_by_a_stranger_is_not(host: str) -> None:
    async with running(settings()) as asker:
        for path in PAGES:
            answer = await asker.get(path, host=host)
            assert (421, "this console answers to loopback names only\n") == (answer.status, answer.text)


async def test_every_answer_forbids_foreign_scripts_frames_and_guessing_of_types() -> None:
    async with running(settings()) as asker:
        for path in (*PAGES, "/nowhere", "/api/nowhere", "/login"):
            answer = await asker.get(path)
            assert SECURITY_HEADERS == {name: answer.headers.get(name) for name in SECURITY_HEADERS}
        refused = await asker.get("/", host="evil.example")
        assert SECURITY_HEADERS["content-security-policy"] == refused.headers["content-security-policy"]


async def test_pages_are_kept_by_nobody_and_versioned_files_for_ever() -> None:
    async with running(settings()) as asker:
        assert "no-store" == (await asker.get("/dashboards")).headers["cache-control"]
        assert "no-cache" == (await asker.get("/static/console.js")).headers["cache-control"]
        assert "immutable" in (await asker.get("/static/console.js?v=1")).headers["cache-control"]


async def test_no_page_holds_what_the_policy_forbids() -> None:
    """Inline scripts, styles and handlers would be dead in the browser."""
    async with running(settings()) as asker:
        for path in ("/", "/dashboards", "/d/spillway-cost", "/traces", "/logs", "/login", "/runbooks/lake"):
            text = (await asker.get(path)).text
            assert [] == [bad for bad in (" style=", " onclick=", " onload=", "<style", "<script>", "javascript:") if bad in text]


async def test_with_a_token_a_browser_is_led_to_the_form_and_a_program_is_told() -> None:
    async with running(settings(token=TOKEN)) as asker:
        page = await asker.get("/traces?q=%7B%7D")
        assert (303, f"/login?to={quote('/traces?q=%7B%7D', safe='')}") == (page.status, page.headers["location"])
        assert [401, 401] == [(await asker.get("/api/hops")).status, (await asker.get("/traces", accept="*/*")).status]


async def test_without_the_token_only_probes_the_form_and_static_files_are_answered() -> None:
    async with running(settings(token=TOKEN)) as asker:
        open_paths = ("/healthz", "/readyz", "/login", "/static/console.css")
        assert [200] * 4 == [(await asker.get(path)).status for path in open_paths]
        assert [303] * 7 == [(await asker.get(path)).status for path in PAGES[:7]]


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        (f"Bearer {TOKEN}x", 401),
        (f"Basic {TOKEN}", 401),
        ("Bearer", 401),
        ("", 401),
    ],
)
async def test_a_bearer_token_opens(authorization: str, status: int) -> None:
    async with running(settings(token=TOKEN)) as asker:
        assert status == (await asker.get("/dashboards", authorization=authorization, accept="*/*")).status


async def test_the_form_leaves_a_cookie_that_opens_and_does_not_hold_the_token() -> None:
    async with running(settings(token=TOKEN)) as asker:
        entered = await _enter(asker, TOKEN, "/login?to=/logs")
        cookie = entered.cookie[COOKIE]
        assert (303, "/logs") == (entered.status, entered.headers["location"])
        assert (digest_of(TOKEN), True, "strict") == (cookie.value, cookie["httponly"], cookie["samesite"])
        assert 200 == (await asker.get("/dashboards", cookie=f"theme=dark; {COOKIE}={cookie.value}")).status
        assert 303 == (await asker.get("/dashboards", cookie=f"{COOKIE}={TOKEN}")).status
        assert 303 == (await asker.get("/dashboards", cookie=f"{COOKIE}=")).status


async def test_a_wrong_token_leaves_no_cookie() -> None:
    async with running(settings(token=TOKEN)) as asker:
        answer = await _enter(asker, "wrong", "/login")
        assert (401, False) == (answer.status, "set-cookie" in answer.headers)
        assert "That is not the token." in answer.text


async def test_a_console_without_a_token_is_not_entered_by_an_empty_one() -> None:
    async with running(settings()) as asker:
        assert 401 == (await _enter(asker, "", "/login")).status


@pytest.mark.parametrize("to", ["https://evil.example/", "//evil.example/", "/\\evil.example", "evil", "javascript:alert(1)"])
async def test_the_form_never_leads_to_another_site(to: str) -> None:
    async with running(settings(token=TOKEN)) as asker:
        assert "/" == (await _enter(asker, TOKEN, f"/login?to={quote(to)}")).headers["location"]


async def test_an_endless_form_is_not_read() -> None:
    async with running(settings(token=TOKEN)) as asker:
        assert 401 == (await asker.post("/login", b"token=" + b"x" * 100_000)).status


@pytest.mark.parametrize("file", ["..%2fapp.py", "../app.py", "uPlot.LICENSE", "nowhere.js", "..%2f..%2f..%2fetc%2fpasswd"])
async def test_only_files_of_the_static_folder_are_served(file: str) -> None:
    async with running(settings()) as asker:
        assert 404 == (await asker.get(f"/static/{file}")).status


async def test_nothing_but_the_form_can_be_posted_to() -> None:
    async with running(settings()) as asker:
        for path in PAGES:
            assert 405 == (await asker.post(path, b"")).status


def test_the_license_of_what_is_not_ours_is_there() -> None:
    folder = Path("dashboards/console/static")
    assert "MIT" in (folder / "uPlot.LICENSE").read_text()
    assert (folder / "uPlot.VERSION").read_text().strip()


async def _enter(asker: Asker, token: str, path: str):  # type: ignore[no-untyped-def]
    return await asker.post(path, f"token={quote(token)}".encode(), content_type="application/x-www-form-urlencoded")
