"""What /proc says: process trees, their CPU time and memory, the machine's noise."""
import os
import re
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def stat(pid):
    """(ppid, ticks of user+system time, its own and that of its ended and waited-for children)"""
    f = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(f[1]), int(f[11]) + int(f[12]) + int(f[13]) + int(f[14])


def started(pid):
    """Start time of a process: with its id, a name for it that is never used again."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def tree(roots):
    """pid -> ticks for the processes in roots and all their descendants"""
    every = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                every[int(name)] = stat(name)
            except OSError:
                pass
    found, todo = {}, [p for p in roots if p in every]
    while todo:
        pid = todo.pop()
        found[pid] = every[pid][1]
        todo += [p for p, (parent, _) in every.items() if parent == pid and p not in found]
    return found


def machine():
    """(busy ticks, stolen ticks) of the whole machine"""
    f = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return f[0] + f[1] + f[2] + f[5] + f[6], f[7]


MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ (\S+) (\d+)\s*(.*)$")


def memory(pids):
    """MiB of the processes: {"all": ..., "memfd": ..., "front": ...}.

    PSS divides every page by the number of its mappings, so the sum over the tree counts a shared page once,
    memfd pages included; but only where the page is mapped by a process that has touched it. So memfd mappings are left
    out of the PSS, and every memfd that one of the processes maps or holds open is counted once, by its allocated
    blocks. "front" is what does not run Python: Trivet's supervisor and edge, or nginx; all memfds are counted there.
    """
    pss = front = 0
    memfds = {}                                  # (device, inode) -> bytes
    for pid in pids:
        mine = 0
        try:
            python = "python" in os.path.basename(os.readlink(f"/proc/{pid}/exe"))
            memfd = False
            for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
                if line.startswith("Pss:"):
                    mine += 0 if memfd else int(line.split()[1]) << 10
                elif found := MAPPING.match(line):
                    memfd = found[3].startswith("/memfd:")
                    if memfd:
                        try:
                            s = os.stat(f"/proc/{pid}/map_files/{line.split()[0]}")
                            memfds[s.st_dev, s.st_ino] = s.st_blocks * 512
                        except OSError:
                            memfd = False        # cannot be looked at: its PSS then
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{fd}").startswith("/memfd:"):
                    s = os.stat(f"/proc/{pid}/fd/{fd}")
                    memfds[s.st_dev, s.st_ino] = s.st_blocks * 512
        except OSError:
            pass
        else:
            front += 0 if python else mine
        pss += mine
    shared = sum(memfds.values())
    return {k: round(x / 2**20, 2) for k, x in (("all", pss + shared), ("memfd", shared), ("front", front + shared))}


def kernel_bytes():
    """(all slab memory, TCP buffers) of the kernel, in bytes, for the whole machine"""
    slab = int(re.search(r"^Slab:\s+(\d+)", Path("/proc/meminfo").read_text(), re.M)[1]) << 10
    tcp = int(re.search(r"^TCP: .* mem (\d+)", Path("/proc/net/sockstat").read_text(), re.M)[1]) * PAGE
    return slab, tcp
