"""From a gradient and a bias to sums of a term, the cells of its maps, and the T-Grad map."""
