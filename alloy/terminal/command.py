"""`python -m alloy chat MODEL`: talk to a model, in this process or behind a server."""

import os
from argparse import Namespace, RawDescriptionHelpFormatter

from alloy.command import Parser, quiet_libraries
from alloy.errors import InputError, StageError
from alloy.rollout.budget import DEFAULT_GRACE
from alloy.serve.asking import Asked, Writer
from alloy.terminal.conversation import HELP, Conversation, open_workplace
from alloy.terminal.screen import Screen

_KEYS = ("ALLOY_API_KEY", "VLLM_API_KEY", "OPENAI_API_KEY")


def run(arguments: list[str]) -> int:
    given = _parser().parse_args(arguments)
    if given.model is None and given.url is None:
        raise InputError("name a model, or a server with --url.")
    for name in ("thinking_budget", "grace", "max_tokens"):
        value = getattr(given, name)
        if value is not None and value < (name == "max_tokens"):
            raise InputError(f"--{name.replace('_', '-')} {value}: it is too small.")
    quiet_libraries()
    screen = Screen()
    writer = _server(given) if given.url else _local(given)
    settings = Asked(
        (),
        thinking=not given.no_think,
        budget=given.thinking_budget,
        max_tokens=given.max_tokens,
        temperature=given.temperature,
        top_p=given.top_p,
        seed=given.seed,
    )
    conversation = Conversation(writer, settings, open_workplace, system=given.system)
    if given.tools:
        screen.tell(conversation.command("/tools") or "")
    if screen.watched:
        screen.tell("/help tells the commands, Ctrl-D ends")
    return _talk(conversation, screen)


def _talk(conversation: Conversation, screen: Screen) -> int:
    """Until the user ends it; 1 where a turn of a pipe failed."""
    status = 0
    for line in screen.lines():
        if line.strip() in ("/exit", "/quit"):
            break
        if not line.strip():
            continue
        told = conversation.command(line)
        if told is not None:
            screen.tell(told)
            continue
        try:
            with screen.turn() as took:
                took(conversation.say(line, screen.show, screen.tell))
        except InputError as error:
            screen.complain(str(error))
            status = 0 if screen.watched else 2
        except StageError as error:
            screen.complain(str(error))
            status = 0 if screen.watched else 1
        except KeyboardInterrupt:
            if not screen.watched:
                raise
            screen.complain("stopped")
    return status


def _local(given: Namespace) -> Writer:
    from alloy.serve.model import find_model

    folder, _ = find_model(given.model)
    from alloy.policy import load_model, load_tokenizer, multiplies_bfloat16, own_device
    from alloy.terminal.local import LocalWriter

    tokenizer = load_tokenizer(folder)
    model = load_model(folder, "bfloat16" if multiplies_bfloat16() else "float32")
    return LocalWriter(model.to(own_device()), tokenizer, given.grace)


def _server(given: Namespace) -> Writer:
    from alloy.serve.model import find_model
    from alloy.terminal.remote import RemoteWriter, connect

    key = given.api_key or next((os.environ[name] for name in _KEYS if os.environ.get(name)), "none")
    served = connect(given.url, key, given.served)
    tokenizer = None
    if given.model and not served.keeps_budgets:
        from alloy.policy import load_tokenizer

        tokenizer = load_tokenizer(find_model(given.model, weights=False)[0])
    return RemoteWriter(served, tokenizer, given.grace)


def _parser() -> Parser:
    parser = Parser(
        prog="python -m alloy chat",
        description="Talk to a model. Through a pipe every line is a turn, and answers alone are printed.",
        formatter_class=RawDescriptionHelpFormatter,
        epilog=f"in the chat:\n\n{HELP}",
    )
    parser.add_argument("model", nargs="?", help="run folder, model folder, or a name on the Hub")
    parser.add_argument("--url", help="of a server instead: http://127.0.0.1:8000/v1")
    parser.add_argument("--api-key", help="of the server; else one of " + ", ".join(_KEYS))
    parser.add_argument("--served", help="the model's name on the server; its first when not given")
    parser.add_argument("--thinking-budget", type=int, help="tokens; no limit when not given")
    parser.add_argument(
        "--grace",
        type=int,
        default=DEFAULT_GRACE,
        help="tokens past a budget in which a newline is waited for",
    )
    parser.add_argument("--no-think", action="store_true", help="begin with thinking off")
    parser.add_argument("--tools", action="store_true", help="begin with the tools of a small company")
    parser.add_argument("--system", default="", help="what is told before the conversation")
    parser.add_argument(
        "--max-tokens",
        type=int,
        help="of a turn, thinking included; all that there is room for when not given",
    )
    parser.add_argument("--temperature", type=float, help="0.6, without thinking 0 (greedy), when not given")
    parser.add_argument("--top-p", type=float, default=0.95, help="(%(default)s)")
    parser.add_argument("--seed", type=int)
    return parser
