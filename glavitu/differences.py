"""What differs between two sets of settings, in words."""


def changes(old, new, unspoken):
    """Return in words each setting that differs.

    Parameters
    ----------
    old, new : dict
        Settings as JSON holds them; a dict among them is compared setting by setting.
    unspoken : dict of str to str
        Setting -> what is said in place of its values, which tell nobody anything; ``{}`` in it
        stands for those keys of a dict that differ.

    Examples
    --------
    >>> changes({"stride": 8, "data": "a1"}, {"stride": 4, "data": "b2"}, {"data": "other data"})
    ['stride 8, not 4', 'other data']
    >>> changes({"paths": {"dem": "a.tif"}}, {"paths": {}, "picture": {"optical": [3, 2, 1]}}, {})
    ["dem of paths 'a.tif', not none", 'picture none, not optical=3,2,1']
    """
    found = []
    for key, was, now in _different(old, new):
        both = isinstance(was, dict) and isinstance(now, dict)
        if key in unspoken:
            inner = [name for name, *_ in _different(was, now)] if both else []
            found.append(unspoken[key].format(", ".join(inner)))
        elif both:
            found += [
                f"{name} of {key} {_in_words(a)}, not {_in_words(b)}"
                for name, a, b in _different(was, now)
            ]
        else:
            found.append(f"{key} {_in_words(was)}, not {_in_words(now)}")
    return found


def _different(old, new):
    """Return each key whose values differ, with these."""
    keys = dict.fromkeys([*new, *old])
    return [(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]


def _in_words(value, length=60):
    if value in (None, {}):
        return "none"
    text = repr(value)
    if isinstance(value, dict):  # as options give them
        lists = {k: ",".join(map(str, v)) if isinstance(v, list) else v for k, v in value.items()}
        text = " ".join(f"{key}={each}" for key, each in lists.items())
    return text if len(text) <= length else f"{text[:length]}..."
