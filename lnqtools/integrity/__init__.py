"""Whether files are what the records of those that made them say."""
