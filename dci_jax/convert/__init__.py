"""PyTorch networks as bundles: `python -m dci_jax.convert timm:mobilenetv3_small_100 --out=bundles/mobilenetv3`.

The only room of the package that needs PyTorch (the extra [torch]).
"""
