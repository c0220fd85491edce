"""The places of a tensor: the sample and the position on the inputs of each element."""
