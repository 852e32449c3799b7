"""A tokenizer whose thinking tags are several tokens, as they are in models that were not made for thinking."""

import json
from typing import Any

from alloy.chat import TAG_TOKENS


def without_tag_tokens(tokenizer: Any) -> Any:
    """The same tokenizer, in which the tags are no tokens of their own."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    settings["added_tokens"] = [one for one in settings["added_tokens"] if one["content"] not in TAG_TOKENS]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(settings)),
        eos_token=tokenizer.eos_token,
        pad_token=tokenizer.pad_token,
        chat_template=tokenizer.chat_template,
        padding_side="left",
    )
