"""How a run is watched, and how other values are put into it."""
