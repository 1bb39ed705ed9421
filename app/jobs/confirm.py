"""A person lets a rollout go on to its next wave."""

from app.domain.errors import WrongState
from app.jobs.context import Context
from app.jobs.dispatch import open_runs
from app.jobs.find import take_task
from app.jobs.fold import refresh_tasks
from app.jobs.rollon import open_next_wave
from app.log import log
from app.models.base import again_on_deadlock, transaction


@again_on_deadlock
def confirm_task(ctx: Context, task_id: int, by: str, note: str = "") -> None:
    """Open the next wave of a rollout that waits for a person; raises TaskNotFound, WrongState."""
    with transaction(ctx.engine) as session:
        task = take_task(session, task_id)
        if not task.waits_for_person or task.is_aborted:
            raise WrongState("This task does not wait for a person.", state=task.status.name)
        open_next_wave(session, task)
        runs = open_runs(session, [task.id])
        refresh_tasks(session, [task.id])
    log.info("A rollout goes on", task_id=task_id, by=by, note=note)
    ctx.queue.send(runs)
