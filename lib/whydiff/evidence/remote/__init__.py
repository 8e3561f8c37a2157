"""A side in an interpreter of its own: the child that runs it (host), what goes between (wire), and its twin here (side)."""
