"""PostgreSQL, Redis, Prometheus and Alertmanager as Debian builds them: what is installed is used, the rest fetched.

Nothing is installed and no daemon is started: `apt-get download` fetches, `dpkg-deb -x` unpacks into a cache folder, and the
server finds its shared libraries by LD_LIBRARY_PATH. No root is needed. Where the machine's package lists are missing or stale,
lists of our own are fetched into the cache folder, too. PostgreSQL's just-in-time compiler is left out (22 MB) and switched off
by the plan. Debian's Alertmanager opens its templates below /usr: an unpacked one is made to look below the folder in which it is
started.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.stack.errors import MissingTool
from pipeline.stack.folder import waiting_lock

FETCH_SECONDS_MAX = 300
ASK_SECONDS_MAX = 30
LIBRARY_ROUNDS_MAX = 8
# Wanted only by parts of a package that we do not run.
_LEFT_OUT = ("libllvm", "libelogind", "libc6", "libpam")
# The second names the same place, seen from the root of what was unpacked, in as many bytes.
_TEMPLATES, _TEMPLATES_HERE = b"/usr/share/prometheus/alertmanager", b"usr/share/prometheus//alertmanager"
_BY_HAND = (
    "PostgreSQL 15 or newer below /usr/lib/postgresql, and redis-server, prometheus with promtool, prometheus-alertmanager with "
    "amtool on PATH"
)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Tool:
    """Where a server's programs are, and where the libraries that came with them are (none if it is installed)."""

    programs: Path
    libraries: tuple[Path, ...] = ()

    @property
    def root(self) -> Path:
        """The folder that what it has below /usr was unpacked into."""
        return self.programs.parents[1]

    def env(self) -> dict[str, str]:
        return {"LD_LIBRARY_PATH": ":".join(map(str, self.libraries))} if self.libraries else {}


@dataclass(frozen=True, slots=True)
class Debian:
    cache: Path
    say: Say = lambda _: None
    # Whether to look at what is installed; tests of fetching do not.
    use_installed: bool = True

    def postgres(self) -> Tool:
        """A folder with `postgres` and `initdb`, 15 or newer.

        Raises:
            MissingTool: not installed, and not to be fetched.
        """
        if self.use_installed and (found := installed_postgres()) is not None:
            return Tool(found)
        root = self._fetched("postgres", self._postgres_packages)
        found = _newest(root / "usr/lib/postgresql")
        if found is None:
            raise MissingTool(f"the packages unpacked in {root} hold no postgres; remove that folder and repeat")
        return Tool(found, _libraries(root))

    def redis(self) -> Tool:
        """A folder with `redis-server`.

        Raises:
            MissingTool: not installed, and not to be fetched.
        """
        installed = shutil.which("redis-server") if self.use_installed else None
        if installed is not None:
            return Tool(Path(installed).parent)
        root = self._fetched("redis", lambda _: ("redis-server", "redis-tools"))
        return Tool(root / "usr/bin", _libraries(root))

    def prometheus(self) -> Tool:
        """A folder with `prometheus` and `promtool`.

        Raises:
            MissingTool: not installed, and not to be fetched.
        """
        installed = shutil.which("prometheus") if self.use_installed else None
        if installed is not None and (Path(installed).parent / "promtool").exists():
            return Tool(Path(installed).parent)
        return Tool(self._fetched("prometheus", lambda _: ("prometheus",)) / "usr/bin")

    def alertmanager(self) -> Tool:
        """A folder with `prometheus-alertmanager` and `amtool`, as Debian names them; to be started in `Tool.root`.

        Raises:
            MissingTool: not installed, and not to be fetched.
        """
        installed = shutil.which("prometheus-alertmanager") if self.use_installed else None
        if installed is not None and (Path(installed).parent / "amtool").exists():
            return Tool(Path(installed).parent)
        return Tool(self._fetched("alertmanager", lambda _: ("prometheus-alertmanager",), _find_templates_here) / "usr/bin")

    def _postgres_packages(self, apt: "Apt") -> tuple[str, ...]:
        server = "postgresql-15" if apt.having(["postgresql-15"]) else next(iter(apt.depends("postgresql")), "postgresql-15")
        return server, server.replace("postgresql-", "postgresql-client-")

    def _fetched(
        self, name: str, packages: Callable[["Apt"], tuple[str, ...]], then: Callable[[Path], None] = lambda _: None
    ) -> Path:
        folder = self.cache / "debian" / name
        done = folder / "complete"
        with waiting_lock(self.cache / "debian" / f"{name}.lock"):
            if done.exists():
                return folder / "root"
            _require_apt(name)
            shutil.rmtree(folder, ignore_errors=True)
            apt = Apt(folder / "downloads", self.cache / "debian" / "lists")
            self.say(f"fetching {name} from Debian's packages")
            if not set(packages(apt)) <= apt.having(packages(apt)):
                apt.refresh()
            _unpack(apt, packages(apt), folder)
            then(folder / "root")
            done.touch()
        return folder / "root"


