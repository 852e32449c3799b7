"""From sources to packed training sequences."""
