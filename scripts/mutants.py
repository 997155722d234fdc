"""Makes mistakes out of a source text: each changes one place, and only that place.

`scripts/mutation_check.py --generate` draws from them and plants them. Nothing is made
of docstrings, comments, annotations, `__all__`, decorators, f-strings, what is raised,
`if TYPE_CHECKING` and protocols.
"""

import ast
import builtins
import re
import warnings
from itertools import pairwise, permutations
from typing import NamedTuple


def _exchanged(pairs: str) -> dict[str, list[str]]:
    """What each word of "a ~ b, c ~ d" is paired with."""
    both = [
        p for pair in pairs.split(",") for p in permutations(_WORDS.split(pair.strip()))
    ]
    return {word: [b for a, b in both if a == word] for word, _ in both}


_WORDS = re.compile(r"\s*~\s*")
OPERATORS = _exchanged(
    "+ ~ -, * ~ /, * ~ //, * ~ **, % ~ //, | ~ &, ^ ~ |, << ~ >>, < ~ <=, > ~ >=, "
    "< ~ >=, > ~ <=, == ~ !=, is ~ is not, in ~ not in, and ~ or"
)
SYMBOL = re.compile(
    rb"is\s+not\b|not\s+in\b|\b(?:is|in|and|or)\b|//|\*\*|<<|>>|[<>=!]=|[-+*/%|&^<>]"
)
# Names of functions, attributes and variables that are taken for each other.
CONFUSED = _exchanged(
    "sum ~ mean, max ~ min, maximum ~ minimum, argmax ~ argmin, any ~ all, "
    "zeros ~ ones, zeros_like ~ ones_like, floor ~ ceil, cumsum ~ cumprod, "
    "terminated ~ truncated, values ~ next_values, obs ~ next_obs, "
    "log_probs ~ behaviour_log_probs, num_envs ~ rollout_length"
)
# Functions whose first argument has the shape of the result.
PASSED_THROUGH = re.compile(
    "abs|clip|exp|flip|fold_in|log|log_softmax|maximum|minimum|reversed|sign|softmax|"
    "sort|sqrt|square|stop_gradient|tanh"
)
# Functions whose arguments may be exchanged without a difference, or that then fail.
SYMMETRIC = re.compile("isinstance|max|maximum|min|minimum|result_type")
# Arguments that say where a mistake of the caller is noticed, not what is computed.
GUARDS = ("strict", "stacklevel")
KEY = re.compile(r"(?:^|_)keys?(?:_|$)")
ATOMS = (ast.Name, ast.Constant, ast.Call, ast.Attribute, ast.Subscript, ast.Tuple)
SKIPPED = (ast.JoinedStr, ast.Assert, ast.Import, ast.ImportFrom)


