"""What a process costs, seen from outside: CPU time to the nanosecond, and memory. Linux."""

from __future__ import annotations

import re
import resource
import time
from pathlib import Path


class CpuClock:
    """The time that all threads of a process have spent on a processor (seconds)."""

    def __init__(self, pid: int) -> None:
        # clock_getcpuclockid(3), which Python does not offer. /proc counts hundredths of a second.
        self._clock = (~pid << 3) | 2

    def __call__(self) -> float:
        return time.clock_gettime(self._clock)


def resident_bytes(pid: int) -> int:
    return _memory(pid, "VmRSS")


def _memory(pid: int, name: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024


class PeakMemory:
    """The most resident memory of a process since this was made, beyond what it had then."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew (proc_pid_clear_refs(5))
        self._before = _memory(pid, "VmRSS")

    @property
    def growth(self) -> int:
        return _memory(self._pid, "VmHWM") - self._before


def raise_file_limit() -> None:
    """Thousands of sockets, here and in the processes started from here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
