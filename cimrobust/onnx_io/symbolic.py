"""Exact integer arithmetic on sizes that are not known.

What is the same for all of them is a number.

An expression is a polynomial with rational coefficients over *atoms*, integers that are not known;
it always stands for an integer. Quotients are written with remainders, ``a // k = (a - a mod k) /
k``, so that equal expressions mostly have one form. Of every atom an interval is known. What an
interval, a common divisor or the form itself proves becomes a number, all else stays an atom.
Nothing is tried out on samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

#: Largest size of an axis that anything is claimed of; a longer one has more bytes than a tensor
#: may have, even at one byte an entry.
MAX_SIZE = 2**31 - 1

#: Most terms, and highest degree, of an expression; a larger one becomes an atom. A file can ask
#: for powers of powers.
_MAX_TERMS, _MAX_DEGREE = 32, 16


@dataclass(frozen=True)
class Atom:
    """An integer that is not known.

    Attributes:
        index: Which one; the order in which they were met.
        low: Least value.
        high: Largest value.
    """

    index: int
    low: int
    high: int

    @property
    def is_bit(self) -> bool:
        """Whether it is 0 or 1, so that its powers are itself."""
        return self.low == 0 and self.high == 1


Monomial = tuple[tuple[Atom, int], ...]


@dataclass(frozen=True)
class Expression:
    """An integer: coefficient by product of atoms, sorted, none of them zero.

    The empty product holds the constant.
    """

    terms: tuple[tuple[Monomial, Fraction], ...]

    @property
    def constant(self) -> int | None:
        """The value, if it is the same for all values of the atoms."""
        if not self.terms:
            return 0
        if len(self.terms) == 1 and not self.terms[0][0]:
            return int(self.terms[0][1])
        return None

    @property
    def bounds(self) -> tuple[int, int]:
        """Least and largest value that the intervals of the atoms leave open."""
        low, high = Fraction(0), Fraction(0)
        for monomial, factor in self.terms:
            least, largest = _product_bounds(monomial)
            low += factor * (least if factor > 0 else largest)
            high += factor * (largest if factor > 0 else least)
        return math.ceil(low), math.floor(high)  # it is an integer, its coefficients need not be


def number(value: int) -> Expression:
    """Return a number as an expression."""
    return _from_terms({(): Fraction(value)})


def _product_bounds(monomial: Monomial) -> tuple[int, int]:
    low, high = 1, 1
    for atom, power in monomial:
        ends = [atom.low**power, atom.high**power, *([0] if atom.low < 0 < atom.high else [])]
        corners = [a * b for a in (low, high) for b in (min(ends), max(ends))]
        low, high = min(corners), max(corners)
    return low, high


def _from_terms(terms: Mapping[Monomial, Fraction]) -> Expression:
    kept = [(monomial, factor) for monomial, factor in terms.items() if factor]
    kept.sort(key=lambda item: [(atom.index, power) for atom, power in item[0]])
    return Expression(tuple(kept))


def _times(left: Monomial, right: Monomial) -> Monomial:
    powers = dict(left)
    for atom, power in right:
        powers[atom] = 1 if atom.is_bit else powers.get(atom, 0) + power
    return tuple(sorted(powers.items(), key=lambda item: item[0].index))


def _in_lowest_terms(value: Expression) -> Expression:
    """Return an expression times a positive number: whole coefficients without a common divisor."""
    if not value.terms:
        return value
    factors = [factor for _, factor in value.terms]
    denominator = math.lcm(*(factor.denominator for factor in factors))
    common = math.gcd(*(int(factor * denominator) for factor in factors))
    return Expression(
        tuple((monomial, factor * denominator / common) for monomial, factor in value.terms)
    )


def _reduced(
    value: Expression, divisor: int, remainders: Mapping[Atom, tuple[Expression, int]]
) -> Expression:
    """Return an expression with the same remainder and reduced coefficients.

    The coefficients are at least 0 and below the divisor.
    """
    terms: dict[Monomial, Fraction] = {}
    for monomial, factor in value.terms:
        parts: tuple[tuple[Monomial, Fraction], ...] = ((monomial, Fraction(1)),)
        if len(monomial) == 1 and monomial[0][1] == 1 and factor.denominator == 1:
            inner, of = remainders.get(monomial[0][0], (value, 1))
            parts = (
                inner.terms if of % divisor == 0 else parts
            )  # a mod m leaves what a does, where m is a multiple
        for part, scale in parts:
            terms[part] = terms.get(part, Fraction(0)) + factor * scale
    return _from_terms({monomial: factor % divisor for monomial, factor in terms.items()})


class TooMuchWorkError(Exception):
    """An expression was not worked out because the limit on the work was reached."""


@dataclass
class Work:
    """Steps that may still be done; a file decides how many it asks for."""

    left: int

    def spend(self, steps: int) -> None:
        """Count steps.

        Raises:
            TooMuchWorkError: None are left.
        """
        self.left -= steps
        if self.left < 0:
            raise TooMuchWorkError


class Algebra:
    """Arithmetic on expressions over one set of atoms.

    The same operation on the same operands gives the same atom.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._atoms: dict[tuple[object, ...], Atom] = {}
        self._remainders: dict[Atom, tuple[Expression, int]] = {}

    def atom(self, key: tuple[object, ...], low: int, high: int) -> Expression:
        """Return an integer that is not known; equal keys are equal integers.

        A number where the interval leaves one value.
        """
        if low == high:
            return number(low)
        found = self._atoms.setdefault((*key, low, high), Atom(len(self._atoms), low, high))
        return Expression(((((found, 1),), Fraction(1)),))

    def size(self, name: object) -> Expression:
        """Return the size of an axis; an axis may be empty."""
        return self.atom(("size", name), 0, MAX_SIZE)

    def _limited(self, made: Expression, key: tuple[object, ...]) -> Expression:
        degree = max((sum(power for _, power in monomial) for monomial, _ in made.terms), default=0)
        return (
            made
            if len(made.terms) <= _MAX_TERMS and degree <= _MAX_DEGREE
            else self.atom(key, *made.bounds)
        )

    def add(self, first: Expression, second: Expression, factor: int = 1) -> Expression:
        """Return ``first + factor * second``."""
        self._work.spend(1 + len(first.terms) + len(second.terms))
        terms = dict(first.terms)
        for monomial, value in second.terms:
            terms[monomial] = terms.get(monomial, Fraction(0)) + factor * value
        return self._limited(_from_terms(terms), ("add", factor, first, second))

    def subtract(self, first: Expression, second: Expression) -> Expression:
        """Return ``first - second``."""
        return self.add(first, second, -1)

    def multiply(self, first: Expression, second: Expression) -> Expression:
        """Return ``first * second``."""
        self._work.spend(1 + len(first.terms) * len(second.terms))
        terms: dict[Monomial, Fraction] = {}
        for left, a in first.terms:
            for right, b in second.terms:
                monomial = _times(left, right)
                terms[monomial] = terms.get(monomial, Fraction(0)) + a * b
        return self._limited(_from_terms(terms), ("multiply", first, second))

    def remainder(self, value: Expression, divisor: int) -> Expression:
        """Return what is left of a division by a positive number, 0 to divisor - 1."""
        if divisor == 1:
            return number(0)
        for form in (value, _reduced(value, divisor, self._remainders)):
            low, high = form.bounds
            if low // divisor == high // divisor:
                return self.add(form, number(low // divisor * divisor), -1)
        rest = dict(form.terms)
        offset = rest.pop((), Fraction(0))
        if all(factor.denominator == 1 for factor in (*rest.values(), offset)):
            common = math.gcd(divisor, *(int(factor) for factor in rest.values()))
            if common > 1:  # (g a + c) mod g k = g (a mod k) + c, where 0 <= c < g
                extra = int(offset) % common
                inner = _from_terms(
                    {key: factor / common for key, factor in (*rest.items(), ((), offset - extra))}
                )
                return self.add(number(extra), self.remainder(inner, divisor // common), common)
        found = self.atom(("remainder", form, divisor), 0, divisor - 1)
        self._remainders[found.terms[0][0][0][0]] = (form, divisor)
        return found

    def quotient(self, value: Expression, divisor: Expression) -> Expression | None:
        """Return an integer division as ONNX has it, rounded towards zero.

        None where the divisor may be 0.
        """
        low, high = divisor.bounds
        if low <= 0 <= high:
            return None
        known, by, (least, most) = value.constant, divisor.constant, value.bounds
        if known is not None and by is not None:
            return number(abs(known) // abs(by) * (1 if (known < 0) == (by < 0) else -1))
        if by is not None and by > 0 and least >= 0:
            whole = self.subtract(value, self.remainder(value, by))
            return Expression(tuple((monomial, factor / by) for monomial, factor in whole.terms))
        reach = max(abs(least), abs(most))
        return self.atom(
            ("quotient", value, divisor), 0 if least >= 0 and low > 0 else -reach, reach
        )

    def is_zero(self, value: Expression) -> Expression:
        """Return 1 where a value is 0, else 0."""
        whole = _in_lowest_terms(value)
        low, high = whole.bounds
        if low > 0 or high < 0:
            return number(0)
        if low == high:
            return number(1)
        if (low, high) == (0, 1):
            return self.invert(whole)
        rest = dict(whole.terms)
        offset = int(rest.pop((), Fraction(0)))
        if offset % math.gcd(*(int(factor) for factor in rest.values())):
            return number(0)
        positive = whole.terms[-1][1] > 0
        return self.atom(("zero", whole if positive else self.subtract(number(0), whole)), 0, 1)

    def is_positive(self, value: Expression) -> Expression:
        """Return 1 where a value is above 0, else 0."""
        whole = _in_lowest_terms(value)
        low, high = whole.bounds
        if low > 0:
            return number(1)
        if high <= 0:
            return number(0)
        return whole if (low, high) == (0, 1) else self.atom(("positive", whole), 0, 1)

    def invert(self, bit: Expression) -> Expression:
        """Return ``1 - bit``."""
        return self.subtract(number(1), bit)

    def choose(self, bit: Expression, yes: Expression, no: Expression) -> Expression:
        """Return `yes` where a bit is 1, `no` where it is 0."""
        known = bit.constant
        if known is not None or yes == no:
            return yes if known else no
        low, high = (
            pick(a, b) for pick, a, b in zip((min, max), yes.bounds, no.bounds, strict=True)
        )
        made = self.add(self.multiply(bit, yes), self.multiply(self.invert(bit), no))
        least, most = made.bounds
        # The polynomial adds the intervals of both; where that loses something, the interval of the
        # choice is worth more.
        return (
            made
            if low <= least and most <= high
            else self.atom(("choose", bit, yes, no), low, high)
        )

    def largest(self, values: Sequence[Expression]) -> Expression:
        """Return the largest of some values."""
        left: list[Expression] = []
        for value in dict.fromkeys(values):
            if any(self.subtract(other, value).bounds[0] >= 0 for other in left):
                continue
            left = [other for other in left if self.subtract(value, other).bounds[0] < 0]
            left.append(value)
        if len(left) == 1:
            return left[0]
        low, high = max(value.bounds[0] for value in left), max(value.bounds[1] for value in left)
        return self.atom(("largest", frozenset(left)), low, high)

    def smallest(self, values: Sequence[Expression]) -> Expression:
        """Return the smallest of some values."""
        return self.subtract(
            number(0), self.largest([self.subtract(number(0), value) for value in values])
        )
