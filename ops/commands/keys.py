"""`tallyard keys`: creates, lists and revokes API keys."""

from __future__ import annotations

import json

import click

from flows.access.principal import KeyRole
from ops.commands.session import open_session


@click.group()
def keys() -> None:
    """Create, list and revoke API keys."""


@keys.command()
@click.option("--name", default="made on the command line", help="What the key is for.")
@click.option(
    "--role", type=click.Choice([role.value for role in KeyRole]), default=KeyRole.ADMIN.value,
    help="ingest writes logs, read reads, admin does everything.", show_default=True,
)
@click.option("--project", help="Name of the project to limit the key to (default: none).")
@click.option("--json", "as_json", is_flag=True, help='Print {"key": ...}.')
def create(*, name: str, role: str, project: str | None, as_json: bool) -> None:
    """Create a key and print it. Only its hash is stored: it cannot be shown again."""
    with open_session() as session:
        key = session.tallyard.keys.create(
            session.principal, name=name, role=KeyRole(role),
            project_id=session.project(project).id if project else None,
        )
    reach = f"the project {project!r}" if project else "every project"
    click.echo(f"A key with the role {role} for {reach}:", err=True)
    click.echo(json.dumps({"key": key}) if as_json else key)


@keys.command(name="list")
def list_keys() -> None:
    """List the keys, without their secrets."""
    with open_session() as session:
        for key in session.tallyard.keys.list(session.principal):
            state = f"revoked {key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else "valid"
            used = f"{key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never"
            reach = str(key.project_id or "every project")
            click.echo(
                f"{key.id}  {key.role.value:<6}  {state}  last used {used}  {reach}  {key.name}"
            )


@keys.command()
@click.argument("key_id")
def revoke(key_id: str) -> None:
    """Make the key KEY_ID, as `keys list` shows it, invalid. Safe to repeat."""
    with open_session() as session:
        session.tallyard.keys.revoke(session.principal, key_id)
    click.echo(f"{key_id} is revoked; every server refuses it within a few seconds.")