@dataclass(slots=True)
class Apt:
    """The machine's apt, asked and used for downloads only."""

    downloads: Path
    lists: Path
    _own_lists: bool = False

    def having(self, packages: Iterable[str]) -> set[str]:
        """Those of the packages that could be downloaded. One question: each costs apt a second."""
        found: set[str] = set()
        package = ""
        for line in self._ask("apt-cache", "policy", *packages).splitlines():
            if not line.startswith(" "):
                package = line.rstrip(":")
            elif line.strip().startswith("Candidate:") and "(none)" not in line:
                found.add(package)
        return found

    def depends(self, *packages: str) -> tuple[str, ...]:
        quiet = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
        said = self._ask("apt-cache", "depends", *(f"--no-{each}" for each in quiet), *packages)
        return tuple(line.split(": ")[1].strip() for line in said.splitlines() if line.startswith("  Depends: "))

    def refresh(self) -> None:
        """Fetch package lists of our own; the machine's stay as they are."""
        self._own_lists = True
        (self.lists / "partial").mkdir(parents=True, exist_ok=True)
        (self.lists.parent / "apt-cache").mkdir(parents=True, exist_ok=True)
        self._run("apt-get", "-qq", "update")

    def download(self, packages: Sequence[str]) -> None:
        """Into the downloads folder; once more with fresh lists, since stale ones name files that are gone."""
        self.downloads.mkdir(parents=True, exist_ok=True)
        try:
            self._run("apt-get", "-qq", "download", *packages)
        except MissingTool:
            if self._own_lists:
                raise
            self.refresh()
            self._run("apt-get", "-qq", "download", *packages)

    def _options(self) -> list[str]:
        options = ["-o", f"APT::Sandbox::User={'root' if os.geteuid() == 0 else ''}"]
        if self._own_lists:
            options += ["-o", f"Dir::State::lists={self.lists}", "-o", f"Dir::Cache={self.lists.parent / 'apt-cache'}"]
        return options

    def _ask(self, program: str, *arguments: str) -> str:
        command = [program, *self._options(), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=ASK_SECONDS_MAX, env=_english(), check=False
        ).stdout

    def _run(self, program: str, *arguments: str) -> None:
        command = [program, *self._options(), *arguments]
        self.downloads.mkdir(parents=True, exist_ok=True)
        try:
            done = subprocess.run(
                command,
                cwd=self.downloads,
                capture_output=True,
                text=True,
                timeout=FETCH_SECONDS_MAX,
                env=_english(),
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            raise MissingTool(f"`{' '.join(command)}` did not end within {FETCH_SECONDS_MAX} s: is the network there?") from exc
        if done.returncode != 0:
            remedy = f"install {_BY_HAND} by hand, or make Debian's packages reachable"
            raise MissingTool(f"`{' '.join(command)}` failed: {done.stderr.strip()[-600:]}\n{remedy}")


def _unpack(apt: Apt, packages: Sequence[str], folder: Path) -> None:
    """Fetch and unpack, then what the programs' libraries still lack, until nothing is missing."""
    root = folder / "root"
    got: set[str] = set()
    wanted = list(packages)
    for _ in range(LIBRARY_ROUNDS_MAX):
        apt.download(wanted)
        for archive in apt.downloads.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", archive, root], check=True, timeout=FETCH_SECONDS_MAX)
            archive.unlink()
        got.update(wanted)
        missing = _missing_libraries(root)
        if not missing:
            return
        depended = {each for each in apt.depends(*wanted) if each.startswith("lib") and not each.startswith(_LEFT_OUT)}
        wanted = sorted(apt.having(depended - got - _installed(depended - got)))
        if not wanted:
            raise MissingTool(
                f"no package found for {', '.join(missing)}, which {', '.join(packages)} need; install them by hand"
            )
    raise MissingTool(f"{', '.join(packages)} still lack {', '.join(missing)} after {LIBRARY_ROUNDS_MAX} rounds")


def _find_templates_here(root: Path) -> None:
    """Raises: MissingTool: this is another build than we know."""
    program = root / "usr/bin/prometheus-alertmanager"
    content = program.read_bytes()
    if _TEMPLATES not in content:
        raise MissingTool(f"{program} does not look for its templates where we know; install prometheus-alertmanager by hand")
    program.write_bytes(content.replace(_TEMPLATES, _TEMPLATES_HERE))


def _installed(packages: Iterable[str]) -> set[str]:
    said = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\\n", *packages],
        capture_output=True,
        text=True,
        timeout=ASK_SECONDS_MAX,
        env=_english(),
        check=False,
    )
    return {line.split()[1] for line in said.stdout.splitlines() if line.startswith("installed ")}


