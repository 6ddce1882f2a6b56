"""A look into processes through /proc: who is there, what memory they take."""

import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    state: str

    @property
    def executable(self) -> str:
        try:
            return os.readlink(f"/proc/{self.pid}/exe").removesuffix(" (deleted)")
        except OSError:
            return ""

    @property
    def command(self) -> list[str]:
        try:
            return (PROC / str(self.pid) / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            return []


def process(pid: int) -> Process | None:
    try:
        stat = (PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    after_name = stat[stat.rindex(b")") + 2 :].split()
    return Process(pid, int(after_name[1]), after_name[0].decode())


def everyone() -> list[Process]:
    found = (process(int(p.name)) for p in PROC.iterdir() if p.name.isdigit())
    return [p for p in found if p and p.state != "Z"]


def alive(pid: int) -> bool:
    found = process(pid)
    return found is not None and found.state != "Z"


def marked(mark: str) -> list[Process]:
    """All processes that inherited this text in their environment."""
    needle = mark.encode()
    found = []
    for p in everyone():
        try:
            if needle in (PROC / str(p.pid) / "environ").read_bytes():
                found.append(p)
        except OSError:
            continue
    return found


def _rollup(pid: int) -> dict[str, int]:
    lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}


def memory_bytes(*pids: int) -> int:
    """PSS of these processes, with every memfd page that one of them can reach counted once and whole."""
    private = 0
    memfds: dict[tuple[int, int], int] = {}
    for pid in pids:
        rollup = _rollup(pid)
        private += rollup["Pss"] - rollup.get("Pss_Shmem", 0)
        for entry in (PROC / str(pid) / "fd").iterdir():
            try:
                if "memfd:" in os.readlink(entry):
                    stat = os.stat(entry)
                    memfds[stat.st_dev, stat.st_ino] = stat.st_blocks * 512
            except OSError:
                continue
    return private + sum(memfds.values())


def own_bytes(pid: int) -> int:
    """What it has made itself: the figure that does not depend on who else runs the same program."""
    return _rollup(pid)["Anonymous"]


def cpu_seconds(pid: int) -> float:
    stat = (PROC / str(pid) / "stat").read_bytes()
    after_name = stat[stat.rindex(b")") + 2 :].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def descriptors(pid: int) -> int:
    return len(list((PROC / str(pid) / "fd").iterdir()))
