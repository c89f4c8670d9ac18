"""Escalation policies: who is told, by which channel, how long they have to acknowledge, how often all of it is repeated.

A policy is a file of `alerts/policies/`, named like it:

    policy: checkout
    about: The team that owns checkout.
    levels:
      - notify:
          - {who: on-call, channel: pagerduty}
          - {who: team, channel: slack, optional: true}
        acknowledge_within_seconds: 300
      - notify: [{who: lead, channel: email}]
        acknowledge_within_seconds: 600
    repeat: 2                # after the last level begin again with the first, so often
    stop_on_resolve: true    # false: a person must acknowledge, even if the alert is over
    stands_for: default      # once one of its channels is configured, it is what `default` means

Rules.
- An `optional` target is left out while its channel is not configured, and with it a level that then reaches no person, and its
  time. Any other target without its channel is an error that says which variable to set.
- Channels that reach a person (all but `console` and `log`) come from the environment: `alerts.escalator.channels`.
- Rotations, quiet hours and SMS are the pager's; nothing here depends on a time of day.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[1] / "policies"
DEFAULT = "default"
TICKET = "ticket"
# They show a page to whoever looks, and reach nobody.
PASSIVE_CHANNELS = ("console", "log")
LEVELS_MAX, TARGETS_MAX, REPEAT_MAX = 10, 20, 50
ACKNOWLEDGE_SECONDS_MIN, ACKNOWLEDGE_SECONDS_MAX = 1, 86_400
# What to set, so that a channel of that kind is there.
VARIABLES = {
    "pagerduty": "SPILLWAY_ESCALATOR_PAGERDUTY_KEY",
    "slack": "SPILLWAY_ESCALATOR_SLACK_URL",
    "webhook": "SPILLWAY_ESCALATOR_WEBHOOK_URL",
    "email": "SPILLWAY_ESCALATOR_EMAIL_TO",
    "apprise": "SPILLWAY_ESCALATOR_APPRISE_URL",
}


class InvalidPolicy(Exception):
    """A policy can't be used; the text says where and what would be right."""


@dataclass(frozen=True, slots=True)
class Target:
    who: str
    channel: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Level:
    targets: tuple[Target, ...]
    # None: nobody need acknowledge, so nothing follows.
    acknowledge_seconds: float | None


@dataclass(frozen=True, slots=True)
class Policy:
    name: str
    levels: tuple[Level, ...]
    # How often all levels begin again after the first time.
    repeat: int = 0
    stop_on_resolve: bool = True
    # The policy in whose place it is taken once a channel of it is configured.
    stands_for: str = ""
    about: str = ""


def load(folder: Path = FOLDER) -> dict[str, Policy]:
    """Every policy of the folder, by name.

    Raises:
        InvalidPolicy: one can't be used, or `default` is missing.
    """
    found: dict[str, Policy] = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            told = yaml.safe_load(path.read_text())
        except yaml.YAMLError as exc:
            raise InvalidPolicy(f"{path} is no YAML: {exc}") from exc
        found[path.stem] = parse(told, str(path), path.stem)
    if DEFAULT not in found:
        raise InvalidPolicy(f"{folder} holds no {DEFAULT}.yaml: alerts without another policy take it, so write one")
    return found


def parse(told: Any, where: str, name: str) -> Policy:
    """Raises: InvalidPolicy."""
    table = _table(told, where, ("policy", "about", "levels", "repeat", "stop_on_resolve", "stands_for"))
    if table.get("policy") != name:
        raise InvalidPolicy(f"{where}: policy is {table.get('policy')!r}, but the file is named {name}: make them equal")
    levels = table.get("levels")
    if not isinstance(levels, list) or not 1 <= len(levels) <= LEVELS_MAX:
        raise InvalidPolicy(f"{where}: levels must be a list of 1 to {LEVELS_MAX} levels, the first is told at once")
    repeat = table.get("repeat", 0)
    if not isinstance(repeat, int) or isinstance(repeat, bool) or not 0 <= repeat <= REPEAT_MAX:
        raise InvalidPolicy(f"{where}: repeat is {repeat!r}; write how often all levels begin again, 0 to {REPEAT_MAX}")
    stop = table.get("stop_on_resolve", True)
    if not isinstance(stop, bool):
        raise InvalidPolicy(f"{where}: stop_on_resolve is {stop!r}; write true, or false if a person must acknowledge anyway")
    read = tuple(_level(level, f"{where}: level {number}") for number, level in enumerate(levels, 1))
    endless = [number for number, level in enumerate(read, 1) if level.acknowledge_seconds is None]
    if endless and (endless[0] < len(read) or repeat):
        raise InvalidPolicy(
            f"{where}: level {endless[0]} has no acknowledge_within_seconds, so what follows would never come: give it one, or "
            "make it the last level and repeat 0"
        )
    return Policy(name, read, repeat, stop, _word(table, "stands_for", where, ""), _word(table, "about", where, ""))


