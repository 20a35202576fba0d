"""An object that runs a command when it is unpickled; and the pickle itself, as bytes."""

from __future__ import annotations

import os
import pickle


class Command:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def handler(metadata):
    command = Command(os.path.join(metadata["drop"], "unpickled"))
    match metadata["variant"]:
        case 0:
            return command
        case 1:
            return pickle.dumps(command)
        case _:
            for fd in range(3, 64):
                try:
                    os.write(fd, pickle.dumps(command))
                except OSError:
                    continue
            return command
