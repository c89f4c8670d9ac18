"""Settings: environment over file over default, and every mistake is named."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from pipeline.config import Settings, load
from pipeline.errors import InvalidConfiguration


@dataclass(frozen=True, slots=True)
class Oven:
    SECTION: ClassVar[str] = "oven"
    degrees: int = 180
    fan: bool = False
    mode: Literal["bake", "grill"] = "bake"
    racks: tuple[str, ...] = ()
    timer_seconds: float | None = None
    tray: Path = Path("tray")


def test_defaults_work_without_any_configuration() -> None:
    assert Oven() == load(Oven, {})


def test_environment_wins_over_file(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text('bucket = "mine"\n[oven]\ndegrees = 200\nracks = ["a", "b"]\nfan = true\n')
    env = {
        "SPILLWAY_CONFIG": str(file),
        "SPILLWAY_OVEN_DEGREES": "220",
        "SPILLWAY_OVEN_TIMER_SECONDS": "1.5",
        "SPILLWAY_OVEN_TRAY": "/t",
    }
    assert Oven(degrees=220, fan=True, racks=("a", "b"), timer_seconds=1.5, tray=Path("/t")) == load(Oven, env)
    assert "mine" == load(Settings, env).bucket


def test_lists_come_from_commas_in_the_environment() -> None:
    assert ("a", "b") == load(Oven, {"SPILLWAY_OVEN_RACKS": "a, b"}).racks


@pytest.mark.parametrize(
    ("env", "complaint"),
    [
        ({"SPILLWAY_OVEN_DEGREES": "hot"}, "SPILLWAY_OVEN_DEGREES"),
        ({"SPILLWAY_OVEN_FAN": "maybe"}, "SPILLWAY_OVEN_FAN"),
        ({"SPILLWAY_OVEN_MODE": "boil"}, "bake, grill"),
        ({"SPILLWAY_CONFIG": "/nowhere/s.toml"}, "/nowhere/s.toml"),
    ],
)
def test_a_wrong_value_is_named(env: dict[str, str], complaint: str) -> None:
    with pytest.raises(InvalidConfiguration, match=complaint):
        load(Oven, env)


def test_a_misspelt_setting_in_the_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("[oven]\ndegreees = 200\n")
    with pytest.raises(InvalidConfiguration, match="degreees"):
        load(Oven, {"SPILLWAY_CONFIG": str(file)})
