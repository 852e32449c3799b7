from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloy.verify.math import verify_math
from alloy.verify.quantity import Quantity, read_quantity, same_quantity
from alloy.verify.symbolic import TooLarge, check_size, parse, same_expression

RIGHT = [
    ("42", "42"),
    ("007", "7"),
    ("The answer is 42.", "42"),
    ("the final answer is: 42", "42"),
    ("The answer is 42.0", "42"),
    ("The answer is .5", "0.5"),
    ("**Answer:** 42", "42"),
    ("**Answer**: **42**", "42"),
    ("### Answer\n42", "42"),
    ("Answer:\n\n$$x=3$$", "3"),
    ("<answer>42</answer>", "42"),
    ("48/2 = 24 and so on.\n#### 72", "72"),
    ("#### 72", "Weng earns 12/60 = 0.2 per minute.\n#### 72"),
    ("\\boxed{42}", "42"),
    ("\\boxed{42}", "$42$"),
    ("\\boxed{\\boxed{42}}", "so \\boxed{42}"),
    ("The final answer is: $\\boxed{42}$. I hope it is correct.", "42"),
    ("\\boxed{41} Wait, the answer is 42.", "42"),
    ("The answer is 41. No: \\boxed{42}", "42"),
    ("The answer is 42, not 41.", "42"),
    ("The answer is 42 because 6*7=42", "42"),
    ("The answer is 7 out of 10", "7"),
    ("So she has 42 apples.", "42"),
    ("The answer is 42 apples.", "42"),
    ("10-5 = 5", "5"),
    ("The answer is -5", "-5"),
    ("The answer is −5", "-5"),
    # thousands and money
    ("The answer is 1,234", "1,234"),
    ("It costs $1,234.", "1234"),
    ("\\boxed{1{,}234}", "1234"),
    ("\\boxed{1{,}000{,}000}", "10^6"),
    ("The answer is $42.", "42"),
    ("The answer is \\$42.50.", "42.5"),
    # fractions, decimals, powers of ten
    ("Answer: 3/4", "\\frac{3}{4}"),
    ("Answer: 0.75", "3/4"),
    ("The answer is $\\frac{3}{4}$.", "0.75"),
    ("$$\\dfrac{3}{4}$$", "3/4"),
    ("\\boxed{\\frac12}", "1/2"),
    ("1\\frac{1}{2}", "1.5"),
    ("The answer is 1 1/2", "3/2"),
    ("\\boxed{0.333333}", "1/3"),
    ("1.5e3", "1500"),
    ("\\boxed{1.5 \\times 10^3}", "1500"),
    ("\\boxed{2^{10}}", "1024"),
    # percent: the fraction that it stands for, and with the sign left out from 1 up
    ("50%", "0.5"),
    ("50\\%", "\\frac12"),
    ("0.5", "50%"),
    ("50", "50%"),
    ("50%", "50"),
    ("The answer is 50 percent.", "50\\%"),
    # units
    ("42 cm", "42"),
    ("\\boxed{42\\text{ cm}}", "42 cm"),
    ("\\boxed{42 \\text{ centimeters}}", "42 cm"),
    ("\\boxed{90^\\circ}", "90"),
    # intervals, tuples, sets
    ("\\boxed{(1,2)}", "(1,2)"),
    ("The answer is (3, 4)", "(3,4)"),
    ("\\boxed{[1,2)}", "[1,2)"),
    ("\\boxed{\\left(3, \\frac{\\pi}{2}\\right)}", "(3, \\pi/2)"),
    ("\\boxed{\\{1,2,3\\}}", "\\{3,2,1\\}"),
    ("The answer is {1, 2}", "\\{1,2\\}"),
    ("\\boxed{2}, \\boxed{3}", "2,3"),
    ("The answer is 3 and 4", "3, 4"),
    ("\\boxed{(-\\infty,3)\\cup(5,\\infty)}", "$(-\\infty, 3) \\cup (5, \\infty)$"),
    ("The answer is $x=3$ or $x=-3$.", "\\pm 3"),
    # expressions and equations
    ("$x = 5$", "5"),
    ("The answer is x = 5", "5"),
    ("\\boxed{\\sqrt{2}}", "sqrt(2)"),
    ("The answer is 2*sqrt(2)", "\\sqrt{8}"),
    ("The answer is pi/2", "\\frac{\\pi}{2}"),
    ("\\boxed{x^2+2x+1}", "(x+1)^2"),
    ("\\boxed{y=2x+1}", "y = 2x + 1"),
    ("\\boxed{x \\le 5}", "x \\leq 5"),
    ("\\boxed{\\begin{pmatrix}1\\\\2\\end{pmatrix}}", "\\begin{pmatrix}1\\\\2\\end{pmatrix}"),
    # words
    ("The answer is Monday.", "Monday"),
    ("\\boxed{\\text{Monday}}", "monday"),
    ("The answer is even.", "\\text{even}"),
    ("3:4", "3:4"),
    ("No solution.", "no solution"),
    # wordings
    ("Answer - 42", "42"),
    ("The answer is **42** apples", "42"),
    ("The answer is 1/2 (or 0.5).", "1/2"),
    ("The answer is 6*7 = 42.", "42"),
    ("5! = 120", "120"),
    ("\\boxed{42}\n\n\\boxed{43}", "43"),
    ("The total is 3 + 4 = 7 apples", "7"),
    ("\\boxed{12\\,\\mathrm{cm}^2}", "12"),
    ("\\boxed{5\\sqrt{2}\\text{ cm}}", "5\\sqrt2"),
    ("The answer is (-∞, 3]", "(-\\infty,3]"),
    ("\\boxed{(3,\\infty)}", "x>3"),
    ("\\boxed{\\frac{1}{8}}", "12.5\\%"),
    # thinking
    ("<think>41</think>The answer is 42", "42"),
    ("I think 41.</think>42", "42"),
]

