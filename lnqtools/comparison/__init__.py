"""Models side by side, by their metrics on the same cases."""
