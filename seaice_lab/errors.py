"""The one exception that means "the input is wrong, and here is how to mend it"."""


class InputError(ValueError):
    """Bad input, told in one sentence: what was found, what was expected, how to mend it.

    The command line and the notebooks print the sentence alone, without a traceback.
    """
