"""How to audit a network of any JAX library: `dci_jax.from_jax` finds its split points. This page runs as it is.

    python -m dci_jax.main --config=configs/default.py --workdir=runs/nnx --config.target.name=docs.jax_functions:flax_nnx

and in a notebook `network = dci_jax.from_jax(apply, variables, (H, W, C))`. `apply(variables, images)` is a pure function
in evaluation mode: images [B, H, W, C], normalized by `mean` and `std`, to logits [B, classes]. Split points are named by
the paths of the parameters; BatchNorm's running statistics are found by their names. The pieces are compared with the whole
function at once, forward and gradient. Each function below returns a small network with random weights; `weights` is where
yours would come from.
"""

import jax
import jax.numpy as jnp
import numpy as np

import dci_jax

SHAPE = (32, 32, 3)


def flax_linen(weights: str = "") -> dci_jax.Network:
    """Flax Linen: `module.apply` is the function, its variables are the variables."""
    from flax import linen as nn

    class Residual(nn.Module):
        @nn.compact
        def __call__(self, x):
            y = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Conv(16, (3, 3), use_bias=False)(x)))
            y = nn.BatchNorm(use_running_average=True)(nn.Conv(16, (3, 3), use_bias=False)(y))
            return nn.relu(x + y)

    class Classifier(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(16, (3, 3), (2, 2), name="stem")(x))
            x = Residual(name="block1")(x)
            x = Residual(name="block2")(x)
            return nn.Dense(10, name="classifier")(x.mean((1, 2)))

    module = Classifier()
    variables = module.init(jax.random.key(0), jnp.zeros((1, *SHAPE)))
    return dci_jax.from_jax(module.apply, variables, SHAPE, name="flax_linen", mean=(0.5,), std=(0.25,))


def flax_nnx(weights: str = "") -> dci_jax.Network:
    """Flax NNX: split the model in evaluation mode, and merge it in the function."""
    from flax import nnx

    class Layer(nnx.Module):
        def __init__(self, inside, outside, stride, rngs):
            self.conv = nnx.Conv(inside, outside, (3, 3), (stride, stride), use_bias=False, rngs=rngs)
            self.norm = nnx.BatchNorm(outside, rngs=rngs)

        def __call__(self, x):
            return nnx.relu(self.norm(self.conv(x)))

    class Classifier(nnx.Module):
        def __init__(self, rngs):
            self.layer1, self.layer2 = Layer(3, 16, 2, rngs), Layer(16, 32, 2, rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)
            self.classifier = nnx.Linear(32, 10, rngs=rngs)

        def __call__(self, x):
            return self.classifier(self.drop(self.layer2(self.layer1(x)).mean((1, 2))))

    model = Classifier(nnx.Rngs(0))
    model.eval()
    definition, state = nnx.split(model)
    return dci_jax.from_jax(lambda state, x: nnx.merge(definition, state)(x), state, SHAPE, name="flax_nnx")


def equinox(weights: str = "") -> dci_jax.Network:
    """Equinox: one image [C, H, W] at a time, so the function turns images and maps over them."""
    import equinox as eqx

    class Classifier(eqx.Module):
        layers: list
        classifier: eqx.nn.Linear

        def __init__(self, key):
            keys = jax.random.split(key, 3)
            self.layers = [eqx.nn.Conv2d(3, 16, 3, 2, 1, key=keys[0]), eqx.nn.Conv2d(16, 32, 3, 2, 1, key=keys[1])]
            self.classifier = eqx.nn.Linear(32, 10, key=keys[2])

        def __call__(self, x):
            for layer in self.layers:
                x = jax.nn.relu(layer(x))
            return self.classifier(x.mean((1, 2)))

    parameters, static = eqx.partition(Classifier(jax.random.key(0)), eqx.is_array)

    def apply(parameters, x):
        return jax.vmap(eqx.combine(parameters, static))(jnp.moveaxis(x, -1, 1))

    return dci_jax.from_jax(apply, parameters, SHAPE, name="equinox")


def haiku_style(weights: str = "") -> dci_jax.Network:
    """A function of nested dictionaries, as Haiku's transformed functions are: "net/~/conv1" -> {"w", "b"}."""
    rng = np.random.default_rng(0)

    def conv(name, inside, outside):
        w = rng.normal(0, (2 / 9 / inside) ** 0.5, (3, 3, inside, outside))
        return {f"net/~/{name}": {"w": jnp.float32(w), "b": jnp.zeros(outside)}}

    def norm(name, channels):
        return {
            f"net/~/{name}/~/mean_ema": {"average": jnp.zeros(channels)},
            f"net/~/{name}/~/var_ema": {"average": jnp.ones(channels)},
        }

    def apply(variables, x):
        params, state = variables
        for i in (1, 2):
            w, b = (params[f"net/~/conv{i}"][key] for key in ("w", "b"))
            x = jax.lax.conv_general_dilated(x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")) + b
            mean, var = (state[f"net/~/norm{i}/~/{part}_ema"]["average"] for part in ("mean", "var"))
            x = jax.nn.relu((x - mean) * jax.lax.rsqrt(var + 1e-5))
        return x.mean((1, 2)) @ params["net/~/linear"]["w"]

    params = conv("conv1", 3, 16) | conv("conv2", 16, 32)
    params |= {"net/~/linear": {"w": jnp.float32(rng.normal(0, 0.1, (32, 10)))}}
    return dci_jax.from_jax(apply, (params, norm("norm1", 16) | norm("norm2", 32)), SHAPE, name="haiku_style")


def keras_on_jax(weights: str = "") -> dci_jax.Network:
    """Keras 3 with KERAS_BACKEND=jax: variables by their paths, given back as the two lists that `stateless_call` takes."""
    import keras

    layers = keras.layers
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(16, 3, 2, padding="same", use_bias=False, name="conv1")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="norm1")(x))
    x = layers.Conv2D(32, 3, 2, padding="same", activation="relu", name="conv2")(x)
    model = keras.Model(inputs, layers.Dense(10, name="classifier")(layers.GlobalAveragePooling2D()(x)))
    lists = model.trainable_variables, model.non_trainable_variables
    variables = {variable.path: variable.value for several in lists for variable in several}

    def apply(variables, x):
        return model.stateless_call(*([variables[v.path] for v in several] for several in lists), x)[0]

    return dci_jax.from_jax(apply, variables, SHAPE, name="keras_on_jax")
