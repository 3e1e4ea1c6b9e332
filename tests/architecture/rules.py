"""The rules of the house. Each takes the root of a tree and gives the violations in it."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.architecture.tree import FLOORS, ROOMS, Source, sources

LONGEST_FILE_LINES = 400
LONGEST_FUNCTION_LINES = 60
MOST_PARAMETERS = 6

# Where each heavy library may be seen.
HOMES = {
    "torch": {"lm", "training", "evals"},
    "gradio": {"app"},
    "plotly": {"app"},
    "sqlalchemy": {"store"},
    "ray": set[str](),
}
# One step along a floor: a recipe, run as a module, is the command line's `run` on itself.
ALONG = {("recipes", "cli")}
# These read programs as if they were data.
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"torch.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system", "eval", "exec"}
UNSAFE_KEYWORDS = {"shell", "allow_pickle"}  # unless False; `trust_remote_code` is not even to be named
HIDDEN_CLOCKS = {"datetime.now", "datetime.utcnow", "date.today", "time.time", "datetime.datetime.now"}
CLOCK_HOME = "llmops/core/context.py"
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def imports_point_down(root: Path) -> list[str]:
    """A file sees only its own part and floors below; store and lm, on one floor, do not see each other."""
    found = []
    for source in sources(root):
        if source.part is None:
            continue
        floor = FLOORS.get(source.part)
        if floor is None:
            found.append(f"{source.name} stands on no floor: {source.part} is not in the drawing")
            continue
        for seen, line in sorted(source.parts_seen()):
            if seen != source.part and FLOORS[seen] >= floor and (source.part, seen) not in ALONG:
                found.append(
                    f"{source.name}:{line} ({source.part}, floor {floor}) imports {seen} (floor {FLOORS[seen]})"
                )
    return found


def rooms_are_seen_by_the_pipeline_only(root: Path) -> list[str]:
    """No file outside pipeline/ sees more than one room."""
    found = []
    for source in sources(root):
        seen = {part for part, _ in source.parts_seen() if part in ROOMS}
        if source.part != "pipeline" and len(seen) > 1:
            found.append(f"{source.name} sees {len(seen)} rooms: {', '.join(sorted(seen))}")
    return found


def heavy_libraries_stay_home(root: Path) -> list[str]:
    """Each heavy library is imported only where it belongs."""
    return [
        f"{source.name}:{line} imports {library}, which belongs to {', '.join(sorted(HOMES[library])) or 'nobody'}"
        for source in sources(root)
        for dotted, line in source.imports
        if (library := dotted.partition(".")[0]) in HOMES and source.part not in HOMES[library]
    ]


def every_room_has_its_door(root: Path) -> list[str]:
    """Each part is a package that says what it is, and no verb bears a room's name."""
    found = []
    for part in (part for part in FLOORS if part not in ("app", "recipes")):
        front = root / "llmops" / part / "__init__.py"
        if not front.is_file():
            found.append(f"llmops/{part}/ has no __init__.py")
        elif not ast.get_docstring(ast.parse(front.read_text(encoding="utf-8"))):
            found.append(f"llmops/{part}/__init__.py does not say what the part is")
    for path in sorted((root / "llmops" / "pipeline").glob("*.py")):
        syntax = ast.parse(path.read_text(encoding="utf-8"))
        verbs = {node.name for node in syntax.body if isinstance(node, ast.FunctionDef)}
        found += [f"{verb} is a room and a verb" for verb in sorted(verbs & set(FLOORS))]
    return found


def nothing_is_too_large(root: Path) -> list[str]:
    """Sizes of files, functions and signatures (`self` and `cls` are not counted; tests may take many fixtures)."""
    found = []
    for source in sources(root, "llmops", "app", "recipes", "tests"):
        lines = source.text.count("\n")
        if lines > LONGEST_FILE_LINES:
            found.append(f"{source.name} has {lines} lines, more than {LONGEST_FILE_LINES}")
        for node in ast.walk(source.syntax):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                found += too_large(source, node)
    return found


