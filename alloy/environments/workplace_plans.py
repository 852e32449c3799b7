"""Plans: the values that a request names and the calls that fulfil it.

A plan is drawn with full knowledge of the company, but in the order in which a policy has to find
things out: it reads before it uses an id, an owner or an address.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from alloy.environments.workplace_company import Company
from alloy.environments.workplace_tools import NOUNS, SHOWN_ROWS


@dataclass(frozen=True, slots=True)
class Step:
    """A call, and the thought before it."""

    thinking: str
    tool: str
    arguments: dict[str, str]


@dataclass(slots=True)
class Plan:
    """What a request says, what is done, and the thought when nothing is left to do.

    `regardless` is the change that a condition forbids: a careless policy makes it all the same.
    """

    slots: dict[str, str]
    steps: list[Step] = field(default_factory=list)
    closing: str = "all is done"
    regardless: Step | None = None

    def then(self, thinking: str, tool: str, **arguments: str) -> "Plan":
        self.steps.append(Step(thinking, tool, arguments))
        return self

    def but(self, closing: str) -> "Plan":
        """Nothing more is to be done, and why."""
        self.closing = closing
        return self

    def forbids(self, tool: str, **arguments: str) -> "Plan":
        """The change that would be made if the condition held."""
        self.regardless = Step("do it all the same", tool, arguments)
        return self


Planner = Callable[[Company], Plan]


class Finder(NamedTuple):
    """How a row is looked up by its name, and the slot that the name has in the phrasings."""

    tool: str
    parameter: str
    slot: str


class Change(NamedTuple):
    """What a tool does to a row that has been found.

    `slot` is the further value's place in the phrasings, `parameter` its argument, `at` the cell that
    it sets; a tool that needs no further value has none of them.
    """

    table: str
    words: str
    slot: str = ""
    parameter: str = ""
    at: int | None = None


FINDERS = {
    "events": Finder("find_events", "name", "event"),
    "inbox": Finder("find_emails", "subject", "subject"),
    "customers": Finder("find_customers", "name", "customer"),
    "tasks": Finder("find_tasks", "name", "task"),
}
CHANGES = {
    "delete_event": Change("events", "delete it"),
    "move_event": Change("events", "move it to {}", "day", "day", 1),
    "rename_event": Change("events", "rename it to {}", "name", "name", 0),
    "delete_email": Change("inbox", "delete it"),
    "reply_email": Change("inbox", "reply {}", "text", "text"),
    "forward_email": Change("inbox", "forward it to {}", "address", "to"),
    "set_status": Change("customers", "set it to {}", "status", "status", 1),
    "set_owner": Change("customers", "hand it to {}", "person", "owner", 2),
    "delete_customer": Change("customers", "delete it"),
    "move_task": Change("tasks", "move it to {}", "list", "list", 1),
    "assign_task": Change("tasks", "hand it to {}", "person", "owner", 2),
    "delete_task": Change("tasks", "delete it"),
}


def draw(company: Company, slot: str, *other_than: str) -> str:
    """A value for a slot."""
    match slot:
        case "day":
            return company.day(*other_than)
        case "person" | "owner":
            return company.person(*other_than)
        case "list":
            return company.list(*other_than)
        case "status":
            return company.status(*other_than)
        case "text":
            return company.text()
        case "address":
            return company.any_address()
        case "name":
            return company.new_name("events")
    return ""


def quoted(value: str) -> str:
    return f'"{value}"'


def find(plan: Plan, table: str, name: str) -> Plan:
    """Look a row up by its name."""
    finder = FINDERS[table]
    return plan.then(f"find the {NOUNS[table]} {quoted(name)}", finder.tool, **{finder.parameter: name})


def change(plan: Plan, tool: str, key: str, value: str = "", why: str = "") -> Plan:
    """Write to a row that has been found; `why` tells what was read, its id when not given."""
    words = CHANGES[tool].words.format(quoted(value))
    return plan.then(f"{why or f'the id is {key}'}, {words}", tool, **change_arguments(tool, key, value))


def change_arguments(tool: str, key: str, value: str = "") -> dict[str, str]:
    parameter = CHANGES[tool].parameter
    return {"id": key, parameter: value} if parameter else {"id": key}


def value_for(company: Company, tool: str, row: tuple[str, ...], *other_than: str) -> str:
    """A further value for a tool, not the one that the row has already."""
    _, _, slot, _, at = CHANGES[tool]
    return draw(company, slot, *other_than, *([] if at is None else [row[at]]))


# One write, everything given.


def add_event(company: Company) -> Plan:
    event, day = company.new_name("events"), company.day()
    return Plan({"event": event, "day": day}).then("add the event", "add_event", name=event, day=day)


def add_task(company: Company) -> Plan:
    task, person = company.new_name("tasks"), company.person()
    return Plan({"task": task, "person": person}).then("add the task", "add_task", name=task, owner=person)


def add_customer(company: Company) -> Plan:
    customer, person = company.new_name("customers"), company.person()
    plan = Plan({"customer": customer, "person": person})
    return plan.then("add the customer", "add_customer", name=customer, owner=person)


def send_email(company: Company) -> Plan:
    text, address = company.text(), company.any_address()
    return Plan({"text": text, "address": address}).then("send the text", "send_email", to=address, text=text)


def make_plot(company: Company) -> Plan:
    day, kind = company.rng.choice(company.days), company.plot_kind()
    return Plan({"day": day, "kind": kind}).then("make the plot", "make_plot", day=day, kind=kind)


def by_id(tool: str) -> Planner:
    """The request names the id itself."""

    def plan(company: Company) -> Plan:
        key, row = company.row(CHANGES[tool].table)
        value = value_for(company, tool, row)
        slots = {"id": key, CHANGES[tool].slot: value} if value else {"id": key}
        return change(Plan(slots), tool, key, value)

    return plan


# Search, then write.


def by_name(tool: str) -> Planner:
    """Find a row by its name, then use the tool on it."""
    table, _, slot, _, _ = CHANGES[tool]

    def plan(company: Company) -> Plan:
        key, row = company.row(table)
        value = value_for(company, tool, row)
        slots = {FINDERS[table].slot: row[0]} | ({slot: value} if slot else {})
        return change(find(Plan(slots), table, row[0]), tool, key, value)

    return plan


def absent(tool: str) -> Planner:
    """The same request about a row that is not there: nothing is to be done."""
    table, _, slot, _, _ = CHANGES[tool]

    def plan(company: Company) -> Plan:
        name = company.new_name(table)
        slots = {FINDERS[table].slot: name} | ({slot: draw(company, slot)} if slot else {})
        return find(Plan(slots), table, name).but(f"there is no such {NOUNS[table]}, change nothing")

    return plan


# Several parts of the company.


def _mail(company: Company, plan: Plan, person: str, text: str) -> Plan:
    address = company.addresses[person]
    plan.then(f"find the address of {quoted(person)}", "find_person", name=person)
    return plan.then(f"send it to {quoted(address)}", "send_email", to=address, text=text)


def mail_person(company: Company) -> Plan:
    text, person = company.text(), company.person()
    return _mail(company, Plan({"text": text, "person": person}), person, text)


def forward_to_person(company: Company) -> Plan:
    key, (subject, _) = company.row("inbox")
    person = company.person()
    plan = find(Plan({"subject": subject, "person": person}), "inbox", subject)
    plan.then(f"the id is {key}, find the address of {quoted(person)}", "find_person", name=person)
    address = company.addresses[person]
    return change(plan, "forward_email", key, address, why=f"the address is {quoted(address)}")


def mail_owner(table: str) -> Planner:
    def plan(company: Company) -> Plan:
        _, (name, _, owner) = company.row(table)
        text = company.text()
        return _mail(company, find(Plan({FINDERS[table].slot: name, "text": text}), table, name), owner, text)

    return plan


def task_for_customer_owner(company: Company) -> Plan:
    _, (customer, _, owner) = company.row("customers")
    task = company.new_name("tasks")
    plan = find(Plan({"customer": customer, "task": task}), "customers", customer)
    return plan.then(f"the owner is {quoted(owner)}, add the task", "add_task", name=task, owner=owner)


def assign_to_customer_owner(company: Company) -> Plan:
    _, (customer, _, owner) = company.row("customers")
    key, (task, _, holder) = company.row("tasks")
    if holder == owner:
        company.state.update("tasks", key, "owner", company.person(owner))
    plan = find(Plan({"task": task, "customer": customer}), "tasks", task)
    plan.then(f"the id is {key}, find the customer {quoted(customer)}", "find_customers", name=customer)
    return change(plan, "assign_task", key, owner, why=f"the owner is {quoted(owner)}")


# Two writes or more.


def event_and_task(company: Company) -> Plan:
    event, day = company.new_name("events"), company.day()
    task, person = company.new_name("tasks"), company.person()
    plan = Plan({"event": event, "day": day, "task": task, "person": person})
    plan.then("add the event, then the task", "add_event", name=event, day=day)
    return plan.then("now add the task", "add_task", name=task, owner=person)


def move_and_assign(company: Company) -> Plan:
    key, row = company.row("tasks")
    goal, person = company.list(row[1]), company.person(row[2])
    plan = find(Plan({"task": row[0], "list": goal, "person": person}), "tasks", row[0])
    return change(change(plan, "move_task", key, goal), "assign_task", key, person, why="it is moved")


def two_events(company: Company) -> Plan:
    (key, (event, _)), (other_key, (other, _)) = company.two_rows("events")
    plan = find(Plan({"event": event, "other": other}), "events", event)
    plan = find(change(plan, "delete_event", key), "events", other)
    return change(plan, "delete_event", other_key)


def swap_event(company: Company) -> Plan:
    key, (event, _) = company.row("events")
    other, day = company.new_name("events"), company.day()
    plan = find(Plan({"event": event, "other": other, "day": day}), "events", event)
    plan = change(plan, "delete_event", key)
    return plan.then(f"now add {quoted(other)}", "add_event", name=other, day=day)


def status_and_task(company: Company) -> Plan:
    key, (customer, status, _) = company.row("customers")
    goal, task, person = company.status(status), company.new_name("tasks"), company.person()
    plan = Plan({"customer": customer, "status": goal, "task": task, "person": person})
    plan = change(find(plan, "customers", customer), "set_status", key, goal)
    return plan.then("now add the task", "add_task", name=task, owner=person)


def all_tasks_of(company: Company) -> Plan:
    """Two or three tasks change hands, no more than a search shows."""
    owner = company.person()
    person = company.person(owner)
    tasks = list(company.state.tables["tasks"])
    theirs = company.rng.sample(tasks, company.rng.randrange(2, SHOWN_ROWS + 1))
    for key in tasks:
        if key in theirs:
            company.state.update("tasks", key, "owner", owner)
        elif company.state.tables["tasks"][key][2] == owner:
            company.state.update("tasks", key, "owner", company.person(owner))
    plan = Plan({"owner": owner, "person": person})
    plan.then(f"list the tasks of {quoted(owner)}", "list_tasks", owner=owner)
    ids = [key for key in tasks if key in theirs]
    change(plan, "assign_task", ids[0], person, why=f"the ids are {', '.join(ids)}")
    for key in ids[1:]:
        change(plan, "assign_task", key, person, why=f"next is {key}")
    return plan


def reply_and_delete(company: Company) -> Plan:
    key, (subject, _) = company.row("inbox")
    text = company.text()
    plan = change(find(Plan({"subject": subject, "text": text}), "inbox", subject), "reply_email", key, text)
    return change(plan, "delete_email", key, why="it is answered")
