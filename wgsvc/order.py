"""Interfaces in the order in which people count: wg2 before wg10."""

from __future__ import annotations


def natural(name: str) -> tuple[tuple[str, int, int], ...]:
    """
    Return what to sort a name by: its words as text, its numbers as numbers.

    Without `re`, which takes 5 ms to import.
    """
    parts: list[tuple[str, int, int]] = []
    word = digits = ""
    for letter in name + "\0":
        if "0" <= letter <= "9":
            digits += letter
            continue
        if digits:
            parts.append((word, int(digits[:300]), len(digits)))
            word = digits = ""
        word += letter
    return (*parts, (word[:-1], -1, 0))
