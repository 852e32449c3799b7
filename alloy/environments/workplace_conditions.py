"""Plans of requests with an `if`: something is read first and decides what is done, if anything."""

from typing import NamedTuple

from alloy.environments.workplace_company import Company
from alloy.environments.workplace_plans import (
    FINDERS,
    Plan,
    Planner,
    change,
    change_arguments,
    draw,
    find,
    quoted,
    value_for,
)


class Condition(NamedTuple):
    """Whether a row's cell is what the request says, and which tool is used when it is, and when not.

    `slot` is the told value's place in the phrasings and `place` the word before it; the tools come
    with the slot of their own further value.
    """

    table: str
    at: int
    slot: str
    place: str
    then: tuple[str, str]
    otherwise: tuple[str, str] | None = None


CONDITIONS = {
    "if_task_in_list": Condition("tasks", 1, "list", "in", ("move_task", "goal")),
    "if_task_of": Condition("tasks", 2, "owner", "of", ("assign_task", "person")),
    "if_event_on": Condition("events", 1, "day", "on", ("delete_event", "")),
    "if_customer_is": Condition("customers", 1, "status", "at", ("set_owner", "person")),
    "event_or_else": Condition("events", 1, "day", "on", ("delete_event", ""), ("move_event", "goal")),
    "task_or_else": Condition("tasks", 1, "list", "in", ("delete_task", ""), ("assign_task", "person")),
    "customer_or_else": Condition(
        "customers", 1, "status", "at", ("set_owner", "person"), ("set_status", "goal")
    ),
}


def decided(name: str, holds: bool | None = None) -> Planner:
    """Read a row's cell and do what the request says; whether it holds is drawn when not given."""
    condition = CONDITIONS[name]

    def plan(company: Company) -> Plan:
        true = company.rng.random() < 0.5 if holds is None else holds
        key, row = company.row(condition.table)
        truth = row[condition.at]
        told = truth if true else draw(company, condition.slot, truth)
        slots = {FINDERS[condition.table].slot: row[0], condition.slot: told}
        values = {}
        for tool, slot in filter(None, (condition.then, condition.otherwise)):
            values[tool] = value_for(company, tool, row, told)
            if slot:
                slots[slot] = values[tool]
        plan = find(Plan(slots), condition.table, row[0])
        why = f"it is {condition.place} {quoted(truth)}" + ("" if true else f", not {quoted(told)}")
        chosen = condition.then if true else condition.otherwise
        if chosen is None:
            tool = condition.then[0]
            plan.forbids(tool, **change_arguments(tool, key, values[tool]))
            return plan.but(f"{why}, change nothing")
        return change(plan, chosen[0], key, values[chosen[0]], why)

    return plan


def if_visits(holds: bool) -> Planner:
    """A plot, if a day had more visits than the request says."""

    def plan(company: Company) -> Plan:
        day, number, kind, why = _visits(company, holds)
        plan = Plan({"day": day, "number": number, "kind": kind})
        plan.then("count the visits", "count_visits", day=day)
        if not holds:
            return plan.forbids("make_plot", day=day, kind=kind).but(f"{why}, change nothing")
        return plan.then(f"{why}, make the plot", "make_plot", day=day, kind=kind)

    return plan


def visits_or_else(company: Company) -> Plan:
    holds = company.rng.random() < 0.5
    day, number, kind, why = _visits(company, holds)
    other = company.plot_kind(kind)
    plan = Plan({"day": day, "number": number, "kind": kind, "other": other})
    plan.then("count the visits", "count_visits", day=day)
    made = kind if holds else other
    return plan.then(f"{why}, make a {quoted(made)} plot", "make_plot", day=day, kind=made)


def event_or_new(company: Company) -> Plan:
    """Move an event that is there, or add it."""
    if company.rng.random() < 0.5:
        key, (event, now) = company.row("events")
        day = company.day(now)
        return change(find(Plan({"event": event, "day": day}), "events", event), "move_event", key, day)
    event, day = company.new_name("events"), company.day()
    plan = find(Plan({"event": event, "day": day}), "events", event)
    return plan.then("there is no such event, add it", "add_event", name=event, day=day)


def _visits(company: Company, holds: bool) -> tuple[str, str, str, str]:
    """A day, a number that its visits exceed or not, a kind of plot, and what reading the day tells."""
    _, (day, visits, _) = company.row("visits")
    number = company.rng.randrange(5, int(visits)) if holds else company.rng.randrange(int(visits), 100)
    why = f"{visits} is more than {number}" if holds else f"{visits} is not more than {number}"
    return day, str(number), company.plot_kind(), why
