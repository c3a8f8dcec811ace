"""Files of any kind: whole or not there, streams, locks, and tables as text."""
