"""dockerd's options that Boxship hasn't: refused by name, unless their value asks for nothing that isn't so."""

from __future__ import annotations

from typing import Any

ABSENT: dict[str, tuple[Any, ...]] = {
    "allow-direct-routing": (False,),
    "allow-nondistributable-artifacts": ([],),
    "api-cors-header": ("",),
    "authorization-plugins": ([],),
    "bridge-accept-fwmark": (),
    "containerd": (),
    "containerd-namespace": (),
    "containerd-plugin-namespace": (),
    "cpu-rt-period": (0,),
    "cpu-rt-runtime": (0,),
    "cri-containerd": (False,),
    "exec-opts": ([], ["native.cgroupdriver=cgroupfs"]),
    "experimental": (False,),
    "features": ({},),
    "firewall-backend": ("", "nftables"),
    "init-path": ("",),
    "ip-forward": (True,),
    "ip6tables": (True,),
    "iptables": (True,),
    "metrics-addr": ("",),
    "network-control-plane-mtu": (),
    "network-diagnostic-port": (0,),
    "node-generic-resources": ([],),
    "raw-logs": (False,),
    "rootless": (False,),
    "selinux-enabled": (False,),
    "storage-driver": ("overlay2", "overlayfs"),
    "storage-opts": ([],),
    "swarm-default-advertise-addr": ("",),
    "userland-proxy-path": ("",),
}
"""dockerd's options whose features aren't here, each with the values that don't ask for the feature."""

_FLAG_OF_ABSENT = {
    "authorization-plugins": "authorization-plugin",
    "containerd-plugin-namespace": "containerd-plugins-namespace",
    "exec-opts": "exec-opt",
    "features": "feature",
    "node-generic-resources": "node-generic-resource",
    "storage-opts": "storage-opt",
}

ABSENT_FLAGS = {_FLAG_OF_ABSENT.get(key, key): key for key in ABSENT}
"""From the flag to the key."""

REASONS = {
    "allow-direct-routing": "the gateway mode nat-unprotected opens a network to its neighbours",
    "bridge-accept-fwmark": "the option com.docker.network.bridge.trusted_host_interfaces lets connections in by interface",
    "firewall-backend": "networks' rules are in nftables",
    "ip-forward": "containers on networks need forwarding",
    "ip6tables": "networks need their rules, which are in a table of their own and leave all others alone",
    "iptables": "networks need their rules, which are in a table of their own and leave all others alone",
    "network-control-plane-mtu": "there is no Swarm",
    "userland-proxy-path": "what the kernel can't translate is relayed by a process of Boxship's own",
}
"""Why, where that helps."""
