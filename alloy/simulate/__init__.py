"""Synthetic multi-turn tool conversations: a model plays all sides, rules keep the successes."""
