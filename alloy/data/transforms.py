"""What a stage does to its rows: reasoning-off, and traces cut short."""

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from alloy.data.config import ReasoningOffConfig, TruncateConfig
from alloy.data.sources import Row


def strip_reasoning(rows: Iterable[Row], config: ReasoningOffConfig, seed: int) -> Iterator[Row]:
    """Pair a seeded share of the prompts with an output whose thinking is removed, control off.

    Source: Nemotron Nano 2 (arXiv:2508.14444), SFT stage 1: about 10% of the prompts.
    """
    for row in rows:
        chosen = row.thinking and draw(row.key or row.where, "reasoning-off", seed) < config.share
        if not chosen or config.mode == "copy":
            yield row
        if chosen:
            turns = [
                {key: value for key, value in turn.items() if key != "thinking"} for turn in row.messages
            ]
            yield replace(row, messages=turns, thinking=False)


def truncate_thinking(
    rows: Iterable[Row],
    config: TruncateConfig,
    seed: int,
    encode: Callable[[str], list[int]],
    decode: Callable[[list[int]], str],
) -> Iterator[Row]:
    """Cut the last turn's thinking of a seeded share of rows at a drawn token; the answer stays whole.

    A row whose thinking is no longer than its drawn cut is passed over unchanged.

    Source: Nemotron Nano 2, SFT stage 3: about 5% of the data, cut to 1-2k tokens.
    """
    for row in rows:
        last = row.messages[-1]
        thought = last.get("thinking")
        if not row.thinking or not thought or draw(row.key or row.where, "truncate", seed) >= config.share:
            yield row
            continue
        rng = random.Random(f"{seed}/cut/{row.key or row.where}")
        cut = (
            rng.choice(config.budgets)
            if config.budgets
            else rng.randint(config.min_tokens, config.max_tokens)
        )
        ids = encode(thought)
        if len(ids) <= cut:
            yield row
            continue
        # A cut through a character of several bytes decodes to a replacement mark at the end.
        kept = decode(ids[:cut]).rstrip("\ufffd")
        yield replace(row, messages=[*row.messages[:-1], {**last, "thinking": kept}], budget=cut)


def draw(key: str, purpose: str, seed: int) -> float:
    """A row's own number from 0 to 1: it does not depend on the rows before it."""
    return random.Random(f"{seed}/{purpose}/{key}").random()