def _level(told: Any, where: str) -> Level:
    table = _table(told, where, ("notify", "acknowledge_within_seconds"))
    notify = table.get("notify")
    if not isinstance(notify, list) or not 1 <= len(notify) <= TARGETS_MAX:
        raise InvalidPolicy(f"{where}: notify must list 1 to {TARGETS_MAX} targets, as {{who: on-call, channel: pagerduty}}")
    targets = []
    for number, each in enumerate(notify, 1):
        at = f"{where}, target {number}"
        target = _table(each, at, ("who", "channel", "optional"))
        who, channel = _word(target, "who", at), _word(target, "channel", at)
        if kind_of(channel) not in (*VARIABLES, *PASSIVE_CHANNELS):
            kinds = ", ".join((*VARIABLES, *PASSIVE_CHANNELS))
            raise InvalidPolicy(
                f"{at}: there is no channel {channel!r}; it begins with one of {kinds} (pagerduty, pagerduty-lead)"
            )
        if not isinstance(target.get("optional", False), bool):
            raise InvalidPolicy(f"{at}: optional is {target['optional']!r}; write true or false")
        targets.append(Target(who, channel, target.get("optional", False)))
    if len({(target.who, target.channel) for target in targets}) < len(targets):
        raise InvalidPolicy(f"{where}: somebody is told twice by the same channel: remove one of the two")
    within = table.get("acknowledge_within_seconds")
    least, most = ACKNOWLEDGE_SECONDS_MIN, ACKNOWLEDGE_SECONDS_MAX
    if within is not None and (not isinstance(within, int | float) or isinstance(within, bool) or not least <= within <= most):
        raise InvalidPolicy(
            f"{where}: acknowledge_within_seconds is {within!r}; write {least} to {most}, or null: nothing follows"
        )
    return Level(tuple(targets), None if within is None else float(within))


def kind_of(channel: str) -> str:
    """`pagerduty` of `pagerduty-lead`."""
    return channel.partition("-")[0]


def variable_of(channel: str) -> str:
    """The environment's variable that makes this channel."""
    kind, _, name = channel.partition("-")
    head, _, tail = VARIABLES[kind].rpartition("_")
    return f"{head}_{name.upper()}_{tail}" if name else VARIABLES[kind]


def in_force(policies: Mapping[str, Policy], configured: Iterable[str]) -> dict[str, Policy]:
    """The policies as they work with these channels, by the name that alerts give.

    Raises:
        InvalidPolicy: a target that is not optional has no channel, or two policies stand for the same one.
    """
    there = {*configured, *PASSIVE_CHANNELS}
    found: dict[str, Policy] = {}
    standing: dict[str, Policy] = {}
    for name, policy in policies.items():
        stands = policy.stands_for
        if stands and stands not in policies:
            raise InvalidPolicy(f"{name} stands for {stands!r}, which is no policy: there is {', '.join(policies)}")
        channels = {target.channel for level in policy.levels for target in level.targets}
        if stands and not any(reaches_a_person(channel) and channel in there for channel in channels):
            continue
        trimmed = _trimmed(policy, there)
        found[name] = trimmed
        if stands and stands in standing:
            raise InvalidPolicy(f"{standing[stands].name} and {name} both stand for {stands}: only one may")
        if stands:
            standing[stands] = trimmed
    return found | standing


def _trimmed(policy: Policy, there: set[str]) -> Policy:
    """Without the targets that have no channel.

    A level that would have reached a person and now reaches none is left out, so that nobody waits for it; who only looks is told
    with the next one.
    """
    levels: list[Level] = []
    looking: tuple[Target, ...] = ()
    reaches = any(
        reaches_a_person(target.channel) and target.channel in there for level in policy.levels for target in level.targets
    )
    for number, level in enumerate(policy.levels, 1):
        missing = [target for target in level.targets if target.channel not in there]
        for target in missing:
            if not target.optional:
                raise InvalidPolicy(
                    f"policy {policy.name}, level {number} tells {target.who} by {target.channel}, which is not configured: set "
                    f"{variable_of(target.channel)}, or mark the target `optional: true`"
                )
        targets = tuple(target for target in level.targets if target.channel in there)
        if missing and reaches and not any(reaches_a_person(target.channel) for target in targets):
            looking += tuple(target for target in targets if target not in looking)
        elif targets:
            levels.append(Level((*targets, *(target for target in looking if target not in targets)), level.acknowledge_seconds))
            looking = ()
    if not levels:
        raise InvalidPolicy(f"policy {policy.name} tells nobody with the channels that are configured: add the channel `console`")
    return replace(policy, levels=tuple(levels))


def reaches_a_person(channel: str) -> bool:
    return channel not in PASSIVE_CHANNELS


def _table(told: Any, where: str, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(told, dict):
        raise InvalidPolicy(f"{where}: is {told!r}; write a table with {', '.join(known)}")
    unknown = sorted(str(name) for name in told if name not in known)
    if unknown:
        raise InvalidPolicy(f"{where}: there is no {unknown[0]!r}; there is {', '.join(known)}")
    return told


def _word(table: Mapping[str, Any], name: str, where: str, default: str | None = None) -> str:
    value = table.get(name, default)
    if not isinstance(value, str) or (default is None and not value.strip()):
        raise InvalidPolicy(f"{where}: {name} is {value!r}; write a word")
    return value.strip()
