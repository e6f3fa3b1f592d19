"""The exception for wrong input."""


class InputError(ValueError):
    """Wrong input, explained in one sentence: what was found, what was expected, how to fix it.

    The command line and the notebooks print only this sentence, without a traceback.
    """