WRONG = [
    ("The answer is 142.", "42"),
    ("The answer is 4.2", "42"),
    ("The answer is 420", "42"),
    ("The answer is 42.1", "42"),
    ("\\boxed{1423}", "42"),
    ("The answer is 42/5", "42"),
    ("\\boxed{-5}", "5"),
    ("The answer is 1,234", "234"),
    ("The answer is 42. No, the answer is 41.", "42"),
    ("The answer is 42 or 43", "42"),
    ("The answer is between 42 and 43", "42"),
    ("\\boxed{41, 42}", "42"),
    ("\\boxed{42} or \\boxed{43}", "42"),
    ("\\boxed{42}\n\n\\boxed{43}", "42"),
    ("\\boxed{7 \\text{ days}}", "1 week"),
    ("\\boxed{6.28}", "2\\pi"),
    ("0.33", "1/3"),
    ("0.5%", "0.5"),
    ("5%", "0.5"),
    ("The answer is 0", "0.0000001"),
    ("The answer is 5 hours", "5 minutes"),
    ("\\boxed{42 \\text{ m}}", "42 cm"),
    ("\\boxed{(2,1)}", "(1,2)"),
    ("\\boxed{(1,2)}", "[1,2)"),
    ("\\boxed{\\{1,2\\}}", "\\{1,2,3\\}"),
    ("\\boxed{x^2+2x+2}", "(x+1)^2"),
    ("\\boxed{x \\ge 5}", "x \\leq 5"),
    ("\\boxed{x}", "y"),
    ("The answer is Tuesday", "Monday"),
    ("a", "b"),
]

UNPARSABLE = [
    ("", "42"),
    ("I have no idea", "42"),
    ("\\boxed{}", "42"),
    ("The answer is twenty", "20"),
    ("<think>42", "42"),
    ("<think>\\boxed{42}</think> I do not know.", "42"),
    ("<think>The answer is 42.</think>", "42"),
]


@pytest.mark.parametrize(("completion", "gold"), RIGHT)
def test_right(completion: str, gold: str) -> None:
    verdict = verify_math(completion, gold)
    assert (verdict.reward, verdict.status) == (1.0, "ok")


@pytest.mark.parametrize(("completion", "gold"), WRONG)
def test_wrong(completion: str, gold: str) -> None:
    verdict = verify_math(completion, gold)
    assert (verdict.reward, verdict.status) == (0.0, "ok")


@pytest.mark.parametrize(("completion", "gold"), UNPARSABLE)
def test_unparsable(completion: str, gold: str) -> None:
    verdict = verify_math(completion, gold)
    assert (verdict.reward, verdict.status) == (0.0, "unparsable")


def test_opened_thinking_that_is_never_closed_has_no_answer() -> None:
    assert verify_math("The answer is 42", "42").reward == 1.0
    assert verify_math("The answer is 42", "42", thinking_opened=True).status == "unparsable"


def test_an_empty_gold_is_an_error() -> None:
    verdict = verify_math("42", " ")
    assert (verdict.reward, verdict.status, verdict.detail) == (None, "error", "gold is empty")


