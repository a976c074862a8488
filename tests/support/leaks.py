"""What a daemon left on the machine: mounts, cgroups, processes, network namespaces, devices, files in /run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from ipaddress import ip_address, ip_network
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")


def address_leaks(subnets: str, table: str) -> list[str]:
    """What is left in the host of a daemon's networks: interfaces with an address of its subnets, routes, and its tables.

    Args:
        subnets: a network that nobody else's addresses are of.
        table: the name of its tables in nf_tables.
    """
    whole = ip_network(subnets)
    shown = json.loads(subprocess.check_output(["ip", "-json", "-4", "address"]) or b"[]")
    found = [
        f"interface {link['ifname']} {address['local']}"
        for link in shown
        for address in link.get("addr_info", ())
        if ip_address(address["local"]) in whole
    ]
    if shutil.which("nft"):
        tables = subprocess.check_output(["nft", "list", "tables"], text=True).splitlines()
        found += [line for line in tables if line.split()[-1] == table]
    return found


def network_leaks(namespace: str) -> list[str]:
    """What networks left in a network namespace of a test's own, given by its name: interfaces, tables, sockets."""
    prefix = ["nsenter", f"--net=/run/netns/{namespace}"]

    def lines(*command: str) -> list[str]:
        done = subprocess.run([*prefix, *command], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    links = [f"interface {line.split(':')[1].split('@')[0].strip()}" for line in lines("ip", "-o", "link")]
    found = [link for link in links if link.split()[1].startswith(("bx", "br-"))]
    found += [table for table in lines("nft", "list", "tables") if "boxship" in table]
    return found + [f"socket {line}" for line in lines("ss", "-Hlntu")]


def leaks(name: str) -> list[str]:
    """Everything on the machine that bears ``name``, the unique name of a daemon's directory and cgroup."""
    found = [f"mount {line.split()[4]}" for line in Path("/proc/self/mountinfo").read_text().splitlines() if name in line]
    hierarchies = [CGROUP_ROOT, *(p for p in CGROUP_ROOT.iterdir() if p.is_dir())]
    found += [f"cgroup {hierarchy / name}" for hierarchy in hierarchies if (hierarchy / name).exists()]
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            about = Path(f"/proc/{entry}/cmdline").read_bytes() + Path(f"/proc/{entry}/cgroup").read_bytes()
            state = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if name.encode() in about and state != "Z":
            found.append(f"process {entry} {about[:120]!r}")
    if Path("/run/netns").exists():
        found += [f"netns {entry}" for entry in os.listdir("/run/netns") if name in entry]
    return found
