"""Makes small companies from a seed: who works there, what is planned, sent, sold and done."""

from collections.abc import Sequence
from random import Random

from alloy.environments.workplace_state import FIELDS, Row, State
from alloy.environments.workplace_tools import LISTS, PLOT_KINDS, STATUSES


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PEOPLE = _words(
    "ada ana ben bea carl cleo dan dora eli ella finn faye gus gina hugo hana ian ida jack june kai kim "
    "leo lena max mia ned nora omar olga paul pia ravi rosa sam sara tom tina umar uma vic vera will "
    "wanda yan yuki zoe zack"
)
HOSTS = _words("pine oak elm ash fern moss reed sage mint rose lily palm ivy iris cedar birch")
TEAMS = _words("sales design support legal")
SOURCES = _words("search ads mail shop")
DAYS = _words("monday tuesday wednesday thursday friday")
NAME_WORDS = {
    "events": (
        _words("budget team sales client product board design spring summer winter office press staff"),
        _words("review meeting lunch call party sync workshop demo planning training talk walk dinner tour"),
    ),
    "tasks": (
        _words("fix write test check order clean draft print update paint build plan pack sort send call"),
        _words("login report page logo menu invoice contract door server poster backup photo form list desk"),
    ),
    "customers": (
        _words("blue red green north south east west gold silver bright clear grand royal rapid solid"),
        _words("fox mill bank lake stone tower bridge farm wave star port hill forge craft works foods"),
    ),
    "inbox": (
        _words("new old last first open late early missing final lost short great next other small big"),
        _words("offer bill ticket parcel key badge chair laptop price date room order answer number idea"),
    ),
}
"""The first and the second word of the names in a table; of emails, the subjects."""

TEXTS = (
    "see you soon",
    "call me back",
    "well done",
    "thank you",
    "it is done",
    "please wait",
    "good luck",
    "i agree",
    "not today",
    "on my way",
    "all is fine",
    "let us talk",
    "i am late",
    "looks good",
    "please check",
    "ask again later",
    "send more",
    "come at noon",
    "keep going",
    "happy birthday",
    "the deal is off",
    "bring cake",
)

FEWEST_ROWS, MOST_ROWS = 3, 100
FEWEST_WORDS = 4


class Company:
    """A state and the source of values to ask things about it; every name is unique in its table.

    Args:
        words: of each list of words that names, texts and addresses are made of; all when None.
    """

    def __init__(self, rng: Random, rows_per_table: int, words: int | None = None) -> None:
        self.rng = rng
        self.words = words
        self._taken: dict[str, set[str]] = {name: set() for name in NAME_WORDS}
        named = rows_per_table * len(NAME_WORDS)
        keys = iter(map(str, rng.sample(range(10, max(100, 3 * named)), named)))
        known = PEOPLE[: None if words is None else rows_per_table + words]
        self.known_people = known
        people = rng.sample(known, min(rows_per_table, len(known) - FEWEST_WORDS))
        self.people = people
        self.addresses = {person: self.any_address(person) for person in people}
        tables: dict[str, dict[str, Row]] = {name: {} for name in FIELDS}
        tables["people"] = {
            str(n): (name, self.addresses[name], rng.choice(TEAMS)) for n, name in enumerate(people)
        }
        days = DAYS[: max(2, min(rows_per_table, len(DAYS)))]
        tables["visits"] = {
            str(n): (day, str(rng.randrange(10, 100)), rng.choice(SOURCES)) for n, day in enumerate(days)
        }
        for _ in range(rows_per_table):
            tables["events"][next(keys)] = (self.new_name("events"), rng.choice(DAYS))
            tables["inbox"][next(keys)] = (self.new_name("inbox"), self.addresses[rng.choice(people)])
            tables["customers"][next(keys)] = (
                self.new_name("customers"),
                rng.choice(STATUSES),
                rng.choice(people),
            )
            tables["tasks"][next(keys)] = (self.new_name("tasks"), rng.choice(LISTS), rng.choice(people))
        self.days = days
        self.state = State.from_tables(tables)

    def new_name(self, table: str) -> str:
        """A name that no row of the table has, nor any name given out before."""
        first, second = (words[: self.words] for words in NAME_WORDS[table])
        while True:
            name = f"{self.rng.choice(first)} {self.rng.choice(second)}"
            if name not in self._taken[table]:
                self._taken[table].add(name)
                return name

    def any_address(self, person: str = "") -> str:
        """An address, of somebody outside when no person is named."""
        return f"{person or self.rng.choice(self.known_people)}@{self.rng.choice(HOSTS[: self.words])}.com"

    def text(self) -> str:
        return self.rng.choice(TEXTS[: self.words])

    def day(self, *other_than: str) -> str:
        return self._other(DAYS, other_than)

    def person(self, *other_than: str) -> str:
        return self._other(self.people, other_than)

    def list(self, *other_than: str) -> str:
        return self._other(LISTS, other_than)

    def status(self, *other_than: str) -> str:
        return self._other(STATUSES, other_than)

    def plot_kind(self, *other_than: str) -> str:
        return self._other(PLOT_KINDS, other_than)

    def row(self, table: str) -> tuple[str, Row]:
        """The id and the cells of some row."""
        return self.rng.choice(sorted(self.state.tables[table].items()))

    def two_rows(self, table: str) -> tuple[tuple[str, Row], tuple[str, Row]]:
        one, other = self.rng.sample(sorted(self.state.tables[table].items()), 2)
        return one, other

    def _other(self, values: Sequence[str], other_than: Sequence[str]) -> str:
        return self.rng.choice([value for value in values if value not in other_than])
