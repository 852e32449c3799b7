"""What we know of each of Reasoning Gym's tasks: easy settings, its structure, and its worked steps."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from math import gcd
from typing import Any

Metadata = dict[str, Any]
Steps = Callable[[Metadata], list[str]]


@dataclass(frozen=True, slots=True)
class Kind:
    """One of Reasoning Gym's generators.

    Attributes:
        structure: what makes two entries alike; no structure is in two splits.
        steps: the lines of thinking that lead to the answer.
        settings: of the generator, small enough for a small model.
    """

    structure: Callable[[Metadata], str]
    steps: Steps
    settings: dict[str, Any] = field(default_factory=dict)


def _pattern(metadata: Metadata) -> str:
    return re.sub(r"\d+", "n", metadata["expression"])


def _last_digits(metadata: Metadata) -> str:
    numbers = metadata.get("numbers") or [int(n) for n in re.findall(r"\d+", metadata["expression"])]
    return "numbers ending in " + " and ".join(str(number % 10) for number in numbers)


def _angles(metadata: Metadata) -> str:
    return f"{metadata['n_sides']} sides, first angle {metadata['known_angles'][0]:.0f}"


def _add_up(metadata: Metadata) -> list[str]:
    """From left to right, one line an operation."""
    first, *rest = re.findall(r"[-+]? ?\d+", metadata["expression"])
    lines, total = [], int(first)
    for term in rest:
        sign, number = term[0], int(term[1:])
        result = total + number if sign == "+" else total - number
        lines.append(f"{total} {sign} {number} = {result}")
        total = result
    return lines


def _solve(metadata: Metadata) -> list[str]:
    """Collect the unknown's factor and the constant of the left side, then divide."""
    left, _, right = metadata["equation"].partition(" = ")
    unknown = metadata["variable"]
    factor, constant, lines = 0, 0, []
    for sign, term in re.findall(r"(^|[-+]) ?([^-+ ]+)", left):
        value = -1 if sign == "-" else 1
        for piece in term.split("*"):
            value *= 1 if piece == unknown else int(piece)
        if unknown in term.split("*"):
            factor += value
        else:
            constant += value
    total = int(right) - constant
    if constant:
        lines.append(f"{factor}*{unknown} = {right} {'-' if constant > 0 else '+'} {abs(constant)} = {total}")
    if factor != 1:
        lines.append(f"{unknown} = {total} / {factor} = {total // factor}")
    return lines or [metadata["equation"]]


@cache
def _legs() -> dict[str, int]:
    from reasoning_gym.arithmetic.leg_counting import ANIMALS

    return dict(ANIMALS)


def _count_legs(metadata: Metadata) -> list[str]:
    animals: dict[str, int] = metadata["animals"]
    products = [
        f"{name}: {count} * {_legs()[name]} = {count * _legs()[name]}" for name, count in animals.items()
    ]
    return products + _running_sum([count * _legs()[name] for name, count in animals.items()])


def _running_sum(numbers: list[int]) -> list[str]:
    lines, total = [], numbers[0]
    for number in numbers[1:]:
        lines.append(f"{total} + {number} = {total + number}")
        total += number
    return lines


def _euclid(metadata: Metadata) -> list[str]:
    larger, smaller = max(metadata["numbers"]), min(metadata["numbers"])
    lines = []
    while smaller:
        lines.append(f"{larger} mod {smaller} = {larger % smaller}")
        larger, smaller = smaller, larger % smaller
    return lines


def _common_multiple(metadata: Metadata) -> list[str]:
    first, second = metadata["numbers"]
    divisor = gcd(first, second)
    return [
        *_euclid(metadata),
        f"{first} / {divisor} = {first // divisor}",
        f"{first // divisor} * {second} = {first // divisor * second}",
    ]


def _multiply(metadata: Metadata) -> list[str]:
    """One partial product a digit of the second number."""
    first, second = (int(number) for number in re.findall(r"\d+", metadata["expression"]))
    digits = str(second)
    parts = [int(digit) * 10 ** (len(digits) - 1 - place) for place, digit in enumerate(digits)]
    parts = [part for part in parts if part] or [0]
    lines = [f"{first} * {part} = {first * part}" for part in parts]
    return lines + _running_sum([first * part for part in parts])


def _remaining_angle(metadata: Metadata) -> list[str]:
    known = [round(angle) for angle in metadata["known_angles"]]
    sides, total = metadata["n_sides"], metadata["total_interior_sum"]
    whole = f"({sides} - 2) * 180 = {total}"
    return [whole, *_running_sum(known), f"{total} - {sum(known)} = {total - sum(known)}"]


def _spell(metadata: Metadata) -> list[str]:
    return [f"{' '.join(metadata['word'])} = {' '.join(metadata['word'][::-1])} backward"]


def _count_letters(metadata: Metadata) -> list[str]:
    letter = metadata["target_letter"]
    counts = [word.lower().count(letter) for word in metadata["span"]]
    words = [f"{word} = {count}" for word, count in zip(metadata["span"], counts, strict=True)]
    return [*words, *_running_sum(counts)]


def _factorise(metadata: Metadata) -> list[str]:
    number, lines = metadata["number"], []
    for factor in metadata["factors"][:-1]:
        lines.append(f"{number} = {factor} × {number // factor}")
        number //= factor
    return lines or [f"{number} = {number}"]


KINDS: dict[str, Kind] = {
    "chain_sum": Kind(_pattern, _add_up, {"max_terms": 4, "max_digits": 2}),
    "simple_equations": Kind(
        lambda metadata: f"unknown {metadata['variable']}", _solve, {"max_terms": 3, "max_value": 12}
    ),
    "leg_counting": Kind(
        lambda metadata: ", ".join(sorted(metadata["animals"])),
        _count_legs,
        {"min_animals": 2, "max_animals": 3, "max_instances": 9},
    ),
    "gcd": Kind(_last_digits, _euclid, {"min_value": 2, "max_value": 60}),
    "lcm": Kind(_last_digits, _common_multiple, {"min_value": 2, "max_value": 20}),
    "products": Kind(_last_digits, _multiply, {"max_digits": 2}),
    "simple_geometry": Kind(_angles, _remaining_angle, {"max_sides": 4}),
    "spell_backward": Kind(lambda metadata: metadata["word"], _spell, {"max_word_len": 5}),
    "letter_counting": Kind(
        lambda metadata: f"letter {metadata['target_letter']}",
        _count_letters,
        {"min_words": 3, "max_words": 5},
    ),
    "prime_factorization": Kind(lambda metadata: str(metadata["number"]), _factorise, {"max_value": 100}),
}
