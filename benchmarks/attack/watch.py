"""What a process did while it worked on a hostile file: programs started, files outside touched, modules, memory."""

import os
import re
import resource
import sys
import sysconfig
from pathlib import Path
from typing import Any

STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.spawn")
NETWORK = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto", "urllib.Request")
CALLS = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
ROOT = Path(__file__).resolve().parents[2]
CODE = {str(ROOT), sys.prefix, sys.base_prefix, *sysconfig.get_paths().values()}
SYSTEM = ("/proc", "/sys", "/dev", "/usr/share", "/usr/lib", "/lib", "/etc/localtime", "/etc/mime.types")


class Watch:
    """Audit hook of this process, which stays until it ends. `found` holds what is not allowed.

    Args:
        own: folders that may be written.
    """

    def __init__(self, own: list[Path]):
        self.own = [os.path.realpath(path) for path in own]
        self.readable = [*self.own, *map(os.path.realpath, CODE), *SYSTEM]
        self.found: list[str] = []
        self.on = False
        self.modules = set(sys.modules)
        sys.addaudithook(self.hook)

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in STARTS or event in NETWORK:
            self.found.append(f"{event} {str(args)[:200]}")
        elif event == "open" and isinstance(args[0], str | bytes):
            mode, flags = args[1] or "", args[2] or 0
            writes = bool(set("wax+") & set(mode)) or bool(flags & WRITES)
            self.check(event, args[0], self.own if writes else self.readable)
        elif event in CALLS:
            for path in args:
                if isinstance(path, str | bytes):
                    self.check(event, path, self.own)

    def check(self, event: str, path: str | bytes, allowed: list[str]) -> None:
        """Record a path that lies in no allowed folder, links followed."""
        self.on = False  # realpath looks at files too
        real = os.path.realpath(os.fsdecode(path))
        if real != "/dev/null" and not any(real == folder or real.startswith(f"{folder}/") for folder in allowed):
            self.found.append(f"{event} {real[:200]}")
        self.on = True

    def start(self) -> None:
        """Begin a case."""
        self.found.clear()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        self.on = True

    def stop(self) -> tuple[list[str], int]:
        """End a case; return what was found, and the largest resident memory in bytes."""
        self.on = False
        new = {name: module for name, module in list(sys.modules.items()) if name not in self.modules}
        self.modules |= new.keys()
        for name, module in new.items():
            file = getattr(module, "__file__", None)
            if file and not any(os.path.realpath(file).startswith(os.path.realpath(folder)) for folder in CODE):
                self.found.append(f"import {name} from {file}")
        status = Path("/proc/self/status").read_text()
        return list(self.found), 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])  # type: ignore[index]


def limit(memory: float, seconds: int) -> None:
    """Limit what this process may allocate beyond what it has; end it after so many seconds of computing."""
    import signal

    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (int(size + memory), resource.RLIM_INFINITY))
    signal.setitimer(signal.ITIMER_PROF, seconds)
