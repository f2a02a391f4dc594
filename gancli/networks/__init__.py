"""Networks: modules that map tensors to tensors, and know nothing of losses, data or training."""
