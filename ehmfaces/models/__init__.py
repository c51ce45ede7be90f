"""Networks: one self-contained file per architecture. They know tensors only, never pictures or files."""
