"""What runs within the walls: standard library alone, nothing of the rest of the project.

The folder is bound read-only into each jail, below a path that makes `scorers.sandbox.inside`
importable there as it is here. `zygote` starts first and stays; for each run it forks a
`supervisor`, which forks the `child`, which gives up all powers and then does one job.
"""

from __future__ import annotations
