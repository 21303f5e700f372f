"""Models: the registry, timm models with their weights, fused to inference form, and checkpoints."""
