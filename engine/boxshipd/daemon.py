"""The daemon put together: what it is made of, in which order that starts, and in which it ends."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import resource
import shutil
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import msgspec
import uvloop
from boxrun.network.contract import Listener as GuardedListener
from boxship.types.system import Info

from boxshipd import __version__, log_format
from boxshipd.api.app import Application
from boxshipd.builder.cache import service as build_cache
from boxshipd.builder.service import Builder
from boxshipd.builder.sessions import SessionRegistry
from boxshipd.config import Config, ConfigError, cache_rules, reload
from boxshipd.containers.parts import ContainerParts
from boxshipd.containers.service import Containers
from boxshipd.containers.settings import Settings
from boxshipd.containers.spec.remapping import read_remapping
from boxshipd.errors import DaemonError
from boxshipd.events import Events
from boxshipd.heap import share_one_arena
from boxshipd.images.distribution import Distribution
from boxshipd.images.image import ImageUse
from boxshipd.images.service import Images
from boxshipd.images.workers import Workers
from boxshipd.info import engine_id, engine_info
from boxshipd.listeners import Listener, ListenError, open_listeners
from boxshipd.networks.kernel import NetworkKernel
from boxshipd.networks.service import Networks
from boxshipd.networks.settings import with_local_pool
from boxshipd.registry.own_listeners import OwnListeners
from boxshipd.runtime.connector import SupervisorConnector
from boxshipd.runtime.link import RuntimeLink
from boxshipd.scheduler.jobs import Scheduler
from boxshipd.state.store import Store
from boxshipd.volumes.service import Volumes

if TYPE_CHECKING:
    # Not loaded before something is built, or where there is no policy.
    from boxshipd.builder.run import Parts
    from boxshipd.trust.verifier import Trust

logger = logging.getLogger(__name__)

_BUILD_THREADS = 8
DRAIN_TIMEOUT = 5.0
"""Seconds that requests under way get to end when the daemon ends."""


def run(config: Config, flags: Mapping[str, Any], config_file: str | None) -> int:
    """Run the daemon until it is told to end; its exit code.

    Args:
        config: the configuration.
        flags: the command line's part of the configuration, which a reload merges again.
        config_file: the configuration file that was named, if any.
    """
    try:
        log_format.set_up(config.level, config.log_format)
        _allow_many_descriptors()
        with _locked(config.data_root), _pid_file(config.pidfile):
            share_one_arena()
            uvloop.run(Daemon(config, flags, config_file).run())
    except (ConfigError, ListenError, DaemonError, OSError) as error:
        logger.debug("the daemon can't run", exc_info=error)
        logger.critical("the daemon can't run: %s", error)
        return 1
    return 0


def _allow_many_descriptors() -> None:
    """Every client takes a descriptor, and its log's files more, so the soft limit has to be the hard one, as with dockerd."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Daemon:
    """One running daemon."""

    def __init__(self, config: Config, flags: Mapping[str, Any], config_file: str | None) -> None:
        self._config = config
        self._flags = flags
        self._config_file = config_file
        self._ended = asyncio.Event()
        self._info: dict[str, str] = {}

    async def run(self) -> None:
        """Start everything, serve until told to end, and end everything in the reverse order."""
        loop = asyncio.get_running_loop()
        config = self._config
        async with AsyncExitStack() as stack:
            # Clients can connect from here on, and wait; so whoever starts us needs no retries.
            listeners = open_listeners(config)
            for listener in listeners:
                stack.callback(listener.close)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._ended.set)
            self._store = Store.open(f"{config.data_root}/state.db")
            stack.callback(self._store.close)
            self._events = Events()
            self._guarded = tuple(
                GuardedListener(address=listener.socket.getsockname()[0], port=listener.socket.getsockname()[1])
                for listener in listeners
                if listener.socket.family != socket.AF_UNIX
            )
            await self._open_services(stack)
            application = Application(
                containers=self._containers,
                images=self._images,
                distribution=self._distribution,
                volumes=self._volumes,
                networks=self._networks,
                events=self._events,
                info=self._describe,
                shutdown=self._shut_everything_down,
                builder=self._builder,
                sessions=SessionRegistry(),
            )
            for listener in listeners:
                await listener.serve(application.server, config)
            loop.add_signal_handler(signal.SIGHUP, self._reload)
            self._insecure = tuple(
                str(listener.address)
                for listener in listeners
                if listener.socket.family != socket.AF_UNIX and not (config.tls and config.tlsverify)
            )
            self._tell_ready(listeners)
            await self._ended.wait()
            _notify("STOPPING=1")
            going_on = self._config.live_restore and self._runtime.connected
            logger.info("the daemon ends%s", "; containers go on" if going_on else "")
            for listener in listeners:
                listener.stop_accepting()
            await asyncio.gather(*(listener.drain(DRAIN_TIMEOUT) for listener in listeners))

    async def _open_services(self, stack: AsyncExitStack) -> None:
        config = self._config
        self._images = await Images.open(
            config.data_root,
            self._store,
            publish=self._publish,
            uses=self._uses_of_image,
            trust=_trust(config),
            kept=await build_cache.kept(self._store),
        )
        stack.callback(self._images.close)
        self._build_cache = await build_cache.BuildCache.open(self._images, self._store, config.data_root, cache_rules(config))
        stack.push_async_callback(self._build_cache.close)
        self._volumes = Volumes(self._store, config.data_root, self._publish)
        stack.callback(self._volumes.close)
        await self._volumes.open()
        self._runtime = RuntimeLink(SupervisorConnector(config.exec_root, config.level))
        stack.push_async_callback(self._runtime.close)
        kernel = NetworkKernel(self._runtime)
        scheduler = Scheduler()
        self._distribution = Distribution(
            self._images,
            scheduler,
            config.registry_client,
            own=OwnListeners((listener.address, listener.port) for listener in self._guarded),
            downloads=config.max_concurrent_downloads,
            uploads=config.max_concurrent_uploads,
        )
        stack.push_async_callback(self._distribution.close)
        stack.push_async_callback(scheduler.close, DRAIN_TIMEOUT)
        self._networks = Networks(
            store=self._store,
            settings=with_local_pool(config, engine_id(config.data_root)),
            kernel=kernel,
            scheduler=scheduler,
            publish=self._publish,
        )
        await self._networks.open()
        self._parts = ContainerParts(
            store=self._store,
            events=self._events,
            images=self._images,
            volumes=self._volumes,
            runtime=self._runtime,
            scheduler=scheduler,
            settings=_settings(config),
            networks=self._networks,
            kernel=kernel,
            policy=config.policy(self._guarded),
        )
        self._containers = Containers(self._parts)
        await self._parts.open()
        stack.push_async_callback(self._parts.close)
        workers = Workers(_BUILD_THREADS, "build")
        stack.callback(workers.close)
        self._builder = self._open_builder(scheduler, workers)

    def _open_builder(self, scheduler: Scheduler, workers: Workers) -> Builder:
        """The builder, most of which is loaded when something is built."""
        directory = os.path.join(self._config.data_root, "build")
        scratch = os.path.join(directory, "scratch")
        # What a crash has left.
        shutil.rmtree(scratch, ignore_errors=True)
        os.makedirs(scratch, mode=0o700)

        def load() -> Parts:
            from boxshipd.builder.opening import assemble

            return assemble(
                scratch=scratch,
                images=self._images,
                distribution=self._distribution,
                containers=self._containers,
                networks=self._networks,
                runtime=self._runtime,
                scheduler=scheduler,
                cache=self._build_cache,
                workers=workers,
                publish=self._publish,
                proxies=lambda: _proxy_variables(self._config),
            )

        return Builder(images=self._images, scheduler=scheduler, cache=self._build_cache, publish=self._publish, load=load)

    def _publish(self, kind: str, action: str, subject: str, attributes: Mapping[str, str]) -> None:
        self._events.publish(kind, action, subject, attributes)

    def _uses_of_image(self, image: str) -> Sequence[ImageUse]:
        # Images are opened before containers, which are made of them.
        return self._containers.image_uses(image)

    def _tell_ready(self, listeners: list[Listener]) -> None:
        features = self._runtime.features
        if features is not None and not features.seccomp:
            logger.warning(
                "no seccomp (%s): containers run only with --security-opt seccomp=unconfined", features.seccomp_error
            )
        for text in features.warnings if features is not None else ():
            logger.warning("%s", text)
        addresses = ", ".join(str(listener.address) for listener in listeners)
        logger.info("Boxship %s serves API 1.24 to 1.51 at %s", __version__, addresses)
        _notify("READY=1")

    async def _describe(self) -> Info:
        return engine_info(
            config=self._config,
            identity=engine_id(self._config.data_root),
            features=self._runtime.features if self._runtime.connected else None,
            counts=self._containers.counts(),
            images=len(await self._images.list()),
            followers=self._events.followers,
            insecure=self._insecure,
        )

    async def _shut_everything_down(self) -> None:
        logger.info("shutting everything down: containers, the runtime, the daemon")
        await self._parts.shutdown()
        self._ended.set()

    def _reload(self) -> None:
        """SIGHUP: take over what may change while the daemon runs."""
        try:
            fresh, waiting = reload(self._config, self._flags, self._config_file)
            trust = _trust(fresh)
        except (ConfigError, DaemonError) as error:
            logger.error("the configuration was not reloaded: %s", error)
            return
        self._config = fresh
        log_format.set_level(fresh.level)
        self._parts.reconfigure(_settings(fresh))
        self._images.trust = trust
        self._build_cache.reconfigure(cache_rules(fresh))
        self._distribution.reconfigure(fresh.registry_client, fresh.max_concurrent_downloads, fresh.max_concurrent_uploads)
        self._events.publish("daemon", "reload", engine_id(fresh.data_root), {"name": socket.gethostname(), **_reloaded(fresh)})
        if waiting:
            logger.warning("changed, but not before the daemon starts again: %s", ", ".join(waiting))
        logger.info("configuration reloaded")


