"""The daemon's options: each one's key in daemon.json, its flag, what kind of value it takes and what it means."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal[
    "bool", "int", "text", "list", "map", "bytes", "ulimits", "runtimes", "registries", "pools", "options", "section"
]


class Option(NamedTuple):
    """An option as a key of daemon.json and as a flag (``short`` without its dash); a section has no flag."""

    key: str
    flag: str
    kind: Kind
    help: str
    short: str = ""
    reloadable: bool = False


OPTIONS: tuple[Option, ...] = (
    Option("hosts", "host", "list", "Daemon socket(s) to listen at: unix://path, tcp://host:port, fd://", "H"),
    Option("data-root", "data-root", "text", "Root directory of persistent state"),
    Option("exec-root", "exec-root", "text", "Root directory for execution state files"),
    Option("pidfile", "pidfile", "text", "Path to use for the daemon's PID file", "p"),
    Option("group", "group", "text", 'Group for the unix socket (default "docker" where there is one, else root)', "G"),
    Option("cgroup-parent", "cgroup-parent", "text", "Parent cgroup of all containers"),
    Option("debug", "debug", "bool", "Enable debug mode", "D", reloadable=True),
    Option("log-level", "log-level", "text", 'Logging level ("debug"|"info"|"warn"|"error"|"fatal")', "l"),
    Option("log-format", "log-format", "text", 'Logging format ("text"|"json")'),
    Option("labels", "label", "list", "key=value labels of the daemon", reloadable=True),
    Option("live-restore", "live-restore", "bool", "Leave containers running when the daemon ends", reloadable=True),
    Option("shutdown-timeout", "shutdown-timeout", "int", "Seconds containers get to stop in at shutdown", reloadable=True),
    Option("log-driver", "log-driver", "text", "Default log driver of containers"),
    Option("log-opts", "log-opt", "map", "Default log driver options of containers"),
    Option("default-shm-size", "default-shm-size", "bytes", "Default size of containers' /dev/shm"),
    Option("default-ulimits", "default-ulimit", "ulimits", "Default ulimits of containers (name=soft[:hard])"),
    Option("default-ipc-mode", "default-ipc-mode", "text", 'Default IPC mode of containers ("shareable"|"private")'),
    Option("default-cgroupns-mode", "default-cgroupns-mode", "text", 'Default cgroup namespace ("host"|"private")'),
    Option("no-new-privileges", "no-new-privileges", "bool", "Set no-new-privileges by default for new containers"),
    Option("seccomp-profile", "seccomp-profile", "text", 'Path to a seccomp profile, "builtin" or "unconfined"'),
    Option("init", "init", "bool", "Run an init in containers to forward signals and reap processes"),
    Option("userns-remap", "userns-remap", "text", 'User and group whose subordinate ids containers get, or "default"'),
    Option("runtimes", "add-runtime", "runtimes", "Register another OCI runtime (name=path)", reloadable=True),
    Option("default-runtime", "default-runtime", "text", "Runtime of containers that ask for none", reloadable=True),
    Option("cdi-spec-dirs", "cdi-spec-dir", "list", "Directories with the specifications of CDI devices"),
    Option(
        "signature-policy",
        "signature-policy",
        "text",
        "File that says which images must be signed, and by whom",
        reloadable=True,
    ),
    Option("dns", "dns", "list", "DNS servers of containers"),
    Option("dns-opts", "dns-opt", "list", "DNS options of containers"),
    Option("dns-search", "dns-search", "list", "DNS search domains of containers"),
    Option("registry-mirrors", "registry-mirror", "list", "Mirrors of Docker Hub that are tried first", reloadable=True),
    Option(
        "insecure-registries",
        "insecure-registry",
        "list",
        "Registries (host, host:port or network) that needn't use TLS",
        reloadable=True,
    ),
    Option(
        "registries",
        "registry",
        "registries",
        "Mirrors of any registry, or below a path prefix of it (prefix=address); in the file also whether it is insecure",
        reloadable=True,
    ),
    Option("registry-certs-dirs", "registry-certs-dir", "list", "Directories with registries' certificates and hosts.toml"),
    Option("proxies", "proxies", "map", "Proxies for registries: http-proxy, https-proxy and no-proxy (key=value)"),
    Option("http-proxy", "http-proxy", "text", "Proxy for registries in plain HTTP"),
    Option("https-proxy", "https-proxy", "text", "Proxy for registries with TLS"),
    Option("no-proxy", "no-proxy", "text", "Comma-separated list of hosts that are reached without a proxy"),
    Option(
        "max-concurrent-downloads", "max-concurrent-downloads", "int", "Blobs that are pulled at the same time", reloadable=True
    ),
    Option(
        "max-concurrent-uploads", "max-concurrent-uploads", "int", "Blobs that are pushed at the same time", reloadable=True
    ),
    Option("max-download-attempts", "max-download-attempts", "int", "Attempts at a download that makes no progress"),
    Option(
        "bridge", "bridge", "text", 'The default bridge\'s interface, which may be there already; "none" for no bridge', "b"
    ),
    Option("bip", "bip", "text", "IPv4 address of the default bridge, with its prefix length"),
    Option("bip6", "bip6", "text", "IPv6 address of the default bridge, with its prefix length"),
    Option("fixed-cidr", "fixed-cidr", "text", "IPv4 subnet for containers on the default bridge"),
    Option("fixed-cidr-v6", "fixed-cidr-v6", "text", "IPv6 subnet for containers on the default bridge"),
    Option("default-gateway", "default-gateway", "text", "IPv4 gateway of containers on the default bridge, if not that"),
    Option("default-gateway-v6", "default-gateway-v6", "text", "IPv6 gateway of containers on the default bridge, if not that"),
    Option("default-address-pools", "default-address-pool", "pools", "Pools of networks' subnets (base=CIDR,size=LENGTH)"),
    Option("default-network-opts", "default-network-opt", "options", "Default options of networks (driver=option=value)"),
    Option("host-gateway-ips", "host-gateway-ip", "list", "Addresses that host-gateway in --add-host means"),
    Option("icc", "icc", "bool", "Let containers on the default bridge reach each other"),
    Option("ip", "ip", "text", "Host address of ports published on the default bridge that name none"),
    Option("ip-masq", "ip-masq", "bool", "Let connections out of the default bridge have the host's address"),
    Option("ipv6", "ipv6", "bool", "Give the default bridge IPv6"),
    Option("mtu", "mtu", "int", "MTU of the default bridge"),
    Option("ip-forward-no-drop", "ip-forward-no-drop", "bool", "Forward for others too where networks made the host forward"),
    Option("firewall-respect-input", "firewall-respect-input", "bool", "Let the host's input rules decide of published ports"),
    Option(
        "userland-proxy",
        "userland-proxy",
        "bool",
        "Relay what the kernel can't translate: ::1, IPv6 to IPv4, and neighbours without icc",
    ),
    Option("tls", "tls", "bool", "Use TLS; implied by --tlsverify"),
    Option("tlsverify", "tlsverify", "bool", "Use TLS and make clients show a certificate"),
    Option("tlscacert", "tlscacert", "text", "Trust only clients' certificates signed by this CA"),
    Option("tlscert", "tlscert", "text", "Path to the TLS certificate file"),
    Option("tlskey", "tlskey", "text", "Path to the TLS key file"),
    Option("insecure-tcp", "insecure-tcp", "bool", "Serve tcp:// even where anybody could connect. Dangerous"),
    Option("builder", "", "section", "What of the build cache is removed by itself", reloadable=True),
)

FLAGS = tuple(option for option in OPTIONS if option.flag)
BY_KEY = {option.key: option for option in OPTIONS}
