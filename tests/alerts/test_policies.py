"""Policies: those that are shipped work with any channels, and one that can't be used says what to do."""

from pathlib import Path

import pytest
import yaml

from alerts.escalator.channels import configured
from alerts.escalator.policy import InvalidPolicy, in_force, load, parse, reaches_a_person, variable_of
from alerts.escalator.settings import EscalatorSettings, InvalidSetting
from alerts.escalator.settings import load as settings_of

GOOD = "levels: [{notify: [{who: ann, channel: pagerduty}], acknowledge_within_seconds: 60}]"
KEY = "0123456789abcdef0123456789abcdef"
CHANNELS = ("pagerduty", "pagerduty-second", "slack", "webhook", "email", "apprise")


def channels_of(name: str, *configured: str) -> list[list[str]]:
    return [[target.channel for target in level.targets] for level in in_force(load(), configured)[name].levels]


def test_without_any_channel_pages_stand_in_the_console() -> None:
    assert [["console", "log"]] == channels_of("default")


def test_with_a_pager_alone_it_is_told_first_and_again() -> None:
    assert [["pagerduty", "console", "log"], ["pagerduty", "log"]] == channels_of("default", "pagerduty")


def test_with_mail_alone_nobody_waits_for_levels_that_reach_nobody() -> None:
    assert [["email", "log", "console"]] == channels_of("default", "email")


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("name", ["default", "acknowledged"])
def test_whatever_is_configured_is_reached_at_the_first_level(name: str, channel: str) -> None:
    assert any(reaches_a_person(target.channel) for target in in_force(load(), [channel])[name].levels[0].targets)


def test_every_shipped_policy_says_what_it_is_for() -> None:
    assert [] == [name for name, policy in load().items() if len(policy.about) < 20]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "write a table"),
        (f"policy: other\n{GOOD}", "make them equal"),
        ("policy: x", "levels must be a list"),
        (f"policy: x\nrepeat: often\n{GOOD}", "how often all levels begin again"),
        (f"policy: x\nstop_on_resolve: maybe\n{GOOD}", "write true, or false"),
        (f"policy: x\nlevel: 1\n{GOOD}", "there is no 'level'"),
        ("policy: x\nlevels: [{notify: []}]", "level 1: notify must list"),
        ("policy: x\nlevels: [{notify: [{who: ann, channel: fax}]}]", "no channel 'fax'"),
        ("policy: x\nlevels: [{notify: [{channel: log}]}]", "who is None"),
        ("policy: x\nlevels: [{notify: [{who: a, channel: log}], acknowledge_within_seconds: 0}]", "write 1 to 86400"),
        ("policy: x\nlevels: [{notify: [{who: a, channel: log}, {who: a, channel: log}]}]", "told twice"),
        ("policy: x\nlevels: [{notify: [{who: a, channel: log}]}, {notify: [{who: b, channel: log}]}]", "would never come"),
    ],
)
def test_a_policy_that_cant_be_used_says_what_would_be_right(text: str, says: str) -> None:
    with pytest.raises(InvalidPolicy) as caught:
        parse(yaml.safe_load(text), "x.yaml", "x")
    assert says in str(caught.value)
    assert str(caught.value).startswith("x.yaml")


def test_a_channel_that_is_needed_and_not_configured_is_named_with_its_variable() -> None:
    policy = parse(yaml.safe_load(f"policy: x\n{GOOD}".replace("pagerduty", "pagerduty-lead")), "x.yaml", "x")
    with pytest.raises(InvalidPolicy, match="SPILLWAY_ESCALATOR_PAGERDUTY_LEAD_KEY"):
        in_force({"x": policy}, [])


def test_a_folder_without_a_default_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidPolicy, match=r"no default\.yaml"):
        load(tmp_path)


def test_channels_come_from_the_environment_by_name() -> None:
    env = {
        "SPILLWAY_ESCALATOR_PAGERDUTY_KEY": KEY, "SPILLWAY_ESCALATOR_PAGERDUTY_LEAD_KEY": KEY[::-1],
        "SPILLWAY_ESCALATOR_SLACK_URL": "https://hooks.slack.com/x", "SPILLWAY_ESCALATOR_WEBHOOK_URL": "http://127.0.0.1/x",
        "SPILLWAY_ESCALATOR_EMAIL_TO": "a@b.c", "SPILLWAY_ESCALATOR_SMTP_FROM": "s@b.c",
        "SPILLWAY_ESCALATOR_SMTP_URL": "smtp://127.0.0.1",
        "SPILLWAY_ESCALATOR_APPRISE_URL": "json://127.0.0.1", "SPILLWAY_ESCALATOR_TOKEN": "unrelated",
    }  # fmt: skip
    found = configured(env, EscalatorSettings())
    assert ["pagerduty", "pagerduty-lead", "slack", "webhook", "email", "apprise"] == list(found)
    assert list(found) == [channel.name for channel in found.values()]
    assert "SPILLWAY_ESCALATOR_PAGERDUTY_LEAD_KEY" == variable_of("pagerduty-lead")


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"SPILLWAY_ESCALATOR_PAGERDUTY_KEY": "short"}, "32 letters and digits"),
        ({"SPILLWAY_ESCALATOR_SLACK_URL": "hooks"}, "is no address"),
        ({"SPILLWAY_ESCALATOR_EMAIL_TO": "a@b.c"}, "SPILLWAY_ESCALATOR_SMTP_URL must be too"),
        ({"SPILLWAY_ESCALATOR_DEADMAN_SECONDS": "soon"}, "a number of at least 1"),
        ({"SPILLWAY_ESCALATOR_TEST_AS": "loud"}, "change .* or info"),
    ],
)
def test_a_setting_that_cant_be_used_says_what_would_be_right(env: dict[str, str], says: str) -> None:
    with pytest.raises(InvalidSetting, match=says):
        configured(env, settings_of(env))
