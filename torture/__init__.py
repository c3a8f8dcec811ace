"""What the tools are put through for docs/reliability.md: bad inputs, faults, load, no network."""
