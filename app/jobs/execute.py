"""Execute a run: claim it, play it, watch it, settle it; the whole life of a work-horse."""

import threading
from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta

from app.access.credentials import mark_refused
from app.access.redact import Redactor
from app.automation.events import Event, HostResult, Verdict
from app.automation.runner import Play, PlaybookRun
from app.domain.errors import HostlerError
from app.domain.states import Cause
from app.jobs.claim import Claim, claim_run
from app.jobs.context import Context
from app.jobs.prepare import Prepared, prepare_run
from app.jobs.progress import Fenced, Recorder
from app.jobs.settle import Stopped, settle_run
from app.jobs.stopped import settle_stopped_hosts
from app.jobs.watch import Watch
from app.log import log
from app.models.base import now, transaction

PROOF = timedelta(seconds=20)  # how long hosts may take to prove that nothing is left on them


def execute_run(ctx: Context, run_id: int, owner: str) -> None:
    """Do this run if nobody else has it; when this returns it is settled or somebody else's."""
    claim = claim_run(ctx, run_id, owner)
    if claim is None:
        log.info("Somebody else has the run, or its hosts", run_id=run_id, action="not_claimed")
        return
    log.info("Run begins", run_id=run_id, job_id=claim.job_id, hosts=len(claim.parts))
    try:
        prepared = prepare_run(ctx, claim)
    except Exception as error:
        settle_run(ctx, claim, _nothing_begun(claim, error))
        raise
    if prepared.play is None:
        settle_run(ctx, claim, _nobody(claim, prepared))
        return
    verdict, stopped = _play(ctx, claim, prepared, prepared.play)
    if verdict is not None:
        _note_refused(ctx, verdict, prepared)
        verdict = _with_missing_logins(verdict, prepared)
        settle_run(ctx, claim, verdict, stopped, prepared.standing)
        log.info("Run ended", run_id=run_id, job_id=claim.job_id, outcome=verdict.outcome)


def _play(
    ctx: Context, claim: Claim, prepared: Prepared, play: Play
) -> tuple[Verdict | None, Stopped]:
    """The verdict, and what is proved of hosts that were stopped; no verdict: not ours any more."""
    run = _playbook_run(ctx, play)
    redactor = Redactor(prepared.secrets)
    recorder = Recorder(ctx, claim, redactor, run.stop)
    proofs = Proofs(ctx, claim, play, redactor)

    def stop_hosts(hosts: set[int]) -> None:
        recorder.stopping |= hosts
        run.stop_hosts(hosts)
        proofs.begin(hosts)

    def stop() -> None:
        recorder.stopping |= set(play.limit)
        run.stop()

    with Watch(ctx, claim, stop, stop_hosts) as watch:
        begun = _Begun()

        def take(event: Event) -> None:
            begun.note(event)
            recorder.take(event)

        verdict = run.run(take)
        try:
            recorder.close()
        except Fenced:
            watch.is_fenced = True
        stopped = proofs.end()
        if watch.stop_requested and not watch.is_fenced:
            stopped = _redacted_proof(redactor, _prove_whole(ctx, play, begun))
    return (None if watch.is_fenced else _redacted(redactor, verdict)), stopped


class Proofs:
    """Asks hosts that were stopped one by one, and settles them while the run goes on for others.

    Each time in a thread: that takes seconds, and whoever asks for it also renews our lease.
    """

    def __init__(self, ctx: Context, claim: Claim, play: Play, redactor: Redactor) -> None:
        self.ctx, self.claim, self.play, self.redactor = ctx, claim, play, redactor
        self._threads: list[threading.Thread] = []
        self._failed: set[int] = set()

    def begin(self, hosts: set[int]) -> None:
        thread = threading.Thread(target=self._settle, args=(hosts,))
        self._threads.append(thread)
        thread.start()

    def end(self) -> Stopped:
        """When all have been asked: those of which nobody could find out whether they stopped."""
        for thread in self._threads:
            thread.join()
        return Stopped(unproved=dict.fromkeys(self._failed, NOT_ASKED))

    def _settle(self, hosts: set[int]) -> None:
        try:
            asked = prove_stopped(self.ctx, self.play, hosts & self.play.limit)
            known = replace(asked, proved=asked.proved | (hosts - self.play.limit))
            stopped = _redacted_proof(self.redactor, known)
            settle_stopped_hosts(self.ctx, self.claim, hosts, stopped)
        except Exception as error:
            log.error("Cannot settle stopped hosts", run_id=self.claim.run_id, error=repr(error))
            self._failed |= hosts


