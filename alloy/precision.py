"""What `train.precision` means on a device; imports no torch."""


def is_bfloat16(precision: str, *, gpu: bool, multiplied: bool) -> bool:
    """Whether a stage computes in bfloat16.

    Args:
        precision: `train.precision`.
        gpu: whether it runs on one.
        multiplied: whether the hardware multiplies bfloat16 by itself.
    """
    by_itself = precision == "auto" or (precision == "by-device" and gpu)
    return precision == "bfloat16" or (by_itself and multiplied)