def too_large(source: Source, node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """What is wrong with the size of one function."""
    found = []
    long = (node.end_lineno or node.lineno) - node.lineno + 1
    if long > LONGEST_FUNCTION_LINES:
        found.append(f"{source.name}:{node.lineno} {node.name} has {long} lines, more than {LONGEST_FUNCTION_LINES}")
    parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    counted = [parameter for parameter in parameters if parameter.arg not in ("self", "cls")]
    if len(counted) > MOST_PARAMETERS and not source.name.startswith("tests/"):
        found.append(
            f"{source.name}:{node.lineno} {node.name} takes {len(counted)} parameters, more than {MOST_PARAMETERS}"
        )
    return found


def dotted_name(node: ast.expr) -> str:
    """`torch.load` for that expression; the empty string for anything that is no dotted name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted_name(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""


def nothing_unsafe(root: Path) -> list[str]:
    """No pickle, no shell, no remote code, nothing that runs data."""
    found = []
    for source in sources(root):
        for dotted, line in source.imports:
            if dotted.partition(".")[0] in UNSAFE_MODULES:
                found.append(f"{source.name}:{line} imports {dotted}")
        for node in ast.walk(source.syntax):
            if isinstance(node, ast.Call):
                if dotted_name(node.func) in UNSAFE_CALLS:
                    found.append(f"{source.name}:{node.lineno} calls {dotted_name(node.func)}")
                found += [
                    f"{source.name}:{node.lineno} passes {keyword.arg}"
                    for keyword in node.keywords
                    if keyword.arg == "trust_remote_code"
                    or (keyword.arg in UNSAFE_KEYWORDS and not is_false(keyword.value))
                ]
    return found


def is_false(node: ast.expr) -> bool:
    """Whether an expression is the word False."""
    return isinstance(node, ast.Constant) and node.value is False


def nothing_unfinished(root: Path) -> list[str]:
    """No note to self, no method that is not there, no error that is swallowed."""
    found = []
    for source in sources(root, "llmops", "app", "recipes", "tests"):
        for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
            if token.type == tokenize.COMMENT and UNFINISHED.search(token.string):
                found.append(f"{source.name}:{token.start[0]} {token.string}")
        for node in ast.walk(source.syntax):
            if isinstance(node, ast.Name) and node.id == "NotImplementedError":
                found.append(f"{source.name}:{node.lineno} NotImplementedError")
            if isinstance(node, ast.ExceptHandler) and all(isinstance(line, ast.Pass) for line in node.body):
                found.append(f"{source.name}:{node.lineno} an error is swallowed")
    return found


def no_hidden_clock(root: Path) -> list[str]:
    """The time of day comes from `Surroundings.clock`."""
    return [
        f"{source.name}:{node.lineno} reads the clock behind one's back: {dotted_name(node.func)}"
        for source in sources(root)
        if source.name != CLOCK_HOME
        for node in ast.walk(source.syntax)
        if isinstance(node, ast.Call) and dotted_name(node.func) in HIDDEN_CLOCKS
    ]


def dependencies_are_declared_and_used(root: Path) -> list[str]:
    """What is imported stands in pyproject.toml, what stands there is imported, and each says in a comment what for.

    What an extra brings may be imported, and need not be.
    """
    pyproject = (root / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(pyproject)["project"]
    declared = named(project["dependencies"])
    optional = named(line for lines in project.get("optional-dependencies", {}).values() for line in lines)
    providers = distributions()
    imported: dict[str, str] = {}
    for source in sources(root):
        for dotted, line in source.imports:
            module = dotted.partition(".")[0]
            if module not in sys.stdlib_module_names and module not in ("llmops", "app", "recipes", "__future__"):
                names = {canonical(name) for name in providers.get(module, [module])}
                imported[sorted(names & declared or names & optional or names)[0]] = f"{source.name}:{line}"
    found = [
        f"{where} imports {name}, which pyproject.toml does not name"
        for name, where in imported.items()
        if name not in declared | optional
    ]
    found += [f"pyproject.toml names {name}, which nothing imports" for name in sorted(declared - set(imported))]
    found += [
        f"pyproject.toml does not say what {line.strip()} is for"
        for line in pyproject.splitlines()
        if re.match(r'^ {4}"[A-Za-z0-9_.-]+(\[[a-z,]+\])?[<>=~!]=?', line) and "#" not in line
    ]
    return found


def named(requirements: Iterable[str]) -> set[str]:
    """The names in lines like `name[extra]>=1`."""
    return {canonical(re.split(r"[<>=!~ \[;]", line)[0]) for line in requirements}


@functools.cache
def distributions() -> Mapping[str, list[str]]:
    """Module: the distributions that bring it. Slow to find out, and the same for every tree."""
    return importlib.metadata.packages_distributions()


def canonical(name: str) -> str:
    """A distribution's name in its normal form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
