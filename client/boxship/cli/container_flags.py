"""The flags of ``create`` and ``run``: Docker's whole set, in Docker's order."""

from __future__ import annotations

from boxship.cli.environment import variable
from boxship.cli.flags import Absent, Flag, Integer, Items, Only, Options, Size, Switch, Text
from boxship.errors import InvalidValue

_WINDOWS = "it is a setting of Windows containers"
_NANO = 10**9


class Decimal(Flag[int]):
    """A number of CPUs, kept in billionths."""

    kind = "decimal"

    def __init__(self, help_text: str) -> None:
        super().__init__(help_text, 0)

    def take(self, text: str, current: int) -> int:
        """A decimal number with at most nine places."""
        whole, _, fraction = text.removeprefix("+").partition(".")
        if not (whole + fraction).isdigit() or not (whole + fraction).isascii():
            raise InvalidValue(f"failed to parse {text} as a rational number")
        if len(fraction.rstrip("0")) > 9:
            raise InvalidValue("value is too precise")
        return int(whole or 0) * _NANO + int(fraction[:9].ljust(9, "0"))


class Duration(Flag[int]):
    """A length of time, kept in nanoseconds."""

    kind = "duration"

    def __init__(self, help_text: str) -> None:
        super().__init__(help_text, 0, shown="0s")

    def take(self, text: str, current: int) -> int:
        """A duration in Go's notation."""
        from boxship.units import parse_duration

        return parse_duration(text)


def _label(text: str) -> str:
    if not text.partition("=")[0]:
        raise InvalidValue(f"invalid label '{text}': empty name")
    return text


def _stream(text: str) -> str:
    if text.lower() not in ("stdin", "stdout", "stderr"):
        raise InvalidValue("valid streams are STDIN, STDOUT and STDERR")
    return text.lower()


def _extra_host(text: str) -> str:
    name, equals, address = text.partition("=")
    if not equals:
        name, _, address = text.partition(":")
    if not name or not address:
        raise InvalidValue(f'bad format for add-host: "{text}"')
    if address != "host-gateway":
        bare = address.removeprefix("[").removesuffix("]") if address.startswith("[") else address
        try:
            return f"{name}:{_address(bare)}"
        except InvalidValue:
            raise InvalidValue(f'invalid IP address in add-host: "{address}"') from None
    return f"{name}:{address}"


def _address(text: str) -> str:
    from socket import AF_INET, AF_INET6, inet_pton

    for family in (AF_INET, AF_INET6):
        try:
            inet_pton(family, text.strip())
        except OSError:
            continue
        return text.strip()
    raise InvalidValue(f"IP address is not correctly formatted: {text}")


def _link(text: str) -> str:
    if not text or text.count(":") > 1:
        raise InvalidValue(f"bad format for links: {text}" if text else "empty string specified for links")
    return text


def _publish(text: str) -> str:
    from boxship.cli.publish import parse

    parse(text)
    return text


def check_ulimit(text: str) -> str:
    """A resource limit, ``name=soft[:hard]``, with both numbers.

    Raises:
        InvalidValue: it isn't one.
    """
    from boxship import ulimits

    name, equals, limits = text.partition("=")
    soft, colon, hard = limits.partition(":")
    if not equals:
        raise InvalidValue(f"invalid ulimit argument: {text}")
    if name not in ulimits.NAMES:
        raise InvalidValue(f"invalid ulimit type: {name}")
    try:
        numbers = [int(soft), int(hard if colon else soft)]
    except ValueError:
        raise InvalidValue(f"invalid ulimit argument: {text}") from None
    for number in numbers:
        if not -(1 << 63) <= number < 1 << 63:
            raise InvalidValue(f'strconv.ParseInt: parsing "{number}": value out of range')
    if numbers[1] >= 0 and (numbers[0] < 0 or numbers[0] > numbers[1]):
        raise InvalidValue(f"ulimit soft limit must be less than or equal to hard limit: {numbers[0]} > {numbers[1]}")
    return f"{name}={numbers[0]}:{numbers[1]}"


def _sysctl(text: str) -> str:
    name, equals, _ = text.partition("=")
    allowed = name.startswith(("net.", "fs.mqueue.")) or name in (
        [
            "kernel.msgmax",
            "kernel.msgmnb",
            "kernel.msgmni",
            "kernel.sem",
            "kernel.shmall",
            "kernel.shmmax",
            "kernel.shmmni",
            "kernel.shm_rmid_forced",
        ]
    )
    if not equals or not allowed:
        raise InvalidValue(f"sysctl '{text}' is not allowed")
    return text


