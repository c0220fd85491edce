"""Resolves the methods that ``--methods`` and ``--config`` name."""

from __future__ import annotations

import argparse

from captum_tgrad.evaluation import METHODS, Method, get_method, read_methods


def chosen_methods(options: argparse.Namespace) -> list[Method]:
    """The named methods, each once, or all.

    Raises:
        ValueError: No method is named, or an unknown one.
    """
    further: dict[str, Method] = {}
    if options.config is not None:
        further = read_methods(options.config, allow_imports=options.allow_imports)
    elif options.allow_imports:
        raise ValueError("--allow-imports applies to --config only: pass --config FILE")
    if options.methods.strip() == "all":
        return list({**METHODS, **further}.values())
    names = [name.strip() for name in options.methods.split(",") if name.strip()]
    if not names:
        raise ValueError("--methods is empty: pass names separated by commas, or all")
    return [get_method(name, further) for name in dict.fromkeys(names)]
