"""Records of torch's operations, with their biases and places, in a file for each family."""
