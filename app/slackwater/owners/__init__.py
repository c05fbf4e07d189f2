"""All that belongs to one owner: erased, and exported."""
