"""Rows in the very columns of the Hub's datasets that the large recipes name, written by hand.

By name: the columns as the datasets' cards and public loaders have them; `HUB` says what was seen where.
"""

import json
from typing import Any

WEATHER = {"city": {"description": "The city.", "type": "str"},
           "days": {"description": "How many days.", "type": "int, optional", "default": 1}}  # fmt: skip
SCHEMA = {"name": "get_news", "description": "Latest headlines.",
          "parameters": {"type": "dict", "properties": {"country": {"type": "str"}}, "required": ["country"]}}  # fmt: skip
TOOL = {"type": "function",
        "function": {"name": "add", "description": "Adds.",
                     "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}}  # fmt: skip

V2 = {
    "uuid": "0",
    "license": "CC BY 4.0",
    "generator": "g",
    "version": "v",
    "category": "math",
    "reasoning": "on",
}


def turn(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


ROWS: dict[str, list[dict[str, Any]]] = {
    "nvidia/Nemotron-Post-Training-Dataset-v2": [
        {**V2, "messages": [turn("system", ""), turn("user", f"What is {n} + 1?"),
                            turn("assistant", f"<think>\n{n} and one more.\n</think>\n\nIt is {n + 1}.")]}
        for n in range(40)
    ],
    "nvidia/Nemotron-Post-Training-Dataset-v1": [
        {**V2, "category": "tool_calling", "metadata": json.dumps({"tools": [TOOL]}),
         "messages": [
             turn("user", f"Add {n}.", tool_calls=[]),
             turn("assistant", "<think>\nI add.\n</think>\n", tool_calls=[
                 {"id": "c", "type": "function", "function": {"name": "add", "arguments": json.dumps({"a": n})}}]),
             turn("tool", str(n), tool_calls=[]),
             turn("assistant", f"<think>\nDone.\n</think>\nThat makes {n}.", tool_calls=[]),
         ]}
        for n in range(40)
    ],
    "Salesforce/xlam-function-calling-60k": [
        {"id": n, "query": f"Weather in town {n}?",
         "answers": json.dumps([{"name": "get_weather", "arguments": {"city": f"town {n}"}}]),
         "tools": json.dumps([{"name": "get_weather", "description": "Weather.", "parameters": WEATHER}])}
        for n in range(40)
    ],
    "glaiveai/glaive-function-calling-v2": [
        {"system": "SYSTEM: You are a helpful assistant with access to the following functions. Use them if required "
                   "-\n" + json.dumps(SCHEMA, indent=4) + "\n",
         "chat": f"USER: News of land {n}?\n\n\nASSISTANT: <functioncall> "
                 '{"name": "get_news", "arguments": \'{"country": "land ' + str(n) + '"}\'} <|endoftext|>\n\n\n'
                 'FUNCTION RESPONSE: {"headlines": ["A", "B"]}\n\n\nASSISTANT: There are two: A and B. <|endoftext|>'
                 "\n\n\nUSER: Thanks!\n\n\nASSISTANT: You are welcome! <|endoftext|>\n\n\n"}
        for n in range(40)
    ],
    "nvidia/When2Call": [
        {"tools": [json.dumps(SCHEMA)],
         "messages": [turn("user", f"Order pizza number {n}."), turn("assistant", f"I cannot order pizza {n}.")]}
        for n in range(40)
    ],
    "lmsys/lmsys-chat-1m": [
        {"conversation_id": str(n), "model": "m", "turn": 1, "language": "English", "redacted": False,
         "openai_moderation": [{"flagged": False}],
         "conversation": [turn("user", f"Tell me about number {n}."), turn("assistant", "It is a number.")]}
        for n in range(60)
    ],
    "nvidia/HelpSteer3": [
        {"domain": "general", "language": "korean" if n % 6 == 5 else "english", "context": [turn("user", f"Explain the number {n}.")],
         "response1": f"Number {n} is a number.", "response2": f"Hm, {n}?", "overall_preference": -2,
         "individual_preference": [{"score": -2, "reasoning": "r", "feedback1": "f", "feedback2": "f"}]}
        for n in range(60)
    ],
    "openai/gsm8k": [
        {"question": f"A hen lays {n} eggs, then one more. How many?", "answer": f"{n} + 1 = {n + 1}.\n#### {n + 1}"}
        for n in range(60)
    ],
    "HuggingFaceH4/MATH-500": [
        {"problem": f"What is ${n} \\cdot 2$?", "solution": f"It is $\\boxed{{{2 * n}}}$.", "answer": str(2 * n),
         "subject": "Algebra", "level": 1, "unique_id": f"test/algebra/{n}.json"}
        for n in range(60)
    ],
    "google/IFEval": [
        {"key": n, "prompt": f"Write about {n} without commas.", "instruction_id_list": ["punctuation:no_comma"],
         "kwargs": [{}]}
        for n in range(60)
    ],
}  # fmt: skip
