"""DICOM: series in, segmentations in and out."""
