"""What the threads of each race can end with, over all interleavings: so that no test passes for want of a race."""

from __future__ import annotations

from typing import Any

OUTCOMES: dict[str, dict[str, set[Any]]] = {
    "pin vs reclaim": {"a": {"lost", "whole"}},
    "pin vs reclaim, large": {"a": {"lost", "whole"}},
    "pin vs reclaim, three pages": {"a": {"lost", "whole"}},
    "pin vs reclaim and a signal": {"a": {"lost", "whole"}},
    "pin vs reclaim, no pagemap": {"a": {"rebuilt", "whole"}},
    "pin vs reclaim, faultcount": {"a": {"lost", "whole"}},
    "pin vs reclaim and a signal, faultcount": {"a": {"lost", "whole"}},
    "nested pins": {"a": {"lost", "whole"}, "b": {"lost", "whole"}},
    "nested pins, large": {"a": {"lost", "whole"}, "b": {"lost", "whole"}},
    "nested pins, faultcount": {"a": {"lost", "whole"}, "b": {"lost", "whole"}},
    "two rebuild": {"a": {"rebuilt", "whole"}, "b": {"lost", "whole"}},
    "pin vs peek": {"a": {"lost", "whole"}, "b": {"lost", "whole"}},
    "pin vs peek, large": {"a": {"lost", "whole"}, "b": {"lost", "whole"}},
    "pin vs peek, no pagemap": {"a": {"lost", "whole"}, "b": {"lost", "whole"}},
    "two peeks": {"a": {"lost", "whole"}, "b": {"lost", "whole"}},
    "two peeks, large": {"a": {"lost", "whole"}, "b": {"lost", "whole"}},
    "lost and rebuilt inside a peek": {"a": {"rebuilt", "whole"}, "b": {"lost", "overwritten", "whole"}},
    "lost and rebuilt inside a peek, large": {
        "a": {"rebuilt", "whole"},
        "b": {"lost", "overwritten", "whole"},
    },
    "lost and rebuilt inside a peek, no pagemap": {
        "a": {"rebuilt", "whole"},
        "b": {"lost", "overwritten", "whole"},
    },
    "rebuilt inside a peek, then pinned": {
        "a": {"rebuilt", "whole"},
        "b": {"lost", "overwritten", "whole"},
        "c": {"lost", "whole"},
    },
    "rebuilt inside a peek, then pinned, large": {
        "a": {"rebuilt", "whole"},
        "b": {"lost", "overwritten", "whole"},
        "c": {"lost", "whole"},
    },
    "write pin vs peek": {"a": {"lost", "whole"}, "b": {"lost", "overwritten", "whole"}},
    "write pin vs peek, faultcount": {"a": {"lost", "whole"}, "b": {"lost", "overwritten", "whole"}},
    "write vs peek": {"b": {"lost", "overwritten", "whole"}},
    "write vs peek, large": {"b": {"lost", "overwritten", "whole"}},
    "first write vs peek": {"b": {"lost", "overwritten", "whole"}},
    "write, then pin, large": {"a": {(None, "lost"), (None, "whole")}},
    "read, then pin, large": {
        "a": {
            ("EFAULT", "EFAULT", "rebuilt", "lost"),
            ("EFAULT", "EFAULT", "rebuilt", "whole"),
            ((1,), "EFAULT", "rebuilt", "lost"),
            ((1,), "EFAULT", "rebuilt", "whole"),
            ((1,), (1, 1), "rebuilt", "lost"),
            ((1,), (1, 1), "rebuilt", "whole"),
            ((1,), (1, 1), "whole", "lost"),
            ((1,), (1, 1), "whole", "whole"),
        }
    },
    "survey, then write, then pin, large": {
        "a": {(None, None, "rebuilt"), (None, None, "whole")},
        "b": {"lost", "overwritten", "whole"},
    },
    "write vs read": {"b": {"EFAULT", (1, 1), (2, 2)}},
    "read vs read": {"a": {"EFAULT", (1, 1)}, "b": {"EFAULT", (1, 1)}},
    "read vs pin, faultcount": {"a": {"EFAULT", (1, 1)}, "b": {"lost", "whole"}},
    "survey vs peek": {"b": {"lost", "whole"}},
    "survey vs rebuild": {"b": {"rebuilt", "whole"}},
    "fork vs pin": {"a": {"rebuilt", "whole"}, "child": {"lost", "whole"}, "forker": {"whole"}},
    "fork vs pin, large": {"a": {"rebuilt", "whole"}, "child": {"lost", "whole"}, "forker": {"whole"}},
    "fork vs peek": {"a": {"lost", "whole"}, "child": {"lost", "whole"}, "forker": {"whole"}},
    "fork vs peek, pages first": {"a": {"lost", "whole"}, "child": {"lost", "whole"}, "forker": {"whole"}},
    "fork inside a peek": {"a": {"lost", "whole"}, "child": {"lost", "whole"}, "forker": {"lost", "whole"}},
    "fork inside a peek, falling back": {
        "a": {"lost", "whole"},
        "child": {"lost", "whole"},
        "forker": {"lost", "whole"},
    },
    "fork vs pin, falling back": {"a": {"lost", "whole"}, "child": {"lost", "whole"}, "forker": {"whole"}},
    "fork vs pin, faultcount": {"a": {"lost", "whole"}, "child": {"lost", "whole"}, "forker": {"whole"}},
    "fork vs pin, faultcount, no mlock": {
        "a": {"lost", "whole"},
        "child": {"lost", "whole"},
        "forker": {"whole"},
    },
    "close vs peek": {"a": {"closed", "lost", "whole"}, "b": {"EBUSY", "closed"}},
    "close vs trap": {"a": {0, 1, 2}, "b": {"lost", "whole"}},
    "close vs trap, same struct": {"a": {0, 1, 2}, "b": {"lost", "whole"}},
    "close vs trap, large": {"a": {0, 1, 2}, "b": {"lost", "whole"}},
}
