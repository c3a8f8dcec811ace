"""Tools to train on chest CTs in which only some lymph nodes are annotated."""

__version__ = "0.1.0"
