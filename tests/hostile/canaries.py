"""What no scorer may reach: listeners that note each caller, secrets, and a folder to write in.

Every secret reads CANARY_ and 32 hexadecimal digits, so that an attack knows one when it sees
it without having been told.
"""

from __future__ import annotations

import secrets
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ports import own_listener

SECRET_BYTES = 16
READABLE_FOLDER, WRITABLE_FOLDER, WRITABLE_SOCKET = 0o755, 0o777, 0o777


def new_secret() -> str:
    return f"CANARY_{secrets.token_hex(SECRET_BYTES)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Canaries:
    """Where each is, and what it holds. `hits` are the callers that listeners had, so far.

    `in_file` stands in `file`, `in_environment` in the worker's environment, and `in_record`
    in a record of another project's that the same worker scores.
    """

    port: int
    unix_path: Path
    unix_abstract: str
    datagram_path: Path
    datagram_abstract: str
    file: Path
    drop: Path
    in_file: str
    in_environment: str
    in_record: str
    hits: list[str] = field(default_factory=list)

    @property
    def secrets(self) -> tuple[str, ...]:
        return self.in_file, self.in_environment, self.in_record

    def disturbed(self) -> list[str]:
        """Who called, and what was written where none may write. Forgets both."""
        found = [*self.hits, *(f"wrote {path.name}" for path in self.drop.iterdir())]
        self.hits.clear()
        for path in self.drop.iterdir():
            path.rmdir() if path.is_dir() else path.unlink()
        return found


@contextmanager
def listening() -> Iterator[Canaries]:
    """Canaries that any user of the machine could reach, were there no walls."""
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="canaries-")))
        folder.chmod(READABLE_FOLDER)
        drop = folder / "drop"
        drop.mkdir()
        drop.chmod(WRITABLE_FOLDER)
        tcp = opened.enter_context(own_listener())
        path = opened.enter_context(socket.socket(socket.AF_UNIX))
        path.bind(str(folder / "socket"))
        (folder / "socket").chmod(WRITABLE_SOCKET)
        abstract = opened.enter_context(socket.socket(socket.AF_UNIX))
        name = f"canary-{secrets.token_hex(8)}"
        abstract.bind(b"\0" + name.encode())
        by_path = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        by_path.bind(str(folder / "datagrams"))
        (folder / "datagrams").chmod(WRITABLE_SOCKET)
        by_name = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        by_name.bind(b"\0" + f"{name}-datagrams".encode())
        canaries = Canaries(
            port=tcp.getsockname()[1], unix_path=folder / "socket", unix_abstract=name,
            datagram_path=folder / "datagrams", datagram_abstract=f"{name}-datagrams",
            file=folder / "file", drop=drop,
            in_file=new_secret(), in_environment=new_secret(), in_record=new_secret(),
        )
        canaries.file.write_text(canaries.in_file)
        for kind, each in (("tcp", tcp), ("unix path", path), ("abstract", abstract)):
            each.listen()
            noting = (each, kind, canaries.hits)
            threading.Thread(target=note_callers, args=noting, daemon=True).start()
            opened.callback(shut, each)
        for kind, each in (("datagram path", by_path), ("datagram abstract", by_name)):
            noting = (each, kind, canaries.hits)
            threading.Thread(target=note_datagrams, args=noting, daemon=True).start()
            opened.callback(shut, each)
        yield canaries


def note_callers(listener: socket.socket, kind: str, hits: list[str]) -> None:
    """Until the listener is shut."""
    while True:
        try:
            caller, _ = listener.accept()
        except OSError:
            return
        hits.append(f"{kind} was called")
        caller.close()


def note_datagrams(receiver: socket.socket, kind: str, hits: list[str]) -> None:
    """Until the receiver is shut: then what comes is empty."""
    with suppress(OSError):
        while receiver.recv(100):
            hits.append(f"{kind} was sent to")


def shut(listener: socket.socket) -> None:
    """Wake the thread that waits on it, which closing alone does not."""
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
