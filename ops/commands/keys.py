"""`tallyard keys`: API keys, made, listed and revoked."""

from __future__ import annotations

import json

import click

from flows.access.principal import KeyRole
from ops.commands.session import opened


@click.group()
def keys() -> None:
    """Make, list and revoke API keys."""


@keys.command()
@click.option("--name", default="made on the command line", help="What the key is for.")
@click.option(
    "--role", type=click.Choice([role.value for role in KeyRole]), default=KeyRole.ADMIN.value,
    help="ingest logs, read looks, admin does everything.", show_default=True,
)
@click.option("--project", help="Name of the only project that the key may reach.")
@click.option("--json", "as_json", is_flag=True, help='Print {"key": ...}.')
def create(*, name: str, role: str, project: str | None, as_json: bool) -> None:
    """Make a key and show it: it is not kept, and cannot be shown again."""
    with opened() as here:
        key = here.tallyard.keys.create(
            here.principal, name=name, role=KeyRole(role),
            project_id=here.project(project).id if project else None,
        )
    reach = f"the project {project!r}" if project else "every project"
    click.echo(f"A key of role {role} for {reach}:", err=True)
    click.echo(json.dumps({"key": key}) if as_json else key)


@keys.command(name="list")
def list_keys() -> None:
    """List the keys, without their secrets."""
    with opened() as here:
        for key in here.tallyard.keys.list(here.principal):
            state = f"revoked {key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else "valid"
            used = f"{key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never"
            reach = str(key.project_id or "every project")
            click.echo(
                f"{key.id}  {key.role.value:<6}  {state}  last used {used}  {reach}  {key.name}"
            )


@keys.command()
@click.argument("key_id")
def revoke(key_id: str) -> None:
    """Make a key invalid (KEY_ID is what `keys list` shows). Safe to repeat."""
    with opened() as here:
        here.tallyard.keys.revoke(here.principal, key_id)
    click.echo(f"{key_id} is revoked; a server forgets it within seconds.")
