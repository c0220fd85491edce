"""A page to walk through an explanation term by term."""
