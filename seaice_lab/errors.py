"""The exception for wrong input."""


class InputError(ValueError):
    """Wrong input, explained in one sentence: what was found, what was expected, how to fix it.

    The command line and the notebooks print only this sentence, without a traceback.
    """


def listed(values):
    """Values as text for a message; of more than six, the first three and the last."""
    text = list(map(str, values))
    return ", ".join(text if len(text) <= 6 else [*text[:3], "...", text[-1]])
