"""The watch's eyes: every question at once, each with a deadline. What goes wrong is an answer, too."""

import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from alerts.watch.judge import QUESTIONS, Answer, Answers, Report, judge
from alerts.watch.settings import WatchSettings

ANSWER_BYTES_MAX = 16 << 20
# What is watched is near: no proxy in between.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def look(settings: WatchSettings) -> Report:
    """Ask everybody, and judge. Takes as long as the slowest answer, at most about `limits.answer`."""
    answers = ask(settings)
    return judge(answers, time.time(), settings.limits)


def ask(settings: WatchSettings) -> Mapping[str, Answers | None]:
    asked = {
        (watcher, name): f"{where}{path}"
        for watcher, where in settings.addresses.items()
        if where
        for name, path in QUESTIONS[watcher].items()
    }
    tokens = {"escalator": settings.escalator_token}
    with ThreadPoolExecutor(max(1, len(asked))) as pool:
        coming = {key: pool.submit(_ask, url, settings.limits.answer, tokens.get(key[0], "")) for key, url in asked.items()}
        found = {key: each.result() for key, each in coming.items()}
    return {
        watcher: {name: found[watcher, name] for name in QUESTIONS[watcher]} if where else None
        for watcher, where in settings.addresses.items()
    }


def _ask(url: str, seconds_max: float, token: str) -> Answer:
    asked = urllib.request.Request(url, headers={"authorization": f"Bearer {token}"} if token else {})
    try:
        with _DIRECT.open(asked, timeout=seconds_max) as answer:
            return Answer(answer.status, answer.read(ANSWER_BYTES_MAX).decode("utf-8", "replace"))
    except urllib.error.HTTPError as exc:
        return Answer(exc.code, exc.read(4096).decode("utf-8", "replace"))
    except TimeoutError:
        return Answer(0, error=f"nothing in {seconds_max:g} s")
    except urllib.error.URLError as exc:
        timed_out = isinstance(exc.reason, TimeoutError)
        return Answer(0, error=f"nothing in {seconds_max:g} s" if timed_out else str(getattr(exc.reason, "strerror", exc.reason)))
    except (OSError, ValueError) as exc:
        return Answer(0, error=str(exc) or type(exc).__name__)
