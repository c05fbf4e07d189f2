"""The next version of the project: the third node of `deploy` has another name."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_path = Path(__file__).parents[1] / "project" / "graphs.py"
_spec = importlib.util.spec_from_file_location("drill_graphs", _path)
assert _spec is not None
assert _spec.loader is not None
_graphs = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _graphs
_spec.loader.exec_module(_graphs)

deploy = _graphs.chain("one", "two", "third", "four")
