"""Which sample and which place of the inputs each element of a tensor belongs to."""