NOT_ASKED = "it was stopped here, but the host could not be asked whether its work ended"


def _playbook_run(ctx: Context, play: Play) -> PlaybookRun:
    settings = ctx.settings
    return PlaybookRun(play, settings.run_folder, quick_handshake=settings.quick_handshake)


def _redacted(redactor: Redactor, verdict: Verdict) -> Verdict:
    """The verdict as it may be stored: Ansible's last words can hold what it was given."""
    return replace(
        verdict,
        message=redactor.text(verdict.message),
        failed={host: (c, redactor.text(why)) for host, (c, why) in verdict.failed.items()},
    )


def _redacted_proof(redactor: Redactor, stopped: Stopped) -> Stopped:
    """The same for what hosts said when they were asked."""
    words = {host: redactor.text(why) for host, why in stopped.unproved.items()}
    return replace(stopped, unproved=words)


class _Begun:
    """Which hosts have been touched, and which of them said they were finished."""

    def __init__(self) -> None:
        self.hosts: set[int] = set()
        self.finished: set[int] = set()

    def note(self, event: Event) -> None:
        host_id = getattr(event, "host_id", None)
        if host_id is None:
            return
        self.hosts.add(host_id)
        if isinstance(event, HostResult) and "phases" in event.result:
            self.finished.add(host_id)


def _prove_whole(ctx: Context, play: Play, begun: _Begun) -> Stopped:
    """A stopped run: hosts never touched need no proof, the others are asked."""
    open_hosts = (begun.hosts & play.limit) - begun.finished
    asked = prove_stopped(ctx, play, open_hosts) if open_hosts else Stopped()
    return Stopped(proved=asked.proved | (play.limit - open_hosts), unproved=asked.unproved)


def prove_stopped(ctx: Context, play: Play, hosts: Collection[int]) -> Stopped:
    """Ask these hosts to let go of the run's lock; only their own answer is a proof."""
    if not hosts:
        return Stopped()
    proof = replace(play, playbook="release_hosts", limit=frozenset(hosts), timeout=PROOF)
    answers: dict[int, HostResult] = {}

    def take(event: Event) -> None:
        if isinstance(event, HostResult):
            answers[event.host_id] = event

    verdict = _playbook_run(ctx, proof).run(take)
    proved = frozenset(h for h in verdict.proven_ok if answers[h].result.get("released", True))
    return Stopped(
        proved=proved,
        unproved={
            host: f"{NOT_ASKED}: {verdict.failed.get(host, (Cause.LOST, 'no answer'))[1]}"
            for host in set(hosts) - proved
        },
    )


def _nothing_begun(claim: Claim, error: Exception) -> Verdict:
    """No host has been touched; only our own errors are known to be fit to be shown."""
    why = error.message if isinstance(error, HostlerError) else "it could not be prepared."
    return Verdict(
        proven_ok=frozenset(),
        failed={},
        not_started=frozenset(claim.parts),
        outside_limit=frozenset(),
        outcome="error",
        message=why,
    )


def _nobody(claim: Claim, prepared: Prepared) -> Verdict:
    return Verdict(
        proven_ok=frozenset(),
        failed={host: (Cause.AUTH, why) for host, why in prepared.without_login.items()},
        not_started=frozenset(),
        outside_limit=frozenset(),
        outcome="failed",
        message="No host of this run has a usable login.",
    )


def _note_refused(ctx: Context, verdict: Verdict, prepared: Prepared) -> None:
    """Other logins are tried before one that its host did not accept."""
    refused = [
        prepared.credentials[host]
        for host, (cause, _) in verdict.failed.items()
        if cause is Cause.AUTH and host in prepared.credentials
    ]
    if refused:
        with transaction(ctx.engine) as session:
            mark_refused(session, refused, now())


def _with_missing_logins(verdict: Verdict, prepared: Prepared) -> Verdict:
    missing = {host: (Cause.AUTH, why) for host, why in prepared.without_login.items()}
    return replace(verdict, failed=verdict.failed | missing)
