"""Training labels: 0 background, 1 lymph node, 2 unknown."""
