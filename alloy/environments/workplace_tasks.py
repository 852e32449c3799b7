"""Everything that can be asked of the company, and how a task is made of it."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any, Literal, NamedTuple, get_args

from alloy.environments import workplace_plans as plans
from alloy.environments.task import Message, Split, Task
from alloy.environments.workplace_company import Company
from alloy.environments.workplace_conditions import (
    CONDITIONS,
    decided,
    event_or_new,
    if_visits,
    visits_or_else,
)
from alloy.environments.workplace_phrases import phrasings
from alloy.environments.workplace_plans import CHANGES, FINDERS, Plan, Planner, by_id, by_name
from alloy.environments.workplace_tools import READ_ONLY_TOOLS, TOOLS

Kind = Literal["write", "search", "conditional", "nothing", "domains", "steps"]
KINDS: tuple[Kind, ...] = get_args(Kind)

SYSTEM = "Use the tools. Change only what is asked for."


class Action(NamedTuple):
    """A way to ask for something: how it is planned, and the tools that the request could call for.

    All of these are on offer even where a condition turns out false: what is offered must not tell
    what is to be done. An action with nothing to do shares the phrasings of its twin, by name.
    """

    kind: Kind
    name: str
    plan: Planner
    tools: tuple[str, ...]


def _finder(tool: str) -> str:
    return FINDERS[CHANGES[tool].table].tool


def _condition_tools(name: str) -> tuple[str, ...]:
    condition = CONDITIONS[name]
    chosen = [tool for tool, _ in filter(None, (condition.then, condition.otherwise))]
    return (FINDERS[condition.table].tool, *chosen)


ONE_SIDED = [name for name, condition in CONDITIONS.items() if condition.otherwise is None]
TWO_SIDED = [name for name in CONDITIONS if name not in ONE_SIDED]
VISIT_TOOLS = ("count_visits", "make_plot")
ACTIONS: tuple[Action, ...] = (
    Action("write", "add_event", plans.add_event, ("add_event",)),
    Action("write", "add_task", plans.add_task, ("add_task",)),
    Action("write", "add_customer", plans.add_customer, ("add_customer",)),
    Action("write", "send_email", plans.send_email, ("send_email",)),
    Action("write", "make_plot", plans.make_plot, ("make_plot",)),
    Action("write", "delete_event_by_id", by_id("delete_event"), ("delete_event",)),
    Action("write", "move_task_by_id", by_id("move_task"), ("move_task",)),
    Action("write", "set_status_by_id", by_id("set_status"), ("set_status",)),
    *(Action("search", tool, by_name(tool), (_finder(tool), tool)) for tool in CHANGES),
    *(Action("nothing", tool, plans.absent(tool), (_finder(tool), tool)) for tool in CHANGES),
    *(Action("conditional", name, decided(name, holds=True), _condition_tools(name)) for name in ONE_SIDED),
    *(Action("nothing", name, decided(name, holds=False), _condition_tools(name)) for name in ONE_SIDED),
    *(Action("conditional", name, decided(name), _condition_tools(name)) for name in TWO_SIDED),
    Action("conditional", "if_visits", if_visits(True), VISIT_TOOLS),
    Action("nothing", "if_visits", if_visits(False), VISIT_TOOLS),
    Action("conditional", "visits_or_else", visits_or_else, VISIT_TOOLS),
    Action("conditional", "event_or_new", event_or_new, ("find_events", "move_event", "add_event")),
    Action("domains", "mail_person", plans.mail_person, ("find_person", "send_email")),
    Action(
        "domains",
        "forward_to_person",
        plans.forward_to_person,
        ("find_emails", "find_person", "forward_email"),
    ),
    Action(
        "domains",
        "mail_customer_owner",
        plans.mail_owner("customers"),
        ("find_customers", "find_person", "send_email"),
    ),
    Action(
        "domains", "mail_task_owner", plans.mail_owner("tasks"), ("find_tasks", "find_person", "send_email")
    ),
    Action(
        "domains", "task_for_customer_owner", plans.task_for_customer_owner, ("find_customers", "add_task")
    ),
    Action(
        "domains",
        "assign_to_customer_owner",
        plans.assign_to_customer_owner,
        ("find_tasks", "find_customers", "assign_task"),
    ),
    Action("steps", "event_and_task", plans.event_and_task, ("add_event", "add_task")),
    Action("steps", "move_and_assign", plans.move_and_assign, ("find_tasks", "move_task", "assign_task")),
    Action("steps", "two_events", plans.two_events, ("find_events", "delete_event")),
    Action("steps", "swap_event", plans.swap_event, ("find_events", "delete_event", "add_event")),
    Action("steps", "status_and_task", plans.status_and_task, ("find_customers", "set_status", "add_task")),
    Action("steps", "all_tasks_of", plans.all_tasks_of, ("list_tasks", "assign_task")),
    Action(
        "steps", "reply_and_delete", plans.reply_and_delete, ("find_emails", "reply_email", "delete_email")
    ),
)
ACTIONS_OF: dict[Kind, list[Action]] = {
    kind: [action for action in ACTIONS if action.kind == kind] for kind in KINDS
}


def make_task(
    rng: Random,
    task_id: str,
    split: Split,
    kinds: Sequence[Kind],
    rows_per_table: int,
    tools_offered: int,
    thinking: bool,
    words: int | None,
    lapses: float = 0.0,
) -> Task:
    """Draw a kind, an action, a phrasing, a company and the values; work the plan out in the company."""
    kind = rng.choice(kinds)
    action = rng.choice(ACTIONS_OF[kind])
    number, phrasing = rng.choice(phrasings(action.name, split))
    company = Company(rng, rows_per_table, words)
    plan = action.plan(company)
    request = phrasing.format(**{slot: plans.quoted(value) for slot, value in plan.slots.items()})
    writes = [step for step in plan.steps if step.tool not in READ_ONLY_TOOLS]
    # Drawn apart, so that the tasks are the same with and without lapses.
    shown = lapse(plan) if Random(f"{task_id}/lapse").random() < lapses else plan
    return Task(
        id=task_id,
        environment="workplace",
        template=f"{kind}/{action.name}/{number}",
        messages=[{"role": "system", "content": SYSTEM}, {"role": "user", "content": request}],
        tools=[TOOLS[name].schema for name in _offer(rng, action.tools, tools_offered)],
        gold={
            "kind": kind,
            "action": action.name,
            "domains": sorted({TOOLS[step.tool].domain for step in plan.steps}),
            "steps": len(plan.steps),
            "tables": company.state.to_tables(),
            "calls": [{"name": step.tool, "arguments": step.arguments} for step in writes],
        },
        demonstration=_demonstrate(company, shown, bool(writes) or shown is not plan, thinking),
    )


def lapse(plan: Plan) -> Plan:
    """The plan as a careless demonstrator carries it out.

    The last change is claimed but not made, or made although its condition is false; a plan that ends
    with a search stays as it is.
    """
    if plan.regardless is not None:
        return replace(plan, steps=[*plan.steps, plan.regardless], closing="all is done")
    if plan.steps[-1].tool in READ_ONLY_TOOLS:
        return plan
    return replace(plan, steps=plan.steps[:-1], closing="that will do")


def _offer(rng: Random, needed: Sequence[str], count: int) -> list[str]:
    """The needed tools among others, `count` in all or as many as are needed, in any order."""
    others = [name for name in TOOLS if name not in needed]
    offered = [*needed, *rng.sample(others, min(len(others), max(0, count - len(needed))))]
    rng.shuffle(offered)
    return offered


def _demonstrate(company: Company, plan: Plan, acted: bool, thinking: bool) -> list[Message]:
    """The plan's calls, really made in a copy of the company, with its real answers."""
    state = company.state.copy()
    turns: list[Message] = []

    def say(thought: str, content: str, **rest: Any) -> None:
        turns.append(
            {"role": "assistant", "content": content, **({"thinking": thought} if thinking else {}), **rest}
        )

    for step in plan.steps:
        say(step.thinking, "", tool_calls=[{"name": step.tool, "arguments": dict(step.arguments)}])
        turns.append({"role": "tool", "content": TOOLS[step.tool].run(state, **step.arguments)})
    say(plan.closing, "Done." if acted else "Nothing to do.")
    return turns
