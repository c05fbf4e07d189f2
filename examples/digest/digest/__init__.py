"""A folder of texts becomes one report."""