def _missing_libraries(root: Path) -> list[str]:
    """Shared libraries that the unpacked servers want and neither the machine nor the cache has."""
    servers = [*root.glob("usr/lib/postgresql/*/bin/postgres"), *root.glob("usr/lib/postgresql/*/bin/initdb")]
    servers += [*root.glob("usr/bin/redis-server")]
    environment = _english() | {"LD_LIBRARY_PATH": ":".join(map(str, _libraries(root)))}
    missing: set[str] = set()
    for server in servers:
        said = subprocess.run(
            ["ldd", server], capture_output=True, text=True, env=environment, timeout=ASK_SECONDS_MAX, check=False
        )
        missing.update(line.split()[0] for line in said.stdout.splitlines() if "not found" in line)
    return sorted(missing)


def _libraries(root: Path) -> tuple[Path, ...]:
    return tuple(sorted({file.parent for pattern in ("usr/lib/*", "lib/*") for file in root.glob(f"{pattern}/lib*.so.*")}))


def installed_postgres() -> Path | None:
    """The programs of an installed PostgreSQL that fits."""
    return _newest(Path("/usr/lib/postgresql"))


def _newest(folder: Path) -> Path | None:
    """The programs of the newest PostgreSQL from 15 on below a folder like /usr/lib/postgresql."""
    versions = [int(each.name) for each in folder.glob("*") if each.name.isdigit() and (each / "bin/initdb").exists()]
    fit = [version for version in versions if version >= 15 and (folder / str(version) / "bin/postgres").exists()]
    return folder / str(max(fit)) / "bin" if fit else None


def _require_apt(name: str) -> None:
    lacking = [program for program in ("apt-get", "apt-cache", "dpkg-deb", "ldd") if shutil.which(program) is None]
    if lacking:
        raise MissingTool(
            f"{name} is not installed, and this machine has no {', '.join(lacking)} to fetch it with: install {_BY_HAND}"
        )


def _english() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
