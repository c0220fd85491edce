"""A page on which a person walks through an explanation, term by term."""