def _device_value(text: str) -> str:
    path, colon, value = text.partition(":")
    if not colon or not path or not value:
        raise InvalidValue(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise InvalidValue(f"bad format for device path: {text}")
    return text


def _device_bytes(text: str) -> str:
    from boxship.units import parse_size

    path, _, value = _device_value(text).partition(":")
    return f"{path}:{parse_size(value)}"


def _device_number(text: str) -> str:
    value = _device_value(text).partition(":")[2]
    if not value.isdigit():
        raise InvalidValue(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive integer"
        )
    return text


def _device_rule(text: str) -> str:
    kind, _, rest = text.partition(" ")
    numbers, _, access = rest.partition(" ")
    major, colon, minor = numbers.partition(":")
    valid = kind in ("a", "b", "c") and colon and all(part == "*" or part.isdigit() for part in (major, minor))
    if not valid or not access or set(access) - set("rwm"):
        raise InvalidValue(f"invalid device cgroup format '{text}'")
    return text


class CreateOptions(Options):
    """The flags of ``create``, and all but four of ``run``'s."""

    add_host = Items("Add a custom host-to-IP mapping (host:ip)", check=_extra_host)
    annotation = Items("Add an annotation to the container (passed through to the runtime)", check=_label, kind="map")
    attach = Items("Attach to STDIN, STDOUT or STDERR", short="a", check=_stream)
    blkio_weight = Integer(
        "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)", minimum=0, maximum=65535, kind="uint16"
    )
    blkio_weight_device = Items("Block IO weight (relative device weight)", check=_device_number)
    cap_add = Items("Add Linux capabilities")
    cap_drop = Items("Drop Linux capabilities")
    cgroup_parent = Text("Optional parent cgroup for the container")
    cgroupns = Text("Cgroup namespace to use (host|private); the daemon's default where empty")
    cidfile = Text("Write the container ID to the file")
    cpu_count = Absent("CPU count (Windows only)", _WINDOWS, kind="int")
    cpu_percent = Absent("CPU percent (Windows only)", _WINDOWS, kind="int")
    cpu_period = Integer("Limit CPU CFS (Completely Fair Scheduler) period")
    cpu_quota = Integer("Limit CPU CFS (Completely Fair Scheduler) quota")
    cpu_rt_period = Integer("Limit CPU real-time period in microseconds")
    cpu_rt_runtime = Integer("Limit CPU real-time runtime in microseconds")
    cpu_shares = Integer("CPU shares (relative weight)", short="c")
    cpus = Decimal("Number of CPUs")
    cpuset_cpus = Text("CPUs in which to allow execution (0-3, 0,1)")
    cpuset_mems = Text("MEMs in which to allow execution (0-3, 0,1)")
    device = Items("Add a host device to the container")
    device_cgroup_rule = Items("Add a rule to the cgroup allowed devices list", check=_device_rule)
    device_read_bps = Items("Limit read rate (bytes per second) from a device", check=_device_bytes)
    device_read_iops = Items("Limit read rate (IO per second) from a device", check=_device_number)
    device_write_bps = Items("Limit write rate (bytes per second) to a device", check=_device_bytes)
    device_write_iops = Items("Limit write rate (IO per second) to a device", check=_device_number)
    disable_content_trust = Only("Skip image verification", True, "it has no content trust")
    dns = Items("Set custom DNS servers", check=_address)
    dns_option = Items("Set DNS options")
    dns_search = Items("Set custom DNS search domains")
    domainname = Text("Container NIS domain name")
    entrypoint = Text("Overwrite the default ENTRYPOINT of the image")
    env = Items("Set environment variables", short="e", check=variable)
    env_file = Items("Read in a file of environment variables")
    expose = Items("Expose a port or a range of ports")
    gpus = Items("GPU devices to add to the container ('all' to pass all GPUs)", kind="gpu-request")
    group_add = Items("Add additional groups to join")
    health_cmd = Text("Command to run to check health")
    health_interval = Duration("Time between running the check (ms|s|m|h)")
    health_on_failure = Text("What becomes of the container when it is unhealthy (none|kill|restart|stop)", kind="action")
    health_retries = Integer("Consecutive failures needed to report unhealthy")
    health_start_interval = Duration("Time between running the check during the start period (ms|s|m|h)")
    health_start_period = Duration("Start period for the container to initialize (ms|s|m|h)")
    health_timeout = Duration("Maximum time to allow one check to run (ms|s|m|h)")
    hostname = Text("Container host name", short="h")
    init = Switch("Run an init inside the container that forwards signals and reaps processes")
    interactive = Switch("Keep STDIN open even if not attached", short="i")
    io_maxbandwidth = Absent("Maximum IO bandwidth limit for the system drive (Windows only)", _WINDOWS, kind="bytes")
    io_maxiops = Absent("Maximum IOps limit for the system drive (Windows only)", _WINDOWS, kind="uint")
    ip = Text("IPv4 address (e.g., 172.30.100.104)")
    ip6 = Text("IPv6 address (e.g., 2001:db8::33)")
    ipc = Text("IPC mode to use")
    isolation = Text("Container isolation technology; there is but one (default)")
    kernel_memory = Absent("Kernel memory limit", "the kernel no longer limits its memory by itself", kind="bytes")
    label = Items("Set meta data on a container", short="l", check=_label)
    label_file = Items("Read in a line delimited file of labels")
    link = Items("Add link to another container", check=_link)
    link_local_ip = Items("Container IPv4/IPv6 link-local addresses")
    log_driver = Text("Logging driver for the container")
    log_opt = Items("Log driver options")
    mac_address = Text("Container MAC address (e.g., 92:d0:c6:0a:29:33)")
    memory = Size("Memory limit", short="m")
    memory_reservation = Size("Memory soft limit")
    memory_swap = Size("Swap limit equal to memory plus swap: '-1' to enable unlimited swap", unlimited=True)
    memory_swappiness = Integer("Tune container memory swappiness (0 to 100)", default=-1, shown="-1")
    mount = Items("Attach a filesystem mount to the container", kind="mount")
    name = Text("Assign a name to the container")
    network = Items("Connect a container to a network", kind="network")
    network_alias = Items("Add network-scoped alias for the container")
    no_healthcheck = Switch("Disable any container-specified HEALTHCHECK")
    oom_kill_disable = Switch("Disable OOM Killer")
    oom_score_adj = Integer("Tune host's OOM preferences (-1000 to 1000)")
    pid = Text("PID namespace to use")
    pids_limit = Integer("Tune container pids limit (set -1 for unlimited)")
    platform = Text("Set platform if server is multi-platform capable")
    privileged = Switch("Give extended privileges to this container")
    publish = Items("Publish a container's port(s) to the host", short="p", check=_publish)
    publish_all = Switch("Publish all exposed ports to random ports", short="P")
    pull = Text('Pull image before running ("always", "missing", "never")', default="missing", shown='"missing"')
    quiet = Switch("Suppress the pull output", short="q")
    read_only = Switch("Mount the container's root filesystem as read only")
    restart = Text("Restart policy to apply when a container exits", default="no", shown='"no"')
    rm = Switch("Automatically remove the container and its associated anonymous volumes when it exits")
    runtime = Text("Runtime to use for this container")
    security_opt = Items("Security Options")
    shm_size = Size("Size of /dev/shm")
    stop_signal = Text("Signal to stop the container")
    stop_timeout = Integer("Timeout (in seconds) to stop a container")
    storage_opt = Items("Storage driver options for the container")
    sysctl = Items("Sysctl options", check=_sysctl, kind="map")
    tmpfs = Items("Mount a tmpfs directory")
    tty = Switch("Allocate a pseudo-TTY", short="t")
    ulimit = Items("Ulimit options", check=check_ulimit, kind="ulimit")
    use_api_socket = Absent(
        "Bind mount Docker API socket and required auth",
        "nothing gives a container the daemon by the way; mount the socket where it is to have it",
        kind="",
    )
    user = Text("Username or UID (format: <name|uid>[:<group|gid>])", short="u")
    userns = Text("User namespace to use")
    uts = Text("UTS namespace to use")
    volume = Items("Bind mount a volume", short="v")
    volume_driver = Text("Optional volume driver for the container")
    volumes_from = Items("Mount volumes from the specified container(s)")
    workdir = Text("Working directory inside the container", short="w")


class RunOptions(CreateOptions):
    """The flags of ``run``."""

    detach = Switch("Run container in background and print container ID", short="d")
    detach_keys = Text("Override the key sequence for detaching a container")
    sig_proxy = Switch("Proxy received signals to the process", default=True, shown="true")
