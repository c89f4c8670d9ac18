"""ministack, which serves S3, DynamoDB and KMS here, in a virtual environment of its own: it pins botocore, and so do we.

Made once per lock file from `requirements-ministack.lock` (exact versions with hashes) and kept in the cache folder.
It stores S3 objects as they come; `ministack_host` sees to KMS and DynamoDB; all else (a bucket's settings) it stores when it is
told to stop, and `provision` makes it anew after a SIGKILL.
"""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from uv import find_uv_bin

from pipeline.stack.errors import MissingTool
from pipeline.stack.folder import waiting_lock
from pipeline.stack.ports import HOST

INSTALL_SECONDS_MAX = 300


def lock_file() -> Path:
    return Path(__file__).resolve().parents[2] / "requirements-ministack.lock"


def ministack_python(cache: Path, say: Callable[[str], None] = lambda _: None) -> Path:
    """The interpreter that has ministack, made if it is not there.

    Raises:
        MissingTool: it can't be installed; the message carries the installer's words.
    """
    lock = lock_file()
    version = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = cache / "ministack" / version
    python, done = folder / "bin" / "python", folder / "complete"
    with waiting_lock(cache / "ministack" / "lock"):
        if done.exists():
            return python
        say("installing ministack into an environment of its own")
        shutil.rmtree(folder, ignore_errors=True)
        uv = find_uv_bin()
        _run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
        _run([uv, "pip", "install", "--quiet", "--python", str(python), "--require-hashes", "-r", str(lock)])
        done.touch()
    return python


def environment(port: int, data: Path, region: str) -> dict[str, str]:
    """Its settings: loopback only, everything below `data`, no service that we do not use."""
    return {
        "BIND_HOST": HOST,
        "GATEWAY_PORT": str(port),
        "MINISTACK_REGION": region,
        "S3_PERSIST": "1",
        "PERSIST_STATE": "1",
        "S3_DATA_DIR": str(data / "s3"),
        "STATE_DIR": str(data / "state"),
        "TMPDIR": str(data / "tmp"),
        "SERVICES": "s3,dynamodb,kms,sts,iam",
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "DOCKER_HOST": "unix:///nonexistent",
    }


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS_MAX, check=False)
    except subprocess.TimeoutExpired as exc:
        raise MissingTool(
            f"`{' '.join(command)}` did not end within {INSTALL_SECONDS_MAX} s: is the package index there?"
        ) from exc
    if done.returncode != 0:
        raise MissingTool(f"`{' '.join(command)}` failed: {done.stderr.strip()[-600:]}")
