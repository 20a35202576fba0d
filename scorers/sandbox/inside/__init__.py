"""The code that runs inside a jail. It imports only the standard library and this package.

The folder is bound read-only into each jail, at a path that makes `scorers.sandbox.inside`
importable there as it is here. `zygote` is the jail's first process and stays. For each run it
forks a `supervisor`, which forks the `child`, which gives up all its powers and then does one
job.
"""

from __future__ import annotations
