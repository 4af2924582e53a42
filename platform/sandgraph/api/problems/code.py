"""What is wrong with submitted code."""

from __future__ import annotations

from sandgraph.api.problems.page import Page, of

_wrong = of(422)


def _check(ended: str, means: str, todo: str) -> Page:
    message = "Executing the code's module level did not end well: it ended without a result."
    return _wrong(f"check_{ended}", f"While its module level was executed in a sandbox, {means}", todo, message, "code")


_LESS = "Do less at the module level: what is done there is done again in every attempt."

PAGES = (
    _wrong(
        "syntax_error",
        "The code, or a condition, is not Python.",
        "Mend the place that `line` and `column` name.",
        "invalid syntax",
        "code",
    ),
    _wrong(
        "name_not_defined",
        "The code does not define what it is registered as.",
        "Register it under the name of the function that it defines.",
        "the code does not define 'double'; functions that it defines: 'twice'",
        "code",
    ),
    _wrong(
        "not_callable",
        "The code defines that name, but it is no function.",
        "Define a function of that name.",
        "'double' is an int, and no function",
        "code",
    ),
    _wrong(
        "import_failed",
        "The code's module level raised an exception when it was executed in a sandbox: most often an import of "
        "something that sandboxes do not have.",
        "Mend the line that `line` names. The sandbox image says what can be imported.",
        "ModuleNotFoundError: No module named 'numpy'",
        "code",
    ),
    _check("timeout", "it took longer than 10 seconds.", _LESS),
    _check("oom", "it took more memory than a sandbox has.", _LESS),
    _check("killed", "its process was killed.", "Do not end the process at the module level."),
    _check("no_result", "its process ended by itself.", "Do not end the process at the module level."),
    _check("result_invalid", "it forged the answer.", "Leave the sandbox's file descriptors alone."),
    _check("output_limit", "it printed more than it may.", "Print less."),
    _check("error", "it could not be checked.", "See the message."),
    _wrong(
        "code_too_large",
        "The source is over `SANDGRAPH_MAX_CODE_KB`.",
        "Put data into the state, and what several functions share into a tool.",
        "The code has 300000 bytes; it may have 262144.",
        "code",
    ),
    _wrong(
        "too_much_tool_code",
        "All tools together are over `SANDGRAPH_MAX_TOOLS_KB`; every attempt gets every tool.",
        "Make tools smaller, or register smaller ones under the names of those that are not used any more.",
        "All tools together may have 2097152 bytes: an attempt gets every tool. There are 90.",
        "code",
    ),
)
