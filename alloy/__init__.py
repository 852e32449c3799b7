"""Alloy: a post-training alignment toolkit."""

__version__ = "0.1.0"
