"""The next deploy: nodes of the same graphs have other names."""

from __future__ import annotations

from voyage import chain, fan, joining

line = chain("a", "b", "see", "d")
nest = chain("a", "child", "z", child=chain("in_1", "in_two", "in_3"))
joined = joining("after")
fan = fan