def _trust(config: Config) -> Trust | None:
    """The signature policy with its keys, as their files are now.

    Raises:
        InvalidParameter: it can't be kept to the letter.
    """
    if not config.signature_policy:
        return None
    from boxshipd.trust.verifier import open_trust

    return open_trust(config.signature_policy)


def _settings(config: Config) -> Settings:
    """The part of the configuration that concerns containers.

    Raises:
        ConfigError: the seccomp profile can't be read, or the ids of containers' user namespaces can't be found.
    """
    profile = config.seccomp_profile
    if profile not in ("", "builtin", "unconfined"):
        try:
            with open(profile, encoding="utf-8") as file:
                profile = file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"opening seccomp profile ({profile}) failed: {error}") from error
    remapping = read_remapping(config.userns_remap)
    return Settings(
        data_root=config.data_root,
        exec_root=config.exec_root,
        cgroup_parent=config.cgroup_parent,
        log_config=config.log_config,
        default_shm_size=config.default_shm_size,
        default_ulimits=config.default_ulimits,
        default_ipc_mode=config.default_ipc_mode,
        default_cgroupns_mode=config.default_cgroupns_mode,
        no_new_privileges=config.no_new_privileges,
        seccomp_profile="" if profile == "builtin" else profile,
        init=config.init,
        uid_mappings=remapping.uids,
        gid_mappings=remapping.gids,
        runtimes=config.runtimes,
        default_runtime=config.default_runtime,
        cdi_spec_dirs=config.cdi_spec_dirs,
        live_restore=config.live_restore,
        shutdown_timeout=config.shutdown_timeout,
        dns=config.dns,
        dns_options=config.dns_opts,
        dns_search=config.dns_search,
        log_level=config.level,
    )


