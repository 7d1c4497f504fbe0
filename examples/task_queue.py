"""A task that decides by itself whether to be tried again later, as a Celery task would.

    python task_queue.py

The adapter's own retries last seconds; those of a queue last minutes. ``is_transient`` is true for
the errors that are worth it.
"""

import pickle

import requests

from resilient_requests import ResilientAdapter, is_transient
from resilient_requests.testing import FaultServer, reset, respond


def task(session: requests.Session, url: str, key: str) -> str:
    """Do the work. The task has a key of its own, so a later run repeats the same operation."""
    response = session.post(url, json={"name": "report"}, headers={"Idempotency-Key": key})
    response.raise_for_status()
    return response.text


def run(session: requests.Session, url: str, key: str, runs: int = 3) -> str:
    """Play a queue: run the task in a worker and unpickle its error.

    If another run may help, the task runs again. In Celery, a task with ``bind=True`` does the same
    by ``except requests.RequestException as error: if is_transient(error): raise
    self.retry(exc=error)``.
    """
    for number in range(1, runs + 1):
        try:
            return task(session, url, key)
        except requests.RequestException as error:
            sent_home = pickle.loads(pickle.dumps(error))  # our own, so that it is safe
            print(
                f"run {number}: {type(sent_home).__name__} after {len(sent_home.attempts)} attempts"
            )
            if not is_transient(sent_home) or number == runs:
                raise
    raise AssertionError


resets = [reset(applies=False)] * 4  # an outage that outlasts the first run of the task
with FaultServer(*resets, respond("done")) as server, requests.Session() as session:
    session.mount("http://", ResilientAdapter())

    print(f"result: {run(session, server.url, key='task-1')}")
    assert len(server.requests) == 5
    assert server.applied_keys == {"task-1": 1}
