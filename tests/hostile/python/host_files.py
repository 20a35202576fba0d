"""Read what belongs to the host: a known file, homes, the worker's source, sockets, keys."""

from __future__ import annotations

import os

FOLDERS = (
    "/root", "/home", "/var", "/srv", "/mnt", "/media", "/boot", "/sys", "/run", "/var/run",
    "/root/.ssh", "/root/.aws", "/root/.config", "/etc/ssl/private", "/etc/cron.d",
)
FILES = (
    "/var/run/docker.sock", "/run/docker.sock", "/etc/passwd", "/etc/hosts",
    "/etc/resolv.conf", "/run/secrets/kubernetes.io/serviceaccount/token", "/etc/machine-id",
)


def on_the_way(path, visible):
    return any(f"{each}/".startswith(f"{path}/") for each in visible)


def handler(metadata):
    climbed = os.path.join("/proc/self/cwd", *[".."] * 20, metadata["file"].lstrip("/"))
    dotted = os.path.join(*[".."] * 20, metadata["file"].lstrip("/"))
    for path in (metadata["file"], metadata["source"], climbed, dotted, *FILES):
        try:
            with open(path, "rb") as file:
                return {"score": 1.0, "metadata": {"path": path, "text": repr(file.read(99))}}
        except OSError:
            continue
    for path in FOLDERS:
        try:
            names = os.listdir(path)
        except OSError:
            continue
        # On the way to what a scorer needs there are folders, and nothing else in them.
        visible = metadata["visible"]
        names = [name for name in names if not on_the_way(f"{path}/{name}", visible)]
        if names:
            return {"score": 1.0, "metadata": {"path": path, "names": names[:9]}}
    return 0.0
