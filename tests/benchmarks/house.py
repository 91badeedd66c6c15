"""What can be counted of the package: `python tests/benchmarks/house.py FOLDER`, a checkout.

Prints files, lines, the longest chain of imports, annotations with and without shapes;
docs/lab-book/house.md sets two versions side by side.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

_SHAPED = re.compile(r"\b(?:Float|Int|UInt|Num|Bool|Shaped|Real)\d*\[(?:np\.ndarray|Tensor)")
_ARRAY = re.compile(r"np\.ndarray|\bTensor\b")


def main(folder: Path) -> None:
    """Print all counts of a checkout as JSON."""
    sources = {path: path.read_text(encoding="utf-8") for path in python_files(folder, "cimrobust")}
    trees = {path: ast.parse(text) for path, text in sources.items()}
    tests = [path for path in python_files(folder, "tests") if "benchmarks" not in path.parts]
    lines = [line for text in sources.values() for line in text.splitlines()]
    annotations = [text for tree in trees.values() for text in annotations_of(tree)]
    test_lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in tests)
    names = Counter(path.name for path in sources if path.name != "__init__.py")
    counts = {
        "files": len(sources),
        "lines": len(lines),
        "largest file": max(len(text.splitlines()) for text in sources.values()),
        "lines over 100 columns": sum(len(line) > 100 for line in lines),
        "comment lines": sum(line.strip().startswith("#") for line in lines),
        "test lines per line": round(test_lines / len(lines), 3),
        "file names that occur twice": sum(count > 1 for count in names.values()),
        "array annotations": sum(len(_ARRAY.findall(text)) for text in annotations),
        "with a shape": sum(len(_SHAPED.findall(text)) for text in annotations),
        "signatures with workers": sum(has_argument(tree, "workers") for tree in trees.values()),
        "results described twice": twins(trees.values()),
        "longest import chain": longest_chain(imports(folder, trees)),
    }
    print(json.dumps(counts, indent=2))


def python_files(folder: Path, name: str) -> list[Path]:
    """Return the Python files of a folder, sorted."""
    return sorted((folder / name).rglob("*.py"))


def annotations_of(tree: ast.Module) -> Iterator[str]:
    """Yield every annotation of a module as text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) or (
            isinstance(node, ast.arg) and node.annotation is not None
        ):
            yield ast.unparse(node.annotation)
        elif isinstance(node, ast.FunctionDef) and node.returns is not None:
            yield ast.unparse(node.returns)


def has_argument(tree: ast.Module, name: str) -> int:
    """Return the number of functions of a module with an argument of a name."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return sum(
        any(argument.arg == name for argument in (*node.args.args, *node.args.kwonlyargs))
        for node in functions
    )


def twins(trees: Iterable[ast.Module]) -> int:
    """Return the pairs of a dataclass and a pydantic model with most field names in common.

    Most: at least three fifths of those that either has, and three of them. Types of keywords,
    which are made from the settings, are no models.
    """
    plain, models = [], []
    for node in (node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)):
        names = {
            part.target.id
            for part in node.body
            if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
        }
        is_plain = any("dataclass" in ast.unparse(part) for part in node.decorator_list)
        is_keywords = any(part.arg == "total" for part in node.keywords)
        (plain if is_plain else models if node.bases and not is_keywords else []).append(names)
    return sum(
        len(one & other) >= max(3, 0.6 * len(one | other)) for one in plain for other in models
    )


def imports(folder: Path, trees: dict[Path, ast.Module]) -> dict[str, set[str]]:
    """Return the modules of the package that every module of it imports at its top level."""
    known = {module_of(folder, path): tree for path, tree in trees.items()}
    found: dict[str, set[str]] = {}
    for name, tree in known.items():
        wanted = set()
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and node.module:
                parts = {f"{node.module}.{alias.name}" for alias in node.names}
                wanted |= (parts & known.keys()) or ({node.module} & known.keys())
            elif isinstance(node, ast.Import):
                wanted |= {alias.name for alias in node.names} & known.keys()
        found[name] = wanted - {name}
    return found


def module_of(folder: Path, path: Path) -> str:
    """Return the dotted name of a file."""
    return ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")


def longest_chain(edges: dict[str, set[str]]) -> int:
    """Return the number of modules on the longest chain of imports, without a cycle."""

    @cache
    def below(name: str) -> int:
        return 1 + max((below(other) for other in edges[name]), default=0)

    return max(map(below, edges))


if __name__ == "__main__":
    sys.setrecursionlimit(10_000)
    main(Path(sys.argv[1]))
