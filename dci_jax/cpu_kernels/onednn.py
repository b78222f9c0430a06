"""oneDNN's convolutions on a CPU: what XLA is told to take them, `options()`, and what makes them right, `fenced(function)`.

They are up to 1.4 times as fast (docs/speed.md), but XLA puts the activation behind a convolution into it even where what
is before the activation is read by others, who then read what is behind it: gradients of SiLU, sigmoid or a square are as
far off as they are large (JAX 0.12.0). It finds no activation behind a compiler's barrier, whoever wrote the network.
In bfloat16 a barrier does not help (JAX 0.12.0.1, on a CPU with AMX): such programs are compiled without oneDNN.
"""

import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.extend import core

_OPTION = "xla_cpu_experimental_onednn_custom_call"
_PRODUCTS = {core.primitives.conv_general_dilated_p, core.primitives.dot_general_p}


class HalfPrecision(Exception):
    """A function has products in bfloat16, whose gradients oneDNN gets wrong: compile it without `options()`."""


def options() -> dict[str, bool] | None:
    """XLA's compiler options for a `fenced` function; None on accelerators and before JAX 0.12, which drops barriers too early.

    A program with them cannot be kept for another process. None, too, where XLA_FLAGS has the option: what the user says counts.
    """
    able = jax.default_backend() == "cpu" and jax.__version_info__ >= (0, 12)
    return {_OPTION: True} if able and _OPTION not in os.environ.get("XLA_FLAGS", "") else None


def fenced(function: Callable) -> Callable:
    """`function` of pytrees of arrays, with a barrier behind every convolution and matrix product; not to be differentiated.

    Raises:
      HalfPrecision: when it is traced, where one of its products is in bfloat16.
    """
    if options() is None:
        return function

    def run(*arguments):
        traced, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        found = core.jaxpr_as_fun(_fenced(traced))(*jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shapes), found)

    return run


def _fenced(param):
    """A jaxpr with its barriers, in loops and branches, too; anything else that an equation has is left as it is."""
    if type(param) is tuple:
        return tuple(map(_fenced, param))
    if not isinstance(param, core.Jaxpr):
        return param.replace(jaxpr=_fenced(param.jaxpr)) if isinstance(param, core.ClosedJaxpr) else param
    equations = []
    for equation in param.eqns:
        equation = equation.replace(params={name: _fenced(inner) for name, inner in equation.params.items()})
        if equation.primitive in _PRODUCTS:
            if any(value.aval.dtype == jnp.bfloat16 for value in equation.invars):
                raise HalfPrecision
            inside = [core.Var(out.aval) for out in equation.outvars]
            equations += [equation.replace(outvars=inside), _barrier(inside, equation)]
        else:
            equations.append(equation)
    return param.replace(eqns=equations)


def _barrier(inside, equation):
    """The equation that gives `equation`'s results for what is inside the fence."""
    primitive = jax.make_jaxpr(jax.lax.optimization_barrier)(0.0).eqns[0].primitive
    return core.new_jaxpr_eqn(inside, equation.outvars, primitive, {}, set(), equation.source_info, equation.ctx)
