"""What can go wrong, in families a dialect can translate."""

from typing import Any


class HostlerError(Exception):
    """Something went wrong on our side."""

    def __init__(self, message: str = "", **details: Any) -> None:
        self.message = message or (self.__doc__ or "").strip()
        self.details = details
        super().__init__(self.message)


class InvalidRequest(HostlerError):
    """The request cannot be understood."""


class Unauthenticated(HostlerError):
    """Sign in first: the credentials are missing or wrong."""


class Forbidden(HostlerError):
    """You may not do this."""


class NotFound(HostlerError):
    """There is no such thing."""


class Conflict(HostlerError):
    """The current state does not allow this."""


class Unavailable(HostlerError):
    """A part we depend on does not answer; trying again can help."""


class PreconditionFailed(Conflict):
    """Some hosts are not ready for this job."""


class AllFiltered(PreconditionFailed):
    """Every host was filtered; nothing was started."""


class LoginMissing(PreconditionFailed):
    """There is no usable login for some hosts; send new credentials."""


class AllWithoutLogin(LoginMissing):
    """Every host was filtered, for want of a login; nothing was started."""


class NoProxy(PreconditionFailed):
    """Some hosts are in a zone without a proxy; nothing was started."""


class NothingToRetry(Conflict):
    """Nothing here failed, so there is nothing to retry."""


class NothingToStop(Conflict):
    """Nothing here is waiting or running, so there is nothing to stop."""


class HostsBusy(Conflict):
    """Another job is changing these hosts."""


class NotReady(Conflict):
    """The task is still being prepared."""


class JobNotFound(NotFound):
    """There is no such job."""


class InstanceNotFound(NotFound):
    """The job has no such target."""


class HostNotFound(NotFound):
    """There is no such host."""


class ZoneNotFound(NotFound):
    """There is no such zone."""


class AccessPointNotFound(NotFound):
    """There is no such access point."""


class InstallChannelNotFound(NotFound):
    """There is no such install channel."""


class SubscriptionNotFound(NotFound):
    """There is no such subscription."""


class TaskNotFound(NotFound):
    """There is no such task."""


class SubtaskNotFound(NotFound):
    """There is no such subtask in this task."""


class WrongState(Conflict):
    """This operation is not supported in the current state."""


class RollbackProhibited(Conflict):
    """What this task did cannot be taken back."""


class HeldByNewerTask(Conflict):
    """A newer task has these hosts; operate on that one."""


class PackageMissing(PreconditionFailed):
    """No package is registered for this work."""


class BodyTooLarge(InvalidRequest):
    """The request body is too large."""
