"""Operations that the trace cannot see, and their terms."""
