"""What differs between two sets of settings, in words."""

LONGEST = 200  # characters of a value
MOST = 4  # settings that are told


def changes(old, new, unspoken):
    """Return in words the settings that differ, an empty text where none does.

    Parameters
    ----------
    old, new : dict
        Settings as JSON holds them; a dict among them is compared setting by setting.
    unspoken : dict of str to str
        Setting -> what is said in place of its values, which tell nobody anything. If there is
        ``{}`` in it, for dicts, it stands for the keys that both have and that differ.

    Examples
    --------
    >>> changes({"stride": 8, "data": "a1"}, {"stride": 4, "data": "b2"}, {"data": "other data"})
    'stride 8 instead of 4, other data'
    >>> changes({"paths": {"dem": "a.tif"}}, {"paths": {}, "picture": {"optical": [3, 2, 1]}}, {})
    "paths of dem 'a.tif' instead of none, picture none instead of optical=3,2,1"
    """
    found = []
    for key, was, now in _different(old, new):
        both = isinstance(was, dict) and isinstance(now, dict)
        text, inner = unspoken.get(key), _different(was, now) if both else None
        if text is None and inner is None:
            found.append(_change(key, was, now))
        elif text is None:
            found += [_change(f"{key} of {name}", a, b) for name, a, b in inner]
        elif inner is None or "{}" not in text:
            found.append(text.format("all"))
        else:
            found += [text.format(name) for name, *_ in inner if name in was and name in now]
    if not found and old != new:
        return "other settings"
    more = f" and {len(found) - MOST} more" if len(found) > MOST else ""
    return ", ".join(found[:MOST]) + more


def _different(old, new):
    """Return each key whose values differ, with these."""
    keys = dict.fromkeys([*new, *old])
    return [(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]


def _change(key, was, now):
    return f"{key} {_in_words(was)} instead of {_in_words(now)}"


def _in_words(value):
    if value in (None, {}, []):
        return "none"
    text = repr(value)
    if isinstance(value, dict):  # as options give them
        lists = {k: ",".join(map(str, v)) if isinstance(v, list) else v for k, v in value.items()}
        text = " ".join(f"{key}={each}" for key, each in lists.items())
    elif isinstance(value, list):
        text = ", ".join(map(str, value))
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST // 4]}…{text[-LONGEST * 3 // 4 :]}"  # paths mostly differ at the end
