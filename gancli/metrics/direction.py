"""Whether a metric is better the higher or the lower, by its name. Needs no torch."""

# Metrics that begin so are better the higher they are, and so is the inception score `is`. All others: the lower.
HIGHER = (
    *("precision", "recall", "density", "coverage", "accuracy", "class_accuracy", "class_coverage", "diversity"),
    *("psnr", "hole_psnr", "naive_psnr", "naive_hole_psnr", "reconstruction_psnr", "ssim"),
    *("elbo", "importance_weighted", "score", "images_per_second"),
)


def higher_is_better(metric: str) -> bool:
    """Return whether a metric is better the higher it is. A bound in bits is the cost of an image."""
    return (metric.startswith(HIGHER) or metric == "is") and not metric.endswith("_bits")