def _reloaded(config: Config) -> dict[str, str]:
    """The reload event's attributes."""
    return {
        "debug": str(config.debug).lower(),
        "labels": str(list(config.labels)).replace("'", '"'),
        "live-restore": str(config.live_restore).lower(),
        "shutdown-timeout": str(config.shutdown_timeout),
        "registry-mirrors": _listed(config.registry_mirrors),
        "insecure-registries": _listed(config.insecure_registries),
        "max-concurrent-downloads": str(config.max_concurrent_downloads),
        "max-concurrent-uploads": str(config.max_concurrent_uploads),
        "default-runtime": config.default_runtime,
        "runtimes": " ".join(f"{name}:{runtime.path}" for name, runtime in sorted(config.runtimes.items())),
    }


def _proxy_variables(config: Config) -> dict[str, str]:
    """The proxies as programs such as git look for them."""
    proxies = config.registry_client.proxies.over()
    named = {"http_proxy": proxies.http_proxy, "https_proxy": proxies.https_proxy, "no_proxy": proxies.no_proxy}
    return {name: value for name, value in named.items() if value}


def _listed(values: Sequence[str]) -> str:
    return msgspec.json.encode(list(values)).decode()


@contextlib.contextmanager
def _locked(data_root: str) -> Iterator[None]:
    """Make the data root and hold it: two daemons in one would destroy each other's state."""
    os.makedirs(data_root, mode=0o710, exist_ok=True)
    os.chmod(data_root, 0o710)
    directory = os.open(data_root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"data root {data_root} is in use by another daemon") from None
        yield
    finally:
        os.close(directory)


@contextlib.contextmanager
def _pid_file(path: str) -> Iterator[None]:
    """Keep our process id in a file, locked for as long as we live; one that is locked is another daemon's.

    Whether a process of that number runs says nothing: after a daemon's death its number may be anybody's.
    """
    if not path:
        yield
        return
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    file = _lock_pid_file(path)
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        yield
    finally:
        # While it is still locked, so that it can't be another's yet.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.close(file)


def _lock_pid_file(path: str) -> int:
    """Open the file and lock it; another one's where its owner removes it meanwhile, and so again."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file), os.stat(path)):
                return file
        except BlockingIOError:
            pid = os.pread(file, 32, 0).decode("ascii", "replace")
            os.close(file)
            raise ConfigError(f"process with PID {pid} is still running: pid file {path} is its own") from None
        except FileNotFoundError:
            pass
        os.close(file)


def _notify(state: str) -> None:
    """Tell systemd, where it started us. Source: sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock, contextlib.suppress(OSError):
        sock.sendto(state.encode(), address)
