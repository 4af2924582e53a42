"""List what is reviewed: each issue type with its severity, weight, fix and advice."""

from typing import NamedTuple


class Rule(NamedTuple):
    """One issue type. `fixer` names the tool that can repair it, where one can."""

    severity: str
    weight: float
    fixer: str | None
    advice: str


RULES = {
    "assert_on_tuple": Rule("high", 4.0, None, "Drop the parentheses: an assertion on a tuple always holds"),
    "high_complexity": Rule("high", 4.0, None, "Split the function along its decisions"),
    "bare_except": Rule("high", 3.0, "review_fix_excepts", "Name the exceptions that are expected"),
    "mutable_default": Rule("high", 3.0, "review_fix_defaults", "Default to None and make the value in the body"),
    "high_cognitive_complexity": Rule("high", 3.0, None, "Return early, and extract the inner parts"),
    "dangerous_call": Rule("high", 3.0, None, "Parse the input instead of executing it"),
    "literal_identity": Rule("high", 3.0, None, "Compare values with == instead of identities with is"),
    "long_function": Rule("medium", 2.0, None, "Extract steps that can be named into functions of their own"),
    "deep_nesting": Rule("medium", 2.0, None, "Return or continue early, or extract the inner blocks"),
    "swallowed_exception": Rule("medium", 2.0, None, "Handle or log the exception, or catch a narrower one"),
    "star_import": Rule("medium", 2.0, None, "Import the names that are used"),
    "too_many_parameters": Rule("medium", 1.5, None, "Group parameters that belong together into an object"),
    "unreachable_code": Rule("medium", 1.5, None, "Remove what can never run"),
    "duplicate_key": Rule("medium", 1.5, None, "Keep one of the entries: the last one wins silently"),
    "comparison_to_none": Rule("medium", 1.0, "review_fix_comparisons", "Compare with None by is or is not"),
    "unused_variable": Rule("medium", 1.0, "review_fix_variables", "Remove the variable, or use it"),
    "magic_number": Rule("medium", 0.7, "review_fix_numbers", "Give the number a name"),
    "missing_docstring": Rule("low", 0.8, "review_fix_docstrings", "Say what a caller needs to know"),
    "unused_import": Rule("low", 0.7, "review_fix_imports", "Remove the import"),
    "needless_else": Rule("low", 0.7, "review_fix_else", "Drop the else: the branch before it never falls through"),
    "comparison_to_bool": Rule("low", 0.7, "review_fix_comparisons", "Use the value itself, or not"),
    "type_comparison": Rule("low", 0.7, None, "Ask with isinstance"),
    "shadowed_builtin": Rule("low", 0.5, None, "Choose a name that is not a builtin's"),
}


def review_rules() -> dict[str, Rule]:
    """Issue type to rule, the most important first. Suggestions and fixes follow this order."""
    return RULES
