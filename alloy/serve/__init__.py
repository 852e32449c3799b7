"""Serving a model over OpenAI's interface, with a thinking budget for each request."""
