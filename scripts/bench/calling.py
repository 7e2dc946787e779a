"""Calls tlcli in a process of its own, for the scripts beside this file."""

import json
import os
import subprocess
import sys
from typing import Any


def tlcli(*arguments: object, **environment: str) -> dict[str, Any]:
    """Run a command, its log on standard error; its JSON object."""
    command = [sys.executable, "-m", "tlcli", "-v", *map(str, arguments), "--json"]
    done = subprocess.run(  # noqa: S603 - our own command
        command, env={**os.environ, **environment}, check=True, stdout=subprocess.PIPE
    )
    return dict(json.loads(done.stdout))
