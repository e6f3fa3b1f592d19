"""What the values of a mask mean: sea or land, by its attributes and flags."""

import re

from seaice_lab import flags

# Names of masks in model output and products, in lower case. Masks of velocity points are others.
NAMES = frozenset(
    """
    mask landmask land_mask lmask lsm lsmask lsm_mask land_sea_mask landsea_mask landseamask land
    sftlf ocean oceanmask ocean_mask sea seamask sea_mask water_mask watermask wet wet_c wet_t
    tmask tmaskutil mask_t mask_rho maskrho sftof kmt
    """.split()
)
# What 1 means by the CF standard name.
STANDARD_NAMES = {
    "sea_binary_mask": True,
    "sea_area_fraction": True,
    "land_binary_mask": False,
    "land_area_fraction": False,
}
SEA = re.compile(r"ocean|sea[ _-]?ice|sea|water|wet")
LAND = re.compile(r"land|lake|coast|shelf|dry")
# "not_land" is sea; but "no_sea_ice" is sea too.
NEGATED = re.compile(r"(?<![a-z])(?:no|non|not)[ _-]?(?!sea[ _-]?ice)[a-z]+$")
# One bit says one thing of a cell, which may be another thing, such as "land_spill_over".
BIT = re.compile(
    r"(is_|over_)?(land|lake|inland_water|continent|ocean|sea)(_?(mask|cell|point)s?)?"
)
NUMBER_FIRST = re.compile(r"\b(\d+)\s*(?:=|:|-|is|for|if|where|over|on|means)\s*([a-z_ ]+)")
WORD_FIRST = re.compile(r"\b([a-z_]+)\s*(?:=|:|\(|is)\s*(\d+)\b")


def is_mask(name, attrs):
    """Whether a variable is an ocean mask, by its name and attributes.

    Parameters
    ----------
    name : str
    attrs : dict

    Returns
    -------
    bool
    """
    sea, land = sea_and_land(attrs)
    is_flagged = bool(land) and (bool(sea) or land[0].is_bit)
    return name.lower() in NAMES or attrs.get("standard_name") in STANDARD_NAMES or is_flagged


def sea_and_land(attrs):
    """The flags of a mask that mean sea, and those that mean land.

    Parameters
    ----------
    attrs : dict

    Returns
    -------
    sea, land : list of seaice_lab.flags.Flag
    """
    kinds = {True: [], False: [], None: []}
    for flag in flags.read(attrs):
        if not flag.is_bit or BIT.fullmatch(flag.meaning):
            kinds[is_sea(flag.meaning)].append(flag)
    return kinds[True], kinds[False]


def is_sea(meaning):
    """Whether words mean sea.

    Parameters
    ----------
    meaning : str
        In lower case, such as "open water".

    Returns
    -------
    bool or None
        True if they mean sea, False if land, None if neither.
    """
    matches = [match for match in (SEA.search(meaning), LAND.search(meaning)) if match]
    if not matches:
        return None
    first = min(matches, key=lambda match: match.start())
    return (first.re is SEA) != bool(NEGATED.search(meaning[: first.end()]))


def one_is_sea(attrs):
    """Whether 1 is sea by the attributes of a mask.

    Parameters
    ----------
    attrs : dict
        ``standard_name``, or words such as "1 = ocean" in ``long_name``, ``description``,
        ``comment`` and the options of ROMS.

    Returns
    -------
    bool or None
        None if the attributes do not say it.
    """
    if attrs.get("standard_name") in STANDARD_NAMES:
        return STANDARD_NAMES[attrs["standard_name"]]
    options = [f"{key[7:]} = {text}" for key, text in attrs.items() if key.startswith("option_")]
    texts = [str(attrs.get(key, "")) for key in ("long_name", "description", "comment")]
    text = "; ".join([*texts, *options]).lower()
    pairs = NUMBER_FIRST.findall(text)
    pairs += [(number, word) for word, number in WORD_FIRST.findall(text)]
    stated = {
        is_sea(word) == (number == "1")
        for number, word in pairs
        if number in "01" and is_sea(word) is not None
    }
    return stated.pop() if len(stated) == 1 else None
