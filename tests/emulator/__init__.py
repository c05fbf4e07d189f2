"""The local twin of Lambda."""
