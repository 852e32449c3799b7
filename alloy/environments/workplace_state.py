"""The state of a company: a few tables of rows, copied for nothing and compared at a glance."""

from collections.abc import Iterator, Mapping

Row = tuple[str, ...]
Tables = Mapping[str, Mapping[str, "list[str] | Row"]]
Change = tuple[str, str, Row | None, Row | None]
"""Table, id ("new" for a created row), the row before, the row after."""

FIELDS: dict[str, tuple[str, ...]] = {
    "events": ("name", "day"),
    "inbox": ("subject", "sender"),
    "sent": ("to", "text"),
    "customers": ("name", "status", "owner"),
    "tasks": ("name", "list", "owner"),
    "visits": ("day", "visits", "source"),
    "plots": ("day", "kind"),
    "people": ("name", "email", "team"),
}
"""The columns of each table; the first is what a row is looked up by."""


class State:
    """All tables, by name; a table maps ids, short digit strings, to rows.

    A copy shares its tables with the original until one of them is written.
    """

    __slots__ = ("_owned", "first_new", "next_id", "tables")

    def __init__(self, tables: dict[str, dict[str, Row]], first_new: int) -> None:
        self.tables = tables
        self.first_new = first_new
        self.next_id = first_new
        self._owned: set[str] = set()

    @classmethod
    def from_tables(cls, tables: Tables) -> "State":
        """A state from plain lists, as a task carries them; new rows are numbered on from the highest id."""
        rows = {name: {key: tuple(row) for key, row in tables.get(name, {}).items()} for name in FIELDS}
        return cls(rows, 1 + max((int(key) for table in rows.values() for key in table), default=0))

    def to_tables(self) -> dict[str, dict[str, list[str]]]:
        return {name: {key: list(row) for key, row in table.items()} for name, table in self.tables.items()}

    def copy(self) -> "State":
        twin = State(dict(self.tables), self.first_new)
        twin.next_id = self.next_id
        # From now on both share: neither may write a table in place.
        self._owned.clear()
        return twin

    def insert(self, table: str, row: Row) -> str:
        """Add a row; its id is the next free number of the whole company."""
        key = str(self.next_id)
        self.next_id += 1
        self._writable(table)[key] = row
        return key

    def update(self, table: str, key: str, field: str, value: str) -> None:
        at = FIELDS[table].index(field)
        row = self.tables[table][key]
        self._writable(table)[key] = (*row[:at], value, *row[at + 1 :])

    def delete(self, table: str, key: str) -> None:
        del self._writable(table)[key]

    def matching(self, table: str, field: str, value: str) -> Iterator[tuple[str, Row]]:
        """The rows with this value in a field, in the table's order, upper and lower case alike."""
        at = FIELDS[table].index(field)
        wanted = value.lower()
        return ((key, row) for key, row in self.tables[table].items() if row[at].lower() == wanted)

    def same_as(self, other: "State") -> bool:
        """Whether two states that began alike have ended alike, whatever the ids of created rows."""
        for name, table in self.tables.items():
            twin = other.tables[name]
            if table is twin or table == twin:
                continue
            if self._settled(table) != other._settled(twin):
                return False
        return True

    def changes_since(self, before: "State") -> list[Change]:
        """What was created, changed and deleted since an earlier state, table by table."""
        changes: list[Change] = []
        for name, table in self.tables.items():
            old = before.tables[name]
            if table is old:
                continue
            changes += [(name, key, row, table.get(key)) for key, row in old.items() if table.get(key) != row]
            changes += [(name, "new", None, row) for key, row in table.items() if key not in old]
        return changes

    def _writable(self, table: str) -> dict[str, Row]:
        if table not in self._owned:
            self.tables[table] = dict(self.tables[table])
            self._owned.add(table)
        return self.tables[table]

    def _settled(self, table: dict[str, Row]) -> tuple[dict[str, Row], list[Row]]:
        kept = {key: row for key, row in table.items() if int(key) < self.first_new}
        return kept, sorted(row for key, row in table.items() if int(key) >= self.first_new)
