"""The queue carries run ids and nothing else; the database is the truth."""

from collections.abc import Callable, Iterable
from functools import cached_property

from redis import Redis, RedisError
from rq import Queue
from rq.job import Job
from rq.queue import EnqueueData
from rq.serializers import JSONSerializer

from app.domain.errors import Unavailable
from app.log import log

QUEUE = "hostler"  # then the installation's id: several may share a Redis
ID_LENGTH = 12
FUNCTION = "app.worker.execute"  # a name on the wire: rename with a deprecation
CALLBACKS = ("_success_callback_name", "_failure_callback_name", "_stopped_callback_name")
FAILURE_TTL = 24 * 3600  # seconds an RQ failure stays to be looked at


class WorkQueue:
    """Where runs wait for a worker; losing all of it loses nothing."""

    def __init__(self, url: str, installation: Callable[[], str] = str) -> None:
        """Where Redis is, and how to find out which installation this is, when it is asked."""
        self.url = url
        self._installation = installation

    @cached_property
    def name(self) -> str:
        """What the queue is called in Redis; the names of its jobs begin with it."""
        mine = self._installation()[:ID_LENGTH]
        return f"{QUEUE}-{mine}" if mine else QUEUE

    @cached_property
    def connection(self) -> Redis:
        return Redis.from_url(self.url, socket_connect_timeout=2)

    @cached_property
    def rq(self) -> Queue:
        return Queue(self.name, connection=self.connection, serializer=JSONSerializer)

    def send(self, run_ids: Iterable[int]) -> bool:
        """Offer these runs to the workers; without Redis the keeper offers them again later."""
        run_ids = list(run_ids)
        try:
            if run_ids:
                self._send(run_ids)
        except RedisError as error:
            log.warning("The queue does not answer", action="send_failed", error=str(error))
            return False
        return True

    def _send(self, run_ids: list[int]) -> None:
        """All of them in one round trip; those that wait already are not sent again."""
        waiting = set(self.rq.get_job_ids())
        missing = [run_id for run_id in run_ids if self.rq_name(run_id) not in waiting]
        with self.connection.pipeline() as pipeline:
            for run_id in missing:
                # a leftover hash in no list would hide the run for ever
                pipeline.delete(self.rq.job_class.key_for(self.rq_name(run_id)))
            self.rq.enqueue_many(map(self._described, missing), pipeline=pipeline)
            pipeline.execute()

    def _described(self, run_id: int) -> EnqueueData:
        return self.rq.prepare_data(
            FUNCTION,
            kwargs={"run_id": run_id},
            job_id=self.rq_name(run_id),
            timeout=-1,
            result_ttl=0,
            failure_ttl=FAILURE_TTL,
            description=f"run {run_id}",
        )

    def check(self) -> None:
        """Raise Unavailable when Redis does not answer."""
        try:
            self.connection.ping()
        except RedisError as error:
            raise Unavailable("Redis does not answer.", cause=str(error)) from error

    def rq_name(self, run_id: int) -> str:
        """What RQ calls a run, on its dashboard too."""
        return f"{self.name}-run-{run_id}"

    def read_run(self, job: Job) -> int:
        """The run a job of this queue is about; raises Forged for one that we did not send.

        Whoever writes to Redis could name any function of any module, and RQ would call it.
        """
        try:
            called = (job.func_name, job.instance, list(job.args), list(job.kwargs))
            run_id = job.kwargs.get("run_id")
        except Exception:  # whatever stands there instead of a call
            raise Forged(job.id) from None
        named = [getattr(job, name, None) for name in CALLBACKS]
        if called != (FUNCTION, None, [], ["run_id"]) or any(named) or type(run_id) is not int:
            raise Forged(job.id)
        if job.id != self.rq_name(run_id):
            raise Forged(job.id)
        return run_id


class Forged(Exception):
    """Somebody else wrote this job into our queue."""
