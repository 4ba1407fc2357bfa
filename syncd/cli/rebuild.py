"""`syncd rebuild`: have a collection read anew from its source, and watch it."""

from __future__ import annotations

import sys
import time
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from syncd.backend import Publisher
from syncd.cli.exits import ExitCode, Failed
from syncd.cli.remote import api_options, json_line, open_publisher

__all__ = ["rebuild"]

LOOK_S = 0.2
"""Between two looks at a job that is followed."""
INTERRUPTED = 130
"""Exit code of a command that was ended by Ctrl-C, as shells have it."""

_UNDER_WAY = ("queued", "running", "swapping")


@click.command(short_help="Read a collection anew from its source.")
@click.argument("collection", required=False)
@click.option(
    "--mode",
    type=click.Choice(["full", "resume", "keys", "tag"]),
    help="resume goes on where the last job was left. Default full, or what --key and --tag mean.",
)
@click.option("--key", "keys", multiple=True, help="Read this entry only; may be repeated.")
@click.option("--tag", help="Read entries with this tag only.")
@click.option("--keep-missing", is_flag=True, help="Keep entries that the source has no more.")
@click.option("--max-rows-per-s", type=click.IntRange(1), help="Read no faster than this.")
@click.option("--deadline", type=click.FloatRange(0.001), help="Fail after so many seconds.")
@click.option("--join", is_flag=True, help="If a job is under way, take that one.")
@click.option("--follow", is_flag=True, help="Show how far it is until it has ended.")
@click.option("--cancel", metavar="JOB", help="Cancel this job instead.")
@api_options
def rebuild(
    collection: str | None,
    *,
    cancel: str | None,
    follow: bool,
    url: str,
    api_key: str | None,
    **options: Any,
) -> int:
    """Have COLLECTION read anew from its source, beside the entries there are.

    Prints the job as JSON: at once, or with --follow when it has ended. Ctrl-C while following asks
    whether to cancel the job or to leave it running; without a terminal it is left running.

    \b
    syncd rebuild orders --follow
    syncd rebuild orders --mode resume
    syncd rebuild orders --key 17 --key 18
    syncd rebuild --cancel 4f2a9c01d7be6a53
    """  # noqa: D301 - click reads the backslash: lines as they are
    with open_publisher(url, api_key) as publisher:
        if cancel is not None:
            click.echo(json_line(publisher.cancel_rebuild(cancel)))
            return ExitCode.OK
        if collection is None:
            raise Failed("Which COLLECTION? (or --cancel JOB)", ExitCode.USAGE)
        job = publisher.rebuild(collection, **_wish(**options))
        if follow:
            job, is_left = _follow(publisher, job)
            if is_left:
                click.echo(json_line(job))
                return INTERRUPTED
    click.echo(json_line(job))
    return ExitCode.FAILURE if job["state"] in ("failed", "cancelled") else ExitCode.OK


def _wish(
    *,
    mode: str | None,
    keys: tuple[str, ...],
    tag: str | None,
    deadline: float | None,
    max_rows_per_s: int | None,
    **flags: bool,
) -> dict[str, Any]:
    """Return the options of the API."""
    if mode is None:
        mode = "keys" if keys else "tag" if tag else "full"
    return {
        "mode": mode,
        "keys": list(keys) or None,
        "tag": tag,
        "max_rows_per_s": max_rows_per_s,
        "deadline_ms": None if deadline is None else int(deadline * 1000),
        **flags,
    }


def _follow(publisher: Publisher, job: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Show a job until it has ended; returns it, and whether it was left running."""
    while True:
        try:
            return _show(publisher, job), False
        except KeyboardInterrupt:
            if not _is_to_be_cancelled(job["job"]):
                return publisher.rebuild_job(job["job"]), True
            job = publisher.cancel_rebuild(job["job"])


def _is_to_be_cancelled(job_id: str) -> bool:
    """Ask what is to become of the job; who does not answer leaves it running."""
    answer = "detach"
    if sys.stdin.isatty():
        try:
            choice = click.Choice(["detach", "cancel"])
            text = "\nLeave the job running, or cancel it?"
            answer = click.prompt(text, default="detach", type=choice, err=True)
        except click.Abort:
            click.echo(err=True)
    if answer == "detach":
        text = f"The job goes on. To cancel it: syncd rebuild --cancel {job_id}"
        click.echo(text, err=True)
    return answer == "cancel"


def _show(publisher: Publisher, job: dict[str, Any]) -> dict[str, Any]:
    """Look at a job until it has ended; on a terminal with a bar."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="yellow"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        shown = bar.add_task("", total=None, rate="0", note="")
        while True:
            bar.update(
                shown,
                description=f"{job['collection']} {job['state']}",
                completed=job["done"],
                total=job["total"],
                rate=f"{job['rate_per_s']:,}",
                note=job["error"] or job["message"] or "",
            )
            if job["state"] not in _UNDER_WAY:
                return job
            time.sleep(LOOK_S)  # noqa: TID251 - a command has no other tasks
            job = publisher.rebuild_job(job["job"])
