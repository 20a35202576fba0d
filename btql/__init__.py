"""The filter and query language.

Text or JSON is read into one typed tree. `btql.closure` compiles the tree to a Python function,
`store.btql` to SQL, with the same meaning.
"""

from __future__ import annotations

from btql.paths import columns_read, paths_read

__all__ = ["columns_read", "paths_read"]
