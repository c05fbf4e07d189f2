"""The store over HTTP: items of an owner, which are the ones that the nodes of the owner's runs see."""

from __future__ import annotations
