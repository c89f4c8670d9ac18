"""ministack as it is, with one thing added: a change of KMS or DynamoDB is on disk before it is answered.

ministack keeps S3 objects as they come, but writes everything else when it is told to stop. Its SIGKILL would take the lease
table and, worse, the KMS keys under which pseudonym keys lie in S3. So this file wraps its ASGI application: what a changing
request changed is saved, in ministack's own form, before the first byte of the answer; if that fails, so does the request.
Runs under ministack's interpreter, with `-P` so that this folder is not searched for modules.
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Save = Callable[[str], None]

# Prefix of the request's target, and the name under which ministack keeps that service.
SERVICES = {"TrentService": "kms", "DynamoDB_20120810": "dynamodb"}
READ_ONLY = ("Get", "List", "Describe", "Query", "Scan", "BatchGet", "TransactGet", "Encrypt", "Decrypt", "GenerateDataKey")


def changed_service(target: str) -> str | None:
    """The service that a request may change; None for reads and for services that need no saving."""
    prefix, _, operation = target.partition(".")
    return None if operation.startswith(READ_ONLY) else SERVICES.get(prefix)


def durable(app: App, save: Save) -> App:
    """The application, answering a change only after `save(service)`; if that fails, the answer is an error, not success."""

    async def wrapped(scope: Message, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ())) if scope["type"] == "http" else {}
        service = changed_service(headers.get(b"x-amz-target", b"").decode("latin-1"))

        async def send_saved(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200 and service is not None:
                save(service)
            await send(message)

        await app(scope, receive, send_saved)

    return wrapped


def main() -> None:
    from ministack import app as ministack  # type: ignore[import-not-found]
    from ministack.core import persistence  # type: ignore[import-not-found]

    def save(service: str) -> None:
        """As `persistence.save_state` does, which would log a failure and go on."""
        state = ministack._build_persistence_save_dict()[service]()
        whole = {"__ministack_format__": persistence._state_format_version(service), "payload": state}
        path = Path(persistence.STATE_DIR) / f"{service}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".saving")
        beside.write_text(json.dumps(whole, default=persistence._json_default))
        beside.replace(path)

    ministack.app = durable(ministack.app, save)
    ministack.main()


if __name__ == "__main__":
    main()
