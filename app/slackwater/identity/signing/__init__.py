"""Keys that sign the tokens of this deployment: made once, in the database, shared by all processes, rotated with overlap."""
