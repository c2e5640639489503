"""Hot loops: tensors to tensors, batched, device and dtype explicit."""
