"""A model with one score for a head, of any architecture that transformers has a language model of.

transformers has such a class for most of them and none for some hybrids. Those get one here, made of transformers'
own parts: the backbone, and a linear `score` read at the last token that is no padding. A folder of it is as plain
as any other (safetensors, a config, no code), and what loads it without this module must bring the class.
"""

from functools import cache
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
)

from alloy.errors import InputError


class AutoScorer:
    """`AutoModelForSequenceClassification`, for architectures without a class of transformers' too."""

    @staticmethod
    def from_pretrained(folder: str, **given: Any) -> Any:
        """As transformers' own, from a scorer's folder or a language model's.

        Raises:
            InputError: an architecture that is neither.
        """
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        return scorer_class(type(config), folder).from_pretrained(folder, **given)


def scorer_class(config: type[Any], named: str | Path) -> Any:
    """The class of an architecture's scorer; `named` is what an error calls the model."""
    if config in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        return AutoModelForSequenceClassification
    if config not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise InputError(
            f"{named}: {getattr(config, 'model_type', config.__name__)} has neither a model with a score nor a "
            "language model in transformers. Start a reward model from a language model, or an encoder such as BERT."
        )
    return _made(MODEL_FOR_CAUSAL_LM_MAPPING[config])


@cache
def _made(language_model: type[Any]) -> Any:
    """The architecture's base class, which knows how its weights are named and begun, with a score for a head."""
    base = next(each for each in language_model.__mro__ if PreTrainedModel in each.__bases__)
    name = language_model.__name__.replace("ForCausalLM", "ForSequenceClassification")
    return type(name, (GenericForSequenceClassification, base), {"__module__": __name__})
