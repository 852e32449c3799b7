"""Kinds of problems for the python tool: how they are asked, a program that solves them, and the gold.

The gold is computed by another way than the program's: each guards the other.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Values = dict[str, Any]

LEADS = (
    "Use Python.",
    "Compute this.",
    "Here is a problem.",
    "Please work this out.",
    "A program may help here.",
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem.

    Attributes:
        asks: five wordings, with holes for the values.
        draw: the values of one problem.
        code: a program that prints the answer, with holes for the values.
        solve: the answer.
    """

    asks: tuple[str, ...]
    draw: Callable[[random.Random], Values]
    code: str
    solve: Callable[..., int]


def _range(rng: random.Random, most: int, longest: int) -> Values:
    low = rng.randint(1, most)
    return {"low": low, "high": low + rng.randint(longest // 4, longest)}


def _digit_sum(a: int, b: int) -> int:
    number, total = a**b, 0
    while number:
        number, digit = divmod(number, 10)
        total += digit
    return total


def _multiples(low: int, high: int, k: int) -> int:
    first, last = -(-low // k), high // k
    return k * (first + last) * (last - first + 1) // 2


def _primes(low: int, high: int) -> int:
    sieve = bytearray([1]) * (high + 1)
    sieve[:2] = b"\0\0"
    for number in range(2, int(high**0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, high + 1, number)))
    return sum(sieve[low:])


def _factors(n: int) -> dict[int, int]:
    """Prime factors with their exponents."""
    found: dict[int, int] = {}
    divisor = 2
    while n > 1:
        if divisor * divisor > n:
            divisor = n
        while n % divisor == 0:
            found[divisor] = found.get(divisor, 0) + 1
            n //= divisor
        divisor += 1
    return found


def _divisors(n: int) -> int:
    count = 1
    for exponent in _factors(n).values():
        count *= exponent + 1
    return count


def _gcd(a: int, b: int) -> int:
    while b:
        a, b = b, a % b
    return a


def _with_common_divisor(rng: random.Random) -> Values:
    common = rng.randint(2, 60)
    return {"a": common * rng.randint(5, 80), "b": common * rng.randint(5, 80)}


def _remainder(a: int, b: int, m: int) -> int:
    rest = 1
    for _ in range(b):
        rest = rest * a % m
    return rest


def _halvings(n: int) -> int:
    return 0 if n == 1 else 1 + _halvings(n // 2 if n % 2 == 0 else 3 * n + 1)


def _day(date: str) -> int:
    """Days since 1 March of the year 0, so that a leap day is the last of its year."""
    year, month, day = map(int, date.split("-"))
    year, month = (year, month - 3) if month > 2 else (year - 1, month + 9)
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + day


def _dates(rng: random.Random) -> Values:
    first, second = (
        f"{year}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
        for year in sorted(rng.sample(range(1960, 2030), 2))
    )
    return {"start": first, "end": second}


_SYLLABLES = ("ba", "ce", "do", "fa", "ka", "le", "mi", "no", "ra", "sa", "to", "ve")


def _text(rng: random.Random) -> Values:
    return {
        "text": "".join(rng.choices(_SYLLABLES, k=rng.randint(12, 24))),
        "letter": rng.choice("aeiokr"),
    }


KINDS: dict[str, Kind] = {
    "digit_sum": Kind(
        (
            "What is the sum of the digits of {a} to the power of {b}?",
            "Add up the digits of {a} to the power of {b}.",
            "Take {a} to the power of {b}. What do its digits add up to?",
            "Find the digit sum of {a} to the power of {b}.",
            "The digits of {a} to the power of {b}: what is their sum?",
        ),
        lambda rng: {"a": rng.randint(2, 30), "b": rng.randint(12, 60)},
        "print(sum(int(digit) for digit in str({a} ** {b})))",
        _digit_sum,
    ),
    "multiples": Kind(
        (
            "What is the sum of the numbers from {low} to {high} that {k} divides?",
            "Add up the multiples of {k} from {low} to {high}.",
            "Take the numbers from {low} to {high} that {k} divides. What do they add up to?",
            "Find the sum of the multiples of {k} from {low} to {high}.",
            "The multiples of {k} from {low} to {high}: what is their sum?",
        ),
        lambda rng: {**_range(rng, 200, 400), "k": rng.randint(3, 17)},
        "print(sum(n for n in range({low}, {high} + 1) if n % {k} == 0))",
        _multiples,
    ),
    "primes": Kind(
        (
            "How many primes are there from {low} to {high}?",
            "Count the primes from {low} to {high}.",
            "Take the numbers from {low} to {high}. How many are prime?",
            "Find the number of primes from {low} to {high}.",
            "The primes from {low} to {high}: how many are they?",
        ),
        lambda rng: _range(rng, 500, 300),
        "def prime(n):\n"
        "    return n > 1 and all(n % d for d in range(2, int(n ** 0.5) + 1))\n"
        "print(sum(prime(n) for n in range({low}, {high} + 1)))",
        _primes,
    ),
    "divisors": Kind(
        (
            "How many divisors does {n} have?",
            "Count the divisors of {n}.",
            "Take the number {n}. How many numbers divide it?",
            "Find the number of divisors of {n}.",
            "The divisors of {n}: how many are they?",
        ),
        lambda rng: {"n": rng.randint(10, 400) * rng.randint(2, 12)},
        "print(sum({n} % d == 0 for d in range(1, {n} + 1)))",
        _divisors,
    ),
    "largest_prime_factor": Kind(
        (
            "What is the largest prime that divides {n}?",
            "Tell the largest prime factor of {n}.",
            "Take the number {n}. What is its largest prime factor?",
            "Find the largest prime factor of {n}.",
            "The prime factors of {n}: which is the largest?",
        ),
        lambda rng: {"n": rng.randint(100, 9_999)},
        "n, d = {n}, 2\nwhile d < n:\n    if n % d == 0:\n        n //= d\n    else:\n        d += 1\nprint(n)",
        lambda n: max(_factors(n)),
    ),
    "gcd": Kind(
        (
            "What is the greatest common divisor of {a} and {b}?",
            "Tell the greatest common divisor of {a} and {b}.",
            "Take the numbers {a} and {b}. What is the greatest divisor of both?",
            "Find the greatest common divisor of {a} and {b}.",
            "The common divisors of {a} and {b}: which is the greatest?",
        ),
        _with_common_divisor,
        "from math import gcd\nprint(gcd({a}, {b}))",
        _gcd,
    ),
    "lcm": Kind(
        (
            "What is the least common multiple of {a} and {b}?",
            "Tell the least common multiple of {a} and {b}.",
            "Take the numbers {a} and {b}. What is the least multiple of both?",
            "Find the least common multiple of {a} and {b}.",
            "The common multiples of {a} and {b}: which is the least?",
        ),
        _with_common_divisor,
        "from math import lcm\nprint(lcm({a}, {b}))",
        lambda a, b: a // _gcd(a, b) * b,
    ),
    "remainder": Kind(
        (
            "What is the remainder of {a} to the power of {b} divided by {m}?",
            "Tell the remainder of {a} to the power of {b} divided by {m}.",
            "Take {a} to the power of {b}. What is its remainder divided by {m}?",
            "Find {a} to the power of {b} modulo {m}.",
            "The number {a} to the power of {b}, divided by {m}: what is the remainder?",
        ),
        lambda rng: {"a": rng.randint(2, 99), "b": rng.randint(20, 200), "m": rng.randint(11, 997)},
        "print(pow({a}, {b}, {m}))",
        _remainder,
    ),
    "halvings": Kind(
        (
            "Halve {n} when it is even, else take 3 times it plus 1, and go on. After how many steps is it 1?",
            "Count the steps of the Collatz rule from {n} to 1.",
            "Take the number {n}. How many steps of the Collatz rule lead to 1?",
            "Find the number of Collatz steps from {n} to 1.",
            "The Collatz rule from {n} to 1: how many steps are they?",
        ),
        lambda rng: {"n": rng.randint(5, 999)},
        "n, steps = {n}, 0\n"
        "while n != 1:\n"
        "    n = n // 2 if n % 2 == 0 else 3 * n + 1\n"
        "    steps += 1\n"
        "print(steps)",
        _halvings,
    ),
    "ones": Kind(
        (
            "How many ones does {n} have in binary?",
            "Count the ones of {n} in binary.",
            "Take the number {n} in binary. How many ones does it have?",
            "Find the number of ones of {n} in binary.",
            "The ones of {n} in binary: how many are they?",
        ),
        lambda rng: {"n": rng.randint(1_000, 9_999_999)},
        'print(bin({n}).count("1"))',
        lambda n: sum(n >> place & 1 for place in range(n.bit_length())),
    ),
    "days": Kind(
        (
            "How many days are there from {start} to {end}?",
            "Count the days from {start} to {end}.",
            "Take the dates {start} and {end}. How many days lie between?",
            "Find the number of days from {start} to {end}.",
            "The days from {start} to {end}: how many are they?",
        ),
        _dates,
        "from datetime import date\n"
        'print((date.fromisoformat("{end}") - date.fromisoformat("{start}")).days)',
        lambda start, end: _day(end) - _day(start),
    ),
    "letters": Kind(
        (
            'How many times does "{letter}" stand in "{text}"?',
            'Count the letter "{letter}" in "{text}".',
            'Take the text "{text}". How many times does "{letter}" stand there?',
            'Find the number of letters "{letter}" in "{text}".',
            'The letters "{letter}" in "{text}": how many are they?',
        ),
        _text,
        'print("{text}".count("{letter}"))',
        lambda text, letter: sum(mark == letter for mark in text),
    ),
}
