"""`python -m tests.e2e.producer`: a producer that writes down what it has handed to the SDK, and may be killed at any moment.

A line of the journal, "<id> <number>", is on disk after `send` has returned; so what is in the journal was promised.
"""

import argparse
import os
import time
from pathlib import Path

from pipeline.gen.spillway.events.v1.acquisition_pb2 import PageViewed
from pipeline.sdk.client import Client

PAGE = "https://shop.example/"


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--target", "--key", "--source", "--spool", "--journal"):
        parser.add_argument(name, required=True)
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--per-second", type=float, required=True)
    parser.add_argument("--close-seconds", type=float, required=True)
    said = parser.parse_args()
    journal = os.open(Path(said.journal), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    client = Client(said.target, said.key, source=said.source, spool=said.spool)
    start = time.monotonic()
    for number in range(said.count):
        time.sleep(max(0.0, start + number / said.per_second - time.monotonic()))
        made = client.send(PageViewed(page_url=f"{PAGE}{said.first + number}"), subject=f"visitor-{number % 20}")
        os.write(journal, f"{made.id} {said.first + number}\n".encode())
        os.fsync(journal)
    client.flush(said.close_seconds)
    client.close()


if __name__ == "__main__":
    main()
