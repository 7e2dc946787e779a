"""TF_CONFIG: which processes train together, and which of them this one is."""

import os
from dataclasses import dataclass
from typing import Any

from tlcli import strict
from tlcli.errors import UsageError
from tlcli.strict import Malformed

VARIABLE = "TF_CONFIG"

EXAMPLE = '{"cluster": {"worker": ["a:5000", "b:5000"]}, "task": {"type": "worker", "index": 0}}'

_MOST_MEMBERS = 10**4


@dataclass(frozen=True)
class Members:
    """The workers of a job in TensorFlow's order, the chief first."""

    addresses: tuple[str, ...]
    here: int
    """The place of this process."""


def members_of_environment() -> Members:
    """What the environment says.

    Raises:
        UsageError: nothing, or nothing that can be meant.
    """
    found = os.environ.get(VARIABLE, "")
    if not found.strip():
        raise _unusable("it is not set")
    try:
        return _members(_CONTENT(strict.json_of(found.encode("utf-8", "surrogateescape"))))
    except Malformed as error:
        raise _unusable(str(error)) from error


def _unusable(reason: str) -> UsageError:
    return UsageError(
        f"Expected the addresses of all workers in {VARIABLE}. Received: {reason}. "
        f"Set it for each worker, like {VARIABLE}='{EXAMPLE}'."
    )


def _members(content: dict[str, Any]) -> Members:
    jobs: dict[str, tuple[str, ...]] = content["cluster"]
    task = content["task"]
    chiefs, workers = (jobs.get(job, ()) for job in _JOBS)
    if len(chiefs) > 1:
        raise Malformed(f"it has {len(chiefs)} chiefs")
    addresses = chiefs + workers
    if not addresses:
        raise Malformed("its cluster has no worker")
    strict.unique(addresses, "its cluster")
    group = jobs.get(task["type"], ())
    if task["index"] >= len(group):
        raise Malformed(f"its cluster has no {task['type']} {task['index']}")
    before = len(chiefs) if task["type"] != _JOBS[0] else 0
    return Members(addresses, before + task["index"])


_JOBS = ("chief", "worker")

_JOB = strict.text("|".join(_JOBS))

_CONTENT = strict.at_least(
    cluster=strict.mapping(_JOB, strict.listing(strict.text(r"[^\s/]+:[0-9]{1,5}"), _MOST_MEMBERS)),
    task=strict.at_least(type=_JOB, index=strict.whole(0, _MOST_MEMBERS)),
)
