"""Makes maps: sums ``gradient * bias`` by cell, and combines the maps of all terms into one."""