class Mutant(NamedTuple):
    """One generated mistake: `source[start:end]`, in bytes of UTF-8, becomes `new`."""

    file: str
    """Path below the root, with slashes."""
    line: int
    """Where it starts, from 1."""
    start: int
    end: int
    new: str
    operator: str
    """What kind of mistake it is."""
    before: str
    """The lines that it touches as they stand, blanks run together."""
    after: str
    """The same lines with the mistake."""
    nth: int = 0
    """How many of the file have the same `before` and `after` and stand above it."""

    @property
    def identity(self) -> tuple[str, str, str, int]:
        """The same in every run, wherever the line has moved to."""
        return self.file, self.before, self.after, self.nth

    def plant(self, source: str) -> str:
        """The source with the mistake."""
        data = source.encode()
        return (data[: self.start] + self.new.encode() + data[self.end :]).decode()

    def is_program(self, source: str) -> bool:
        """Whether it compiles, and to something else than the source does."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            try:
                wrong = ast.parse(self.plant(source))
                compile(wrong, self.file, "exec")
            except (SyntaxError, ValueError):
                return False
        return ast.dump(wrong) != ast.dump(ast.parse(source))


def mutants(source: str, file: str = "") -> list[Mutant]:
    """All mistakes made of a source, in its order; some may not compile."""
    data = source.encode()
    starts = [0, *(m.end() for m in re.finditer(b"\n", data)), len(data)]
    found, times = [], {}
    for edit in sorted(set(_Maker(data, starts).edits)):
        start, end, new, operator = edit
        first = max(i for i, at in enumerate(starts[:-1]) if at <= start)
        last = next(i for i, at in enumerate(starts) if at >= max(end, start + 1))
        head, tail = data[starts[first] : start], data[end : starts[last]]
        before = " ".join(data[starts[first] : starts[last]].decode().split())
        after = " ".join(f"{head.decode()}{new}{tail.decode()}".split())
        nth = times[before, after] = times.get((before, after), -1) + 1
        found.append(
            Mutant(file, first + 1, start, end, new, operator, before, after, nth)
        )
    return found


class _Maker:
    """Walks a syntax tree and collects (start, end, new text, kind of mistake)."""

    def __init__(self, data: bytes, starts: list[int]):
        self.data, self.starts = data, starts
        self.edits: list[tuple[int, int, str, str]] = []
        self.bound: list[tuple[int, str]] = []  # by the functions around: line, name
        self.visit(ast.parse(data), None)

    def span(self, node) -> tuple[int, int]:
        start = self.starts[node.lineno - 1] + node.col_offset
        return start, self.starts[node.end_lineno - 1] + node.end_col_offset

    def text(self, node) -> str:
        start, end = self.span(node)
        return self.data[start:end].decode()

    def operand(self, node) -> str:
        """The text of an expression, to stand in place of a larger one."""
        return self.text(node) if isinstance(node, ATOMS) else f"({self.text(node)})"

    def change(self, node, new: str, operator: str) -> None:
        self.edits.append((*self.span(node), new, operator))

    def exchange(self, first, second, operator: str) -> None:
        (start, middle), (after, end) = self.span(first), self.span(second)
        between = self.data[middle:after].decode()
        text = self.operand if operator == "swapped operands" else self.text
        swapped = f"{text(second)}{between}{text(first)}"
        self.edits.append((start, end, swapped, operator))

    def symbol(self, left, right) -> None:
        """Another operator between two operands."""
        start, end = self.span(left)[1], self.span(right)[0]
        between = re.sub(rb"#[^\n]*", lambda m: b" " * len(m[0]), self.data[start:end])
        if place := SYMBOL.search(between):
            at, to = (start + i for i in place.span())
            for other in OPERATORS[" ".join(place[0].decode().split())]:
                self.edits.append((at, to, other, "operator"))

    def visit(self, node: ast.AST, parent: ast.AST | None) -> None:
        if isinstance(node, SKIPPED) or _is_for_people(node):
            return
        match parent:
            case ast.Call(func=ast.Name(id="isinstance"), args=[_, types]):
                if node is types:
                    return
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            outside = len(self.bound)
            for child in ast.walk(node):
                if isinstance(child, ast.arg):
                    self.bound.append((0, child.arg))
                elif isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
                    self.bound.append((child.lineno, child.id))
            self.children(node)
            del self.bound[outside:]
            return
        for kind in type(node).__mro__:
            if make := getattr(self, f"of_{kind.__name__}", None):
                make(node, parent)
        if not isinstance(node, ast.Raise):
            self.children(node)

    def children(self, node: ast.AST) -> None:
        for name, field in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "type_params"):
                continue
            for child in field if isinstance(field, list) else [field]:
                if isinstance(child, ast.AST):
                    self.visit(child, node)

    def of_BinOp(self, node, parent) -> None:
        self.symbol(node.left, node.right)
        left, right = self.operand(node.left), self.operand(node.right)
        if not isinstance(node.op, ast.MatMult | ast.Mod | ast.LShift | ast.RShift):
            self.change(node, left, "dropped term")
            sign = "-" if isinstance(node.op, ast.Sub) else ""
            self.change(node, f"({sign}{right})" if sign else right, "dropped term")
        if isinstance(node.op, ast.Sub | ast.Div | ast.MatMult):
            self.exchange(node.left, node.right, "swapped operands")

    def of_BoolOp(self, node, parent) -> None:
        for left, right in pairwise(node.values):
            self.symbol(left, right)
        for value in node.values:
            self.change(node, self.operand(value), "dropped term")

    def of_Compare(self, node, parent) -> None:
        for left, right in pairwise([node.left, *node.comparators]):
            self.symbol(left, right)

    def of_UnaryOp(self, node, parent) -> None:
        self.change(node, self.operand(node.operand), "sign or negation")

    def of_Constant(self, node, parent) -> None:
        value = node.value
        if isinstance(value, bool):
            self.change(node, str(not value), "constant")
        elif isinstance(value, int):
            negative = isinstance(parent, ast.UnaryOp)
            others = {value + 1, 0 if negative or value > 1 else 1 - value} - {value}
            for other in others:
                self.change(node, str(other), "constant")
        elif isinstance(value, float):
            self.change(node, repr(2 * value if value else 1.0), "constant")

    def of_Call(self, node, parent) -> None:
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        plain = [a for a in node.args if not isinstance(a, ast.Starred)]
        named = [k for k in node.keywords if k.arg and k.arg not in GUARDS]
        if PASSED_THROUGH.fullmatch(name) and plain:
            self.change(node, self.operand(plain[0]), "dropped function")
        for first, second in [*pairwise(plain), *pairwise(k.value for k in named)]:
            if not SYMMETRIC.fullmatch(name) and not _is_text(first, second):
                self.exchange(first, second, "swapped arguments")
        for last, keyword in pairwise([*plain[-1:], *node.keywords]):
            if keyword in named:
                start, begin = self.span(last)[1], self.span(keyword)[0]
                closing = self.data[start:begin].decode().split(",")[0]
                end = self.span(keyword)[1]
                self.edits.append((start, end, closing, "dropped argument"))

    def of_keyword(self, node, parent) -> None:
        if node.arg in ("axis", "in_axes", "out_axes"):
            other = "1" if self.text(node.value) == "0" else "0"
            self.change(node.value, other, "axis")

    def of_IfExp(self, node, parent) -> None:
        self.change(node.test, f"(not {self.operand(node.test)})", "negated condition")

    of_If = of_While = of_IfExp

    def of_comprehension(self, node, parent) -> None:
        for test in node.ifs:
            self.change(test, f"(not {self.operand(test)})", "negated condition")

    def of_Name(self, node, parent) -> None:
        if not isinstance(node.ctx, ast.Load):
            return
        known = {name for line, name in self.bound if line < node.lineno} - {node.id}
        for other in CONFUSED.get(node.id, []):
            if other in known or hasattr(builtins, other):
                self.change(node, other, "confused name")
        if KEY.search(node.id):
            for other in filter(KEY.search, known):
                self.change(node, other, "another key")

    def of_Attribute(self, node, parent) -> None:
        end = self.span(node)[1]
        for other in CONFUSED.get(node.attr, []):
            start = end - len(node.attr.encode())
            self.edits.append((start, end, other, "confused name"))

    def of_stmt(self, node, parent) -> None:
        if isinstance(node, ast.Expr | ast.AugAssign | ast.Break | ast.Continue):
            self.change(node, "pass", "deleted statement")
        elif isinstance(node, ast.Raise) and node.exc is not None:
            if "NotImplementedError" not in self.text(node.exc):
                self.change(node, "pass", "deleted statement")
        elif isinstance(node, ast.Return) and isinstance(parent, ast.If):
            self.change(node, "pass", "deleted statement")
        elif isinstance(node, ast.Assign):
            read = {n.id for n in ast.walk(node.value) if isinstance(n, ast.Name)}
            if {t.id for t in node.targets if isinstance(t, ast.Name)} & read:
                self.change(node, "pass", "deleted statement")


def _is_for_people(node: ast.AST) -> bool:
    """Whether a node is documentation, or there for the type checker alone."""
    match node:
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.ClassDef(bases=bases):
            return any("Protocol" in ast.unparse(base) for base in bases)
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name == "__all__"
        case ast.keyword(arg=name):
            return name in GUARDS
    return False


def _is_text(*nodes: ast.AST) -> bool:
    """Whether one of them is a string."""
    kinds = [getattr(node, "value", None) for node in nodes]
    return any(isinstance(x, ast.JoinedStr) for x in nodes) or str in map(type, kinds)
