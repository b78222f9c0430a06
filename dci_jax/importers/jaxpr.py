"""A JAX function as a flat list of equations between named values: calls are inlined, every value has a name of its own.

A value is named by its place in the list, so that a function traced for another batch, or another size of images, has
the same names.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend import core

INPUT = "input"
_CALLS = ("jit", "closed_call", "core_call", "remat", "checkpoint", "remat2", "custom_vjp_call_jaxpr")


@dataclass(frozen=True)
class Value:
    """What an equation gives.

    Attributes:
      name: of it.
      equation: its number in `Program.equations`.
      var: of the jaxpr.
      alive: whether it depends on the input.
      above: names of the values that depend on the input and that it is made of directly.
      leaves: names of the parameters that its equation uses, directly or by what depends on no input.
    """

    name: str
    equation: int
    var: core.Var
    alive: bool
    above: tuple[str, ...]
    leaves: frozenset[str]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.var.aval.shape


@dataclass(frozen=True, eq=False)
class Program:
    """A traced function.

    Attributes:
      jaxpr: what it was traced as, to make pieces from.
      equations: all equations, calls inlined.
      values: name -> value, in their order.
      leaves: name of a parameter -> its variable.
      constants: name -> array that the function brought along.
      input, output: the input's variable, and the name of the value that is returned.
    """

    jaxpr: core.Jaxpr
    equations: tuple[core.JaxprEqn, ...]
    values: dict[str, Value]
    leaves: dict[str, core.Var]
    constants: dict[str, jax.Array]
    input: core.Var
    output: str

    def var(self, name: str) -> core.Var:
        """The variable of a value, a parameter or the input."""
        if name == INPUT:
            return self.input
        return self.values[name].var if name in self.values else self.leaves[name]

    def piece(self, begin: Sequence[str], ends: Sequence[str]) -> tuple[core.ClosedJaxpr, list[str]]:
        """(program from the values `begin` and parameters to the values `ends`, names of these parameters)."""
        by_var = {value.var: value.equation for value in self.values.values()}
        names = {var: name for name, var in self.leaves.items()}
        given, needed, used, waiting = [self.var(name) for name in begin], set(), {}, [self.var(end) for end in ends]
        while waiting:
            var = waiting.pop()
            if var in given:
                continue
            if var in names:
                used[names[var]] = var
            elif by_var[var] not in needed:
                needed.add(by_var[var])
                waiting += _vars(self.equations[by_var[var]].invars)
        found = sorted(used)
        jaxpr = self.jaxpr.replace(
            constvars=(),
            invars=[*given, *(used[name] for name in found)],
            outvars=[self.var(end) for end in ends],
            eqns=[self.equations[i] for i in sorted(needed)],
            debug_info=core.DebugInfo("dci_jax", f"{begin[-1]} to {ends[0]}", (*begin, *found), tuple(ends)),
        )
        return core.ClosedJaxpr(jaxpr, ()), found


def traced(function: Any, names: Sequence[str], arrays: Sequence[Any], x: jax.ShapeDtypeStruct) -> Program:
    """Trace `function(arrays, x)`.

    Args:
      function: of a list of arrays and the input; returns one array.
      names: of the arrays.
      arrays: or their shapes.
      x: the input's shape.
    """
    closed = jax.make_jaxpr(function)(list(arrays), x)
    jaxpr = closed.jaxpr
    *parameters, start = jaxpr.invars
    equations, env = [], {}
    leaves = dict(zip(names, parameters, strict=True))
    constants = {f"constant.{i}": array for i, array in enumerate(closed.consts)}
    leaves |= dict(zip(constants, jaxpr.constvars, strict=True))
    _inline(jaxpr, env, equations, constants, leaves)
    (out,) = jaxpr.outvars
    out = out if isinstance(out, core.Literal) else env.get(out, out)
    values = _values(equations, {var: name for name, var in leaves.items()}, start)
    output = {value.var: name for name, value in values.items()}.get(out)
    return Program(jaxpr, tuple(equations), values, leaves, constants, start, output or INPUT)


def _inline(jaxpr, env, equations, constants, leaves):
    """Append a jaxpr's equations with variables of their own: JAX keeps the jaxpr of an inner call, and two calls share it."""
    for equation in jaxpr.eqns:
        given = [env.get(a, a) if isinstance(a, core.Var) else a for a in equation.invars]
        inner = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
        if equation.primitive.name in _CALLS and inner is not None:
            inner, consts = (inner.jaxpr, inner.consts) if isinstance(inner, core.ClosedJaxpr) else (inner, ())
            inside = dict(zip(inner.invars, given, strict=True))
            for var, array in zip(inner.constvars, consts, strict=True):
                name = f"constant.{len(constants)}"
                inside[var] = leaves[name] = core.Var(var.aval)
                constants[name] = array
            _inline(inner, inside, equations, constants, leaves)
            for outer, found in zip(equation.outvars, inner.outvars, strict=True):
                env[outer] = inside.get(found, found) if isinstance(found, core.Var) else found
            continue
        fresh = [core.Var(out.aval) for out in equation.outvars]
        env.update(zip(equation.outvars, fresh, strict=True))
        equations.append(equation.replace(invars=given, outvars=fresh))


def _values(equations, names, start):
    """Name -> `Value` of every output of the equations."""
    numbers, values, by_var = itertools.count(), {}, {}
    for index, equation in enumerate(equations):
        above, leaves = [], set()
        for var in _vars(equation.invars):
            if var is start:
                above.append(INPUT)
            elif var in names:
                leaves.add(names[var])
            elif by_var[var].alive:
                above.append(by_var[var].name)
            else:
                leaves |= by_var[var].leaves
        for var in equation.outvars:
            name = f"v{next(numbers)}"
            by_var[var] = values[name] = Value(name, index, var, bool(above), tuple(above), frozenset(leaves))
    return values


def _vars(operands):
    return [operand for operand in operands if isinstance(operand, core.Var)]
