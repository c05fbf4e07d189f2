"""Who was refused, and who has done what cannot be undone: rows of a table, kept for a time."""
