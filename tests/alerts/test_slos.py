"""SLOs as data: what a file must say, and what one that does not is told."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from alerts import slos
from alerts.slos import FOLDER, SLOS, InvalidSlo, load, of, read

GOOD: dict[str, Any] = yaml.safe_load((FOLDER / "grpc-door-availability.yaml").read_text())


def changed(**spec: Any) -> dict[str, Any]:
    said = copy.deepcopy(GOOD)
    said["spec"] |= spec
    return said


def without(field: str) -> dict[str, Any]:
    said = copy.deepcopy(GOOD)
    del said["spec"][field]
    return said


def test_there_is_one_for_each_door_and_exit_and_for_what_tolerates_nothing() -> None:
    expected = ["backup-coverage", "correctness", "durability", "freshness-lake", "freshness-rds", "freshness-redis"]
    assert [*expected, "grpc-door-availability", "http-door-availability"] == [slo.name for slo in SLOS]


def test_a_file_is_read_as_it_was_written() -> None:
    slo = read(FOLDER / "grpc-door-availability.yaml")
    assert (0.999, 0.001, 30, "IngestErrorsFastBurn", "IngestErrorsSlowBurn") == (
        slo.objective, slo.budget, slo.days, slo.page, slo.ticket,
    )  # fmt: skip
    assert ("answers", "in time", "canary") == tuple(witness.name for witness in slo.witnesses)
    assert (("hop", "grpc-door"),) == slo.labels


def test_every_slo_says_how_low_traffic_is_handled() -> None:
    assert [] == [slo.name for slo in SLOS if len(slo.low_traffic.split()) < 10]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ([], "the file must be a mapping"),
        ({**GOOD, "kind": "Service"}, "begin it with `apiVersion: openslo/v1` and `kind: SLO`"),
        ({**GOOD, "metadata": {**GOOD["metadata"], "name": "No Good"}}, "use small letters, digits and hyphens"),
        ({**GOOD, "metadata": {**GOOD["metadata"], "color": "red"}}, "metadata has color: take it out"),
        (without("owner"), "spec lacks owner: add it"),
        (without("lowTraffic"), "spec lacks lowTraffic: add it"),
        (changed(owner=" "), "spec.owner must be a text"),
        (changed(service="other"), "spec.service must be spillway"),
        (changed(objective=100), "write per cent, from 50 to less than 100"),
        (changed(objective=0.999), "write per cent, from 50 to less than 100"),
        (changed(objective="99.9"), "write per cent, from 50 to less than 100"),
        (changed(timeWindow="1w"), "write days, such as 30d"),
        (changed(timeWindow="90d"), "at most 35d, since Prometheus forgets"),
        (changed(indicator=[]), "a list of at least one witness"),
        (changed(indicator=[{"name": "a", "bad": "x[$window]"}]), "spec.indicator[0] lacks total"),
        (changed(indicator=[{"name": "a", "bad": "x[5m]", "total": "y[$window]"}]), "spec.indicator[0].bad has no range"),
        (changed(indicator=[GOOD["spec"]["indicator"][0]] * 2), "name them differently"),
        (changed(burn={}), "nobody would be told"),
        (changed(burn={"sms": "IngestErrorsFastBurn"}), "spec.burn has sms: only page and ticket are known"),
        (changed(burn=[]), "spec.burn must be a mapping"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_remedy(said: Any, words: str) -> None:
    with pytest.raises(InvalidSlo) as caught:
        of(said)
    assert words in str(caught.value)


def test_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(without("owner")))
    with pytest.raises(InvalidSlo, match=r"mine\.yaml: spec lacks owner"):
        load(tmp_path)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(GOOD))
    with pytest.raises(InvalidSlo, match=r"call the file grpc-door-availability\.yaml, or the SLO mine"):
        load(tmp_path)
    (tmp_path / "mine.yaml").write_text("{")
    with pytest.raises(InvalidSlo, match=r"mine\.yaml: it can't be read as YAML"):
        load(tmp_path)


def test_a_ratio_of_nothing_is_nothing_bad() -> None:
    witness = slos.Witness("w", "bad[$window]", "all[$window]")
    assert "clamp((bad[5m]) / ((all[5m]) > 0), 0, 1) or (all[5m]) * 0" == witness.ratio("5m")
