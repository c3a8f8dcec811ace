"""One HTML page to look at: the numbers of a run, and every case in slices."""
