"""YAML files, read as data: nothing in them is run, and nothing grows beyond memory."""

import yaml

from glavitu.errors import InputError
from glavitu.files import read_text

MAX_BYTES = 1 << 20  # of a file


def read_yaml(path):
    """Return what a YAML file holds; raise `InputError` in one line where it is none."""
    text = read_text(path, most=MAX_BYTES)
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        where = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{path} is not YAML{where}: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise InputError(f"{path} is not a profile: it is nested too deep") from None


class _Loader(yaml.SafeLoader):
    """The safe loader, without what can hide a mistake or grow beyond memory."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (*); write the value out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.YAMLError(f"it has {twice[0]!r} twice")
        return super().construct_mapping(node, deep=deep)
