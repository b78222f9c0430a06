"""Every operator against PyTorch's own, and its gradient, on seeded numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dci_jax.importers.aten import OPERATORS

pytestmark = pytest.mark.slow

X = (2, 6, 9, 8)  # an image [B, C, H, W]


def images(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def kernel(*shape):
    return np.random.default_rng(7).normal(size=shape).astype(np.float32)


CASES = [
    ("convolution", (images(*X), kernel(4, 6, 3, 3), kernel(4), [2, 2], [1, 1], [1, 1], False, [0, 0], 1), {}),
    ("convolution", (images(*X), kernel(4, 3, 3, 2), None, [1, 2], [2, 0], [2, 1], False, [0, 0], 2), {}),
    ("convolution", (images(*X), kernel(6, 1, 5, 5), kernel(6), [2, 2], [2, 2], [1, 1], False, [0, 0], 6), {}),
    ("convolution", (images(*X), kernel(6, 1, 3, 3), None, [1, 1], [2, 2], [2, 2], False, [0, 0], 6), {}),
    ("convolution", (images(*X), kernel(12, 1, 3, 3), None, [1, 1], [1, 1], [1, 1], False, [0, 0], 6), {}),
    ("convolution", (images(*X), kernel(6, 4, 3, 3), kernel(4), [2, 2], [1, 1], [1, 1], True, [1, 1], 1), {}),
    ("convolution", (images(*X), kernel(6, 2, 4, 4), None, [2, 2], [1, 1], [1, 1], True, [0, 0], 3), {}),
    ("convolution", (images(2, 1, 9), kernel(1, 1, 3), None, [1], [1], [1], False, [0], 1), {}),
    ("native_layer_norm", (images(2, 5, 6), [6], kernel(6), kernel(6), 1e-6), {}),
    ("native_layer_norm", (images(2, 5, 6), [5, 6], None, None, 1e-5), {}),
    ("native_group_norm", (images(*X), kernel(6), kernel(6), 2, 6, 72, 3, 1e-5), {}),
    ("_native_batch_norm_legit.no_stats", (images(*X), kernel(6), kernel(6), True, 0.1, 1e-4), {}),
    ("max_pool2d_with_indices", (images(*X), [3, 3], [2, 2], [1, 1]), {}),
    ("max_pool2d_with_indices", (images(*X), [3, 2], [2, 2], [0, 0], [1, 1], True), {}),
    ("avg_pool2d", (images(*X), [3, 3], [2, 2], [1, 1]), {}),
    ("avg_pool2d", (images(*X), [2, 2], [2, 2], [0, 0], True, False), {}),
    ("avg_pool2d", (images(*X), [3, 3], [2, 2], [1, 1], True, True), {}),
    ("avg_pool2d", (images(*X), [3, 3], [2, 2], [1, 1], False, False), {}),
    ("avg_pool2d", (images(*X), [2, 2]), {"divisor_override": 3}),
    ("_adaptive_avg_pool2d", (images(*X), [4, 3]), {}),
    ("upsample_nearest2d", (images(*X), [18, 12]), {}),
    ("upsample_bilinear2d", (images(*X), [18, 12], False), {}),
    ("upsample_bilinear2d", (images(*X), [13, 5], True), {}),
    ("upsample_nearest2d.vec", (images(*X), None, [2.0, 3.0]), {}),
    ("upsample_bilinear2d.vec", (images(*X), None, False, [2.0, 1.5]), {}),
    ("linalg_vector_norm", (images(*X), 2, [2, 3], True), {}),
    ("unfold", (images(*X), 2, 3, 2), {}),
    ("any.dim", (images(*X) > 1, 1, True), {}),
    ("addmm", (kernel(5), images(3, 4), kernel(4, 5)), {"beta": 0.5, "alpha": 2}),
    ("mm", (images(3, 4), kernel(4, 5)), {}),
    ("bmm", (images(2, 3, 4), kernel(2, 4, 5)), {}),
    *(
        (name, (images(*X),), {})
        for name in ("relu", "sigmoid", "tanh", "exp", "abs", "neg", "sin", "cos", "erf", "gelu", "elu")
    ),
    *((name, (np.abs(images(*X)) + 0.1,), {}) for name in ("log", "log1p", "sqrt", "rsqrt", "reciprocal")),
    ("gelu", (images(*X),), {"approximate": "tanh"}),
    ("elu", (images(*X), 1.5, 2.0, 0.5), {}),
    ("leaky_relu", (images(*X), 0.2), {}),
    ("hardtanh", (images(*X), 0.0, 0.6), {}),
    ("clamp", (images(*X), -0.5), {}),
    ("clamp_min", (images(*X), 0.1), {}),
    ("clamp_max", (images(*X), 0.1), {}),
    ("add.Tensor", (images(*X), kernel(6, 1, 1)), {"alpha": 2}),
    ("sub.Tensor", (images(*X), kernel(*X)), {}),
    ("rsub.Scalar", (images(*X), 1.0), {}),
    ("mul.Tensor", (images(*X), kernel(2, 6, 1, 1)), {}),
    ("div.Tensor", (images(*X), 6.0), {}),
    ("pow.Tensor_Scalar", (images(*X), 2), {}),
    ("maximum", (images(*X), kernel(*X)), {}),
    ("minimum", (images(*X), kernel(*X)), {}),
    ("mean.dim", (images(*X), [-1, -2], True), {}),
    ("sum.dim_IntList", (images(*X), [1]), {}),
    ("amax", (images(*X), [2], True), {}),
    ("amin", (images(*X), [1, 2]), {}),
    ("max.dim", (images(*X), 1, True), {}),
    ("cumsum", (images(*X), 2), {}),
    ("var.correction", (images(*X), [1]), {"correction": 0, "keepdim": True}),
    ("_softmax", (images(2, 5, 6), -1, False), {}),
    ("_log_softmax", (images(2, 5), 1, False), {}),
    ("permute", (images(*X), [0, 2, 3, 1]), {}),
    ("view", (images(*X), [2, -1]), {}),
    ("unsqueeze", (images(*X), 1), {}),
    ("squeeze.dims", (images(2, 1, 3, 1), [1, 2, 3]), {}),
    ("expand", (images(2, 1, 3), [4, -1, 5, -1]), {}),
    ("cat", ([images(*X), kernel(2, 1, 9, 8)], 1), {}),
    ("slice.Tensor", (images(*X), 2, 1, 9223372036854775807, 2), {}),
    ("select.int", (images(*X), 1, 3), {}),
    ("split_with_sizes", (images(*X), [1, 2, 3], 1), {}),
    ("constant_pad_nd", (images(*X), [1, 2, -1, 3], 0.5), {}),
    ("pixel_shuffle", (images(2, 8, 3, 2), 2), {}),
    ("pixel_unshuffle", (images(2, 3, 4, 6), 2), {}),
    ("flip", (images(*X), [2, 3]), {}),
    ("repeat", (images(2, 3), [2, 1, 3]), {}),
    ("index.Tensor", (images(*X), [None, np.array([0, 2]), None]), {}),
    ("index_put", (images(*X), [None, np.array([0, 2])], kernel(2, 2, 9, 8)), {}),
    ("index_put", (images(*X), [None, np.array([1, 1])], kernel(2, 2, 9, 8), True), {}),
    ("index_select", (images(*X), 1, np.array([4, 0, 0])), {}),
    ("slice_scatter", (images(*X), kernel(2, 6, 4, 8), 2, 1, 9, 2), {}),
    ("select_scatter", (images(*X), kernel(2, 6, 8), 2, 3), {}),
    *((f"bitwise_{name}.Tensor", (images(*X) > 0, kernel(*X) > 0), {}) for name in ("and", "or")),
    ("bitwise_not", (images(*X) > 0,), {}),
    *((name, (3 * images(*X),), {}) for name in ("floor", "ceil", "round", "sign")),
    *((f"{name}.Scalar", (images(*X), 0.5), {}) for name in ("eq", "ne", "gt", "ge", "lt", "le")),
    ("logical_not", (images(*X) > 0,), {}),
    ("logical_and", (images(*X) > 0, kernel(*X) > 0), {}),
    ("logical_or", (images(*X) > 0, kernel(*X) > 0), {}),
    ("roll", (images(*X), [1, -2], [2, 3]), {}),
    ("copy", (images(*X), kernel(6, 9, 1)), {}),
    ("clone", (images(*X),), {}),
    ("alias", (images(*X),), {}),
    ("detach", (images(*X) > 0,), {}),
    ("reshape", (images(*X), [12, -1]), {}),
    ("_unsafe_view", (images(*X), [12, 72]), {}),
    ("as_strided", (images(2, 6, 1, 1), [2, 6, 1, 1], [6, 1, 6, 6]), {}),
    ("full", ([2, 3], 0.5), {}),
    ("full_like", (images(*X) > 0, True), {}),
    ("where.self", (images(*X) > 0, images(*X), kernel(*X)), {}),
]


def test_every_operator_has_a_case():
    asked_by_the_tests_of_programs = {"getitem", "_to_copy"}
    assert set(OPERATORS) == {name.partition(".")[0] for name, _, _ in CASES} | asked_by_the_tests_of_programs


@pytest.mark.parametrize(
    ("name", "arguments", "keywords"), CASES, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(CASES)]
)
def test_an_operator_and_its_gradient_are_pytorchs(name, arguments, keywords):
    torch = pytest.importorskip("torch")
    packet, _, overload = name.partition(".")
    theirs = getattr(getattr(torch.ops.aten, packet), overload or "default")

    def tensors(argument):
        if isinstance(argument, list):
            return [tensors(a) for a in argument]
        if not isinstance(argument, np.ndarray):
            return argument
        return torch.from_numpy(argument).requires_grad_(argument.dtype == np.float32)

    given = [tensors(a) for a in arguments]
    wanted = given[1].expand_as(given[0]) if name == "copy" else theirs(*given, **keywords)  # PyTorch's has no gradient
    leaves = [t for a in given for t in (a if isinstance(a, list) else [a]) if getattr(t, "requires_grad", False)]

    def ours(floats):
        rest = iter(floats)

        def filled(argument):
            if isinstance(argument, list):
                return [filled(a) for a in argument]
            return next(rest) if isinstance(argument, np.ndarray) and argument.dtype == np.float32 else argument

        return OPERATORS[packet](*(filled(a) for a in arguments), **keywords)

    wanted = list(wanted) if isinstance(wanted, tuple | list) else [wanted]
    floats = [jnp.asarray(leaf.detach().numpy()) for leaf in leaves]
    found = ours(floats)
    found = list(found) if isinstance(found, tuple | list) else [found]
    kept = [i for i, f in enumerate(found) if f is not None]  # mean and deviation of a norm, indices of a pooling
    for i in kept:
        np.testing.assert_allclose(found[i], wanted[i].detach().numpy(), rtol=2e-4, atol=2e-5)
    if not any(w.requires_grad for w in wanted):  # an answer of truths has no gradient
        return
    rng = np.random.default_rng(1)
    mixtures = [rng.normal(size=found[i].shape).astype(np.float32) for i in kept]
    loss = sum((wanted[i] * torch.from_numpy(m)).sum() for i, m in zip(kept, mixtures, strict=True))
    gradients = torch.autograd.grad(loss, leaves, materialize_grads=True)

    def mixed(floats):
        y = ours(floats)
        y = y if isinstance(y, tuple | list) else [y]
        return sum(jnp.sum(y[i] * m) for i, m in zip(kept, mixtures, strict=True))

    for gradient, wanted_one in zip(jax.grad(mixed)(floats), gradients, strict=True):
        np.testing.assert_allclose(gradient, wanted_one.numpy(), rtol=1e-3, atol=1e-4)
