"""The words of the project: names that say what a thing is, and docstrings that are complete."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("seaice_lab", "dashboards")
    for path in (ROOT / folder).rglob("*.py")
)

# Names that a reader cannot understand at the place where they are used. Section "Words" of
# CONTRIBUTING.md has the terms to use instead.
RIDDLES = frozenset(
    """
    TOGETHER COPIES STILL UNHEARD FEW IDLE FOLLOWING INSTEAD FLAT SPREAD TAKEN_UP CARRIED
    LOOKED_AT LACKS TRUE MOST_PROPERTIES
    lead_back sum_up some_months cheapest price fresh follow pull lean hold stiff_floor
    trained_before begun chain dressed level dots bare tell remark several notice
    """.split()
)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# Functions with these decorators are not called with arguments by a reader of the documentation.
# The options of a command are documented by their help.
EXEMPT = {"property", "cached_property", "setter", "field_validator", "model_validator", "command"}


def tree_of(module):
    return ast.parse((ROOT / module).read_text(encoding="utf-8"))


def public_functions(tree):
    """Public functions of a module and public methods of its public classes.

    Yields
    ------
    name : str
        ``function`` or ``Class.method``.
    node : ast.FunctionDef
    """
    for node in tree.body:
        if is_public_function(node):
            yield node.name, node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for method in node.body:
                if is_public_function(method):
                    yield f"{node.name}.{method.name}", method


def is_public_function(node):
    return (
        isinstance(node, FUNCTIONS)
        and not node.name.startswith("_")
        and EXEMPT.isdisjoint(decorators(node))
    )


def decorators(function):
    """Every name that the decorators of a function contain."""
    for decorator in function.decorator_list:
        for node in ast.walk(decorator):
            if isinstance(node, ast.Name):
                yield node.id
            elif isinstance(node, ast.Attribute):
                yield node.attr


def own_nodes(function):
    """The nodes of a function's body without those of the functions nested in it."""
    waiting = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, (*FUNCTIONS, ast.Lambda, ast.ClassDef)):
            waiting.extend(ast.iter_child_nodes(node))


def argument_count(function):
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    names += [a.arg for a in (arguments.vararg, arguments.kwarg) if a is not None]
    return len([name for name in names if name not in ("self", "cls")])


def gives_a_value(function):
    for node in own_nodes(function):
        if isinstance(node, (ast.Yield, ast.YieldFrom)):
            return True
        if isinstance(node, ast.Return) and not is_none(node.value):
            return True
    return False


def is_none(node):
    return node is None or (isinstance(node, ast.Constant) and node.value is None)


def raises_input_error(function):
    for node in own_nodes(function):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            name = node.exc.func
            if "InputError" in (getattr(name, "id", None), getattr(name, "attr", None)):
                return True
    return False


def sections(function):
    """Headings of a NumPy docstring: lines that are underlined with hyphens."""
    lines = (ast.get_docstring(function) or "").splitlines()
    return {
        line.strip()
        for line, below in zip(lines, lines[1:], strict=False)
        if below.strip() and set(below.strip()) == {"-"}
    }


def missing_from_docstring(function):
    """What the docstring of a public function lacks, in words."""
    if ast.get_docstring(function) is None:
        return ["a docstring"]
    headings, missing = sections(function), []
    if argument_count(function) >= 2:
        if "Parameters" not in headings:
            missing.append("Parameters")
        if gives_a_value(function) and not headings & {"Returns", "Yields"}:
            missing.append("Returns or Yields")
    if raises_input_error(function) and "Raises" not in headings:
        missing.append("Raises")
    return missing


def defined_names(tree):
    """Functions, classes, methods and constants of a module, and its module-level variables."""
    for node in ast.walk(tree):
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            yield node.lineno, node.name
    for body in (tree.body, *(n.body for n in tree.body if isinstance(n, ast.ClassDef))):
        for node in body:
            for target in assigned(node):
                yield node.lineno, target


def assigned(node):
    targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        for target in targets:
            yield from (n.id for n in ast.walk(target) if isinstance(n, ast.Name))


@pytest.mark.parametrize("module", MODULES)
def test_no_name_is_a_riddle(module):
    riddles = [
        f"{module}:{line}: {name}"
        for line, name in defined_names(tree_of(module))
        if name.lstrip("_") in RIDDLES
    ]
    assert not riddles, "name these things after what they are:\n" + "\n".join(riddles)


@pytest.mark.parametrize("module", MODULES)
def test_docstrings_of_public_functions_are_complete(module):
    incomplete = [
        f"{module}:{node.lineno}: {name} lacks {', '.join(missing)}"
        for name, node in public_functions(tree_of(module))
        if (missing := missing_from_docstring(node))
    ]
    assert not incomplete, "docstrings to complete (NumPy style):\n" + "\n".join(incomplete)


def test_the_checks_find_what_they_look_for():
    tree = ast.parse(
        '''
FEW = 3

def score(a, b):
    """One line."""
    if a:
        raise InputError("no")
    return b

def silent():
    pass

class Reader:
    def read(self, name, time):
        """Read.

        Parameters
        ----------
        name, time : str
        """

    @property
    def size(self):
        return 1
'''
    )
    missing = {name: missing_from_docstring(node) for name, node in public_functions(tree)}
    assert missing == {
        "score": ["Parameters", "Returns or Yields", "Raises"],
        "silent": ["a docstring"],
        "Reader.read": [],
    }
    assert [name for _, name in defined_names(tree) if name in RIDDLES] == ["FEW"]
