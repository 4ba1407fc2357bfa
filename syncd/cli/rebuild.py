"""`syncd rebuild`: have a collection read anew from its source, and watch it."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from syncd.backend import Publisher
from syncd.cli.exits import ExitCode
from syncd.cli.remote import api_options, json_line, open_publisher

__all__ = ["rebuild"]

LOOK_S = 0.2
"""Between two looks at a job that is followed."""
BAR_WIDTH = 30


@click.command(short_help="Read a collection anew from its source.")
@click.argument("collection")
@click.option(
    "--mode",
    type=click.Choice(["full", "resume"]),
    default="full",
    show_default=True,
    help="resume goes on where the last job was left.",
)
@click.option("--join", is_flag=True, help="If a job is under way, take that one.")
@click.option("--follow", is_flag=True, help="Show how far it is until it has ended.")
@api_options
def rebuild(
    collection: str, *, mode: str, join: bool, follow: bool, url: str, api_key: str | None
) -> int:
    """Have COLLECTION read anew from its source, beside the entries there are.

    Prints the job as JSON: at once, or with --follow when it has ended. Ctrl-C while following asks whether to cancel the job or to
    leave it running.

    \b
    syncd rebuild orders --follow
    syncd rebuild orders --mode resume
    """  # noqa: D301 - click reads the backslash: lines as they are
    with open_publisher(url, api_key) as publisher:
        job = publisher.rebuild(collection, mode=mode, join=join)
        if follow:
            try:
                job = _follow(publisher, job)
            except KeyboardInterrupt:
                click.echo(err=True)
                if not click.confirm("Cancel the job? (else it goes on)", err=True):
                    return 130
                publisher.cancel_rebuild(job["job"])
                job = _follow(publisher, job)
    click.echo(json_line(job))
    return ExitCode.FAILURE if job["state"] in ("failed", "cancelled") else ExitCode.OK


def _follow(publisher: Publisher, job: dict[str, Any]) -> dict[str, Any]:
    """Look at a job until it has ended; on a terminal its progress is one line."""
    stream = sys.stderr
    shows = stream.isatty()
    while job["state"] in ("queued", "running", "swapping"):
        if shows:
            stream.write(f"\r\x1b[K{_line(job)}")
            stream.flush()
        time.sleep(LOOK_S)  # noqa: TID251 - a command has no other tasks
        job = publisher.rebuild_job(job["job"])
    if shows:
        stream.write(f"\r\x1b[K{_line(job)}\n")
    return job


def _line(job: dict[str, Any]) -> str:
    """Return a job's progress in one line."""
    done, total = job["done"], job["total"]
    parts = [job["state"]]
    if total:
        share = min(1.0, done / total)
        filled = int(share * BAR_WIDTH)
        parts.append(f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {share:.0%}")
        parts.append(f"{done:,} of {total:,}")
    else:
        parts.append(f"{done:,} rows")
    parts.append(f"{job['rate_per_s']:,.0f}/s")
    if job["eta_ms"] is not None:
        parts.append(f"{job['eta_ms'] / 1000:.0f} s left")
    return "  ".join(parts)
