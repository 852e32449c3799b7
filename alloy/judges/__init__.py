"""Who says which answer is better: reward models here or behind HTTP, and generative judges."""
