"""Which sample and which place of the image each element of an activation belongs to."""
