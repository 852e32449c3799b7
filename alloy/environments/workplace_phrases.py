"""How the workplace tasks are asked for: five phrasings an action, listed by split.

The first three are for training, the fourth for validation, the fifth for the test: no phrasing is in
two splits, every action is in every split, and validation and test use only words that training uses
too. A slot stands for a value, which the text shows in double quotes.
"""

from alloy.environments.task import Split

TRAIN_PHRASINGS = 3

PHRASINGS: dict[str, tuple[str, str, str, str, str]] = {
    # One write, everything given.
    "add_event": (
        "Add the event {event} on {day}.",
        "Put {event} in the calendar on {day}.",
        "Please plan the event {event} for {day}.",
        "Please put the event {event} in the calendar for {day}.",
        "Plan {event} on {day}.",
    ),
    "add_task": (
        "Add the task {task} for {person}.",
        "Please make a new task {task} for {person}.",
        "Give {person} the new task {task}.",
        "Please add the new task {task} for {person}.",
        "Make the task {task} for {person}.",
    ),
    "add_customer": (
        "Add the customer {customer} with the owner {person}.",
        "We have a new customer, {customer}, owned by {person}.",
        "Please put the new customer {customer} in for {person}.",
        "Please add the new customer {customer}, owned by {person}.",
        "Put in the customer {customer} with the owner {person}.",
    ),
    "send_email": (
        "Send {text} to the address {address}.",
        "Write {text} to the address {address}.",
        "Send an email with the text {text} to the address {address}.",
        "Please send an email to the address {address} with the text {text}.",
        "Email {text} to the address {address}.",
    ),
    "make_plot": (
        "Make a {kind} plot of the visits on {day}.",
        "Please plot the visits of {day} as {kind}.",
        "Show the visits on {day} in a {kind} plot.",
        "Please make a {kind} plot for {day}.",
        "Plot the visits on {day} as {kind}.",
    ),
    "delete_event_by_id": (
        "Cancel the event with the id {id}.",
        "Please delete event {id}.",
        "Remove the event {id} from the calendar.",
        "Please cancel event {id}.",
        "Delete the event with the id {id}.",
    ),
    "move_task_by_id": (
        "Move the task with the id {id} to {list}.",
        "Please put task {id} on the list {list}.",
        "Task {id} is now in {list}, move it.",
        "Please move task {id} to the list {list}.",
        "Put the task with the id {id} on {list}.",
    ),
    "set_status_by_id": (
        "Set the customer with the id {id} to {status}.",
        "Please change the status of customer {id} to {status}.",
        "Customer {id} is now {status}.",
        "Please set the status of customer {id} to {status}.",
        "Change the customer with the id {id} to {status}.",
    ),
    # Search, then write.
    "delete_event": (
        "Cancel the event {event}.",
        "Please delete {event} from my calendar.",
        "Remove the event {event}.",
        "Please cancel the event {event}.",
        "Delete the event {event} from the calendar.",
    ),
    "move_event": (
        "Move the event {event} to {day}.",
        "Please put off the event {event} until {day}.",
        "The event {event} is now on {day}, change it.",
        "Please move the event {event} to {day}.",
        "Put the event {event} on {day}.",
    ),
    "rename_event": (
        "Rename the event {event} to {name}.",
        "Please call the event {event} {name} from now on.",
        "Change the name of the event {event} to {name}.",
        "Please change the name of the event {event} to {name}.",
        "Call the event {event} {name}.",
    ),
    "delete_email": (
        "Delete the email {subject}.",
        "Please remove the email {subject} from my inbox.",
        "Throw away the email about {subject}.",
        "Please delete the email about {subject}.",
        "Remove the email {subject}.",
    ),
    "reply_email": (
        "Reply {text} to the email {subject}.",
        "Please answer the email {subject} with {text}.",
        "Answer {text} to the email about {subject}.",
        "Please reply to the email {subject} with {text}.",
        "Answer the email {subject} with {text}.",
    ),
    "forward_email": (
        "Forward the email {subject} to the address {address}.",
        "Please pass the email {subject} on to the address {address}.",
        "Let the address {address} have the email about {subject}.",
        "Please forward the email about {subject} to the address {address}.",
        "Pass the email {subject} on to the address {address}.",
    ),
    "set_status": (
        "Set the customer {customer} to {status}.",
        "Please change the status of the customer {customer} to {status}.",
        "The customer {customer} is now {status}.",
        "Please set the status of the customer {customer} to {status}.",
        "Change the customer {customer} to {status}.",
    ),
    "set_owner": (
        "Hand the customer {customer} to {person}.",
        "Please make {person} the owner of the customer {customer}.",
        "From now on {person} looks after the customer {customer}.",
        "Please hand the customer {customer} to {person}.",
        "Make {person} the owner of the customer {customer}.",
    ),
    "delete_customer": (
        "Delete the customer {customer}.",
        "Please remove the customer {customer}.",
        "We lost the customer {customer}, take it out.",
        "Please delete the customer {customer}.",
        "Take out the customer {customer}.",
    ),
    "move_task": (
        "Move the task {task} to {list}.",
        "Please put the task {task} on the list {list}.",
        "The task {task} is now in {list}, move it.",
        "Please move the task {task} to the list {list}.",
        "Put the task {task} on {list}.",
    ),
    "assign_task": (
        "Assign the task {task} to {person}.",
        "Please hand the task {task} to {person}.",
        "From now on {person} does the task {task}.",
        "Please assign the task {task} to {person}.",
        "Hand the task {task} to {person}.",
    ),
    "delete_task": (
        "Delete the task {task}.",
        "Please remove the task {task} from the list.",
        "We do not need the task {task}, take it out.",
        "Please delete the task {task} from the list.",
        "Remove the task {task}.",
    ),
    # Read, then decide.
    "if_task_in_list": (
        "If the task {task} is in {list}, move it to {goal}.",
        "Please move the task {task} to {goal} if it is in {list}.",
        "Is the task {task} in {list}? Then put it on {goal}.",
        "Move the task {task} to {goal} if it is in {list}.",
        "Is the task {task} in {list}? Then move it to {goal}.",
    ),
    "if_task_of": (
        "If the task {task} belongs to {owner}, assign it to {person}.",
        "Please hand the task {task} to {person} if it belongs to {owner}.",
        "Does the task {task} belong to {owner}? Then assign it to {person}.",
        "Assign the task {task} to {person} if it belongs to {owner}.",
        "Does the task {task} belong to {owner}? Then hand it to {person}.",
    ),
    "if_event_on": (
        "If the event {event} is on {day}, cancel it.",
        "Please delete the event {event} if it is on {day}.",
        "Is the event {event} on {day}? Then remove it.",
        "Cancel the event {event} if it is on {day}.",
        "Is the event {event} on {day}? Then cancel it.",
    ),
    "if_customer_is": (
        "If the customer {customer} is {status}, hand it to {person}.",
        "Please make {person} the owner of the customer {customer} if it is {status}.",
        "Is the customer {customer} {status}? Then hand it to {person}.",
        "Hand the customer {customer} to {person} if it is {status}.",
        "Is the customer {customer} {status}? Then make {person} the owner.",
    ),
    "if_visits": (
        "If {day} had more than {number} visits, make a {kind} plot of it.",
        "Please plot {day} as {kind} if it had more than {number} visits.",
        "Did {day} have more than {number} visits? Then make a {kind} plot of it.",
        "Make a {kind} plot of {day} if it had more than {number} visits.",
        "Did {day} have more than {number} visits? Then plot it as {kind}.",
    ),
    "event_or_else": (
        "If the event {event} is on {day}, cancel it, otherwise move it to {goal}.",
        "Please cancel the event {event} if it is on {day}, otherwise move it to {goal}.",
        "Is the event {event} on {day}? Then remove it, otherwise put it on {goal}.",
        "Cancel the event {event} if it is on {day}, otherwise put it on {goal}.",
        "Is the event {event} on {day}? Then cancel it, otherwise move it to {goal}.",
    ),
    "task_or_else": (
        "If the task {task} is in {list}, delete it, otherwise assign it to {person}.",
        "Please delete the task {task} if it is in {list}, otherwise assign it to {person}.",
        "Is the task {task} in {list}? Then remove it, otherwise hand it to {person}.",
        "Delete the task {task} if it is in {list}, otherwise hand it to {person}.",
        "Is the task {task} in {list}? Then delete it, otherwise assign it to {person}.",
    ),
    "customer_or_else": (
        "If the customer {customer} is {status}, hand it to {person}, otherwise set it to {goal}.",
        "Please hand the customer {customer} to {person} if it is {status}, otherwise set it to {goal}.",
        "Is the customer {customer} {status}? Then make {person} the owner, otherwise change it to {goal}.",
        "Hand the customer {customer} to {person} if it is {status}, otherwise change it to {goal}.",
        "Is the customer {customer} {status}? Then hand it to {person}, otherwise set it to {goal}.",
    ),
    "visits_or_else": (
        "If {day} had more than {number} visits, make a {kind} plot of it, otherwise a {other} plot.",
        "Please plot {day} as {kind} if it had more than {number} visits, otherwise as {other}.",
        "Did {day} have more than {number} visits? Then make a {kind} plot of it, otherwise a {other} plot.",
        "Make a {kind} plot of {day} if it had more than {number} visits, otherwise a {other} plot.",
        "Did {day} have more than {number} visits? Then plot it as {kind}, otherwise as {other}.",
    ),
    "event_or_new": (
        "If there is an event {event}, move it to {day}, otherwise add it on {day}.",
        "Please move the event {event} to {day} if there is one, otherwise add it on {day}.",
        "Is there an event {event}? Then put it on {day}, otherwise add it on {day}.",
        "Move the event {event} to {day} if there is one, otherwise add it on {day}.",
        "Is there an event {event}? Then move it to {day}, otherwise add it on {day}.",
    ),
    # Several parts of the company.
    "mail_person": (
        "Send {text} to {person}.",
        "Write {text} to {person}.",
        "Please email {text} to our {person}.",
        "Please send an email to {person} with the text {text}.",
        "Email {text} to {person}.",
    ),
    "forward_to_person": (
        "Forward the email {subject} to {person}.",
        "Please pass the email {subject} on to {person}.",
        "Let {person} have the email about {subject}.",
        "Please forward the email about {subject} to {person}.",
        "Pass the email {subject} on to {person}.",
    ),
    "mail_customer_owner": (
        "Send {text} to the owner of the customer {customer}.",
        "Write {text} to the owner of the customer {customer}.",
        "Please email {text} to the person who owns the customer {customer}.",
        "Please send an email to the owner of the customer {customer} with the text {text}.",
        "Email {text} to the owner of the customer {customer}.",
    ),
    "mail_task_owner": (
        "Send {text} to the owner of the task {task}.",
        "Write {text} to the owner of the task {task}.",
        "Please email {text} to the person who owns the task {task}.",
        "Please send an email to the owner of the task {task} with the text {text}.",
        "Email {text} to the owner of the task {task}.",
    ),
    "task_for_customer_owner": (
        "Add the task {task} for the owner of the customer {customer}.",
        "Please make a new task {task} for the owner of the customer {customer}.",
        "Give the owner of the customer {customer} the new task {task}.",
        "Please add the new task {task} for the owner of the customer {customer}.",
        "Make the task {task} for the owner of the customer {customer}.",
    ),
    "assign_to_customer_owner": (
        "Assign the task {task} to the owner of the customer {customer}.",
        "Please hand the task {task} to the owner of the customer {customer}.",
        "From now on the owner of the customer {customer} does the task {task}.",
        "Please assign the task {task} to the owner of the customer {customer}.",
        "Hand the task {task} to the owner of the customer {customer}.",
    ),
    # Two writes or more.
    "event_and_task": (
        "Add the event {event} on {day} and the task {task} for {person}.",
        "Please plan the event {event} for {day} and make a new task {task} for {person}.",
        "Put {event} in the calendar on {day} and give {person} the new task {task}.",
        "Please add the event {event} on {day} and make a new task {task} for {person}.",
        "Plan the event {event} for {day} and add the task {task} for {person}.",
    ),
    "move_and_assign": (
        "Move the task {task} to {list} and assign it to {person}.",
        "Please put the task {task} on the list {list} and hand it to {person}.",
        "The task {task} is now in {list}, move it and assign it to {person}.",
        "Please move the task {task} to {list} and hand it to {person}.",
        "Put the task {task} on the list {list} and assign it to {person}.",
    ),
    "two_events": (
        "Cancel the events {event} and {other}.",
        "Please delete the events {event} and {other}.",
        "Remove {event} and {other} from my calendar.",
        "Please cancel the events {event} and {other}.",
        "Delete {event} and {other} from my calendar.",
    ),
    "swap_event": (
        "Cancel the event {event} and add the event {other} on {day}.",
        "Please delete the event {event} and plan {other} for {day}.",
        "Remove the event {event} and put {other} in the calendar on {day}.",
        "Please cancel the event {event} and plan {other} for {day}.",
        "Delete the event {event} and add the event {other} on {day}.",
    ),
    "status_and_task": (
        "Set the customer {customer} to {status} and add the task {task} for {person}.",
        "Please change the customer {customer} to {status} and make a new task {task} for {person}.",
        "The customer {customer} is now {status}, and give {person} the new task {task}.",
        "Please set the customer {customer} to {status} and make a new task {task} for {person}.",
        "Change the customer {customer} to {status} and add the task {task} for {person}.",
    ),
    "all_tasks_of": (
        "Assign all tasks of {owner} to {person}.",
        "Please hand all tasks of {owner} to {person}.",
        "From now on {person} does all tasks of {owner}.",
        "Please assign all tasks of {owner} to {person}.",
        "Hand all tasks of {owner} to {person}.",
    ),
    "reply_and_delete": (
        "Reply {text} to the email {subject} and delete it.",
        "Please answer the email {subject} with {text} and remove it from my inbox.",
        "Answer {text} to the email about {subject} and throw it away.",
        "Please reply {text} to the email about {subject} and delete it.",
        "Answer the email {subject} with {text} and delete it.",
    ),
}


def phrasings(action: str, split: Split) -> list[tuple[int, str]]:
    """The phrasings of an action in a split, each with its number within the action."""
    numbers = {"train": range(TRAIN_PHRASINGS), "validation": [3], "test": [4]}[split]
    return [(number, PHRASINGS[action][number]) for number in numbers]
