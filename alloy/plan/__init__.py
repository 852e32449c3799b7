"""What a recipe would do, before it does it: steps, tokens, memory, time, disk. Imports no torch.

A stage says what its config means (`Work`), a model's `Shape` says what its layers cost, a `Launch` says on
what it runs; estimates are made of the three.
"""
