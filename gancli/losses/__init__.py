"""Loss functions: adversarial losses, gradient penalties and content losses."""
