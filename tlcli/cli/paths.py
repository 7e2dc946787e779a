"""Paths of options: files and folders of this machine."""

import os
from typing import Any

import click

from tlcli.urls import Url, place


class Here(click.Path):
    """A file or folder that is read or written here; images alone are read from URLs."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        """The path."""
        found = place(value)
        if isinstance(found, Url):
            self.fail(
                f"Expected a path of this machine. Received: {str(value)!r}. Images alone are read "
                "from URLs: choose a file or folder here.",
                param,
                ctx,
            )
        return super().convert(str(found), param, ctx)