@pytest.mark.parametrize(
    "answer",
    [
        "9^9^9^9",
        "9^{9^{9^9}}",
        "9^{9}^{9}^{9}",
        "(((99!)!)!)!",
        "x^{100000000}",
        "(x+1)^{5000}",
        "((1+2)^{99})^{99}",
        "\\sum_{n=1}^{100000000} n^n",
        "{" * 500 + "1" + "}" * 500,
        "(" * 900 + "x" + ")" * 900,
        "1" * 100_000,
        "1+" * 50_000 + "1",
    ],
)
@pytest.mark.parametrize("frame", ["\\boxed{%s}", "The answer is %s.", "%s"])
def test_hostile_answers_are_not_evaluated(answer: str, frame: str) -> None:
    assert verify_math(frame.replace("%s", answer), "42").reward == 0.0


@pytest.mark.parametrize("text", ["2^{2023}", "e^{x^2}", "x^{10}", "(x+1)^{10}", "2^{3^2}", "5!", "10^{12}"])
def test_ordinary_powers_are_evaluated(text: str) -> None:
    check_size(text)


@pytest.mark.parametrize("text", ["9^9^9", "7^{99999}", "(x+1)^{31}", "1000!", "x^{1000}"])
def test_large_powers_are_refused(text: str) -> None:
    with pytest.raises(TooLarge):
        check_size(text)


def test_a_large_power_that_is_written_like_the_gold_is_right() -> None:
    assert verify_math("\\boxed{2^{99999} - 1}", "2^{99999}-1").reward == 1.0
    assert verify_math("\\boxed{2^{99998}}", "2^{99999}-1").status == "unparsable"


@pytest.mark.parametrize(
    ("text", "quantity"),
    [
        ("1,234.50", Quantity(Fraction(2469, 2), decimal=True)),
        ("-\\frac{3}{4}", Quantity(Fraction(-3, 4))),
        ("2\\frac{1}{3}", Quantity(Fraction(7, 3))),
        ("12.5\\%", Quantity(Fraction(25, 2), decimal=True, percent=True)),
        ("$-3$", Quantity(Fraction(-3))),
        ("5 km/h", Quantity(Fraction(5), unit="km/h")),
        ("3 hours", Quantity(Fraction(3), unit="h")),
        ("1 234 567", Quantity(Fraction(1234567))),
    ],
)
def test_quantities_are_read(text: str, quantity: Quantity) -> None:
    assert read_quantity(text) == quantity


@pytest.mark.parametrize(
    "text", ["2x", "3i", "1,23", "1, 2", "(1,234)", "4\\pi", "3 and 5", "1/0", "x", "1.2.3", "2 x"]
)
def test_these_are_no_quantities(text: str) -> None:
    assert read_quantity(text) is None


numbers = st.one_of(
    st.integers(-10_000, 10_000).map(str),
    st.integers(1000, 10**9).map("{:,}".format),
    st.decimals(-100, 100, places=3).map(str),
    st.tuples(st.integers(-50, 50), st.integers(1, 50)).map(lambda pair: f"\\frac{{{pair[0]}}}{{{pair[1]}}}"),
)


@settings(max_examples=30, deadline=None)
@given(numbers, numbers, st.booleans())
def test_the_fast_path_agrees_with_the_slow_one(first: str, second: str, same: bool) -> None:
    second = first if same else second
    gold, answer = read_quantity(first), read_quantity(second)
    assert gold
    assert answer
    assert same_quantity(gold, answer) == same_expression(parse(first), parse(second))


@settings(max_examples=200, deadline=None)
@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_integers_are_right_exactly_when_equal(gold: int, answer: int) -> None:
    for frame in ("The answer is {}.", "\\boxed{{{}}}", "so it is {}"):
        assert verify_math(frame.format(answer), str(gold)).reward == float(gold == answer)


PIECES = [
    *(
        "\\boxed{",
        "}",
        "$",
        "$$",
        "\\frac",
        "{",
        "(",
        "]",
        "^",
        "_",
        "1",
        "42",
        "x",
        ",",
        ".",
        " ",
        "\n",
        "%",
    ),
    *("/", "The answer is ", "answer:", "</think>", "<think>", "\\sqrt", "or", "and", "=", "-", "!", "####"),
    *("é", "\ud800"),
]
pieces = st.sampled_from(PIECES)


@settings(max_examples=80, deadline=None)
@given(
    st.one_of(st.text(max_size=60), st.lists(pieces, max_size=12).map("".join)),
    st.sampled_from(["42", "x+1", "(1,2]"]),
)
def test_arbitrary_text_never_raises(completion: str, gold: str) -> None:
    assert verify_math(completion, gold).status in ("ok", "unparsable")


@settings(max_examples=30, deadline=None)
@given(st.lists(pieces, min_size=1, max_size=8).map("".join))
def test_an_arbitrary_gold_never_raises(gold: str) -> None:
    assert verify_math("The answer is 42.", gold).status in ("ok", "unparsable", "error")
