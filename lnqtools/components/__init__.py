"""Connected components of masks: found, measured, matched."""
