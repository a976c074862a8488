"""The supervisor's service on the bus, and its messages: the whole of what a daemon can ask of the runtime.

Daemon and supervisor may be of neighbouring versions (the supervisor outlives a daemon upgrade), so fields and methods
are only ever added, with a default.
"""

from boxrun.supervisor.contract.containers import (
    Attachment,
    AttachReply,
    AttachRequest,
    ContainerList,
    ContainerRef,
    ContainerStatus,
    Framing,
    Phase,
    ResizeRequest,
    SignalRequest,
    StartFailure,
    StartReply,
    StartRequest,
)
from boxrun.supervisor.contract.events import RuntimeEvent, WatchRequest
from boxrun.supervisor.contract.execs import (
    ExecRef,
    ExecReleaseRequest,
    ExecReply,
    ExecRequest,
    ExecResizeRequest,
    ExecSignalRequest,
    ExecStatus,
)
from boxrun.supervisor.contract.groups import ProcessList, UpdateReply, UpdateRequest, UsageReply, UsageRequest
from boxrun.supervisor.contract.health import HealthReply, HealthReports, HealthReportsRequest, ProbeRequest
from boxrun.supervisor.contract.machine import CheckReply, CheckRequest, Features, ShutdownRequest
from boxrun.supervisor.contract.roots import RootReply, RootRequest, TreeRequest
from boxrun.supervisor.contract.service import Empty, Runtime

__all__ = [
    "AttachReply",
    "AttachRequest",
    "Attachment",
    "CheckReply",
    "CheckRequest",
    "ContainerList",
    "ContainerRef",
    "ContainerStatus",
    "Empty",
    "ExecRef",
    "ExecReleaseRequest",
    "ExecReply",
    "ExecRequest",
    "ExecResizeRequest",
    "ExecSignalRequest",
    "ExecStatus",
    "Features",
    "Framing",
    "HealthReply",
    "HealthReports",
    "HealthReportsRequest",
    "Phase",
    "ProbeRequest",
    "ProcessList",
    "ResizeRequest",
    "RootReply",
    "RootRequest",
    "Runtime",
    "RuntimeEvent",
    "ShutdownRequest",
    "SignalRequest",
    "StartFailure",
    "StartReply",
    "StartRequest",
    "TreeRequest",
    "UpdateReply",
    "UpdateRequest",
    "UsageReply",
    "UsageRequest",
    "WatchRequest",
]
