"""Engines behind one protocol, the thinking budget, and conversations with worlds."""
