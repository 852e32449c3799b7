"""Figures and the HTML report of a run."""

from alloy.report.page import build

__all__ = ["build"]
