"""Which Java the ETL runs on: PATH's if Spark takes it, else the packaged one."""

import os
import subprocess
from pathlib import Path

import pytest

from pipeline.etl.session import installed_java, packaged_java_home


def _java_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> Path:
    script = folder / "java"
    script.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-04-15' >&2\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin:/bin")
    return script


@pytest.mark.parametrize("version", ["17.0.15", "21", "25.0.2.1"])
def test_a_java_that_spark_takes_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    script = _java_on_path(tmp_path, monkeypatch, version)
    assert str(script) == installed_java()


@pytest.mark.parametrize("version", ["1.8.0_401", "11.0.2", "16"])
def test_an_older_java_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    _java_on_path(tmp_path, monkeypatch, version)
    assert installed_java() is None


def test_no_java_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert installed_java() is None


def test_the_packaged_java_starts_with_what_sparks_launcher_asks_for(tmp_path: Path) -> None:
    java = packaged_java_home(tmp_path) / "bin" / "java"
    words = [str(java), "--add-modules=jdk.incubator.vector", "-version"]
    run = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (0, True) == (run.returncode, "openjdk" in run.stderr)
